"""What `fit`, `evaluate` and `predict` take and refuse, wherever in the epoch it stands; and how a model is left."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from course_utils.data import TensorLoader
from course_utils.models import MLP
from course_utils.train import EarlyStopping, EveryStep, NonFiniteLossError, evaluate, predict
from tests.unit.kinds import skip_unless_picked
from tests.unit.test_train import assert_same_weights, blobs, columns, loader, mlp, quiet_fit

SGD = torch.optim.SGD
WIDTHS = [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.int64, torch.bool]


def batches_with(value, position, sizes=(7, 7, 7, 5), classes=3):
    """Batches of points; one label is ``value``."""
    x, y = blobs(sum(sizes))
    y = y % classes
    y[position] = value
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


# Labels


@pytest.mark.parametrize("dtype", WIDTHS)
def test_class_indices_of_any_width_are_class_indices(dtype):
    skip_unless_picked(dtype)
    x, y = blobs(classes=2)
    found = []
    for labels in (y, y.to(dtype)):
        model = mlp(outputs=2)
        batches = TensorLoader(x, labels, 8)
        history = quiet_fit(model, batches, val_loader=batches, batch_transform=lambda x, y: (x, F.one_hot(y, 2).float()))
        history_plain = quiet_fit(model, batches)
        found.append((columns(history, "train_loss", "train_accuracy", "val_loss", "val_accuracy"), evaluate(model, batches)))
        found[-1] += (columns(history_plain, "train_loss", "train_accuracy"), predict(model, batches).logits.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8])
def test_a_batch_transform_may_give_labels_of_any_width(dtype):
    one, two = mlp(), mlp()
    quiet_fit(one, loader())
    quiet_fit(two, loader(), batch_transform=lambda x, y: (x, y.to(dtype)))
    assert_same_weights(one, two)


@given(st.integers(0, 25), st.sampled_from([-100, -2, -1, 3, 4, 2**40]))
def test_a_label_without_an_output_is_refused_wherever_it_stands(position, label):
    batches = batches_with(label, position)
    for act in (lambda: quiet_fit(mlp(), batches, epochs=1), lambda: evaluate(mlp(), batches)):
        with pytest.raises(ValueError, match=rf"labels go from .*{label}.*, and the model has 3 outputs"):
            act()


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda logits, y: F.cross_entropy(logits, y, ignore_index=-1)])
def test_an_ignored_label_is_no_way_around(loss):
    """A model is judged on every sample, so a label that a loss would skip is a mistake in the data."""
    for label in (-1, -100):
        with pytest.raises(ValueError, match=f"labels go from {label}"):
            quiet_fit(mlp(), batches_with(label, 20), loss=loss, epochs=1)


def test_labels_that_a_batch_transform_spoils_are_refused():
    with pytest.raises(ValueError, match="labels go from -1"):
        quiet_fit(mlp(), loader(), epochs=1, loss=lambda logits, y: logits.mean(), batch_transform=lambda x, y: (x, y - 1))


def test_labels_of_the_loader_are_checked_where_a_transform_hides_them():
    """Accuracy is counted against them."""
    batches = batches_with(3, 20)
    with pytest.raises(ValueError, match="labels go from 0 to 3"):
        quiet_fit(mlp(), batches, epochs=1, batch_transform=lambda x, y: (x, torch.full((len(x), 3), 1 / 3)))


def test_an_error_of_the_loss_itself_stays_what_it_is():
    def broken(logits, y):
        raise IndexError("mine")

    with pytest.raises(IndexError, match="mine"):
        quiet_fit(mlp(), loader(), loss=broken)


@pytest.mark.parametrize("position", [0, 1, 3])
def test_whether_targets_are_probabilities_does_not_depend_on_the_first_batch(position):
    x, y = blobs(28)
    targets = list(F.one_hot(y, 3).float().split(7))
    targets[position] = targets[position] * 2.5
    history = quiet_fit(mlp(), list(zip(x.split(7), targets, strict=True)), loss=F.mse_loss, epochs=1)
    assert np.isnan(history.rows[0]["train_accuracy"])


@pytest.mark.parametrize("position", [0, 2])
def test_targets_of_another_shape_are_refused_in_any_batch(position):
    x, y = blobs(28)
    targets = list(F.one_hot(y, 3).float().split(7))
    targets[position] = targets[position][:, :1]
    with pytest.raises(ValueError, match=r"the model gives \(7, 3\) and the targets are \(7, 1\)"):
        quiet_fit(mlp(), list(zip(x.split(7), targets, strict=True)), loss=F.mse_loss, epochs=1)


# Inputs


@pytest.mark.parametrize("model_type", [torch.float32, torch.float64])
@pytest.mark.parametrize("input_type", [torch.float64, torch.float32, torch.float16])
def test_floating_point_inputs_of_any_type_are_taken(model_type, input_type):
    x, y = blobs()
    x = x.to(input_type)
    given_model, own_model = mlp().to(model_type), mlp().to(model_type)
    quiet_fit(given_model, TensorLoader(x, y, 8), val_loader=TensorLoader(x, y, 20))
    quiet_fit(own_model, TensorLoader(x.to(model_type), y, 8))
    assert_same_weights(given_model, own_model)
    assert next(given_model.parameters()).dtype == model_type
    assert evaluate(given_model, TensorLoader(x, y, 8), amp="off") == evaluate(
        own_model, TensorLoader(x.to(model_type), y, 8), amp="off"
    )


@pytest.mark.parametrize("loss", [F.mse_loss, F.cross_entropy, F.binary_cross_entropy_with_logits])
def test_floating_point_targets_of_any_type_are_taken(loss):
    x, y = blobs()
    targets = F.one_hot(y, 3).double() * 0.9 + 0.1 / 3
    one, two = mlp(), mlp()
    quiet_fit(one, TensorLoader(x, targets, 8), loss=loss)
    quiet_fit(two, TensorLoader(x, targets.float(), 8), loss=loss)
    assert_same_weights(one, two)
    assert evaluate(one, TensorLoader(x, targets, 8), loss=loss).loss > 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_integer_inputs_are_refused_with_the_cure(dtype, amp):
    x, y = blobs()
    batches = TensorLoader(x.abs().to(dtype), y, 8)
    for act in (lambda: quiet_fit(mlp(), batches, amp=amp), lambda: evaluate(mlp(), batches, amp=amp)):
        with pytest.raises(ValueError, match=rf"inputs are {dtype}.*augment\.normalize"):
            act()
    images = TensorLoader(torch.zeros(8, 3, 8, 8).to(dtype), y[:8], 4)
    with pytest.raises(ValueError, match=rf"inputs are {dtype}.*augment\.normalize"):
        predict(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3)), images, amp=amp)


def test_integer_inputs_that_a_model_wants_are_taken():
    words = torch.randint(9, (40, 5))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    quiet_fit(model, TensorLoader(words, torch.arange(40) % 3, 8))
    assert evaluate(model, TensorLoader(words, torch.arange(40) % 3, 8)).loss > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_inputs_that_are_not_finite_are_named_wherever_they_stand(bad, batch):
    batches = batches_with(0, 0)
    batches[batch - 1][0][2, 1] = bad
    with pytest.raises(NonFiniteLossError, match=rf"step {batch} of 4, is .*\. The training inputs are not finite"):
        quiet_fit(mlp(), batches)
    for act in (evaluate, predict):
        with pytest.raises(ValueError, match=f"the inputs of batch {batch} are not finite"):
            act(mlp(), batches)
    with pytest.raises(NonFiniteLossError, match=r"validation loss of epoch 1 is .*\. The validation inputs are not"):
        quiet_fit(mlp(), loader(), val_loader=batches)


def test_a_model_that_has_diverged_is_no_fault_of_the_inputs():
    model = mlp()
    with torch.no_grad():
        model[-1].weight[0, 0] = float("nan")
    found = evaluate(model, loader())
    assert np.isnan(found.loss)
    assert found.accuracy == 0  # what is not a number names no class
    assert predict(model, loader()).logits.isnan().any()


def test_a_model_that_fills_gaps_itself_may_get_them():
    class Filled(MLP):
        def forward(self, x):
            return super().forward(x.nan_to_num())

    batches = batches_with(0, 0)
    batches[2][0][1] = float("nan")
    model = Filled(4, 3, hidden=(8,))
    quiet_fit(model, batches, val_loader=batches)
    assert evaluate(model, batches).loss > 0


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_training_works_within_a_context_without_gradients(context):
    x, y = blobs()
    whole, model = mlp(), mlp()
    quiet_fit(whole, TensorLoader(x, y, 8))
    with context():
        x, y = x.clone(), y.clone()
        quiet_fit(model, TensorLoader(x, y, 8), val_loader=TensorLoader(x, y, 20))
        assert evaluate(model, TensorLoader(x, y, 8)).loss > 0
    assert_same_weights(whole, model)


def test_a_batch_of_one_in_front_of_batch_normalisation_is_refused_with_the_cure():
    x, y = blobs(17)
    model = mlp(batch_norm=True)
    with pytest.raises(ValueError, match=r"a batch has one sample.*drop_last=True"):
        quiet_fit(model, TensorLoader(x, y, 8))
    quiet_fit(model, TensorLoader(x, y, 8, drop_last=True), val_loader=TensorLoader(x, y, 8))


@pytest.mark.parametrize("epochs", [np.int64(2), torch.tensor(2), np.uint8(2)])
def test_whole_numbers_of_any_kind_are_epochs(epochs):
    assert len(quiet_fit(mlp(), loader(), epochs=epochs).rows) == 2


@pytest.mark.parametrize("epochs", [2.0, "2", None, True, 1.5])
def test_what_is_no_whole_number_is_not_epochs(epochs):
    with pytest.raises(ValueError, match=r"epochs is .* whole number"):
        quiet_fit(mlp(), loader(), epochs=epochs)


@pytest.mark.parametrize("options", [{"patience": float("nan")}, {"min_delta": float("nan")}])
def test_a_rule_that_is_not_a_number_is_refused(options):
    with pytest.raises(ValueError, match="is nan"):
        EarlyStopping(**options)


# Schedules


@pytest.mark.parametrize("overflow", [{2}, {0, 1, 5}, set(range(9))])
def test_a_schedule_by_step_waits_where_the_loss_scale_left_a_step_out(overflow, recwarn):
    """With fp16, a gradient that overflows is thrown away, and the weights do not move: neither may the schedule."""
    model = mlp()
    optimizer = SGD(model.parameters(), lr=1.0)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    calls = []

    def loss(logits, y):
        calls.append(1)
        return F.cross_entropy(logits, y) * (1e35 if len(calls) - 1 in overflow else 1e-3)

    x, y = blobs(45)
    quiet_fit(model, TensorLoader(x, y, 5), optimizer, loss=loss, epochs=1, scheduler=EveryStep(scheduler), amp="fp16")
    assert scheduler.last_epoch == 9 - len(overflow)
    assert not [warning for warning in recwarn if "lr_scheduler" in str(warning.message)]


@pytest.mark.parametrize(("total", "by_step", "epochs"), [(20, True, 3), (2, False, 3), (7, True, 2)])
def test_a_schedule_that_ends_before_the_run_is_refused_before_it_begins(total, by_step, epochs):
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=total)
    with pytest.raises(ValueError, match=f"the schedule ends after {total} steps"):
        quiet_fit(model, loader(), optimizer, scheduler=EveryStep(scheduler) if by_step else scheduler, epochs=epochs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# How a model is left


class Stop(Exception):
    pass


def stop_at(call, error):
    calls = []

    def transform(x, y):
        calls.append(1)
        if len(calls) == call:
            raise error
        return x, y

    return transform


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stop()])
def test_an_interrupted_run_leaves_the_best_weights_in_evaluation_mode(error):
    rule = EarlyStopping(patience=None, min_delta=100.0)  # no later epoch can meet it: epoch 1 is the best
    first, model = mlp(batch_norm=True), mlp(batch_norm=True)
    quiet_fit(first, loader(), epochs=1)
    with pytest.raises(type(error)):
        quiet_fit(model, loader(), epochs=9, val_loader=loader(), early_stopping=rule, batch_transform=stop_at(20, error))
    assert not any(module.training for module in model.modules())
    assert_same_weights(model, first)


def test_a_run_without_a_rule_that_is_interrupted_keeps_its_last_weights():
    model = mlp()
    seen = {}

    def remember(x, y):
        seen["weights"] = {name: value.clone() for name, value in model.state_dict().items()}
        return stop(x, y)

    stop = stop_at(12, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        quiet_fit(model, loader(), batch_transform=remember)
    assert not model.training
    assert all(torch.equal(value, seen["weights"][name]) for name, value in model.state_dict().items())


def frozen_part():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3), nn.BatchNorm1d(3))


def test_a_body_that_was_trained_before_is_trained_under_a_new_head():
    """It comes in evaluation mode, as `fit` leaves models; to freeze it is another wish."""
    for wrap in (lambda body: nn.Sequential(*body, nn.Linear(3, 3)), lambda body: nn.Sequential(body, nn.Linear(3, 3))):
        body = frozen_part()
        quiet_fit(body, loader(), epochs=1)
        model = wrap(copy.deepcopy(body))
        quiet_fit(model, loader(), epochs=1)
        assert all(part.num_batches_tracked == 14 for part in model.modules() if isinstance(part, nn.BatchNorm1d))
        model = wrap(copy.deepcopy(body).requires_grad_(False))
        model[-1].requires_grad_()
        modes = []
        dropout = next(part for part in model.modules() if isinstance(part, nn.Dropout))
        dropout.register_forward_hook(lambda module, *_, modes=modes: modes.append(module.training))
        quiet_fit(model, loader(), epochs=1)
        if isinstance(model[0], nn.Sequential):  # a body of its own: all of it is frozen, dropout too
            assert not any(modes)
        assert all(part.num_batches_tracked == 7 for part in model.modules() if isinstance(part, nn.BatchNorm1d))


@pytest.mark.parametrize("frozen", [(1,), (1, 5)])
def test_a_frozen_batch_normalisation_does_not_move(frozen):
    model = frozen_part().train()
    for part in frozen:
        model[part].eval()
    before = copy.deepcopy(model.state_dict())
    modes = []
    model[3].register_forward_hook(lambda module, *_: modes.append((module.training, model[1].training)))
    quiet_fit(model, loader(), val_loader=loader(), epochs=2)
    after = model.state_dict()
    for part in (1, 5):
        same = torch.equal(before[f"{part}.running_mean"], after[f"{part}.running_mean"])
        assert same == (part in frozen)
        assert (after[f"{part}.num_batches_tracked"] == 0) == (part in frozen)
    assert modes[:7] == [(True, False)] * 7
    assert modes[7:14] == [(False, False)] * 7  # validation


def test_a_model_that_was_left_in_evaluation_mode_is_trained_as_a_whole():
    model = frozen_part()
    quiet_fit(model, loader(), epochs=1)
    assert not model.training
    quiet_fit(model, loader(), epochs=1)
    assert model[1].num_batches_tracked == 14


# A torch loader's own workers


def test_a_last_batch_of_another_kind_is_checked_too():
    """A DataLoader of a dataset whose labels change their type on the way."""
    x, y = blobs(20)
    batches = [(x[:8], y[:8].int()), (x[8:16], y[8:16]), (x[16:], y[16:].to(torch.uint8))]
    one, two = mlp(), mlp()
    quiet_fit(one, batches)
    quiet_fit(two, DataLoader(TensorDataset(x, y), 8))
    assert_same_weights(one, two)


def test_a_step_schedule_still_moves_at_every_step_without_scaling():
    model = mlp()
    optimizer = SGD(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, 1, gamma=0.9)
    quiet_fit(model, loader(), optimizer, scheduler=EveryStep(scheduler), epochs=2)
    assert scheduler.last_epoch == 14
