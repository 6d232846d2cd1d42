"""Can probabilities be trusted? Reliability, calibration errors, proper scores, temperature, and risk against coverage.

Pure functions on tensors, computed in float64 on the tensors' device, without loops over samples. Built in lesson 06.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils import valid


class Reliability(NamedTuple):
    """What `reliability` returns, bin by bin; float64, but int64 ``count``.

    Attributes:
        edges: borders of the bins, ``(B + 1,)``, ascending.
        count: samples in each bin, ``(B,)``.
        confidence: mean confidence of each bin, ``(B,)``; NaN where the bin is empty.
        accuracy: share of right answers in each bin, ``(B,)``; NaN where the bin is empty.
    """

    edges: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, of which four tensors have no use
    confidence: Tensor
    accuracy: Tensor


class RiskCoverage(NamedTuple):
    """What `risk_coverage` returns: two float64 tensors ``(T,)``, from the surest answers alone to all answers."""

    coverage: Tensor
    risk: Tensor


def reliability(probabilities: Tensor, targets: Tensor, num_bins: int = 10, adaptive: bool = False) -> Reliability:
    """Sort samples into bins by confidence, the largest probability, and compare it with accuracy in each (lesson 06).

    Args:
        probabilities: floating ``(N, K)``, each row summing to 1; from logits they come with ``logits.softmax(1)``.
        targets: true class indices, integers of any width or booleans (classes 0 and 1) ``(N,)``.
        num_bins: number of bins ``B``, at least 1.
        adaptive: ``False``: bins of equal width from 0 to 1. ``True``: bins of equal mass, from the smallest to the largest
            confidence; their sizes differ by one at most, and more where confidences are equal, since those stay together.

    Returns:
        `Reliability`. A bin holds its left edge and not its right one, but the last holds both. Edges of equal width are
        rounded as the probabilities are, so that a float32 0.7 stands in the bin that begins at 0.7.

    Raises:
        ValueError: no samples, shapes that differ, values that are not probabilities (logits, for example), targets that are
            not indices of the ``K`` classes, or ``num_bins`` that is not a whole number of at least 1.

    >>> reliability(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), num_bins=2).accuracy.tolist()
    [nan, 0.5]
    """
    targets = _checked(probabilities, targets)
    num_bins = valid.whole_number(num_bins, "num_bins", 1)
    confidence, predictions = probabilities.detach().max(1)
    confidence = confidence.clamp(max=1)  # rounding may leave a little more
    if adaptive:
        ordered = confidence.sort().values
        first = torch.arange(num_bins, device=ordered.device) * len(ordered) // num_bins
        edges = torch.cat([ordered[first], ordered[-1:]])
    else:
        edges = torch.linspace(0, 1, num_bins + 1, dtype=confidence.dtype, device=confidence.device)
    index = torch.bucketize(confidence, edges[1:-1], right=True)
    count = torch.bincount(index, minlength=num_bins)
    sums = (torch.bincount(index, values.double(), num_bins) for values in (confidence, predictions == targets))
    return Reliability(edges.double(), count, *(total / count for total in sums))


def ece(probabilities: Tensor, targets: Tensor, num_bins: int = 10, adaptive: bool = False) -> Tensor:
    """Expected calibration error: mean over samples of their bin's distance of accuracy from confidence (lesson 06).

    It is 0 for no finite sample of a perfectly calibrated model but by luck: it grows with the number of bins and falls with
    that of samples. Compare it only with the same bins and samples.

    Arguments and errors are as for `reliability`. Naeini et al., *Obtaining Well Calibrated Probabilities Using Bayesian
    Binning*, 2015; with ``adaptive`` Nixon et al., *Measuring Calibration in Deep Learning*, 2019, for the top class.

    Returns:
        float64 scalar in 0..1. Equals ``torchmetrics``' ``MulticlassCalibrationError(norm="l1")`` as long as no confidence is
        1 in float32; torchmetrics gives those a bin of their own, and its error is then at least this one.
    """
    bins = reliability(probabilities, targets, num_bins, adaptive)
    return (bins.count * (bins.accuracy - bins.confidence).abs()).nansum() / bins.count.sum()


def mce(probabilities: Tensor, targets: Tensor, num_bins: int = 10, adaptive: bool = False) -> Tensor:
    """Maximum calibration error: the largest distance of accuracy from confidence in any bin with samples (lesson 06).

    A bin of one sample can decide it. Arguments, errors, source and the equality with ``torchmetrics`` (``norm="max"``) are as
    for `ece`.

    Returns:
        float64 scalar in 0..1.
    """
    bins = reliability(probabilities, targets, num_bins, adaptive)
    return (bins.accuracy - bins.confidence).abs()[bins.count > 0].max()


def brier(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of the probabilities from the one-hot truth, summed over classes, mean over samples (lesson 06).

    Smallest, on average, for the true probabilities. Brier, *Verification of Forecasts Expressed in Terms of Probability*,
    1950.

    Arguments and errors are as for `reliability`.

    Returns:
        float64 scalar in 0..2. Equals ``sklearn.metrics.brier_score_loss`` with ``scale_by_half=False``: its default for
        three classes or more; for two classes its default is half of this.
    """
    targets = _checked(probabilities, targets)
    return (probabilities.double() - F.one_hot(targets, probabilities.shape[1])).square().sum(1).mean()


