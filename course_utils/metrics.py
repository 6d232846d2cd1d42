"""Measures of predictions: classification scores from a confusion matrix, two curves and their areas, four regression errors.

Pure functions on tensors, computed in float64 on the tensors' device, without loops over samples. Built in lesson 04, and
equal to scikit-learn's; where scikit-learn warns and gives a number all the same, the docstrings say what these do.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from course_utils import valid

Average = Literal["macro", "micro", "weighted"] | None


class RocCurve(NamedTuple):
    """What `roc_curve` returns: three float64 tensors ``(T,)``, from the strictest threshold to the loosest."""

    false_positive_rate: Tensor
    true_positive_rate: Tensor
    thresholds: Tensor


class PRCurve(NamedTuple):
    """What `pr_curve` returns: three float64 tensors ``(T,)``, from the strictest threshold to the loosest."""

    precision: Tensor
    recall: Tensor
    thresholds: Tensor


def confusion_matrix(predictions: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Count how often each class is taken for each other one (lesson 04).

    Matrices of batches add up to the matrix of all of them.

    Args:
        predictions: predicted class indices, integers of any width or booleans (classes 0 and 1) ``(N,)``; for logits take
            ``logits.argmax(1)`` first.
        targets: true class indices, likewise.
        num_classes: number of classes ``K``, at least 1.

    Returns:
        int64 ``(K, K)``, rows are the truth and columns the prediction. Classes that never occur have zeros. Equals
        ``sklearn.metrics.confusion_matrix`` with ``labels=range(K)``.

    Raises:
        ValueError: no samples, shapes that differ, values that are not integers, or a class outside ``0 .. K - 1``.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), 3).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    """
    num_classes = valid.whole_number(num_classes, "num_classes", 1)
    targets = _partner(predictions, targets)
    hint = "From logits (N, K) they come with logits.argmax(1)."
    predictions = valid.class_indices(predictions, num_classes, "predictions", wait=True, hint=hint)
    targets = valid.class_indices(targets, num_classes, "targets", wait=True, hint=hint)
    cells = targets * num_classes + predictions
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Tensor) -> Tensor:
    """Share of samples on the diagonal of a confusion matrix, in 0..1 (lesson 04).

    Args:
        matrix: `confusion_matrix`, integers of any width ``(K, K)``.

    Returns:
        float64 scalar. Equals ``sklearn.metrics.accuracy_score``.

    Raises:
        ValueError: ``matrix`` is not a confusion matrix, or it counts no sample.
    """
    matrix = _matrix(matrix)
    return matrix.diagonal().sum().double() / matrix.sum()


def precision(matrix: Tensor, average: Average = None) -> Tensor:
    """TP / (TP + FP): of the samples called a class, the share that is of it, in 0..1 (lesson 04).

    Args:
        matrix: `confusion_matrix`, integer ``(K, K)``.
        average: ``None`` gives one value per class. ``"macro"``: their plain mean over all ``K`` classes, also over those that
            never occur. ``"weighted"``: mean weighted by the number of true samples. ``"micro"``: numerators and denominators
            summed over the classes first.

    Returns:
        float64 ``(K,)``, or a scalar with ``average``. Where the denominator is zero (here, a class never predicted) the value
        is 0. Equals ``sklearn.metrics.precision_score`` with ``labels=range(K), zero_division=0``; by default scikit-learn
        warns there, and leaves classes that occur nowhere out of the macro mean.

    Raises:
        ValueError: ``matrix`` is not a confusion matrix, it counts no sample, or ``average`` is another word.
    """
    c = _counts(matrix)
    return _averaged(c.tp, c.tp + c.fp, c, average)


def recall(matrix: Tensor, average: Average = None) -> Tensor:
    """TP / (TP + FN): of the samples of a class, the share that is found, in 0..1; also called sensitivity (lesson 04).

    Arguments, averages, zero denominators (here, a class without true samples) and errors are as for `precision`. Equals
    ``sklearn.metrics.recall_score`` with ``labels=range(K), zero_division=0``.
    """
    c = _counts(matrix)
    return _averaged(c.tp, c.tp + c.fn, c, average)


def specificity(matrix: Tensor, average: Average = None) -> Tensor:
    """TN / (TN + FP): of the samples of all other classes, the share that is not called this one, in 0..1 (lesson 04).

    Arguments, averages, zero denominators (here, all samples are of the class) and errors are as for `precision`. scikit-learn
    has no such function; with two classes it is the recall of the other one.
    """
    c = _counts(matrix)
    return _averaged(c.tn, c.tn + c.fp, c, average)


