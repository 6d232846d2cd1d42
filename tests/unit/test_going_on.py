"""A run that goes on is judged by what this call says, not by what the file once decided; and files that cannot be written."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, Dataset

from course_utils import files
from course_utils.models import MLP
from course_utils.train import CheckpointError, EarlyStopping, EveryStep, fit
from tests.unit.test_checkpoint import STEPS, VALIDATION, assert_equal_runs, run, sgd, shuffled

NEVER = 100.0  # no epoch can improve so much: epoch 1 stays the best


def stopping(patience):
    return {"val_loader": VALIDATION, "early_stopping": EarlyStopping(patience=patience, min_delta=NEVER)}


def resumed(path, first, then, epochs=(6, 6), name="momentum"):
    """A run by some arguments, gone on with by others; and the same run by the others alone."""
    run(name, 0, epochs[0], path, **first)
    again = run(name, 9, epochs[1], path, **then)
    return again, run(name, 0, epochs[1], **then)


# Early stopping


@pytest.mark.parametrize("patience", [2, 3, 4, 9, None])
def test_a_run_that_stopped_early_is_judged_anew_by_another_patience(patience, tmp_path):
    again, alone = resumed(tmp_path / "run.pt", stopping(1), stopping(patience))
    assert len(again[1].rows) == min(6, 6 if patience is None else patience + 1)
    assert_equal_runs(again, alone)


def test_without_the_rule_the_run_goes_on_and_ends_with_its_last_weights(tmp_path):
    again, alone = resumed(tmp_path / "run.pt", stopping(1), {"val_loader": VALIDATION})
    assert (again[1].best_epoch, again[1].stopped_early, len(again[1].rows)) == (6, False, 6)
    assert_equal_runs(again, alone)


def test_a_smaller_patience_stops_where_it_would_have_stopped_or_later(tmp_path):
    """Epochs that are done are done; nothing is trained after them."""
    again, _ = resumed(tmp_path / "run.pt", stopping(4), stopping(1))
    assert again[1].stopped_early
    assert again[1].best_epoch == 1
    assert len(again[1].rows) == 5


def test_a_rule_that_comes_later_needs_what_it_watches(tmp_path):
    run("momentum", 0, 2, tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"early stopping watches val_loss(.|\n)*Delete"):
        run("momentum", 0, 4, tmp_path / "run.pt", **stopping(2))


def test_a_rule_that_comes_later_takes_the_last_weights_when_they_are_the_best(tmp_path):
    first, _ = run("plain", 0, 1, tmp_path / "run.pt", val_loader=VALIDATION)
    model, history = run("plain", 0, 4, tmp_path / "run.pt", **stopping(None))
    assert (history.best_epoch, len(history.rows)) == (1, 4)
    assert torch.equal(model[1].weight, first[1].weight)


# More and fewer epochs


@pytest.mark.parametrize("name", ["momentum", "cosine"])
def test_fewer_epochs_than_done_are_refused_in_words(name, tmp_path):
    run(name, 0, 4, tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match=r"run\.pt is of 4 epochs already, and this run asks for 3"):
        run(name, 0, 3, tmp_path / "run.pt")


def one_cycle(optimizer, epochs=4):
    return OneCycleLR(optimizer, max_lr=0.5, total_steps=epochs * STEPS)


def scheduled(path, scheduler, epochs, every="step", lr=0.1, **settings):
    torch.manual_seed(0)
    model = MLP(4, 3, hidden=(16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **({"momentum": 0.9} | settings))
    options = {"amp": "off", "progress": False, "checkpoint": path, "val_loader": VALIDATION}
    scheduler = scheduler and scheduler(optimizer)
    if every == "step":
        scheduler = EveryStep(scheduler)
    return model, fit(model, shuffled(), optimizer=optimizer, epochs=epochs, scheduler=scheduler, **options)


def test_a_one_cycle_schedule_is_not_stretched_in_silence(tmp_path):
    path = tmp_path / "run.pt"
    scheduled(path, one_cycle, 4)
    with pytest.raises(ValueError, match="the schedule ends after 24 steps, and this run goes to 36"):
        scheduled(path, one_cycle, 6)
    with pytest.raises(CheckpointError, match="total_steps is 36 and was 24"):
        scheduled(path, lambda optimizer: one_cycle(optimizer, 6), 6)


# Settings

SCHEDULES = {
    "step size": (lambda o: StepLR(o, 3), lambda o: StepLR(o, 5), "step_size is 5 and was 3"),
    "gamma": (lambda o: StepLR(o, 3), lambda o: StepLR(o, 3, gamma=0.5), "gamma is 0.5 and was 0.1"),
    "milestones": (lambda o: MultiStepLR(o, [1, 4]), lambda o: MultiStepLR(o, [1, 5]), "milestones is .*5: 1.* and was .*4: 1"),
    "length": (lambda o: CosineAnnealingLR(o, 8), lambda o: CosineAnnealingLR(o, 9), "T_max is 9 and was 8"),
    "plateau": (
        lambda o: ReduceLROnPlateau(o, patience=3),
        lambda o: ReduceLROnPlateau(o, patience=4),
        "patience is 4 and was 3",
    ),
    "warm-up": (
        lambda o: SequentialLR(o, [LinearLR(o, total_iters=2), StepLR(o, 9)], [2]),
        lambda o: SequentialLR(o, [LinearLR(o, total_iters=2), StepLR(o, 8)], [2]),
        "step_size is 8 and was 9",
    ),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_with_other_settings_is_refused_by_name(kind, tmp_path):
    path = tmp_path / "run.pt"
    first, other, message = SCHEDULES[kind]
    scheduled(path, first, 2, "epoch")
    with pytest.raises(CheckpointError, match=rf"run\.pt belongs to another(.|\n)*{message}(.|\n)*Delete"):
        scheduled(path, other, 4, "epoch")
    assert len(scheduled(path, first, 4, "epoch")[1].rows) == 4  # nothing of the file was lost


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lr": 0.05}, "lr is 0.05 and was 0.1"), ({"momentum": 0.8}, "momentum is 0.8"), ({"weight_decay": 0.1}, "weight_decay")],
)
@pytest.mark.parametrize("scheduler", [None, lambda o: StepLR(o, 1)])
def test_an_optimizer_with_other_settings_is_refused_by_name(settings, message, scheduler, tmp_path):
    path = tmp_path / "run.pt"
    scheduled(path, scheduler, 2, "epoch")
    with pytest.raises(CheckpointError, match=message):
        scheduled(path, scheduler, 4, "epoch", **settings)


def test_a_cell_that_is_run_again_goes_on_with_the_objects_it_has(tmp_path):
    """In a notebook an interrupted cell is run again, and optimizer and schedule have moved meanwhile."""
    torch.manual_seed(0)
    whole_model, _ = scheduled(None, one_cycle, 4)
    torch.manual_seed(0)
    model = MLP(4, 3, hidden=(16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = one_cycle(optimizer)
    calls = []

    def stop(x, y):
        calls.append(1)
        if len(calls) == 2 * STEPS + 3:
            raise KeyboardInterrupt
        return x, y

    def cell():
        options = {"amp": "off", "progress": False, "checkpoint": tmp_path / "run.pt"}
        options |= {"val_loader": VALIDATION, "batch_transform": stop}
        return fit(model, shuffled(), optimizer=optimizer, epochs=4, scheduler=EveryStep(scheduler), **options)

    with pytest.raises(KeyboardInterrupt):
        cell()
    assert len(cell().rows) == 4
    for one, two in zip(model.state_dict().values(), whole_model.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("last", [3, 11, 14, 23])
@pytest.mark.parametrize("kind", ["step", "multi", "restarts", "cyclic", "lambda", "sequence", "constant", "cosine"])
def test_a_cell_that_was_interrupted_anywhere_may_be_run_again(kind, last, tmp_path):
    makers = {
        "step": lambda o: StepLR(o, 9),
        "multi": lambda o: MultiStepLR(o, [8, 20]),
        "restarts": lambda o: CosineAnnealingWarmRestarts(o, 6),
        "cyclic": lambda o: CyclicLR(o, 0.01, 0.1, 3),
        "lambda": lambda o: LambdaLR(o, lambda step: 1.0 if step < 8 else 0.1),
        "sequence": lambda o: SequentialLR(o, [LinearLR(o, 0.1, 1, 9), CosineAnnealingLR(o, 15)], [9]),
        "constant": lambda o: ConstantLR(o, 0.3, 8),
        "cosine": lambda o: CosineAnnealingLR(o, 24),
    }

    def cell(model, optimizer, scheduler, path, transform=None):
        options = {"amp": "off", "progress": False, "checkpoint": path, "batch_transform": transform}
        return fit(model, shuffled(), optimizer=optimizer, epochs=4, scheduler=EveryStep(scheduler), **options)

    def parts():
        torch.manual_seed(0)
        model = MLP(4, 3, hidden=(16,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, makers[kind](optimizer)

    calls = []

    def stop(x, y):
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return x, y

    mine = parts()
    with pytest.raises(KeyboardInterrupt):
        cell(*mine, tmp_path / "run.pt", stop)
    if last <= STEPS:  # no file yet: the cell begins again, from moved weights
        cell(*mine, tmp_path / "run.pt")
        assert len(cell(*parts(), tmp_path / "run.pt").rows) == 4  # and the file belongs to what was asked for at first
        return
    cell(*mine, tmp_path / "run.pt")
    whole = parts()
    cell(*whole, None)
    for one, two in zip(mine[0].state_dict().values(), whole[0].state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("turned", ["order", "groups"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_parameters_in_another_order_are_refused(turned, kind, tmp_path):
    """Momentum would go to other weights; torch compares neither order nor shapes, and walked out of memory."""

    def trained(turn, epochs):
        model = MLP(4, 3, hidden=(64,))
        parameters = list(model.parameters())
        if turned == "groups":
            groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
            parameters = groups[::-1] if turn else groups
        elif turn:
            parameters = parameters[::-1]
        options = {"amp": "off", "progress": False, "checkpoint": tmp_path / "run.pt"}
        fit(model, shuffled(), optimizer=kind(parameters, lr=0.1), epochs=epochs, **options)

    trained(False, 2)
    with pytest.raises(CheckpointError, match="parameters is"):
        trained(True, 4)
    trained(False, 4)


def test_a_checkpoint_that_is_refused_leaves_the_model_as_it_is(tmp_path):
    path = tmp_path / "run.pt"
    run("loader with its generator", 0, 3, path)
    cases = {
        "another loader": lambda model: fit(model, shuffled(), optimizer=sgd(model), epochs=5, progress=False, checkpoint=path),
        "fewer epochs": lambda model: fit(
            model, shuffled(generator=torch.Generator()), optimizer=sgd(model), epochs=2, progress=False, checkpoint=path
        ),
    }
    for refused in cases.values():
        model = MLP(4, 3, hidden=(16,), dropout=0.2, batch_norm=True)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(CheckpointError):
            refused(model)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.training
    model = MLP(4, 5, hidden=(16,), dropout=0.2, batch_norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"is of shape \(5, 16\) and was of shape \(3, 16\)"):
        fit(model, shuffled(generator=torch.Generator()), optimizer=sgd(model), epochs=5, progress=False, checkpoint=path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_kinds_and_places_of_a_schedule_are_refused(tmp_path):
    def inner(second):
        return lambda o: SequentialLR(o, [LinearLR(o, total_iters=2), second(o)], [2])

    scheduled(tmp_path / "a.pt", inner(lambda o: ExponentialLR(o, 0.9)), 2, "epoch")
    with pytest.raises(CheckpointError, match="CosineAnnealingLR and was SequentialLR of LinearLR, ExponentialLR"):
        scheduled(tmp_path / "a.pt", inner(lambda o: CosineAnnealingLR(o, 9)), 4, "epoch")
    scheduled(tmp_path / "b.pt", lambda o: StepLR(o, 9), 2, "epoch")
    with pytest.raises(CheckpointError, match="schedule_every is step and was epoch"):
        scheduled(tmp_path / "b.pt", lambda o: StepLR(o, 9), 4, "step")
    scheduled(tmp_path / "c.pt", lambda o: ReduceLROnPlateau(o, patience=0, threshold=9.0), 3, "epoch")
    with pytest.raises(CheckpointError, match=r"lr is 0\.5 and was 0\.1"):
        scheduled(tmp_path / "c.pt", lambda o: ReduceLROnPlateau(o, patience=0, threshold=9.0), 4, "epoch", lr=0.5)
    scheduled(tmp_path / "d.pt", lambda o: ChainedScheduler([StepLR(o, 1), StepLR(o, 2)]), 2, "epoch")
    with pytest.raises(CheckpointError, match="ChainedScheduler of StepLR and was"):
        scheduled(tmp_path / "d.pt", lambda o: ChainedScheduler([StepLR(o, 1)]), 4, "epoch")


@pytest.mark.parametrize(
    "wrap", [lambda o, one: ChainedScheduler([one]), lambda o, one: SequentialLR(o, [StepLR(o, 9), one], [4])]
)
def test_an_end_within_a_schedule_is_found_too(wrap):
    with pytest.raises(ValueError, match="the schedule ends after"):
        scheduled(None, lambda o: wrap(o, OneCycleLR(o, 0.5, total_steps=12)), 4)


def test_a_learning_rate_in_a_tensor_goes_on(tmp_path):
    for scheduler in (lambda o: StepLR(o, 1, gamma=0.5), lambda o: CosineAnnealingLR(o, 8)):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt"
        first, _ = scheduled(None, scheduler, 4, "epoch", lr=torch.tensor(0.1))
        scheduled(path, scheduler, 2, "epoch", lr=torch.tensor(0.1))
        second, history = scheduled(path, scheduler, 4, "epoch", lr=torch.tensor(0.1))
        assert len(history.rows) == 4
        for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two)


class Table:
    """A schedule's own object, with more than numbers in it."""

    def __init__(self):
        self.values = np.array([1.0, 0.5, 0.25, 0.1, 0.1])

    def __call__(self, epoch):
        return float(self.values[epoch])


