import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from course_utils import precision
from course_utils.data import TensorLoader
from course_utils.models import MLP, SmallCNN
from course_utils.train import EarlyStopping, EveryStep, NonFiniteLossError, evaluate, fit, predict

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


def blobs(n=52, seed=0, features=4, classes=3):
    """Points around one centre per class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return torch.randn(n, features, generator=generator) + 2 * F.one_hot(y, features), y


def images(n=52, seed=0):
    x, y = blobs(n, seed, 64)
    return x.reshape(n, 1, 8, 8), y


def loader(n=52, seed=0, batch_size=8, **options):
    return TensorLoader(*blobs(n, seed), batch_size, **options)


def mlp(seed=0, outputs=3, **options):
    torch.manual_seed(seed)
    return MLP(4, outputs, hidden=(8,), **options)


def quiet_fit(model, train_loader, optimizer=None, **options):
    options = {"epochs": 3, "progress": False, "amp": "off"} | options
    return fit(model, train_loader, optimizer=optimizer or SGD(model.parameters(), lr=0.1), **options)


def columns(history, *names):
    return [[row[name] for row in history.rows] for name in names]


def assert_same_weights(one, two):
    for (name, left), right in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


# fit against a loop written by hand


def by_hand(model, batches, optimizer, epochs):
    rows = []
    for _ in range(epochs):
        model.train()
        loss_sum = correct = count = 0
        for x, y in batches:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
            count += len(y)
        rows.append((loss_sum / count, correct / count))
    return rows


OPTIMIZERS = {
    "SGD": lambda parameters, **options: SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3, **options),
    "Adam": lambda parameters, **options: Adam(parameters, lr=0.01, **options),
    "AdamW": lambda parameters, **options: AdamW(parameters, lr=0.01, weight_decay=0.1, **options),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "narrow cnn", "wide cnn"])
@pytest.mark.parametrize("loader_class", ["TensorLoader", "DataLoader"])
def test_fit_equals_a_loop_written_by_hand_bit_for_bit(optimizer, kind, loader_class):
    def parts():
        torch.manual_seed(0)
        width = 16 if kind == "wide cnn" else 4
        model = (
            MLP(4, 3, hidden=(8,), dropout=0.2) if kind == "mlp" else SmallCNN(1, 3, image_size=8, width=width, batch_norm=True)
        )
        x, y = blobs() if kind == "mlp" else images()
        if loader_class == "DataLoader":
            generator = torch.Generator().manual_seed(1)
            return model, DataLoader(TensorDataset(x, y), 8, shuffle=True, generator=generator)
        return model, TensorLoader(x, y, 8, shuffle=True, generator=torch.Generator().manual_seed(1))

    ours, batches = parts()
    history = quiet_fit(ours, batches, OPTIMIZERS[optimizer](ours.parameters()))
    theirs, batches = parts()
    layout = precision.layout(theirs, torch.device("cpu"))
    if layout is torch.channels_last:
        theirs.to(memory_format=layout)
        batches = MapEachPass(batches, lambda x, y: (x.contiguous(memory_format=layout), y))
    rows = by_hand(theirs, batches, OPTIMIZERS[optimizer](theirs.parameters(), fused=True), epochs=3)
    assert_same_weights(ours, theirs)
    found = zip(*columns(history, "train_loss", "train_accuracy"), strict=True)
    np.testing.assert_allclose(list(found), rows, rtol=1e-12)


class MapEachPass:
    def __init__(self, batches, transform):
        self.batches, self.transform = batches, transform

    def __iter__(self):
        return (self.transform(x, y) for x, y in self.batches)


@pytest.mark.parametrize("amp", ["off", "bf16", "auto"])
def test_two_runs_with_the_same_seed_are_bit_identical(amp):
    def run():
        torch.manual_seed(5)
        model = SmallCNN(1, 3, image_size=8, width=4, dropout=0.2, batch_norm=True)
        history = quiet_fit(
            model,
            TensorLoader(*images(), 8, shuffle=True),
            AdamW(model.parameters()),
            val_loader=TensorLoader(*images(), 20),
            amp=amp,
        )
        return model, columns(history, "train_loss", "train_accuracy", "val_loss", "val_accuracy")

    (one, first), (two, second) = run(), run()
    assert first == second
    assert_same_weights(one, two)


def test_mixed_precision_really_is_on_and_the_loss_sees_float32():
    def run(amp):
        model, seen = mlp(), {"hidden": set(), "logits": set()}
        model[-1].register_forward_hook(lambda *args: seen["hidden"].add(args[-1].dtype))

        def loss(logits, targets):
            seen["logits"].add(logits.dtype)
            return F.cross_entropy(logits, targets)

        quiet_fit(model, loader(), loss=loss, val_loader=loader(), amp=amp)
        assert next(model.parameters()).dtype == torch.float32
        return seen

    assert run("bf16") == {"hidden": {torch.bfloat16}, "logits": {torch.float32}}
    assert run("off") == {"hidden": {torch.float32}, "logits": {torch.float32}}


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_uses_bf16_only_on_processors_with_units_for_it(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    seen = set()
    model = mlp()
    model[-1].register_forward_hook(lambda *args: seen.add(args[-1].dtype))
    evaluate(model, loader())
    assert seen == {dtype}


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="amp is 'half'"):
        quiet_fit(mlp(), loader(), amp="half")
    with pytest.raises(ValueError, match="amp is 'half'"):
        evaluate(mlp(), loader(), amp="half")


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_the_fused_step_is_switched_on_only_where_the_choice_was_left_open(optimizer):
    def after_fit(**options):
        model = mlp()
        chosen = optimizer(model.parameters(), lr=0.01, **options)
        quiet_fit(model, loader(), chosen, epochs=1)
        return chosen.param_groups[0]["fused"]

    assert after_fit() is True
    assert after_fit(fused=False) is False
    assert not after_fit(foreach=True)
    assert not after_fit(foreach=False)


def test_an_optimizer_without_a_fused_step_works_as_it_is():
    def run(train):
        model = mlp()
        train(model, torch.optim.RMSprop(model.parameters(), lr=0.01))
        return model

    assert_same_weights(
        run(lambda model, optimizer: quiet_fit(model, loader(), optimizer)),
        run(lambda model, optimizer: by_hand(model, loader(), optimizer, 3)),
    )


def test_sparse_gradients_still_work():
    model = nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Flatten(), nn.Linear(6, 3))
    x, y = torch.arange(30).reshape(10, 3) % 5, torch.arange(10) % 3
    assert quiet_fit(model, TensorLoader(x, y, 5), SGD(model.parameters(), lr=0.1)).best_epoch == 3


# Means


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 100))
def test_epoch_means_weigh_samples_not_batches(n, batch_size, seed):
    model = mlp(seed)
    x, y = torch.randn(n, 4), torch.randint(3, (n,))
    frozen = SGD(model.parameters(), lr=0.0)  # so that the mean over the epoch is the loss of one model
    row = quiet_fit(model, TensorLoader(x, y, batch_size), frozen, epochs=1).rows[0]
    with torch.no_grad():
        logits = model(x)
    assert row["train_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert row["train_accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item())


@given(st.integers(3, 60), st.integers(1, 60), st.integers(2, 5), st.integers(0, 100))
def test_evaluate_equals_scikit_learn(n, batch_size, classes, seed):
    torch.manual_seed(seed)
    model = MLP(4, classes, hidden=(6,), dropout=0.5)
    x, y = torch.randn(n, 4), torch.randint(classes, (n,))
    found = evaluate(model, TensorLoader(x, y, batch_size), amp="off")
    with torch.no_grad():
        probabilities = model.eval()(x).double().softmax(1).numpy()
    assert found.accuracy == pytest.approx(accuracy_score(y, probabilities.argmax(1)))
    assert found.loss == pytest.approx(log_loss(y, probabilities, labels=range(classes)), rel=1e-5)


def test_evaluate_counts_each_sample_of_a_torch_loader_once():
    x, y = blobs()
    model = mlp()
    ours, theirs = (
        evaluate(model, batches, amp="off") for batches in (loader(batch_size=52), DataLoader(TensorDataset(x, y), 7))
    )
    assert ours.accuracy == theirs.accuracy
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)


def test_evaluate_and_predict_put_every_mode_back():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).train()
    model[1].eval()  # a frozen part
    before = [module.training for module in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    evaluate(model, loader())
    predict(model, loader())
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        evaluate(model, TensorLoader(torch.zeros(2, 9), torch.zeros(2).long(), 2))
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())  # running statistics too


def test_predict_gives_logits_and_targets_in_the_order_of_the_loader():
    x, y = blobs()
    model = mlp(dropout=0.5)
    order = torch.randperm(len(y)).tolist()
    logits, targets = predict(model, TensorLoader(x, y, 8, sampler=order), amp="off")
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(x[order]))
    assert torch.equal(targets, y[order])
    assert predict(model, loader(), amp="bf16").logits.dtype == torch.float32


def test_predictions_can_be_used_to_fit_a_temperature():
    logits, targets = predict(mlp(), loader())
    temperature = torch.ones((), requires_grad=True)
    F.cross_entropy(logits / temperature, targets).backward()
    assert temperature.grad.isfinite()


def test_a_loss_with_parameters_of_its_own_can_be_evaluated():
    scale = torch.ones((), requires_grad=True)
    assert evaluate(mlp(), loader(), loss=lambda logits, y: F.cross_entropy(logits * scale, y)).loss > 0


# Targets


def one_hot(x, y):
    return x, F.one_hot(y, 3).float()


def test_one_hot_targets_train_as_class_indices_do():
    x, y = blobs()
    indices, hot = mlp(), mlp()
    options = {"val_loader": loader(seed=1)}
    expected = quiet_fit(indices, TensorLoader(x, y, 8), **options)
    for batches, transform in ((TensorLoader(*one_hot(x, y), 8), None), (TensorLoader(x, y, 8), one_hot)):
        hot = mlp()
        found = quiet_fit(hot, batches, batch_transform=transform, **options)
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_allclose(*columns(found, name), *columns(expected, name), rtol=1e-4)
        for one, two in zip(hot.parameters(), indices.parameters(), strict=True):
            torch.testing.assert_close(one, two)


def test_evaluate_takes_probabilities():
    x, y = blobs()
    model = mlp()
    smoothed = F.one_hot(y, 3) * 0.7 + 0.1
    hard, soft = evaluate(model, TensorLoader(x, y, 8), amp="off"), evaluate(model, TensorLoader(x, smoothed, 8), amp="off")
    assert soft.accuracy == hard.accuracy
    assert soft.loss == pytest.approx(F.cross_entropy(predict(model, loader(), amp="off").logits, smoothed).item())


def test_the_batch_transform_decides_the_loss_and_the_loader_the_accuracy():
    model = mlp()
    seen = []

    def turned(x, y):
        seen.append(len(y))
        return x, (y + 1) % 3

    frozen = SGD(model.parameters(), lr=0.0)
    row = quiet_fit(model, loader(), frozen, epochs=1, batch_transform=turned, val_loader=loader()).rows[0]
    assert seen == [8, 8, 8, 8, 8, 8, 4]  # training batches alone
    assert row["train_accuracy"] == pytest.approx(row["val_accuracy"])
    x, y = blobs()
    assert row["train_loss"] == pytest.approx(evaluate(model, TensorLoader(x, (y + 1) % 3, 8), amp="off").loss, rel=1e-5)


def regression(n=40):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([[1.0], [2.0], [0.0], [-1.0]])


def test_regression_has_a_loss_and_no_accuracy():
    batches = TensorLoader(*regression(), 8)
    history = quiet_fit(mlp(outputs=1), batches, epochs=20, loss=F.mse_loss, val_loader=batches)
    train_loss, val_loss = columns(history, "train_loss", "val_loss")
    assert val_loss[-1] < 0.5 * val_loss[0]
    assert all(math.isnan(value) for name in ("train_accuracy", "val_accuracy") for value in columns(history, name)[0])
    assert len(train_loss) == 20


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_targets_of_another_shape_are_refused(outputs):
    x, y = regression()
    with pytest.raises(ValueError, match=rf"\(8, {outputs}\) and the targets are \(8,\).*broadcasts"):
        quiet_fit(mlp(outputs=outputs), TensorLoader(x, y[:, 0], 8), loss=F.mse_loss)
    with pytest.raises(ValueError, match=rf"\(40, {outputs}\) and the targets are \(40,\)"):
        evaluate(mlp(outputs=outputs), TensorLoader(x, y[:, 0], 8), loss=F.mse_loss)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_the_model_has_no_output_for_are_refused(label):
    x, y = blobs(8)
    y[3] = label
    for run in (quiet_fit, evaluate):
        with pytest.raises(ValueError, match=f"labels go from .*{label}.* the model has 3 outputs, for labels 0 to 2"):
            run(mlp(), TensorLoader(x, y, 8))


def test_labels_of_another_shape_are_refused():
    x, y = blobs()
    with pytest.raises(ValueError, match=r"labels are \(8, 1\); expected logits \(B, K\) for labels \(B,\)"):
        quiet_fit(mlp(), TensorLoader(x, y[:, None], 8))


# Loaders and arguments


@pytest.mark.parametrize("empty", [[], ()])
def test_empty_loaders_are_refused(empty):
    with pytest.raises(ValueError, match="train_loader is empty"):
        quiet_fit(mlp(), empty)
    with pytest.raises(ValueError, match="the loader is empty"):
        quiet_fit(mlp(), loader(), val_loader=empty)
    for run in (evaluate, predict):
        with pytest.raises(ValueError, match="the loader is empty"):
            run(mlp(), empty)


def test_a_loader_without_length_works_and_a_used_up_one_is_refused():
    ours, theirs = mlp(), mlp()
    quiet_fit(ours, MapEachPass(loader(), lambda x, y: (x, y)), progress=True)
    quiet_fit(theirs, loader())
    assert_same_weights(ours, theirs)
    with pytest.raises(ValueError, match="train_loader is empty"):
        quiet_fit(mlp(), iter(list(loader())), epochs=2)


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs):
    with pytest.raises(ValueError, match=f"epochs is {epochs}"):
        quiet_fit(mlp(), loader(), epochs=epochs)


def test_the_history_is_a_table_of_epochs():
    model = mlp()
    history = quiet_fit(model, loader(), val_loader=loader(seed=1))
    assert list(history.frame.index) == [1, 2, 3]
    assert history.frame.index.name == "epoch"
    expected = {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert set(history.frame.columns) == expected
    assert (history.frame["seconds"] > 0).all()
    assert (history.best_epoch, history.stopped_early) == (3, False)
    assert not model.training
    assert "val_loss" not in quiet_fit(mlp(), loader()).frame


class Counting:
    def __init__(self, batches):
        self.batches, self.passes = batches, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.passes += 1
        return iter(self.batches)


def test_training_is_in_training_mode_and_validation_in_evaluation_mode():
    model = mlp(dropout=0.5).eval()  # as an earlier fit leaves it
    modes = []
    model[-1].register_forward_hook(lambda *args: modes.append(model.training))
    quiet_fit(model, loader(), val_loader=loader(batch_size=52), epochs=2)
    assert modes == ([True] * 7 + [False]) * 2


def test_each_epoch_passes_once_over_each_loader():
    train, val = Counting(loader()), Counting(loader())
    quiet_fit(mlp(), train, val_loader=val, epochs=4, early_stopping=EarlyStopping(patience=None))
    assert (train.passes, val.passes) == (4, 4)


def test_one_progress_bar_shows_loss_and_accuracy(capsys):
    quiet_fit(mlp(), loader(), val_loader=loader(), progress=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1  # one bar, one line
    last = out.split("\r")[-1]
    assert "100%" in last
    assert "21/21" in last  # 3 epochs of 7 steps
    quiet_fit(mlp(), loader())
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_shows_the_loss_and_accuracy_of_the_last_epoch(capsys):
    row = quiet_fit(mlp(), loader(), val_loader=loader(), progress=True).rows[-1]
    last = capsys.readouterr().out.split("\r")[-1]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert f"{row[name]:.3f}" in last, name


# Early stopping


def naive_best_epoch(values, rule):
    best, best_epoch = values[0], 1
    for epoch, value in enumerate(values[1:], start=2):
        gain = best - value if rule.monitor == "val_loss" else value - best
        if gain > rule.min_delta:
            best, best_epoch = value, epoch
    return best_epoch


# Quarters, so that sums and differences are exact.
quarters = st.integers(0, 12).map(lambda number: number / 4)


@given(
    st.lists(quarters, min_size=1, max_size=20),
    st.one_of(st.none(), st.integers(1, 6)),
    st.sampled_from(["val_loss", "val_accuracy"]),
    quarters,
)
def test_the_rule_equals_a_plain_reading_of_it(values, patience, monitor, min_delta):
    rule = EarlyStopping(patience, monitor, min_delta)
    best = naive_best_epoch(values, rule)
    assert rule.best_epoch(values) == best
    assert rule.should_stop(values) == (patience is not None and len(values) - best >= patience)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"patience": 0}, "patience is 0"), ({"monitor": "train_loss"}, "'train_loss'"), ({"min_delta": -1}, "min_delta is -1")],
)
def test_a_rule_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


def spoiled(rule, epochs=10):
    """A run whose learning rate becomes absurd after three epochs, so that the best weights are not the last."""
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.3)
    val_loader = loader(seed=1)
    history = quiet_fit(
        model,
        loader(),
        optimizer,
        epochs=epochs,
        val_loader=val_loader,
        scheduler=MultiStepLR(optimizer, [3], gamma=30),
        early_stopping=rule,
    )
    return history, evaluate(model, val_loader, amp="off")


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping_goes_back_to_the_best_weights(monitor):
    history, found = spoiled(EarlyStopping(patience=2, monitor=monitor))
    values = columns(history, monitor)[0]
    best = min(values) if monitor == "val_loss" else max(values)
    assert history.best_epoch == values.index(best) + 1 <= 3
    assert history.stopped_early
    assert len(history.rows) == history.best_epoch + 2
    row = history.rows[history.best_epoch - 1]
    assert (found.loss, found.accuracy) == (row["val_loss"], row["val_accuracy"])
    assert found.loss < history.rows[-1]["val_loss"]


def test_without_early_stopping_the_last_weights_stay():
    history, found = spoiled(None)
    assert (history.best_epoch, history.stopped_early, len(history.rows)) == (10, False, 10)
    assert found.loss == history.rows[-1]["val_loss"]


def test_without_patience_all_epochs_run_and_the_best_weights_come_back():
    history, found = spoiled(EarlyStopping(patience=None))
    assert (history.stopped_early, len(history.rows)) == (False, 10)
    assert found.loss == min(columns(history, "val_loss")[0])


def test_a_change_below_min_delta_is_no_improvement():
    history, _ = spoiled(EarlyStopping(patience=2, min_delta=100.0))
    assert (history.best_epoch, len(history.rows), history.stopped_early) == (1, 3, True)


def test_early_stopping_keeps_running_statistics_of_the_best_epoch_too():
    torch.manual_seed(0)
    model = MLP(4, 3, hidden=(8,), batch_norm=True)
    optimizer = SGD(model.parameters(), lr=0.05)
    history = quiet_fit(
        model,
        loader(),
        optimizer,
        epochs=8,
        val_loader=loader(seed=1),
        scheduler=MultiStepLR(optimizer, [3], gamma=30),
        early_stopping=EarlyStopping(patience=None),
    )
    assert history.best_epoch < 8
    assert model[2].num_batches_tracked == 7 * history.best_epoch


def test_early_stopping_needs_validation():
    with pytest.raises(ValueError, match="give val_loader"):
        quiet_fit(mlp(), loader(), early_stopping=EarlyStopping())


def test_early_stopping_on_an_accuracy_that_does_not_exist_is_refused():
    batches = TensorLoader(*regression(), 8)
    rule = EarlyStopping(monitor="val_accuracy", patience=2)
    with pytest.raises(ValueError, match="val_accuracy"):
        quiet_fit(mlp(outputs=1), batches, loss=F.mse_loss, val_loader=batches, early_stopping=rule)


# Schedulers


def scheduled(make, **options):
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    history = quiet_fit(model, loader(), optimizer, epochs=4, scheduler=make(optimizer), **options)
    return model, columns(history, "lr")[0]


def test_a_scheduler_steps_once_an_epoch():
    assert scheduled(lambda optimizer: StepLR(optimizer, 1, gamma=0.5))[1] == [0.1, 0.05, 0.025, 0.0125]


def test_a_one_cycle_scheduler_steps_after_every_optimizer_step():
    def one_cycle(optimizer):
        return OneCycleLR(optimizer, max_lr=0.5, total_steps=28)

    model, rates = scheduled(lambda optimizer: EveryStep(one_cycle(optimizer)))
    other = mlp()
    optimizer = SGD(other.parameters(), lr=0.1, fused=True)
    scheduler = one_cycle(optimizer)
    expected = []
    for _ in range(4):
        expected.append(optimizer.param_groups[0]["lr"])
        for x, y in loader():
            optimizer.zero_grad()
            F.cross_entropy(other(x), y).backward()
            optimizer.step()
            scheduler.step()
    assert rates == expected
    assert_same_weights(model, other)


def test_a_plateau_scheduler_looks_at_the_validation_loss():
    seen = []

    class Watched(ReduceLROnPlateau):
        def step(self, metrics):
            seen.append(metrics)
            super().step(metrics)

    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    never_good_enough = Watched(optimizer, patience=0, threshold=100.0, threshold_mode="abs")
    history = quiet_fit(model, loader(), optimizer, epochs=4, scheduler=never_good_enough, val_loader=loader(seed=1))
    assert seen == columns(history, "val_loss")[0]
    np.testing.assert_allclose(columns(history, "lr")[0], [0.1, 0.1, 0.01, 0.001])


def test_schedules_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="give val_loader"):
        scheduled(ReduceLROnPlateau)
    with pytest.raises(ValueError, match="exists once an epoch: give it without EveryStep"):
        scheduled(lambda optimizer: EveryStep(ReduceLROnPlateau(optimizer)), val_loader=loader())


# Extra loss


def test_an_extra_loss_is_added_and_shown():
    decayed, penalised = mlp(), mlp()
    quiet_fit(decayed, loader(), SGD(decayed.parameters(), lr=0.1, weight_decay=0.3))
    calls = []

    def penalty(model, epoch):
        calls.append(epoch)
        return 0.15 * sum((parameter**2).sum() for parameter in model.parameters())

    first = penalty(penalised, 0).item()
    history = quiet_fit(penalised, loader(), extra_loss=penalty)
    assert calls == [0] + [1] * 7 + [2] * 7 + [3] * 7
    for one, two in zip(decayed.parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    extra = columns(history, "extra_loss")[0]
    assert first > extra[0] > extra[1] > extra[2] > 0
    assert "extra_loss" not in quiet_fit(mlp(), loader()).frame


def test_the_extra_loss_is_a_mean_over_samples_and_not_part_of_the_training_loss():
    plain, extended = (
        quiet_fit(model, loader(), SGD(model.parameters(), lr=0.0), epochs=1, extra_loss=extra).rows[0]
        for model, extra in ((mlp(), None), (mlp(), lambda model, epoch: torch.tensor(2.5)))
    )
    assert extended["extra_loss"] == pytest.approx(2.5)
    assert extended["train_loss"] == plain["train_loss"]


# A loss that is not finite


def broken_at(epoch, step, value=float("nan")):
    calls = []

    def loss(logits, targets):
        if logits.requires_grad:
            calls.append(1)
            if len(calls) == (epoch - 1) * 7 + step:
                return F.cross_entropy(logits, targets) * value
        return F.cross_entropy(logits, targets)

    return loss


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_epoch_and_step(value):
    with pytest.raises(
        NonFiniteLossError, match=rf"training loss of epoch 2, step 3 of 7, is {value}.*learning rate"
    ) as caught:
        quiet_fit(mlp(), loader(), loss=broken_at(2, 3, value))
    assert "keeps" not in str(caught.value)


def test_the_checkpoint_of_the_last_good_epoch_stays_and_can_go_on(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(NonFiniteLossError, match=r"epoch 3, step 1 of 7.*run\.pt keeps epoch 2, the last good one"):
        quiet_fit(mlp(), loader(), loss=broken_at(3, 1), checkpoint=path)
    resumed, whole = mlp(seed=9), mlp()
    quiet_fit(resumed, loader(), checkpoint=path)
    quiet_fit(whole, loader())
    assert_same_weights(resumed, whole)


def test_a_validation_loss_that_is_not_finite_stops_the_run():
    x, y = blobs()
    x[0] = float("inf")
    with pytest.raises(NonFiniteLossError, match="validation loss of epoch 1 is nan"):
        quiet_fit(mlp(), loader(), val_loader=TensorLoader(x, y, 8))


def test_an_extra_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(NonFiniteLossError, match="extra loss of epoch 2, step 1 of 7"):
        quiet_fit(mlp(), loader(), extra_loss=lambda model, epoch: torch.tensor(math.inf if epoch == 2 else 0.0))


# The host never waits for a step


class HostReads(TorchDispatchMode):
    """Counts reads of a tensor's value by Python: on a GPU each would wait for the device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def host_reads(steps, **options):
    torch.manual_seed(0)
    model = SmallCNN(1, 3, image_size=8, width=2, dropout=0.1, batch_norm=True)
    optimizer = options.pop("optimizer", Adam)(model.parameters(), lr=0.01)
    train_loader = TensorLoader(*images(4 * steps), 4)
    with HostReads() as reads:
        quiet_fit(model, train_loader, optimizer, epochs=1, **options)
    return reads.count


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": SGD},
        {"progress": True},
        {"batch_transform": lambda x, y: (x, torch.eye(3)[y])},
        {"extra_loss": lambda m, e: m[0].weight.sum()},
    ],
)
def test_reads_by_the_host_do_not_grow_with_the_steps(options):
    assert host_reads(5, **options) == host_reads(25, **options) > 0


def test_the_count_of_host_reads_does_see_one_per_step():
    def careless(x, y):
        return x / x.max().item(), y

    assert host_reads(25, batch_transform=careless) == host_reads(5, batch_transform=careless) + 20
