"""Noise in targets: a regulariser when drawn anew for each batch, damage when drawn once for a data set. Built in lesson 09."""

import torch
from torch import Tensor

from course_utils import valid
from course_utils.data import BatchTransform
from course_utils.techniques import targets


def disturb_label(alpha: float, num_classes: int) -> BatchTransform:
    """With probability ``alpha``, replace a label by one drawn from all classes alike, anew in each batch.

    The drawn class may be the old one, so a label keeps its class with probability ``1 - alpha (K - 1) / K``. In
    expectation the target is that of label smoothing with the same ``alpha`` (convention ``"all"``). Xie et al.,
    *DisturbLabel: Regularizing CNN on the Loss Layer*, 2016, section 3. Lesson 09.

    Args:
        alpha: in 0..1.
        num_classes: number of classes ``K``, at least 2.

    Returns:
        Transform that leaves inputs alone; class indices ``(B,)`` stay class indices, as int64 whatever their width was, and
        of probabilities ``(B, K)`` whole rows become one-hot. Disturb before mixing: see `mixing`.

    Raises:
        ValueError: ``alpha`` outside 0..1, ``num_classes`` below 2; targets as in `as_probabilities`.
    """
    alpha, num_classes = valid.share(alpha, "alpha"), valid.whole_number(num_classes, "num_classes", 2)

    def disturbed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y = targets.checked(y, num_classes)
        hit = torch.rand(len(y), device=y.device) < alpha
        drawn = torch.randint(num_classes, (len(y),), device=y.device)
        if not y.is_floating_point():
            return x, torch.where(hit, drawn, y)
        return x, torch.where(hit.unsqueeze(1), torch.zeros_like(y).scatter_(1, drawn.unsqueeze(1), 1.0), y)

    return disturbed


def disturb_value(sigma: float, share: float = 1.0) -> BatchTransform:
    """Add Gaussian noise to the targets of a regression, anew in each batch: DisturbValue.

    Kim et al., *Disturbing Target Values for Neural Network Regularization*, 2021. Lesson 09.

    Args:
        sigma: standard deviation of the noise in units of the targets, at least 0. Below about ``1e-7`` times a target's
            size it is lost in float32's rounding.
        share: probability, in 0..1, that a target gets noise at all.

    Returns:
        Transform that leaves inputs alone, for floating targets ``(B,)`` or ``(B, D)``.

    Raises:
        ValueError: ``sigma`` or ``share`` outside its range, or targets that are not floating point numbers.
    """
    sigma = valid.number(sigma, "sigma", "a standard deviation is a finite number of at least 0", 0)
    share = valid.share(share, "share")

    def disturbed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        valid.tensors(targets=y)
        if not y.is_floating_point():
            raise ValueError(f"targets are {y.dtype}; noise is added to numbers: for classes use disturb_label.")
        noise = sigma * torch.randn_like(y)
        return x, torch.where(torch.rand(y.shape, device=y.device) < share, y + noise, y)

    return disturbed


def corrupt_labels(
    labels: Tensor, share: float, num_classes: int, generator: torch.Generator, *, always_wrong: bool = True
) -> Tensor:
    """Damage an exact share of a data set's labels, once: a model of careless annotation. Lessons 08 and 09.

    Args:
        labels: class indices, integers of any width or booleans ``(N,)``.
        share: share of labels, in 0..1, that are drawn anew; ``round(share * N)`` of them.
        num_classes: number of classes ``K``, at least 2.
        generator: CPU generator that decides which labels, and what they become.
        always_wrong: draw from the other classes only; else from all, so that one in ``K`` of the drawn stays right.

    Returns:
        New labels, int64 ``(N,)``; ``labels`` is left as it is.

    Raises:
        ValueError: ``share`` outside 0..1, ``num_classes`` below 2, a generator that is not on the CPU, or labels that are not
            indices of the classes.

    >>> damaged = corrupt_labels(torch.zeros(10, dtype=torch.int64), 0.4, 3, torch.Generator().manual_seed(0))
    >>> int((damaged != 0).sum())
    4
    """
    share, num_classes = valid.share(share, "share"), valid.whole_number(num_classes, "num_classes", 2)
    generator = valid.cpu_generator(generator)
    hint = "Probabilities cannot be damaged: class indices are integers."
    damaged = valid.class_indices(labels, num_classes, wait=True, hint=hint).cpu().clone()
    positions = torch.randperm(len(damaged), generator=generator)[: round(share * len(damaged))]
    if always_wrong:
        step = torch.randint(1, num_classes, (len(positions),), generator=generator)
        damaged[positions] = (damaged[positions] + step) % num_classes
    else:
        damaged[positions] = torch.randint(num_classes, (len(positions),), generator=generator)
    return damaged.to(labels.device)