def f1(matrix: Tensor, average: Average = None) -> Tensor:
    """2 TP / (2 TP + FP + FN): harmonic mean of precision and recall, in 0..1 (lesson 04).

    ``"macro"`` is the mean of the classes' F1, not the F1 of the mean precision and recall. Arguments, averages, zero
    denominators (here, a class neither true nor predicted) and errors are as for `precision`. Equals
    ``sklearn.metrics.f1_score`` with ``labels=range(K), zero_division=0``.
    """
    c = _counts(matrix)
    return _averaged(2 * c.tp, 2 * c.tp + c.fp + c.fn, c, average)


def roc_curve(scores: Tensor, targets: Tensor) -> RocCurve:
    """True against false positive rate of "positive if score ≥ threshold", for every threshold that matters (lesson 04).

    Args:
        scores: larger means more surely positive, float ``(N,)``; probabilities, logits, any finite numbers.
        targets: 1 or ``True`` for positive, 0 or ``False`` for negative, numbers of any kind ``(N,)``.

    Returns:
        One point per different score, since equal scores cannot be told apart, after a first point (0, 0) with threshold
        infinity. Equals ``sklearn.metrics.roc_curve`` with ``drop_intermediate=False``.

    Raises:
        ValueError: no samples, shapes that differ or are not ``(N,)``, scores that are not finite, targets other than 0 and 1,
            or targets of one class only, for which a rate is undefined (scikit-learn warns and gives NaN).

    >>> roc_curve(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([1, 0, 1])).true_positive_rate.tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    tp, fp, thresholds = _cumulated(scores, targets)
    if tp[-1] == 0 or fp[-1] == 0:
        which = "positive" if tp[-1] == 0 else "negative"
        raise ValueError(f"no sample is {which}: a ROC curve needs at least one positive and one negative.")
    return RocCurve(fp / fp[-1], tp / tp[-1], thresholds)


def roc_auc(scores: Tensor, targets: Tensor) -> Tensor:
    """Area under the ROC curve, in 0..1 (lesson 04).

    It is the chance that a random positive scores above a random negative, with ties counted half.
    Arguments and errors are as for `roc_curve`.

    Returns:
        float64 scalar; 0.5 for scores without information. Equals ``sklearn.metrics.roc_auc_score``.
    """
    curve = roc_curve(scores, targets)
    return torch.trapezoid(curve.true_positive_rate, curve.false_positive_rate)


def pr_curve(scores: Tensor, targets: Tensor) -> PRCurve:
    """Precision against recall of "positive if score ≥ threshold", for every threshold that matters (lesson 04).

    Args:
        scores, targets: as for `roc_curve`.

    Returns:
        One point per different score, after a first point with threshold infinity, recall 0 and, by convention, precision 1.
        Equals ``sklearn.metrics.precision_recall_curve`` in reverse order, whose list of thresholds lacks the infinite one.

    Raises:
        ValueError: as for `roc_curve`, but negatives may be missing. Without positives the recall is undefined (scikit-learn
            warns and sets it to 1).
    """
    tp, fp, thresholds = _cumulated(scores, targets)
    if tp[-1] == 0:
        raise ValueError("no sample is positive: recall, and so a precision-recall curve, is undefined.")
    called = tp + fp
    return PRCurve(torch.where(called > 0, tp / called.clamp(min=1), 1.0), tp / tp[-1], thresholds)


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Area under the precision-recall curve, in 0..1: the sum of (recall step) × (precision at its end) (lesson 04).

    Nothing is interpolated between the points, since a straight line there would promise too much. Arguments and errors are
    as for `pr_curve`.

    Returns:
        float64 scalar; the share of positives for scores without information. Equals
        ``sklearn.metrics.average_precision_score``, which without positives warns and gives 0.
    """
    curve = pr_curve(scores, targets)
    return (curve.recall.diff() * curve.precision[1:]).sum()


