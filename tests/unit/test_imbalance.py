import functools
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.utils.data import WeightedRandomSampler
from torchvision.ops import sigmoid_focal_loss

from course_utils import models, train
from course_utils.data import TensorLoader
from course_utils.techniques import imbalance

COUNTS = torch.tensor([100, 30, 7, 1])
WEIGHTS = {
    "inverse": imbalance.inverse_frequency,
    "effective": functools.partial(imbalance.effective_number, beta=0.99),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labels_of(counts, seed=0):
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return labels[torch.randperm(len(labels), generator=generator(seed))]


def random_batch(seed, n=8, k=4):
    return torch.randn(n, k, generator=generator(seed)) * 3, torch.randint(k, (n,), generator=generator(seed + 1))


# Long-tailed splits


@given(st.integers(0, 99), st.integers(10, 60), st.floats(1, 20), st.permutations([0, 1, 2, 3]))
def test_a_long_tail_has_the_exact_counts(seed, largest, ratio, order):
    labels = labels_of(torch.tensor([60, 61, 62, 63]), seed)
    positions = imbalance.long_tail(labels, largest, ratio, order, generator(seed))
    assert len(positions.unique()) == len(positions)
    counts = labels[positions].bincount(minlength=4)
    assert counts[order].tolist() == [round(largest * ratio ** (-k / 3)) for k in range(4)]


def test_the_counts_of_the_hundred_to_one_split():
    labels, order = labels_of(torch.full((10,), 1000)), [0, 1, 7, 9, 5, 3, 4, 8, 2, 6]
    counts = labels[imbalance.long_tail(labels, 1000, 100, order, generator())].bincount()
    assert counts[order].tolist() == [1000, 599, 359, 215, 129, 77, 46, 28, 17, 10]


def test_a_long_tail_is_drawn_by_its_generator_and_shuffled():
    labels = labels_of(torch.full((4,), 100))
    one, same, other = (imbalance.long_tail(labels, 50, 5, range(4), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert set(one.tolist()) != set(other.tolist())
    drawn = labels[one]
    assert drawn.tolist() != drawn.sort().values.tolist()
    assert len(drawn[: len(drawn) // 4].unique()) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": [0, 1, 2]}, "name each class once"),
        ({"order": [0, 1, 2, 2]}, "name each class once"),
        ({"order": [0, 1, 2, 4]}, r"\[0, 1, 2, 3\]"),
        ({"ratio": 0.5}, "at least 1"),
        ({"ratio": float("nan")}, "at least 1"),
        ({"largest": 0}, "at least 1"),
        ({"order": [3, 2, 1, 0]}, "class 3 has 1 samples, and the split asks for 20"),
        ({"ratio": 100}, "class 3 would get no sample"),
        ({"labels": torch.rand(5)}, "class indices"),
        ({"labels": torch.zeros(0, dtype=torch.int64)}, "class indices"),
    ],
)
def test_a_long_tail_that_cannot_be_is_refused(options, message):
    settings = {"labels": labels_of(COUNTS), "largest": 20, "ratio": 20, "order": [0, 1, 2, 3]} | options
    with pytest.raises(ValueError, match=message):
        imbalance.long_tail(**settings, generator=generator())


# Sampling


@given(st.integers(0, 99))
def test_balanced_weights_give_every_class_the_same_share_in_any_order(seed):
    labels = labels_of(COUNTS, seed)
    shares = torch.zeros(4, dtype=torch.float64).index_add_(0, labels, imbalance.balanced_weights(labels))
    torch.testing.assert_close(shares, torch.ones(4, dtype=torch.float64))


def test_balanced_weights_take_labels_with_gaps():
    assert imbalance.balanced_weights(torch.tensor([7, 2, 7])).tolist() == [0.5, 1, 0.5]


def test_the_sampler_draws_as_torchs_does():
    weights = torch.rand(20, generator=generator(), dtype=torch.float64) * torch.tensor([0.0, 1.0] * 10)
    n = 50_000
    ours = torch.tensor(list(imbalance.WeightedSampler(weights, n, generator(1)))).bincount(minlength=20)
    theirs = torch.tensor(list(WeightedRandomSampler(weights, n, generator=generator(2)))).bincount(minlength=20)
    possible = weights > 0
    assert ours[~possible].sum() == theirs[~possible].sum() == 0
    for counts in (ours, theirs):
        assert chisquare(counts[possible], (weights / weights.sum() * n)[possible]).pvalue > 1e-3


def test_a_loader_with_the_sampler_gives_balanced_batches():
    labels = labels_of(COUNTS)
    sampler = imbalance.WeightedSampler(imbalance.balanced_weights(labels), 40_000, generator())
    loader = TensorLoader(torch.zeros(len(labels), 1), labels, 100, sampler=sampler)
    assert len(loader) == 400
    assert chisquare(torch.cat([y for _, y in loader]).bincount()).pvalue > 1e-3


def test_each_pass_of_the_sampler_is_new_and_its_generator_decides():
    sampler, same = (imbalance.WeightedSampler(torch.ones(50), 50, generator(3)) for _ in range(2))
    first = list(sampler)
    assert first == list(same)
    assert first != list(sampler)
    torch.manual_seed(0)
    free = list(imbalance.WeightedSampler(torch.ones(50), 50))
    torch.manual_seed(0)
    assert free == list(imbalance.WeightedSampler(torch.ones(50), 50))


def test_a_run_with_the_sampler_goes_on_from_its_checkpoint(tmp_path):
    x, y = torch.randn(40, 3, generator=generator()), labels_of(torch.tensor([35, 5]))

    def run(epochs, checkpoint=None):
        torch.manual_seed(0)
        model = models.MLP(3, 2, hidden=(4,))
        sampler = imbalance.WeightedSampler(imbalance.balanced_weights(y), 40, generator(5))
        options = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "progress": False, "amp": "off"}
        train.fit(model, TensorLoader(x, y, 8, sampler=sampler), epochs=epochs, checkpoint=checkpoint, **options)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    run(1, tmp_path / "run.pt")
    assert torch.equal(run(3, tmp_path / "run.pt"), run(3))


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-30, 1.0, 1e300, 1.7e308])
def test_a_weight_of_zero_is_never_drawn_whatever_the_others_size(size):
    weights = torch.tensor([0.0, size, 0.0, size, 0.0], dtype=torch.float64)
    counts = torch.bincount(torch.tensor(list(imbalance.WeightedSampler(weights, 4000, generator()))), minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert chisquare(counts[[1, 3]]).pvalue > 1e-3


def test_a_tiny_weight_beside_a_huge_one_changes_nothing():
    for weights in ([1e-320, 1e300], [1e300, 1e-320], [0, 1e308, 1e308]):
        sampler = imbalance.WeightedSampler(torch.tensor(weights, dtype=torch.float64), 500, generator())
        assert {weights[position] for position in sampler} == {max(weights)}


def test_the_last_position_is_drawn_where_chance_is_at_its_highest(monkeypatch):
    monkeypatch.setattr(imbalance.torch, "rand", lambda n, **options: torch.full((n,), 1 - 2**-53, dtype=torch.float64))
    for weights in ([0.3, 0.7, 0], [5e-324, 5e-324], [1e308, 1e308], [3.0]):
        drawn = set(imbalance.WeightedSampler(torch.tensor(weights, dtype=torch.float64), 3))
        assert drawn == {max(place for place, weight in enumerate(weights) if weight)}


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.tensor([1.0, -1]), torch.tensor([1, torch.nan]), torch.ones(2, 2)])
def test_weights_that_cannot_be_drawn_from_are_refused(weights):
    with pytest.raises(ValueError, match="one number per sample"):
        imbalance.WeightedSampler(weights, 3)