@pytest.mark.parametrize(
    "scheduler",
    [lambda o: MultiStepLR(o, np.array([1, 3])), lambda o: CosineAnnealingLR(o, 4, eta_min=np.float32(1e-3))],
    ids=["milestones", "numbers"],
)
def test_a_schedule_of_numpys_numbers_goes_on(scheduler, tmp_path):
    path = tmp_path / "run.pt"
    scheduled(path, scheduler, 2, "epoch")
    whole, _ = scheduled(None, scheduler, 4, "epoch")
    resumed, _ = scheduled(path, scheduler, 4, "epoch")
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_what_could_not_be_read_again_is_told_before_the_first_epoch(tmp_path):
    with pytest.raises(CheckpointError, match="could not be read again, since something in them is more than numbers"):
        scheduled(tmp_path / "run.pt", lambda o: LambdaLR(o, Table()), 2, "epoch")
    assert not (tmp_path / "run.pt").exists()
    scheduled(None, lambda o: LambdaLR(o, Table()), 2, "epoch")


@pytest.mark.parametrize(("first", "then"), [("off", "fp16"), ("fp16", "off"), ("off", "bf16")])
def test_a_run_goes_on_in_another_precision(first, then, tmp_path):
    run("momentum", 0, 2, tmp_path / "run.pt", amp=first)
    assert len(run("momentum", 0, 4, tmp_path / "run.pt", amp=then)[1].rows) == 4