def mae(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error, in the unit of the targets (lesson 04).

    Args:
        predictions, targets: numbers of one shape, such as ``(N,)``; the mean is over all of them.

    Returns:
        float64 scalar. Equals ``sklearn.metrics.mean_absolute_error``.

    Raises:
        ValueError: no samples, values that are not finite, or shapes that differ: ``(N, 1)`` against ``(N,)`` would be compared
            all with all.
    """
    return _errors(predictions, targets).abs().mean()


def mse(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error, in the squared unit of the targets (lesson 04).

    Arguments and errors are as for `mae`. Equals ``sklearn.metrics.mean_squared_error``.
    """
    return _errors(predictions, targets).square().mean()


def rmse(predictions: Tensor, targets: Tensor) -> Tensor:
    """Square root of the mean squared error, in the unit of the targets (lesson 04).

    Arguments and errors are as for `mae`. Equals ``sklearn.metrics.root_mean_squared_error``.
    """
    return mse(predictions, targets).sqrt()


def mape(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean of ``|error| / |target|`` as a share: 0.1 is 10 % (lesson 04).

    Arguments are as for `mae`. Equals ``sklearn.metrics.mean_absolute_percentage_error`` where that is defined.

    Raises:
        ValueError: as for `mae`, or a target is 0. scikit-learn divides by 2.2e-16 instead and gives a huge number.
    """
    errors = _errors(predictions, targets)
    if zeros := int((targets == 0).sum()):
        raise ValueError(f"{zeros} of {targets.numel()} targets are 0, and a percentage of 0 is undefined: use mae, or rmse.")
    return (errors.abs() / targets.to(errors).abs()).mean()


class _Counts(NamedTuple):
    """TP, FP, FN and TN of each class against all others, int64 ``(K,)`` each."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def _counts(matrix: Tensor) -> _Counts:
    matrix = _matrix(matrix)
    tp = matrix.diagonal()
    fp, fn = matrix.sum(0) - tp, matrix.sum(1) - tp
    return _Counts(tp, fp, fn, matrix.sum() - tp - fp - fn)


def _averaged(numerator: Tensor, denominator: Tensor, counts: _Counts, average: Average) -> Tensor:
    if average == "micro":
        numerator, denominator = numerator.sum(), denominator.sum()
    values = numerator.double() / denominator.clamp(min=1)  # a zero denominator has a zero numerator
    if average is None or average == "micro":
        return values
    if average == "macro":
        return values.mean()
    if average == "weighted":
        true = counts.tp + counts.fn
        return (values * true).sum() / true.sum()
    raise ValueError(f"average is {average!r}; it must be 'macro', 'micro', 'weighted' or None.")


def _cumulated(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """True and false positives at or above each different score, the highest first, after a first entry for infinity."""
    targets = _partner(scores, targets)
    hint = "For the positive class k they come from logits (N, K) with logits.softmax(1)[:, k]."
    scores = valid.scores(scores, "scores", hint)
    targets = valid.yes_or_no(targets, "targets", "1 for positive and 0 for negative")
    ordered, order = scores.detach().sort(descending=True)
    positive = targets[order].double()
    last = torch.ones_like(ordered, dtype=torch.bool)  # of its group of equal scores
    last[:-1] = ordered[1:] != ordered[:-1]
    start = positive.new_zeros(1)
    tp = torch.cat([start, positive.cumsum(0)[last]])
    fp = torch.cat([start, (1 - positive).cumsum(0)[last]])
    return tp, fp, torch.cat([start + torch.inf, ordered[last].double()])


def _errors(predictions: Tensor, targets: Tensor) -> Tensor:
    targets = _partner(predictions, targets)
    for values in (predictions, targets):
        if values.is_complex() or not bool(values.isfinite().all()):
            raise ValueError("predictions or targets are not finite: look for NaN and infinity before you measure.")
    return predictions.double() - targets.double()


def _matrix(matrix: Tensor) -> Tensor:
    """The counts as int64: sums of narrow integers would overflow."""
    valid.tensors(matrix=matrix)
    whole = not (matrix.is_floating_point() or matrix.is_complex())
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not whole or bool((matrix.long() < 0).any()):
        raise ValueError(
            f"matrix is {matrix.dtype} of shape {tuple(matrix.shape)}; it must hold counts, integers (K, K) of at least 0, "
            "as confusion_matrix gives them."
        )
    matrix = matrix.long()
    if not bool(matrix.any()):
        raise ValueError("the confusion matrix counts no sample: there is nothing to measure.")
    return matrix


def _partner(predictions: Tensor, targets: Tensor) -> Tensor:
    """The targets on the predictions' device, after a look at both shapes."""
    valid.tensors(predictions=predictions, targets=targets)
    if predictions.shape != targets.shape:
        raise ValueError(
            f"one side is {tuple(predictions.shape)} and the targets are {tuple(targets.shape)}: both need the same shape."
        )
    if predictions.numel() == 0:
        raise ValueError("there are no samples to measure.")
    return targets.to(predictions.device)
