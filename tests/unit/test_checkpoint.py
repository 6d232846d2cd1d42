import pickle
import random
import runpy
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from course_utils.data import TensorLoader
from course_utils.models import MLP, SmallCNN
from course_utils.train import CheckpointError, EarlyStopping, EveryStep, fit

EPOCHS = 5
X = torch.randn(44, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(44) % 3
STEPS = 6  # batches of 8


def global_noise(x, y):
    """Draws from the global generators of torch, NumPy and Python."""
    return x + 0.1 * torch.randn_like(x) + 0.1 * np.random.randn() + random.gauss(0, 0.1), y  # noqa: NPY002


def own_generator():
    return torch.Generator().manual_seed(1)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def shuffled(**options):
    return TensorLoader(X, Y, 8, shuffle=True, **options)


VALIDATION = TensorLoader(X[:20].flip(1), Y[:20], 8)


def numpy_rate(epoch):
    return 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))


# What a run is made of: (loader, optimizer, scheduler, other arguments of fit), each made anew for every run.
RUNS = {
    "momentum": (shuffled, sgd, None, {}),
    "plain": (shuffled, lambda model: torch.optim.SGD(model.parameters(), lr=0.1), None, {}),
    "adam": (shuffled, adamw, None, {}),
    "loader with its generator": (lambda: shuffled(generator=own_generator()), sgd, None, {}),
    "sampler with its generator": (
        lambda: TensorLoader(X, Y, 8, sampler=RandomSampler(X, generator=own_generator())),
        sgd,
        None,
        {},
    ),
    "torch loader": (lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=own_generator()), adamw, None, {}),
    "one-cycle by step": (
        shuffled,
        sgd,
        lambda optimizer: EveryStep(OneCycleLR(optimizer, max_lr=0.5, total_steps=EPOCHS * STEPS)),
        {},
    ),
    "multi-step": (shuffled, sgd, lambda optimizer: MultiStepLR(optimizer, [1, 3]), {}),
    "cosine": (shuffled, adamw, lambda optimizer: CosineAnnealingLR(optimizer, EPOCHS), {}),
    "lambda": (shuffled, sgd, lambda optimizer: LambdaLR(optimizer, lambda epoch: 0.8**epoch), {}),
    "plateau": (
        shuffled,
        sgd,
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, threshold=100.0, threshold_mode="abs"),
        {"val_loader": VALIDATION},
    ),
    "best weights": (shuffled, sgd, None, {"val_loader": VALIDATION, "early_stopping": EarlyStopping(patience=None)}),
    "stops early": (
        shuffled,
        sgd,
        None,
        {"val_loader": VALIDATION, "early_stopping": EarlyStopping(patience=2, min_delta=9.0)},
    ),
    "global noise": (shuffled, adamw, None, {"batch_transform": global_noise}),
    "bf16": (shuffled, adamw, None, {"amp": "bf16"}),
    "fp16 whose loss scale falls": (shuffled, adamw, None, {"amp": "fp16", "loss": lambda *args: 100 * F.cross_entropy(*args)}),
    "numpy learning rate": (shuffled, sgd, lambda optimizer: LambdaLR(optimizer, numpy_rate), {}),
    "torch loader with a batch sampler": (
        lambda: DataLoader(
            TensorDataset(X, Y), batch_sampler=BatchSampler(RandomSampler(X, generator=own_generator()), 8, drop_last=False)
        ),
        sgd,
        None,
        {},
    ),
}


def run(name, seed, epochs, checkpoint=None, **changed):
    loader, optimizer, scheduler, options = RUNS[name]
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(seed)
    model = MLP(4, 3, hidden=(16,), dropout=0.2, batch_norm=True)
    optimizer = optimizer(model)
    options = {"amp": "off", "progress": False, "checkpoint": checkpoint} | options | changed
    history = fit(model, loader(), optimizer=optimizer, epochs=epochs, scheduler=scheduler and scheduler(optimizer), **options)
    return model, history