def test_frozen_parts_stay_frozen_when_a_cell_is_run_again(tmp_path):
    model = MLP(4, 3, hidden=(16,), batch_norm=True)
    (norm,) = (module for module in model if isinstance(module, torch.nn.BatchNorm1d))
    norm.eval()
    optimizer = sgd(model)

    def stop(x, y):
        raise KeyboardInterrupt

    options = {"optimizer": optimizer, "epochs": 2, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        fit(model, shuffled(), batch_transform=stop, **options)
    fit(model, shuffled(), checkpoint=tmp_path / "run.pt", **options)
    fit(model, shuffled(), **options)
    assert norm.num_batches_tracked == 0
    model.train()
    fit(model, shuffled(), **options)
    assert norm.num_batches_tracked == 2 * STEPS


# Workers that stay


class Numbers(Dataset):
    def __len__(self):
        return 44

    def __getitem__(self, index):
        return torch.full((4,), index / 44), index % 3


@pytest.mark.parametrize("own_generator", [False, True])
def test_persistent_workers_give_the_same_order_when_a_run_goes_on(own_generator, tmp_path):
    def trained(epochs, seed, path=None):
        torch.manual_seed(seed)
        model = MLP(4, 3, hidden=(16,), dropout=0.2)
        generator = torch.Generator().manual_seed(seed) if own_generator else None
        workers = {"num_workers": 1, "persistent_workers": True}
        loader = DataLoader(Numbers(), 8, shuffle=True, generator=generator, **workers)
        options = {"epochs": epochs, "progress": False, "amp": "off", "checkpoint": path}
        options["val_loader"] = DataLoader(Numbers(), 20, **workers)
        return model, fit(model, loader, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **options)

    whole = trained(4, seed=0)
    trained(2, seed=0, path=tmp_path / "run.pt")
    assert_equal_runs(trained(4, seed=7, path=tmp_path / "run.pt"), whole)


# Files that cannot be written


def must_not_train(x, y):
    raise AssertionError("it trained first")


def test_a_folder_is_no_checkpoint_and_is_not_to_be_deleted(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="is a folder; name a file in it") as caught:
        run("momentum", 0, 1, tmp_path / "run", batch_transform=must_not_train)
    assert "Delete" not in str(caught.value)
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("name", ["가" * 83 + ".pt", "x" * 252 + ".pt"])
def test_a_long_name_is_a_name(name, tmp_path):
    run("momentum", 0, 1, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["가" * 85 + ".pt", "a file/run.pt"])
def test_what_cannot_be_written_is_told_before_the_first_epoch(name, tmp_path):
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match=r"File name too long|Not a directory|File exists"):
        run("momentum", 0, 1, tmp_path / name, batch_transform=must_not_train)


