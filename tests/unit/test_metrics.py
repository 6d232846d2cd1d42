"""Metrics equal scikit-learn's on random cases, and say what they do where scikit-learn warns."""

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from course_utils import metrics

AVERAGES = [None, "macro", "micro", "weighted"]
SCORES = {"precision": reference.precision_score, "recall": reference.recall_score, "f1": reference.f1_score}


@st.composite
def labelled(draw, max_classes=6):
    """Predictions, targets and a number of classes, of which many may be absent."""
    num_classes = draw(st.integers(1, max_classes))
    classes = st.integers(0, num_classes - 1)
    pairs = draw(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
    predictions, targets = torch.tensor(pairs).unbind(1)
    return predictions, targets, num_classes


@st.composite
def scored(draw, both_classes=True):
    """Scores with many ties, and targets."""
    score = st.sampled_from([-2.0, 0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(-1e6, 1e6, width=32)
    pairs = draw(st.lists(st.tuples(score, st.integers(0, 1)), min_size=1, max_size=40))
    if both_classes:
        pairs += [(draw(score), 0), (draw(score), 1)]
    scores, targets = zip(*pairs, strict=True)
    return torch.tensor(scores), torch.tensor(targets)


number = st.floats(-1e4, 1e4, width=32)
numbers = st.lists(st.tuples(number, number), min_size=1, max_size=30).map(lambda pairs: torch.tensor(pairs).unbind(1))


def close(ours, theirs):
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12)


# from the confusion matrix


@pytest.mark.filterwarnings("ignore:A single label was found")  # one class is one of the cases
@given(labelled())
def test_confusion_matrix_equals_scikit_learn(case):
    predictions, targets, num_classes = case
    ours = metrics.confusion_matrix(predictions, targets, num_classes)
    assert ours.dtype == torch.int64
    theirs = reference.confusion_matrix(targets, predictions, labels=range(num_classes))
    assert ours.tolist() == theirs.tolist()


def test_rows_are_the_truth():
    assert metrics.confusion_matrix(torch.tensor([1, 1]), torch.tensor([0, 0]), 2).tolist() == [[0, 2], [0, 0]]


@given(labelled(), st.integers(1, 10))
def test_matrices_of_batches_add_up(case, batch_size):
    predictions, targets, num_classes = case
    batches = zip(predictions.split(batch_size), targets.split(batch_size), strict=True)
    parts = [metrics.confusion_matrix(*batch, num_classes) for batch in batches]
    assert torch.equal(sum(parts), metrics.confusion_matrix(predictions, targets, num_classes))


@given(labelled())
def test_accuracy_equals_scikit_learn(case):
    predictions, targets, _ = case
    close(metrics.accuracy(metrics.confusion_matrix(*case)), reference.accuracy_score(targets, predictions))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", SCORES)
@given(case=labelled())
@example(case=(torch.tensor([0]), torch.tensor([0]), 1))  # a single class
@example(case=(torch.tensor([2, 2]), torch.tensor([0, 0]), 4))  # absent classes, nothing right
def test_scores_equal_scikit_learn(name, average, case):
    predictions, targets, num_classes = case
    options = {"labels": range(num_classes), "average": average, "zero_division": 0}
    theirs = SCORES[name](targets.numpy(), predictions.numpy(), **options)
    close(getattr(metrics, name)(metrics.confusion_matrix(*case), average), theirs)


@given(labelled())
def test_specificity_is_the_recall_of_not_this_class(case):
    predictions, targets, num_classes = case
    ours = metrics.specificity(metrics.confusion_matrix(*case))
    for k in range(num_classes):
        theirs = reference.recall_score(targets == k, predictions == k, pos_label=False, zero_division=0)
        close(ours[k], theirs)


@given(labelled())
def test_averages_of_specificity(case):
    matrix = metrics.confusion_matrix(*case)
    each = metrics.specificity(matrix)
    support = matrix.sum(1).double()
    blocks = reference.multilabel_confusion_matrix(case[1], case[0], labels=range(case[2]))
    tn, fp = blocks[:, 0, 0].sum(), blocks[:, 0, 1].sum()
    close(metrics.specificity(matrix, "macro"), each.mean().item())
    close(metrics.specificity(matrix, "weighted"), ((each * support).sum() / support.sum()).item())
    close(metrics.specificity(matrix, "micro"), tn / max(tn + fp, 1))


def test_zero_denominators_give_zero_where_scikit_learn_warns():
    matrix = torch.tensor([[0, 3, 0], [0, 5, 0], [0, 0, 0]])  # class 0 never predicted, class 2 nowhere
    assert metrics.precision(matrix).tolist() == [0, 5 / 8, 0]
    assert metrics.recall(matrix).tolist() == [0, 1, 0]
    assert metrics.f1(matrix)[2] == 0
    assert metrics.specificity(matrix).tolist() == [1, 0, 1]
    assert metrics.specificity(torch.tensor([[4]])).tolist() == [0]
    with pytest.warns(UndefinedMetricWarning, match="Precision is ill-defined"):
        reference.precision_score([0] * 3 + [1] * 5, [1] * 8, average=None)


def test_macro_counts_classes_that_occur_nowhere():
    targets = torch.tensor([0, 1])
    matrix = metrics.confusion_matrix(targets, targets, 4)
    assert metrics.f1(matrix, "macro") == 0.5
    assert reference.f1_score(targets, targets, average="macro") == 1  # it cannot know of classes that it never saw


@given(labelled())
def test_micro_scores_of_one_label_a_sample_are_the_accuracy(case):
    matrix = metrics.confusion_matrix(*case)
    for name in SCORES:
        close(getattr(metrics, name)(matrix, "micro"), metrics.accuracy(matrix).item())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_labels_of_any_integer_kind(dtype):
    labels = torch.tensor([0, 1, 1], dtype=dtype)
    assert metrics.confusion_matrix(labels, labels, 2).tolist() == [[1, 0], [0, 2]]


# curves


@given(scored())
def test_roc_equals_scikit_learn(case):
    scores, targets = case
    theirs = reference.roc_curve(targets, scores, drop_intermediate=False)
    for ours, expected in zip(metrics.roc_curve(scores, targets), theirs, strict=True):
        close(ours, expected)
    close(metrics.roc_auc(scores, targets), reference.roc_auc_score(targets, scores))


@given(scored())
def test_pr_equals_scikit_learn_in_reverse(case):
    scores, targets = case
    precision, recall, thresholds = reference.precision_recall_curve(targets, scores)
    ours = metrics.pr_curve(scores, targets)
    close(ours.precision, precision[::-1])
    close(ours.recall, recall[::-1])
    close(ours.thresholds[1:], thresholds[::-1])
    assert ours.thresholds[0] == torch.inf
    close(metrics.average_precision(scores, targets), reference.average_precision_score(targets, scores))


@given(scored())
def test_points_are_what_the_confusion_matrix_gives_at_their_threshold(case):
    scores, targets = case
    roc, pr = metrics.roc_curve(*case), metrics.pr_curve(*case)
    for i, threshold in enumerate(pr.thresholds[1:], start=1):
        matrix = metrics.confusion_matrix(scores >= threshold, targets, 2)
        close(pr.precision[i], metrics.precision(matrix)[1].item())
        close(pr.recall[i], metrics.recall(matrix)[1].item())
        close(roc.true_positive_rate[i], metrics.recall(matrix)[1].item())
        close(roc.false_positive_rate[i], 1 - metrics.specificity(matrix)[1].item())


@given(scored(), st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(case, random):
    scores, targets = case
    order = list(range(len(scores)))
    random.shuffle(order)
    for ours, shuffled in zip(metrics.roc_curve(*case), metrics.roc_curve(scores[order], targets[order]), strict=True):
        assert torch.equal(ours, shuffled)


@given(scored())
def test_area_is_the_chance_that_a_positive_scores_higher(case):
    scores, targets = case
    difference = scores[targets == 1][:, None].double() - scores[targets == 0][None].double()
    close(metrics.roc_auc(scores, targets), ((difference > 0).double() + 0.5 * (difference == 0)).mean().item())


def test_one_score_for_all_says_nothing():
    scores, targets = torch.full((8,), 0.3), torch.tensor([1, 0, 0, 0, 0, 0, 1, 0])
    assert metrics.roc_auc(scores, targets) == 0.5
    assert metrics.average_precision(scores, targets) == 0.25
    assert metrics.roc_curve(scores, targets).false_positive_rate.tolist() == [0, 1]


@pytest.mark.parametrize("value", [0, 1])
def test_a_single_class_has_no_roc_curve_and_scikit_learn_warns(value):
    scores, targets = torch.tensor([0.1, 0.2]), torch.full((2,), value)
    with pytest.raises(ValueError, match=f"no sample is {'negative' if value else 'positive'}"):
        metrics.roc_curve(scores, targets)
    with pytest.raises(ValueError, match="no sample is"):
        metrics.roc_auc(scores, targets)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(reference.roc_curve(targets, scores)[0 if value else 1]).all()


def test_pr_needs_positives_only():
    scores = torch.tensor([0.1, 0.2])
    assert metrics.average_precision(scores, torch.ones(2)) == 1
    for function in (metrics.pr_curve, metrics.average_precision):
        with pytest.raises(ValueError, match="no sample is positive"):
            function(scores, torch.zeros(2))
    with pytest.warns(UserWarning, match="No positive class"):
        assert reference.average_precision_score(torch.zeros(2), scores) == 0


def test_targets_may_be_bools_and_scores_half():
    scores, targets = torch.tensor([0.1, 0.9]), torch.tensor([False, True])
    assert metrics.roc_auc(scores, targets) == metrics.roc_auc(scores.half(), targets.long()) == 1


# regression


@given(numbers)
def test_errors_equal_scikit_learn(case):
    predictions, targets = case
    close(metrics.mae(*case), reference.mean_absolute_error(targets.double(), predictions.double()))
    close(metrics.mse(*case), reference.mean_squared_error(targets.double(), predictions.double()))
    close(metrics.rmse(*case), reference.root_mean_squared_error(targets.double(), predictions.double()))


@given(numbers)
def test_mape_equals_scikit_learn_where_no_target_is_zero(case):
    predictions, targets = case
    targets = torch.where(targets.abs() < 1e-6, 1.0, targets)
    theirs = reference.mean_absolute_percentage_error(targets.double(), predictions.double())
    close(metrics.mape(predictions, targets), theirs)


def test_mape_refuses_a_target_of_zero_where_scikit_learn_gives_a_huge_number():
    predictions, targets = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="2 of 3 targets are 0"):
        metrics.mape(predictions, targets)
    assert reference.mean_absolute_percentage_error(targets, predictions) > 1e15


def test_errors_of_any_one_shape():
    predictions = torch.arange(6).reshape(2, 3)
    assert metrics.mae(predictions, predictions + 2) == 2
    assert metrics.rmse(predictions.float(), predictions.float() + 2) == 2


# what is refused


def test_shapes_that_would_broadcast_are_refused():
    column, row = torch.ones(4, 1), torch.ones(4)
    for function in (metrics.mae, metrics.mse, metrics.rmse, metrics.mape, metrics.roc_curve, metrics.pr_curve):
        with pytest.raises(ValueError, match=r"\(4, 1\) and the targets are \(4,\)"):
            function(column, row)


def test_nothing_to_measure_is_refused():
    empty = torch.tensor([])
    for function in (metrics.mae, metrics.mape, metrics.roc_auc, metrics.average_precision):
        with pytest.raises(ValueError, match="no samples"):
            function(empty, empty)
    with pytest.raises(ValueError, match="no samples"):
        metrics.confusion_matrix(empty.long(), empty.long(), 2)
    for function in (metrics.accuracy, metrics.precision, metrics.recall, metrics.specificity, metrics.f1):
        with pytest.raises(ValueError, match="counts no sample"):
            function(torch.zeros(3, 3, dtype=torch.int64))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    broken, sound = torch.tensor([0.5, bad]), torch.tensor([0.0, 1.0])
    for function in (metrics.mae, metrics.mse, metrics.rmse):
        with pytest.raises(ValueError, match="not finite"):
            function(broken, sound)
    with pytest.raises(ValueError, match="finite floats"):
        metrics.roc_curve(broken, sound)


def test_labels_outside_the_classes_are_refused():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="predictions go from 0 to 2; 2 classes are numbered 0 to 1"):
        metrics.confusion_matrix(torch.tensor([0, 2]), labels, 2)
    with pytest.raises(ValueError, match="targets go from -1 to 0"):
        metrics.confusion_matrix(labels, torch.tensor([-1, 0]), 2)
    with pytest.raises(ValueError, match=r"logits\.argmax"):
        metrics.confusion_matrix(torch.ones(2), labels, 2)
    with pytest.raises(ValueError, match="num_classes is 0"):
        metrics.confusion_matrix(labels, labels, 0)
    with pytest.raises(ValueError, match="targets go from 0 to 2; use 1 for positive"):
        metrics.roc_auc(torch.rand(2), torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "matrix", [torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 2), torch.tensor([[1, -1], [0, 1]]), torch.ones(4).long()]
)
def test_what_is_no_confusion_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match="as confusion_matrix gives them"):
        metrics.recall(matrix)