def test_a_sampler_without_draws_is_refused():
    with pytest.raises(ValueError, match="num_samples is 0"):
        imbalance.WeightedSampler(torch.ones(3), 0)


# Class weights


@pytest.mark.parametrize("name", WEIGHTS)
def test_class_weights_have_mean_one_and_favour_rare_classes(name):
    weight = WEIGHTS[name](COUNTS)
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    assert (weight.diff() > 0).all()
    torch.testing.assert_close(WEIGHTS[name](torch.full((4,), 9)), torch.ones(4))


def test_class_weights_are_those_of_their_formulas():
    torch.testing.assert_close(imbalance.inverse_frequency(torch.tensor([1, 2, 4])), torch.tensor([12 / 7, 6 / 7, 3 / 7]))
    torch.testing.assert_close(imbalance.effective_number(torch.tensor([1, 2]), 0.5), torch.tensor([6 / 5, 4 / 5]))


def test_the_effective_number_lies_between_no_weights_and_inverse_frequency():
    torch.testing.assert_close(imbalance.effective_number(COUNTS, 0), torch.ones(4))
    near = imbalance.effective_number(COUNTS, 1 - 1e-9)
    torch.testing.assert_close(near, imbalance.inverse_frequency(COUNTS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beta", [0.999999999, 1 - 2**-53, 1e-300, 0.5, 0.9999])
def test_the_effective_number_is_accurate_over_its_range(beta):
    counts = torch.tensor([1, 2, 50, 10**6])
    exact = [1 / -math.expm1(n * math.log(beta)) for n in counts.tolist()]
    expected = torch.tensor(exact, dtype=torch.float64)
    torch.testing.assert_close(
        imbalance.effective_number(counts, beta), (expected / expected.mean()).float(), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("beta", [-0.1, 1, 2, float("nan")])
def test_a_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ValueError, match="beta is"):
        imbalance.effective_number(COUNTS, beta)


@pytest.mark.parametrize("name", [*WEIGHTS, "adjustment", "adjusted loss"])
@pytest.mark.parametrize(
    "counts", [torch.tensor([3, 0, 1]), torch.tensor([]), torch.tensor([[1, 2]]), torch.tensor([1, torch.inf])]
)
def test_a_class_without_samples_is_refused(name, counts):
    logits = torch.zeros(2, 3)
    others = {"adjustment": functools.partial(imbalance.logit_adjustment, logits), "adjusted loss": imbalance.adjusted_loss}
    with pytest.raises(ValueError, match="at least 1 each"):
        (WEIGHTS | others)[name](counts)


# Focal loss


@given(st.integers(0, 999))
def test_focal_loss_at_zero_is_cross_entropy(seed):
    logits, y = random_batch(seed)
    weight, soft = imbalance.inverse_frequency(COUNTS), torch.randn(8, 4, generator=generator(seed)).softmax(1)
    for targets in (y, soft):
        for w in (None, weight):
            torch.testing.assert_close(imbalance.focal_loss(logits, targets, 0, w), F.cross_entropy(logits, targets, w))


@given(st.integers(0, 999), st.floats(0, 5))
def test_focal_loss_of_two_classes_is_torchvisions(seed, gamma):
    logits, y = random_batch(seed, k=2)
    score = logits[:, 1] - logits[:, 0]
    expected = sigmoid_focal_loss(score, y.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(imbalance.focal_loss(logits, y, gamma), expected, rtol=1e-4, atol=1e-6)


def test_focal_loss_by_hand():
    logits = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()
    terms = torch.tensor([0.2**2 * -torch.tensor(0.8).log(), 0.4**2 * -torch.tensor(0.6).log()])
    torch.testing.assert_close(imbalance.focal_loss(logits, torch.tensor([0, 1]), 2), terms.mean())
    weight = torch.tensor([3.0, 1.0])
    expected = (3 * terms[0] + terms[1]) / 4
    torch.testing.assert_close(imbalance.focal_loss(logits, torch.tensor([0, 1]), 2, weight), expected)
    torch.testing.assert_close(imbalance.focal_loss(logits, torch.eye(2), 2), terms.mean())


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_loss_has_a_gradient_where_a_sample_is_surely_right_or_wrong(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    imbalance.focal_loss(logits, torch.tensor([0, 0]), gamma).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() < 1e-6 < logits.grad[1].abs().min()


def test_focal_loss_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="gamma is -1"):
        imbalance.focal_loss(*random_batch(0), -1)
    with pytest.raises(ValueError, match="numbered 0 to 3"):
        imbalance.focal_loss(torch.zeros(1, 4), torch.tensor([4]), 2)


# Logit adjustment


def test_logit_adjustment_divides_probabilities_by_the_shares():
    logits, _ = random_batch(0)
    p = logits.softmax(1) / (COUNTS / COUNTS.sum())
    torch.testing.assert_close(imbalance.logit_adjustment(logits, COUNTS).softmax(1), p / p.sum(1, keepdim=True))
    assert torch.equal(imbalance.logit_adjustment(logits, COUNTS, 0), logits)
    back = imbalance.logit_adjustment(imbalance.logit_adjustment(logits, COUNTS), COUNTS, -1)
    torch.testing.assert_close(back, logits)


def test_logit_adjustment_keeps_the_type_of_the_logits():
    assert imbalance.logit_adjustment(torch.zeros(2, 4, dtype=torch.float64), COUNTS).dtype == torch.float64


@given(st.integers(0, 999), st.floats(0, 3))
def test_the_adjusted_loss_is_cross_entropy_of_logits_that_carry_the_shares(seed, tau):
    logits, y = random_batch(seed)
    loss = imbalance.adjusted_loss(COUNTS, tau)
    expected = F.cross_entropy(imbalance.logit_adjustment(logits, COUNTS, -tau), y)
    torch.testing.assert_close(loss(logits, y), expected)
    torch.testing.assert_close(loss(logits, F.one_hot(y, 4).float()), expected)


def test_the_adjusted_loss_learns_logits_without_the_shares():
    """Without inputs, a plain model learns the shares themselves, and an adjusted one learns that nothing is known."""
    y = labels_of(COUNTS)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")
    loss = imbalance.adjusted_loss(COUNTS)

    def closure():
        optimizer.zero_grad()
        value = loss(logits.expand(len(y), 4), y)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(logits.detach().softmax(0), torch.full((4,), 0.25), atol=1e-3, rtol=0)


def test_counts_must_fit_the_logits():
    with pytest.raises(ValueError, match="one count per class"):
        imbalance.logit_adjustment(torch.zeros(2, 3), COUNTS)
    with pytest.raises(ValueError, match="one count per class"):
        imbalance.adjusted_loss(COUNTS)(torch.zeros(2, 5), torch.tensor([0, 1]))


# Numbers of any kind


@pytest.mark.parametrize("gamma", [0, 1e-9, 50, 1e6, 1e30, 1.7e308])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_focal_loss_and_its_slope_are_finite_for_every_gamma(gamma, kind):
    logits = torch.tensor([[60.0, -60.0], [-30.0, 30.0], [0.0, 0.0], [90.0, -90.0]], dtype=kind, requires_grad=True)
    loss = imbalance.focal_loss(logits, torch.tensor([0, 0, 1, 1]), gamma)
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.int64, torch.float64, torch.float16])
def test_class_weights_may_be_numbers_of_any_kind(kind):
    logits, y = random_batch(0)
    weight = torch.tensor([1, 2, 4, 0])
    expected = F.cross_entropy(logits, y, weight.float())
    torch.testing.assert_close(imbalance.focal_loss(logits, y, 0, weight.to(kind)), expected)


@pytest.mark.parametrize("weight", [[1, 1, 1, math.nan], [1, 1, -1, 1], [math.inf, 1, 1, 1], [1, 1, 1]])
def test_class_weights_that_cannot_be_are_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        imbalance.focal_loss(*random_batch(0), 2.0, torch.tensor(weight))


@given(st.integers(0, 99), st.sampled_from([torch.int8, torch.int32, torch.int64, torch.float16, torch.float64]))
def test_logits_of_any_kind_are_adjusted_as_floats(seed, kind):
    logits, y = random_batch(seed)
    logits = logits.round().to(kind)
    adjusted = imbalance.logit_adjustment(logits, COUNTS, 0.7)
    expected = logits.double() - 0.7 * (COUNTS / COUNTS.sum()).double().log()
    assert adjusted.is_floating_point()
    torch.testing.assert_close(adjusted.double(), expected, rtol=2e-3, atol=2e-3)
    loss = imbalance.adjusted_loss(COUNTS, -0.7)(logits, y)
    torch.testing.assert_close(loss.double(), F.cross_entropy(expected, y), rtol=5e-3, atol=5e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks whether a GPU is ever waited for: there is none here")
def test_no_loss_waits_for_a_gpu():
    logits, y = (part.cuda() for part in random_batch(0))
    adjusted, weight = imbalance.adjusted_loss(COUNTS), torch.ones(4).cuda()
    for _ in range(2):
        losses = [lambda: adjusted(logits, y), lambda: imbalance.focal_loss(logits, y, 2.0, weight)]
        [loss() for loss in losses]  # the first call may wait, to load its kernels
        torch.cuda.set_sync_debug_mode("error")
        try:
            [loss() for loss in losses]
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_weights_of_a_list_keep_their_range():
    assert list(imbalance.WeightedSampler([1e-50, 0.0], 2)) == [0, 0]
    sampler = imbalance.WeightedSampler(pd.Series([0.0, 2.0], index=[5, 6]), 2)
    assert list(sampler) == [1, 1]
    assert imbalance.inverse_frequency(pd.Series([3, 1], index=["cat", "dog"])).tolist() == [0.5, 1.5]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, 3],
        lambda: np.array([1.0, 3.0]),
        *(lambda kind=kind: torch.tensor([1, 3]).to(kind) for kind in (torch.uint8, torch.uint16, torch.uint32, torch.uint64)),
        lambda: torch.tensor([1.0, 3.0], requires_grad=True),
        lambda: made_in_inference_mode(torch.tensor([1.0, 3.0])),
    ],
)
def test_class_weights_of_any_kind_are_taken(make, soft):
    logits = torch.randn(4, 2, generator=generator(), requires_grad=True)
    y = torch.tensor([0, 1, 1, 0])
    y = made_in_inference_mode(torch.eye(2)[y]) if soft else y
    found = imbalance.focal_loss(logits, y, 2.0, make())
    found.backward()
    assert torch.equal(found, imbalance.focal_loss(logits.detach(), y, 2.0, torch.tensor([1.0, 3.0])))
    assert logits.grad.isfinite().all()


def made_in_inference_mode(values):
    with torch.inference_mode():
        return values.clone()


@pytest.mark.parametrize(("tau", "kind"), [(1e300, torch.float32), (-1e308, torch.float64), (1e6, torch.float16)])
def test_a_strength_beyond_the_range_of_the_logits_is_refused(tau, kind):
    logits = torch.zeros(1, 2, dtype=kind)
    with pytest.raises(ValueError, match=rf"tau .*beyond the range of {kind}"):
        imbalance.logit_adjustment(logits, [90000, 1], tau)
    with pytest.raises(ValueError, match=rf"tau .*beyond the range of {kind}"):
        imbalance.adjusted_loss([90000, 1], tau)(logits, torch.tensor([0]))