def nll(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood: mean of ``-ln`` of the true class's probability, in nats (lesson 06).

    Smallest, on average, for the true probabilities. Infinite as soon as one true class has probability 0; from logits,
    ``F.cross_entropy`` gives the same number without that risk. A model is measured against the true classes: never smooth the
    targets of a validation or test loss.

    Arguments and errors are as for `reliability`.

    Returns:
        float64 scalar of at least 0. Equals ``sklearn.metrics.log_loss`` where no probability is 0.
    """
    targets = _checked(probabilities, targets)
    # Rounding may leave a little more than 1, and below 0 there is no loss.
    return -_of_true_class(probabilities.double(), targets).clamp(max=1).log().mean()


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Temperature ``T > 0`` for which ``(logits / T).softmax(1)`` has the lowest negative log-likelihood (lesson 06).

    To apply it, divide logits by it: their order, and so every answer, stays. Guo et al., *On Calibration of Modern Neural
    Networks*, 2017, section 4.2.

    Args:
        logits: of samples that neither trained the network nor will test it (validation), floating ``(N, K)``.
        targets: their true class indices, integers of any width or booleans (classes 0 and 1) ``(N,)``.

    Returns:
        Above 1 for an over-confident network, below 1 for an under-confident one.

    It can be called where gradients are switched off.

    Raises:
        ValueError: as `reliability` for shapes and targets, logits that are not finite, or samples for which no temperature
            is best: all of them answered right (then smaller is always better), or true classes that have no larger logit
            than the others on average (then larger is).

    >>> round(fit_temperature(torch.tensor([[3.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 4)  # sigmoid(3 / T) = 3/4
    2.7307
    """
    with torch.inference_mode(False), torch.enable_grad():  # the search needs gradients, whatever the caller does
        return _best_temperature(logits, targets)


def _best_temperature(logits: Tensor, targets: Tensor) -> float:
    targets = _checked_targets(logits, targets, "logits")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits are not finite: look for NaN and infinity before you fit a temperature.")
    z = logits.detach().double()
    # A power of two changes no digit, and keeps squares and sums of very large and very small logits in range.
    size = 2.0 ** min(math.frexp(float(z.abs().max()))[1], 1000)
    z = z / size
    z = z - z.mean(1, keepdim=True)
    true = _of_true_class(z, targets)
    if bool((true == z.amax(1)).all()):
        raise ValueError(f"all {len(z)} samples are answered right, so T = 0 would be best: fit on more validation samples.")
    if float(true.mean()) <= 0:
        raise ValueError(
            "the true class's logit is on average not above the others': no temperature makes these logits useful. Check "
            "that logits and targets belong together."
        )
    scale = z.std(correction=0)
    log_t = torch.zeros((), dtype=torch.float64, device=z.device, requires_grad=True)  # exp(log_t) cannot become negative
    optimizer = torch.optim.LBFGS(
        [log_t], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(z / scale * (-log_t).exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return size * float(scale * log_t.detach().exp())


def risk_coverage(confidence: Tensor, correct: Tensor) -> RiskCoverage:
    """Share of wrong answers among those given, when only the surest are given, for every possible share (lesson 06).

    Args:
        confidence: larger means surer, finite floats ``(N,)``; probabilities or any other score.
        correct: 1 or ``True`` where the answer is right, 0 or ``False`` where it is wrong, numbers of any kind ``(N,)``.

    Returns:
        `RiskCoverage`, one point per different confidence: equally sure answers are given or withheld together. The last
        point has coverage 1, and its risk is 1 - accuracy. El-Yaniv and Wiener, *On the Foundations of Noise-free Selective
        Classification*, 2010.

    Raises:
        ValueError: no samples, shapes that differ or are not ``(N,)``, a confidence that is not finite, or ``correct`` other
            than 0 and 1.

    >>> risk_coverage(torch.tensor([0.9, 0.5, 0.5, 0.7]), torch.tensor([1, 0, 1, 1])).risk.tolist()
    [0.0, 0.0, 0.25]
    """
    valid.tensors(confidence=confidence, correct=correct)
    if confidence.ndim != 1 or confidence.shape != correct.shape or len(confidence) == 0:
        raise ValueError(
            f"confidence is {tuple(confidence.shape)} and correct {tuple(correct.shape)}; both must be (N,), with N at least 1."
        )
    confidence = valid.scores(confidence, "confidences")
    correct = valid.yes_or_no(correct, "correct answers", "1 for right and 0 for wrong").to(confidence.device)
    ordered, order = confidence.detach().sort(descending=True)
    last = torch.ones_like(ordered, dtype=torch.bool)  # of its group of equal confidences
    last[:-1] = ordered[1:] != ordered[:-1]
    given = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=ordered.device)
    wrong = (1 - correct[order].double()).cumsum(0)
    return RiskCoverage((given / len(ordered))[last], (wrong / given)[last])


def _of_true_class(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(1, targets.unsqueeze(1)).squeeze(1)


def _checked(probabilities: Tensor, targets: Tensor) -> Tensor:
    targets = _checked_targets(probabilities, targets, "probabilities")
    valid.probabilities(probabilities)
    return targets


def _checked_targets(rows: Tensor, targets: Tensor, name: str) -> Tensor:
    """The targets of the rows ``(N, K)`` as int64 on their device."""
    valid.tensors(targets=targets)
    valid.float_rows(rows, name)
    if targets.shape != rows.shape[:1]:
        raise ValueError(
            f"{name} are {tuple(rows.shape)} and the targets {tuple(targets.shape)}; use one class index for each row, (N,)."
        )
    if len(targets) == 0:
        raise ValueError("there are no samples to measure.")
    return valid.class_indices(targets.to(rows.device), rows.shape[1], "targets", wait=True)
