"""What torch would say in its own words, said in ours; and what a plain loop takes, taken."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset

from course_utils.data import TensorLoader
from course_utils.train import CheckpointError, EarlyStopping, EveryStep, NonFiniteLossError, evaluate, fit, predict
from tests.unit.test_train import blobs, loader, mlp, quiet_fit


class Stream(IterableDataset):
    def __iter__(self):
        x, y = blobs(20)
        return iter(list(zip(x, y, strict=True)))


def test_a_dataset_without_a_length_is_trained_and_evaluated():
    model = mlp()
    history = quiet_fit(model, DataLoader(Stream(), 8), val_loader=DataLoader(Stream(), 8), progress=True)
    assert len(history.rows) == 3
    assert evaluate(model, DataLoader(Stream(), 8)).loss > 0


def test_a_loss_that_is_not_finite_is_told_for_a_dataset_without_a_length():
    with pytest.raises(NonFiniteLossError, match="Usual causes"):
        quiet_fit(mlp(), DataLoader(Stream(), 8), loss=lambda logits, y: F.cross_entropy(logits, y) * float("nan"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x * float("nan"), y), "The batches that batch_transform makes are not finite"),
        (lambda x, y: (x, torch.full((len(y), 3), float("nan"))), "The batches that batch_transform makes are not finite"),
    ],
)
def test_a_transform_that_spoils_batches_is_named(spoil, message):
    with pytest.raises(NonFiniteLossError, match=message):
        quiet_fit(mlp(), loader(), batch_transform=spoil)


def test_targets_that_are_not_finite_are_named():
    x, _ = blobs(20)
    targets = torch.randn(20, 3)
    targets[17, 1] = float("nan")
    batches = TensorLoader(x, targets, 8)
    with pytest.raises(NonFiniteLossError, match="The training targets are not finite"):
        quiet_fit(mlp(), batches, loss=F.mse_loss)
    with pytest.raises(ValueError, match="the targets are not finite"):
        evaluate(mlp(), batches, loss=F.mse_loss)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_an_embedding_is_told_to_get_int64(dtype):
    words = torch.randint(2, (24, 5)).to(dtype)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    with pytest.raises(ValueError, match=rf"inputs are {dtype}, and an embedding looks them up.*x\.long\(\)"):
        quiet_fit(model, TensorLoader(words, torch.arange(24) % 3, 8))
    quiet_fit(model, TensorLoader(words.int(), torch.arange(24) % 3, 8))


def test_integers_before_dropout_are_told_to_become_floats():
    x, y = blobs()
    with pytest.raises(ValueError, match=r"inputs are torch\.uint8"):
        quiet_fit(nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), TensorLoader(x.abs().to(torch.uint8), y, 8))


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        return self.linear(x).squeeze()


def test_a_model_that_squeezes_a_batch_of_one_is_told():
    x, _ = blobs(17)
    batches = TensorLoader(x, x.sum(1), 8)
    model = Squeezed()
    for act in (
        lambda: quiet_fit(model, batches, loss=F.mse_loss),
        lambda: evaluate(model, batches, loss=F.mse_loss),
        lambda: predict(model, batches),
    ):
        with pytest.raises(ValueError, match=r"gives shape \(\) for a batch of 1.*squeeze\(1\)"):
            act()


def test_one_hot_integers_are_told_to_become_floats():
    x, y = blobs()
    with pytest.raises(ValueError, match=r"one-hot rows or numbers give y\.float\(\)"):
        quiet_fit(mlp(), TensorLoader(x, F.one_hot(y, 3), 8))


def test_a_batch_without_a_sample_is_told():
    x, y = blobs(16)
    with pytest.raises(ValueError, match="a batch holds no sample"):
        quiet_fit(mlp(), [(x, y), (x[:0], y[:0])])


@pytest.mark.parametrize("warm", [0, 0.0, np.float32(0)])
def test_an_extra_loss_may_be_a_number(warm):
    history = quiet_fit(mlp(), loader(), extra_loss=lambda model, epoch: warm if epoch == 1 else model[-1].weight.sum() * 0 + 2)
    assert [row["extra_loss"] for row in history.rows] == [0, 2, 2]


class Remembering(nn.Linear):
    """Keeps more than tensors in its state."""

    def get_extra_state(self):
        return {"note": ["kept"]}

    def set_extra_state(self, state):
        assert state == {"note": ["kept"]}


def test_state_that_is_more_than_tensors_is_kept_with_the_best_weights():
    model = nn.Sequential(Remembering(4, 3))
    quiet_fit(model, loader(), val_loader=loader(), early_stopping=EarlyStopping(patience=None, min_delta=100.0))


def test_a_plateau_of_what_should_grow_looks_at_the_accuracy():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", patience=0)
    history = quiet_fit(model, loader(), optimizer, val_loader=loader(), scheduler=scheduler, epochs=6)
    assert scheduler.best == max(row["val_accuracy"] for row in history.rows)


def test_a_schedule_that_has_begun_is_told_to_be_made_anew():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = EveryStep(OneCycleLR(optimizer, 0.1, total_steps=21))
    quiet_fit(model, loader(), optimizer, scheduler=scheduler)
    with pytest.raises(ValueError, match=r"this run goes to 42(.|\n)*Make model, optimizer and schedule anew"):
        quiet_fit(model, loader(), optimizer, scheduler=scheduler)


def test_a_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    quiet_fit(mlp(), loader(), checkpoint="~/my runs/한글.pt")
    assert (tmp_path / "my runs" / "한글.pt").is_file()


def test_a_rule_on_a_file_without_validation_says_what_is_missing(tmp_path):
    quiet_fit(mlp(), loader(), checkpoint=tmp_path / "run.pt", epochs=1)
    with pytest.raises(CheckpointError, match="there are epochs without validation"):
        quiet_fit(mlp(), loader(), checkpoint=tmp_path / "run.pt", val_loader=loader(), early_stopping=EarlyStopping())


def test_an_error_in_the_arguments_leaves_the_model_as_it_came():
    model = mlp()
    with pytest.raises(ValueError, match="early stopping"):
        fit(model, loader(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1), epochs=1, early_stopping=EarlyStopping())
    assert model.training


def test_what_cannot_be_trained_is_told():
    frozen = mlp().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        quiet_fit(frozen, loader())
    model = mlp()
    with pytest.raises(ValueError, match="LBFGS asks for the loss several times"):
        quiet_fit(model, loader(), torch.optim.LBFGS(model.parameters()))


class Two(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def test_a_model_that_gives_more_than_logits_is_told():
    for act in (quiet_fit, evaluate, predict):
        with pytest.raises(ValueError, match="the model gives a tuple"):
            act(Two(4, 3), loader())


def test_layers_made_later_go_on_from_a_file(tmp_path):
    def trained(epochs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
        history = quiet_fit(model, loader(), checkpoint=tmp_path / "run.pt", epochs=epochs)
        return model, history

    trained(1)
    model, history = trained(3)
    assert len(history.rows) == 3
    assert model[0].weight.shape == (8, 4)
