import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from course_utils import calibration, plots

SEEDS = st.integers(0, 10_000)
P = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.3, 0.7]])
Y = torch.tensor([0, 1, 1, 0])


def random_case(seed, n=60, k=4, sharpness=2.0):
    """Logits, and targets that agree with them more often than chance."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(n, k, dtype=torch.float64, generator=generator)
    return logits, (logits / 2).softmax(1).multinomial(1, generator=generator)[:, 0]


# Bins


@given(SEEDS, st.integers(1, 200), st.integers(2, 12), st.integers(1, 30), st.sampled_from([0.1, 1.0, 4.0]))
def test_binned_errors_equal_torchmetrics(seed, n, k, num_bins, sharpness):
    logits, targets = random_case(seed, n, k, sharpness)
    p = logits.softmax(1)
    assume(p.max() < 1 - 1e-6)  # torchmetrics gives a confidence of exactly 1 a bin of its own
    for ours, norm in ((calibration.ece, "l1"), (calibration.mce, "max")):
        theirs = multiclass_calibration_error(p, targets, k, n_bins=num_bins, norm=norm)
        assert ours(p, targets, num_bins).item() == pytest.approx(theirs.item(), abs=2e-6)


@given(SEEDS, st.integers(1, 100), st.integers(1, 15), st.booleans())
def test_bins_are_the_means_of_their_samples(seed, n, num_bins, adaptive):
    logits, targets = random_case(seed, n)
    p = logits.softmax(1)
    bins = calibration.reliability(p, targets, num_bins, adaptive)
    confidence, answers = p.max(1)
    assert bins.count.sum() == n
    assert bins.edges.shape == (num_bins + 1,)
    assert (bins.edges.diff() >= 0).all()
    for place in range(num_bins):
        low, high = bins.edges[place], bins.edges[place + 1]
        inside = (confidence >= low) & ((confidence < high) | (high == bins.edges[-1]) & (place == num_bins - 1))
        if adaptive and low == high and place < num_bins - 1:
            inside[:] = False  # equal confidences stay together, in the later bin
        assert bins.count[place] == inside.sum()
        if bins.count[place]:
            torch.testing.assert_close(bins.confidence[place], confidence[inside].mean())
            torch.testing.assert_close(bins.accuracy[place], (answers == targets)[inside].double().mean())
        else:
            assert bins.confidence[place].isnan()
            assert bins.accuracy[place].isnan()


@given(SEEDS, st.integers(1, 100), st.integers(1, 15))
def test_adaptive_bins_have_equal_mass(seed, n, num_bins):
    logits, targets = random_case(seed, n)
    bins = calibration.reliability(logits.softmax(1), targets, min(num_bins, n), adaptive=True)
    assert bins.count.max() - bins.count.min() <= 1


def test_by_hand():
    bins = calibration.reliability(P, Y, num_bins=2)  # confidences .9, .8, .55, .7; right, right, wrong, wrong
    assert bins.count.tolist() == [0, 4]
    assert bins.accuracy[1] == 0.5
    assert calibration.ece(P, Y, 2).item() == pytest.approx(0.7375 - 0.5)
    assert calibration.mce(P, Y, 4).item() == pytest.approx(0.625)  # .5 to .75: confidence .625, none right
    assert calibration.brier(P, Y).item() == pytest.approx((0.02 + 0.08 + 2 * 0.55**2 + 2 * 0.7**2) / 4)


def test_a_confidence_on_an_edge_belongs_to_the_bin_that_begins_there():
    p = torch.tensor([[0.7, 0.3]])
    assert calibration.reliability(p, torch.tensor([0])).count.nonzero().item() == 7
    assert calibration.reliability(p.double(), torch.tensor([0])).count.nonzero().item() == 6  # float32's 0.7 is a little less


def test_full_confidence_is_in_the_last_bin():
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    bins = calibration.reliability(p, torch.tensor([0, 0]))
    assert bins.count.tolist() == [0] * 9 + [2]
    assert calibration.ece(p, torch.tensor([0, 0])).item() == 0.5


# Scores without bins


@given(SEEDS, st.integers(1, 80), st.integers(2, 8))
def test_scores_equal_scikit_learns(seed, n, k):
    logits, targets = random_case(seed, n, k)
    p = logits.softmax(1)
    by_class = sum(brier_score_loss(targets == label, p[:, label], pos_label=True) for label in range(k))
    assert calibration.brier(p, targets).item() == pytest.approx(by_class)
    assert calibration.nll(p, targets).item() == pytest.approx(log_loss(targets, p, labels=range(k)))
    assert calibration.nll(p, targets).item() == pytest.approx(F.cross_entropy(logits, targets).item())


def test_a_true_class_without_probability_costs_infinitely():
    assert calibration.nll(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).item() == np.inf


# Temperature


@given(SEEDS, st.sampled_from([0.01, 1.0, 50.0]))
def test_the_temperature_is_the_best_of_a_fine_grid(seed, scale):
    logits, targets = random_case(seed, 80)
    assume(bool((logits.argmax(1) != targets).any()))
    found = calibration.fit_temperature(scale * logits, targets)
    loss = F.cross_entropy(scale * logits / found, targets)
    others = [F.cross_entropy(scale * logits / t, targets) for t in found * np.geomspace(0.2, 5, 101)]
    assert loss <= min(others) + 1e-12
    assert found == pytest.approx(scale * calibration.fit_temperature(logits, targets), rel=1e-5)


@given(SEEDS, st.floats(0.05, 20))
def test_a_temperature_changes_no_answer(seed, temperature):
    logits, _ = random_case(seed)
    assert torch.equal((logits / temperature).softmax(1).argmax(1), logits.argmax(1))


def test_the_temperature_works_where_gradients_are_off_and_leaves_the_logits_alone():
    logits, targets = random_case(0)
    before = logits.clone()
    expected = calibration.fit_temperature(logits, targets)
    with torch.no_grad():
        assert calibration.fit_temperature(logits, targets) == expected
    with torch.inference_mode():
        assert calibration.fit_temperature(logits, targets) == expected
        made_there = logits * 1
        assert calibration.fit_temperature(made_there, targets * 1) == expected
    assert calibration.fit_temperature(made_there, targets) == expected
    assert calibration.fit_temperature(logits.clone().requires_grad_(), targets) == expected
    assert torch.equal(logits, before)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-5, 1e20, 1e200, 1e305])
def test_the_temperature_grows_with_the_logits_whatever_their_size(scale):
    logits, targets = random_case(1, 60)
    expected = calibration.fit_temperature(logits, targets)
    assert calibration.fit_temperature(scale * logits, targets) == pytest.approx(scale * expected, rel=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_scores_take_half_precision(kind):
    logits, targets = random_case(2, 200)
    p = logits.softmax(1).to(kind)
    for score in (calibration.brier, calibration.nll):
        torch.testing.assert_close(score(p, targets), score(p.double(), targets), rtol=1e-12, atol=0)
    for error in (calibration.ece, calibration.mce):
        assert 0 < error(p, targets, 5) < 1
    rough, exact = (calibration.fit_temperature(rows, targets) for rows in (logits.to(kind), logits))
    assert rough == pytest.approx(exact, rel=0.05)


@given(SEEDS, st.integers(2, 6), st.booleans())
def test_scores_stay_in_their_ranges_for_the_surest_answers(seed, classes, adaptive):
    """Rows that sum to a little more than 1, as rounding leaves them, and confidences of 1."""
    targets = torch.randint(classes, (20,), generator=torch.Generator().manual_seed(seed))
    p = F.one_hot(targets, classes).float() * (1 + 1e-6)
    p[::3] = p[::3].roll(1, 1)
    assert 0 <= calibration.ece(p, targets, 7, adaptive) <= 1
    assert 0 <= calibration.mce(p, targets, 50, adaptive) <= 1
    right = F.one_hot(targets, classes).float() * (1 + 1e-6)
    assert calibration.nll(right, targets) == 0
    assert 0 <= calibration.brier(right, targets) < 1e-10


def test_hopeless_temperatures_are_refused():
    logits = torch.tensor([[2.0, 0.0], [3.0, 0.0]])
    with pytest.raises(ValueError, match="all 2 samples are answered right"):
        calibration.fit_temperature(logits, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="belong together"):
        calibration.fit_temperature(logits, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="not finite"):
        calibration.fit_temperature(logits * torch.inf, torch.tensor([0, 1]))


# Risk and coverage


@given(SEEDS, st.integers(1, 40), st.integers(1, 6))
def test_risk_is_the_share_of_wrong_among_the_answers_given(seed, n, levels):
    draw = np.random.default_rng(seed)
    confidence, right = torch.from_numpy(draw.integers(0, levels, n) / levels), torch.from_numpy(draw.integers(0, 2, n))
    curve = calibration.risk_coverage(confidence, right)
    limits = sorted(set(confidence.tolist()), reverse=True)
    assert len(curve.coverage) == len(limits)
    for limit, coverage, risk in zip(limits, *curve, strict=True):
        given_answers = confidence >= limit
        assert coverage.item() == pytest.approx(given_answers.double().mean().item())
        assert risk.item() == pytest.approx(1 - right[given_answers].double().mean().item())
    assert curve.coverage[-1] == 1


@pytest.mark.parametrize(
    ("confidence", "right", "message"),
    [
        (torch.rand(3), torch.ones(2), r"\(3,\) and correct \(2,\)"),
        (torch.rand(0), torch.ones(0), "N at least 1"),
        (torch.tensor([0.5, torch.nan]), torch.ones(2), "finite floats"),
        (torch.tensor([1, 2]), torch.ones(2), "torch.int64"),
        (torch.rand(2), torch.tensor([1, 2]), "1 for right and 0 for wrong"),
    ],
)
def test_risk_coverage_names_bad_input(confidence, right, message):
    with pytest.raises(ValueError, match=message):
        calibration.risk_coverage(confidence, right)


# Bad input


@pytest.mark.parametrize(
    "score", [calibration.ece, calibration.mce, calibration.brier, calibration.nll, calibration.reliability]
)
@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        (10 * P - 3, Y, r"From logits take logits.softmax\(1\)"),
        (P / 2, Y, "rows that sum to"),
        (P, Y[:3], r"one class index for each row"),
        (P, Y.float(), "class indices, integers"),
        (P, Y + 1, "targets go from 1 to 2; 2 classes"),
        (P[:0], Y[:0], "no samples"),
        (P[:, 0], Y, r"floats \(N, K\)"),
        (torch.full((4, 2), torch.nan), Y, "probabilities"),
    ],
)
def test_bad_input_is_named(score, p, y, message):
    with pytest.raises(ValueError, match=message):
        score(p, y)


def test_it_takes_a_bin():
    with pytest.raises(ValueError, match="num_bins is 0"):
        calibration.ece(P, Y, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_taken(dtype):
    logits, targets = random_case(0, 200)
    p = logits.to(dtype).softmax(1)
    assert calibration.ece(p, targets).item() == pytest.approx(calibration.ece(logits.softmax(1), targets).item(), abs=0.02)


# The figure


def test_the_diagram_draws_a_bar_a_gap_and_a_count_for_each_filled_bin():
    bins = calibration.reliability(P.repeat(20, 1), Y.repeat(20), num_bins=4)  # enough samples that no bin is pale
    figure, ax = plt.subplots()
    plots.reliability_diagram(bins, title="Too sure", ax=ax)
    filled = int((bins.count > 0).sum())
    assert len(ax.patches) == 3 * filled
    assert [text.get_text() for text in ax.texts] == ["40", "40"]
    heights = sorted(patch.get_height() for patch in ax.patches[:filled])
    assert heights == sorted(bins.accuracy[bins.count > 0].tolist())
    assert "Too sure" in (ax.get_title(loc="left"), ax.get_title())  # where the style puts it
    plt.close(figure)