def test_a_folder_that_may_not_be_written_to_is_told_before_the_first_epoch(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        run("momentum", 0, 1, tmp_path / "run.pt", batch_transform=must_not_train)


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from course_utils.data import TensorLoader
from course_utils.models import MLP
from course_utils.train import fit

def full(x, y):  # from the second epoch on, no file may grow beyond what the first one wrote
    calls.append(1)
    if len(calls) == 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    return x, y

calls, path = [], Path(sys.argv[1])
model = MLP(4, 3, hidden=(4000,))
loader = TensorLoader(torch.randn(8, 4), torch.arange(8) % 3, 4)
try:
    fit(model, loader, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), epochs=3, batch_transform=full,
        checkpoint=path, progress=False)
except OSError as error:
    print("OSError:", error.strerror, error.filename)
print(len(torch.load(path, weights_only=True)["history"]["rows"]), [file.name for file in path.parent.iterdir()])
"""


def test_a_disk_without_space_is_told_as_such_and_the_last_epoch_stays(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "run.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"OSError: File too large {tmp_path / 'run.pt'}", "1 ['run.pt']"]


def test_numbers_of_numpy_in_settings_survive_the_safe_reader(tmp_path):
    def rates(optimizer):
        return StepLR(optimizer, np.int64(2), gamma=np.float64(0.5))

    scheduled(tmp_path / "run.pt", rates, 2, "epoch", lr=np.float64(0.1))
    assert len(scheduled(tmp_path / "run.pt", rates, 4, "epoch", lr=0.1)[1].rows) == 4
