import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils import data, train
from course_utils.techniques import pseudo

K = 3


def unlabelled(n=12, features=4, batch_size=5, seed=0):
    x = torch.randn(n, features, generator=torch.Generator().manual_seed(seed))
    return data.TensorLoader(x, torch.full((n,), -1), batch_size)


def always(weight):
    return lambda epoch: weight


# The ramp


@given(st.floats(-10, 30), st.floats(0, 5), st.floats(0.5, 10), st.floats(0, 3))
def test_the_ramp_rises_in_a_straight_line_between_its_ends(t, start, length, alpha):
    expected = torch.tensor((t - start) / length).clamp(0, 1).item() * alpha
    assert pseudo.ramp(t, start, start + length, alpha) == pytest.approx(expected, abs=1e-5)


def test_a_ramp_without_length_is_a_jump():
    assert [pseudo.ramp(t, 3, 3, 2.0) for t in (2, 3, 4)] == [0.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, 5, 4, 1.0), "5 and ends at 4"), ((1, 0, 4, -1.0), "alpha is -1"), ((1, 0, 4, float("inf")), "alpha is inf")],
)
def test_bad_ramps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pseudo.ramp(*arguments)


# Choosing by confidence


@given(st.integers(0, 1000), st.integers(0, 20), st.floats(0, 1))
def test_the_confident_samples_are_those_a_loop_finds(seed, n, threshold):
    p = torch.randn(n, K, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1)
    positions, labels = pseudo.confident(p, threshold)
    expected = [(i, max(range(K), key=row.__getitem__)) for i, row in enumerate(p.tolist()) if max(row) >= threshold]
    assert list(zip(positions.tolist(), labels.tolist(), strict=True)) == expected
    assert positions.dtype == labels.dtype == torch.int64


def test_a_threshold_of_zero_keeps_all_and_one_of_one_only_certainty():
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert pseudo.confident(p, 0).positions.tolist() == [0, 1]
    assert pseudo.confident(p, 1).positions.tolist() == [1]


@pytest.mark.parametrize(
    ("probabilities", "threshold", "message"),
    [
        (torch.eye(3), 1.1, "threshold is 1.1"),
        (torch.eye(3), -0.1, "threshold is -0.1"),
        (torch.randn(4, 3) * 5, 0.5, "softmax"),
        (torch.tensor([[1.5, -0.5]]), 0.5, "softmax"),
        (torch.full((2, 2), torch.nan), 0.5, "softmax"),
        (torch.eye(3, dtype=torch.int64), 0.5, "torch.int64"),
        (torch.rand(4), 0.5, r"\(4,\)"),
        (torch.ones(4, 1), 0.5, "two classes"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, threshold, message):
    with pytest.raises(ValueError, match=message):
        pseudo.confident(probabilities, threshold)


# The loss of method 1


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_the_loss_is_that_of_the_models_own_answers(threshold):
    torch.manual_seed(0)
    model = nn.Linear(4, K)
    x = next(iter(unlabelled()))[0]
    logits = model(x)
    kept, labels = pseudo.confident(logits.detach().softmax(1), threshold)
    expected = 0.7 * F.cross_entropy(logits[kept], labels, reduction="sum") / len(x)
    found = pseudo.pseudo_label_loss(unlabelled(), always(0.7), threshold=threshold)(model, 1)
    torch.testing.assert_close(found, expected)
    found.backward()
    gradient = torch.autograd.grad(expected, model.weight)[0]
    torch.testing.assert_close(model.weight.grad, gradient)  # nothing flows through the labels


def test_labels_come_from_evaluation_mode_and_modes_are_put_back():
    torch.manual_seed(0)
    frozen = nn.BatchNorm1d(4).eval()
    seen = []
    model = nn.Sequential(frozen, nn.Linear(4, K), nn.Dropout(0.5)).train()
    frozen.eval()
    model.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, torch.is_grad_enabled())))
    pseudo.pseudo_label_loss(unlabelled(), always(1.0))(model, 1).backward()
    assert seen == [(False, False), (True, True)]
    assert [module.training for module in model] == [False, True, True]
    assert model.training


def test_batches_come_round_again_and_none_is_drawn_at_weight_zero():
    drawn = []

    class Counted:
        def __iter__(self):
            for batch in unlabelled(n=6, batch_size=3):
                drawn.append(1)
                yield batch

    model = nn.Linear(4, K)
    extra = pseudo.pseudo_label_loss(Counted(), lambda epoch: pseudo.ramp(epoch, 1, 2, 1.0))
    assert extra(model, 1).item() == 0
    assert drawn == []
    losses = [extra(model, 2).item() for _ in range(4)]
    assert len(drawn) == 4
    assert losses[:2] == losses[2:]
    assert losses[0] != losses[1]


def test_hidden_labels_change_nothing():
    x = torch.randn(6, 4)
    runs = []
    for y in (torch.zeros(6, dtype=torch.int64), torch.full((6,), 2)):
        torch.manual_seed(0)
        model = nn.Linear(4, K)
        extra = pseudo.pseudo_label_loss(data.TensorLoader(x, y, 3), always(1.0))
        batches = data.TensorLoader(x, torch.arange(6) % K, 2)
        frame = train.fit(
            model, batches, optimizer=torch.optim.SGD(model.parameters(), 0.1), epochs=3, extra_loss=extra, progress=False
        ).frame
        assert (frame.extra_loss > 0).all()
        runs.append(model.weight)
    assert torch.equal(*runs)


def test_weight_zero_trains_as_if_there_were_no_extra_loss():
    weights = []
    for extra in (None, pseudo.pseudo_label_loss(unlabelled(), always(0.0))):
        torch.manual_seed(0)
        model = nn.Linear(4, K)
        batches = data.TensorLoader(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % K, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        train.fit(model, batches, optimizer=optimizer, epochs=2, extra_loss=extra, progress=False)
        weights.append(model.weight)
    assert torch.equal(*weights)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="threshold is 2"):
        pseudo.pseudo_label_loss(unlabelled(), always(1.0), threshold=2)
    with pytest.raises(ValueError, match="no batch"):
        pseudo.pseudo_label_loss([], always(1.0))(nn.Linear(4, K), 1)


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1.7e308)
)
def test_a_ramp_of_any_length_stays_within_its_weights(one, other, alpha):
    start, end = sorted((one, other))
    assert pseudo.ramp(start, start, end, alpha) in (0.0, alpha)
    assert pseudo.ramp(end, start, end, alpha) == alpha
    for part in (0.001, 0.5, 0.999):
        assert 0 <= pseudo.ramp(start + part * (end / 2 - start / 2), start, end, alpha) <= alpha


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_confident_takes_probabilities_of_every_precision(kind):
    p = (torch.randn(200, 30, generator=torch.Generator().manual_seed(0)) * 4).softmax(1).to(kind)
    kept = pseudo.confident(p, 0.75)
    assert kept.positions.tolist() == [i for i, row in enumerate(p.tolist()) if max(row) >= 0.75]
    assert torch.equal(kept.labels, p[kept.positions].argmax(1))
    assert len(pseudo.confident(p, 0).positions) == 200
    assert len(pseudo.confident(p[:0], 0.5).positions) == 0


@pytest.mark.parametrize("unit", [5e-324, 1e-310, 1.0, 1e300])
def test_the_ramp_rises_in_the_middle_whatever_its_unit(unit):
    assert pseudo.ramp(unit, 0, 2 * unit, 1) == 0.5
    assert pseudo.ramp(0, -1.5e308, 1.5e308, 1) == 0.5