def assert_equal_runs(one, two):
    (model, history), (other, other_history) = one, two
    for (key, left), right in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right), key
    rows, other_rows = ([{**row, "seconds": 0.0} for row in found.rows] for found in (history, other_history))
    np.testing.assert_equal(rows, other_rows)
    assert (history.best_epoch, history.stopped_early) == (other_history.best_epoch, other_history.stopped_early)


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_ends_as_an_uninterrupted_one_bit_for_bit(name, tmp_path):
    whole = run(name, 0, EPOCHS)
    run(name, 0, 2, tmp_path / "run.pt")
    assert_equal_runs(run(name, 99, EPOCHS, tmp_path / "run.pt"), whole)  # another seed: all comes from the file
    if name == "stops early":
        assert len(whole[1].rows) == 3


def test_a_run_stopped_within_an_epoch_goes_on_from_its_start(tmp_path):
    calls = []

    def stop_in_epoch_3(x, y):
        calls.append(1)
        if len(calls) == 2 * STEPS + 4:
            raise KeyboardInterrupt
        return global_noise(x, y)

    with pytest.raises(KeyboardInterrupt):
        run("global noise", 0, EPOCHS, tmp_path / "run.pt", batch_transform=stop_in_epoch_3)
    assert_equal_runs(run("global noise", 5, EPOCHS, tmp_path / "run.pt"), run("global noise", 0, EPOCHS))


def test_convolutional_nets_resume_too(tmp_path):
    images = X.repeat(1, 16).reshape(44, 1, 8, 8)

    def trained(epochs, seed, checkpoint=None):
        torch.manual_seed(seed)
        model = SmallCNN(1, 3, image_size=8, width=4, batch_norm=True)
        options = {"amp": "bf16", "progress": False, "checkpoint": checkpoint}
        return model, fit(model, TensorLoader(images, Y, 8, shuffle=True), optimizer=adamw(model), epochs=epochs, **options)

    whole = trained(4, seed=0)
    trained(1, seed=0, checkpoint=tmp_path / "run.pt")
    trained(3, seed=1, checkpoint=tmp_path / "run.pt")
    assert_equal_runs(trained(4, seed=2, checkpoint=tmp_path / "run.pt"), whole)


@pytest.mark.parametrize("name", ["adam", "best weights", "stops early"])
def test_a_finished_run_comes_back_without_training(name, tmp_path):
    finished = run(name, 0, EPOCHS, tmp_path / "run.pt")

    def forbidden(x, y):
        raise AssertionError("it trained again")

    assert_equal_runs(run(name, 7, EPOCHS, tmp_path / "run.pt", batch_transform=forbidden), finished)


def test_best_weights_asked_for_on_resuming_are_given_or_refused(tmp_path):
    """Epoch 1 is the best here, by a rule that no later epoch can meet."""
    first, _ = run("momentum", 0, 1, val_loader=VALIDATION)
    run("momentum", 0, 2, tmp_path / "run.pt", val_loader=VALIDATION)
    rule = EarlyStopping(patience=None, min_delta=100.0)
    try:
        model, history = run("momentum", 0, 4, tmp_path / "run.pt", val_loader=VALIDATION, early_stopping=rule)
    except CheckpointError:
        return
    assert history.best_epoch == 1
    assert torch.equal(model[1].weight, first[1].weight)


# A process killed without warning

SCRIPT = """
import sys, time
import torch
from course_utils.data import TensorLoader
from course_utils.models import MLP
from course_utils.train import fit

checkpoint, out, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])

def slowly(x, y):
    time.sleep(pause)
    return x, y

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(44, 4), torch.arange(44) % 3
model = MLP(4, 3, hidden=(16,), dropout=0.2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = TensorLoader(x, y, 8, shuffle=True)
fit(model, loader, optimizer=optimizer, epochs=20, batch_transform=slowly, checkpoint=checkpoint or None, progress=False)
torch.save(model.state_dict(), out)
"""


def epochs_in(path):
    return len(torch.load(path, weights_only=True)["history"]["rows"]) if path.exists() else 0