@pytest.mark.parametrize("name", ["precision", "recall", "specificity", "f1"])
def test_an_unknown_average_is_refused(name):
    with pytest.raises(ValueError, match="average is 'mean'"):
        getattr(metrics, name)(torch.eye(2, dtype=torch.int64), "mean")


def test_inputs_are_left_as_they_are():
    scores, targets = torch.rand(20, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    kept = scores.clone(), targets.clone()
    metrics.roc_auc(scores, targets)
    metrics.average_precision(scores, targets)
    metrics.mape(scores, targets + 1)
    metrics.precision(metrics.confusion_matrix(targets, targets, 2))
    assert torch.equal(scores, kept[0])
    assert torch.equal(targets, kept[1])


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
def test_counts_of_narrow_integers_do_not_overflow(kind, average):
    matrix = torch.tensor([[120, 101, 3], [90, 127, 44], [7, 99, 111]])
    for name in ("precision", "recall", "specificity", "f1"):
        function = getattr(metrics, name)
        assert torch.equal(function(matrix.to(kind), average), function(matrix, average))
    assert metrics.accuracy(matrix.to(kind)) == metrics.accuracy(matrix)


def test_one_class_alone_can_be_measured():
    matrix = metrics.confusion_matrix(torch.zeros(5).long(), torch.zeros(5, dtype=torch.bool), 1)
    assert metrics.accuracy(matrix) == 1
    assert metrics.specificity(matrix).tolist() == [0]
    assert metrics.confusion_matrix(torch.ones(3, dtype=torch.bool), torch.tensor([0, 1, 1]), 2).tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("kind", [torch.bool, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_a_matrix_may_have_integers_of_any_kind(kind):
    matrix = torch.tensor([[1, 0], [1, 1]])
    for score in (metrics.accuracy, metrics.precision, metrics.recall, metrics.specificity, metrics.f1):
        assert torch.equal(score(matrix.to(kind)), score(matrix))
