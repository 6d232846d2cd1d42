"""Pseudo-labels: a network's own answers to unlabelled inputs, used as if they were labels. Built in lesson 12."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import modes, valid


class Confident(NamedTuple):
    """What `confident` returns: ``positions`` of the samples that are kept, and their ``labels``, both int64 ``(M,)``."""

    positions: Tensor
    labels: Tensor


def ramp(t: float, start: float, end: float, alpha: float) -> float:
    """Weight of the unlabelled loss: 0 until ``start``, then rising in a straight line to ``alpha`` at ``end``, where it stays.

    Lee, *Pseudo-Label*, 2013, equation 16. Lesson 12.

    Args:
        t: epoch or step, in the units of ``start`` and ``end``.
        start, end: where the rise begins and ends; ``start`` may not lie after ``end``. Equal: a jump.
        alpha: final weight, finite and at least 0.

    Raises:
        ValueError: ``start`` after ``end``, a negative ``alpha``, or a number that is not finite.

    >>> [ramp(epoch, 2, 4, 3.0) for epoch in (1, 2, 3, 4, 9)]
    [0.0, 0.0, 1.5, 3.0, 3.0]
    """
    place = "a place on the ramp is finite"
    t, start, end = valid.number(t, "t", place), valid.number(start, "start", place), valid.number(end, "end", place)
    alpha = valid.number(alpha, "alpha", "the weight of a loss is a finite number of at least 0", 0)
    if start > end:
        raise ValueError(f"the ramp starts at {start:g} and ends at {end:g}; it must not start after its end.")
    if t >= end:
        return alpha
    if t <= start:
        return 0.0
    if end - start == math.inf:  # the distance of the ends is beyond the largest float, and that of their halves is not
        t, start, end = t / 2, start / 2, end / 2
    return alpha * ((t - start) / (end - start))


def confident(probabilities: Tensor, threshold: float) -> Confident:
    """Samples whose largest probability is at least ``threshold``, with their most probable class as label (lesson 12).

    Args:
        probabilities: floating ``(N, K)``, each row summing to 1; from logits they come with ``logits.softmax(1)``.
        threshold: in 0..1, compared as the probabilities are rounded; at 0 all samples are kept.

    Returns:
        `Confident`, in ascending order of positions; empty when no sample is sure enough.

    Raises:
        ValueError: ``threshold`` outside 0..1, or values that are not probabilities (logits, for example).

    >>> confident(torch.tensor([[0.6, 0.4], [0.05, 0.95]]), 0.9)
    Confident(positions=tensor([1]), labels=tensor([1]))
    """
    threshold = valid.share(threshold, "threshold", "a confidence")
    valid.probabilities(probabilities)
    confidence, labels = probabilities.max(1)
    positions = (confidence >= threshold).nonzero().flatten()
    return Confident(positions, labels[positions])


def pseudo_label_loss(
    loader: Iterable[tuple[Tensor, Tensor]], weight: Callable[[int], float], *, threshold: float = 0.0
) -> Callable[[nn.Module, int], Tensor]:
    """Loss on unlabelled batches against the labels that the model itself gives them at that moment: ``fit``'s ``extra_loss``.

    The labels come from the model in evaluation mode, without gradient; the loss from the model in the mode in which it is.
    Lee, *Pseudo-Label*, 2013, equation 15. Lesson 12.

    Args:
        loader: unlabelled batches ``(x, y)``, on the model's device, over and over; ``y`` is never looked at.
        weight: epoch, from 1, to the weight of this loss, such as ``lambda epoch: ramp(epoch, 3, 9, 1.0)``. At 0 no batch is
            drawn.
        threshold: samples below this confidence, in 0..1, add nothing; the mean is still over the whole batch.

    Returns:
        ``(model, epoch) -> scalar``. Batch normalisation in the model sees unlabelled batches by themselves. `train.fit` does
        not keep its place in ``loader`` in checkpoints: a run that goes on draws other unlabelled batches.

    Raises:
        ValueError: ``threshold`` outside 0..1, or, at the first use, a loader that gives no batch.
    """
    threshold = valid.share(threshold, "threshold", "a confidence")
    batches = _endless(loader)

    def extra_loss(model: nn.Module, epoch: int) -> Tensor:
        scale = weight(epoch)
        if scale == 0:
            return torch.zeros((), device=next(model.parameters()).device)
        x, _ = next(batches)
        with modes.evaluation(model), torch.no_grad():
            confidence, labels = model(x).float().softmax(1).max(1)
        losses = F.cross_entropy(model(x).float(), labels, reduction="none")
        return scale * (losses * (confidence >= threshold)).mean()

    return extra_loss


def _endless(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("the loader of unlabelled inputs is empty: it gives no batch.")