def test_a_run_killed_with_sigkill_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    script, checkpoint = tmp_path / "run.py", tmp_path / "run.pt"
    script.write_text(SCRIPT)

    def command(checkpoint, out, pause):
        return [sys.executable, str(script), str(checkpoint), str(tmp_path / out), str(pause)]

    killed = subprocess.Popen(command(checkpoint, "never.pt", 0.05))
    try:
        give_up = time.monotonic() + 60
        while epochs_in(checkpoint) < 3:  # each look finds a whole file, whatever the other process is doing
            assert killed.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < give_up, "no third epoch within a minute"
            time.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    assert not (tmp_path / "never.pt").exists()
    assert 3 <= epochs_in(checkpoint) < 20
    subprocess.run(command(checkpoint, "resumed.pt", 0), check=True)
    monkeypatch.setattr(sys, "argv", command("", "whole.pt", 0)[1:])
    runpy.run_path(str(script))
    resumed, whole = (torch.load(tmp_path / name, weights_only=True) for name in ("resumed.pt", "whole.pt"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert epochs_in(checkpoint) == 20


# Writing and reading the file


def test_a_save_that_fails_midway_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "deep" / "run.pt"
    run("momentum", 0, 1, path)
    before = path.read_bytes()

    def disk_full(state, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        run("momentum", 0, 2, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_save_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "run.pt"
    for epochs in (1, 2):
        run("momentum", 0, epochs, path)
        assert epochs_in(path) == epochs
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_a_run_holds_the_checkpoint_alone(tmp_path):
    run("momentum", 0, 2, tmp_path / "new" / "run.pt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.pt"]


class Trap:
    """A pickle that would make a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


UNREADABLE = {
    "empty": lambda path: path.write_bytes(b""),
    "half a file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "text": lambda path: path.write_text("epoch 3, loss 0.5"),
    "another file of torch": lambda path: torch.save({"model": {}}, path),
    "a number": lambda path: torch.save(3, path),
    "a pickle that runs code": lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("sprung")), protocol=2)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_checkpoint_is_refused_by_name_with_the_cure(kind, tmp_path):
    path = tmp_path / "run.pt"
    run("momentum", 0, 1, path)
    UNREADABLE[kind](path)
    with pytest.raises(CheckpointError, match=r"run\.pt is not a readable checkpoint(.|\n)*Delete .*run\.pt to start again"):
        run("momentum", 0, 2, path)
    assert not (tmp_path / "sprung").exists()


def other_model(path):
    model = MLP(4, 3, hidden=(7,))
    fit(model, shuffled(), optimizer=sgd(model), epochs=2, progress=False, checkpoint=path)


OTHER = {
    "model": ("momentum", other_model),
    "with a scheduler now": ("momentum", lambda path: run("cosine", 0, 2, path)),
    "without a scheduler now": ("cosine", lambda path: run("adam", 0, 2, path)),
    "loader with a generator now": ("momentum", lambda path: run("loader with its generator", 0, 2, path)),
    "optimizer with other state": ("momentum", lambda path: run("adam", 0, 2, path)),
    "optimizer with other settings": ("plain", lambda path: run("adam", 0, 2, path)),
}


@pytest.mark.parametrize("kind", OTHER)
def test_a_checkpoint_of_another_run_is_refused_by_name_with_the_cure(kind, tmp_path):
    path = tmp_path / "run.pt"
    first, second = OTHER[kind]
    run(first, 0, 1, path)
    with pytest.raises(CheckpointError, match=r"run\.pt belongs to another(.|\n)*Delete .*run\.pt to start again"):
        second(path)


def test_checkpoints_are_read_with_weights_only(monkeypatch, tmp_path):
    seen = []
    real = torch.load

    def watched(*args, **options):
        seen.append(options.get("weights_only"))
        return real(*args, **options)

    run("momentum", 0, 1, tmp_path / "run.pt")
    monkeypatch.setattr(torch, "load", watched)
    run("momentum", 0, 2, tmp_path / "run.pt")
    assert seen == [True]
