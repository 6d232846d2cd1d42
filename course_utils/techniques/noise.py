"""Noise in targets: a regulariser when drawn anew for each batch, damage when drawn once for a data set. Built in lesson 09."""

import torch
from torch import Tensor

from course_utils.augment import BatchTransform
from course_utils.techniques.targets import check_targets


def disturb_label(alpha: float, num_classes: int) -> BatchTransform:
    """With probability ``alpha``, replace a label by one drawn from all classes alike, anew in each batch.

    The drawn class may be the old one, so a label keeps its class with probability ``1 - alpha (K - 1) / K``. In
    expectation the target is that of label smoothing with the same ``alpha`` (convention ``"all"``). Xie et al.,
    *DisturbLabel: Regularizing CNN on the Loss Layer*, 2016, section 3. Lesson 09.

    Args:
        alpha: in 0..1.
        num_classes: number of classes ``K``.

    Returns:
        Transform that leaves inputs alone; class indices ``(B,)`` stay class indices, and of probabilities ``(B, K)`` whole
        rows become one-hot. Disturb before mixing: see `mixing`.

    Raises:
        ValueError: ``alpha`` outside 0..1; targets as in `as_probabilities`.
    """
    _need_share(alpha, "alpha")

    def disturbed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        check_targets(y, num_classes)
        hit = torch.rand(len(y), device=y.device) < alpha
        drawn = torch.randint(num_classes, (len(y),), device=y.device)
        if not y.is_floating_point():
            return x, torch.where(hit, drawn.to(y.dtype), y)
        return x, torch.where(hit.unsqueeze(1), torch.zeros_like(y).scatter_(1, drawn.unsqueeze(1), 1.0), y)

    return disturbed


def disturb_value(sigma: float, share: float = 1.0) -> BatchTransform:
    """Add Gaussian noise to the targets of a regression, anew in each batch. Lesson 09.

    Args:
        sigma: standard deviation of the noise in units of the targets, at least 0. Below about ``1e-7`` times a target's
            size it is lost in float32's rounding.
        share: probability, in 0..1, that a target gets noise at all.

    Returns:
        Transform that leaves inputs alone, for floating targets ``(B,)`` or ``(B, D)``.

    Raises:
        ValueError: ``sigma`` or ``share`` outside its range, or targets that are not floating point numbers.
    """
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma is {sigma}; a standard deviation is a finite number of at least 0.")
    _need_share(share, "share")

    def disturbed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not y.is_floating_point():
            raise ValueError(f"targets are {y.dtype}; noise is added to numbers: for classes use disturb_label.")
        return x, y + sigma * torch.randn_like(y) * (torch.rand(y.shape, device=y.device) < share)

    return disturbed


def corrupt_labels(
    labels: Tensor, share: float, num_classes: int, generator: torch.Generator, *, always_wrong: bool = True
) -> Tensor:
    """Damage an exact share of a data set's labels, once: a model of careless annotation. Lessons 08 and 09.

    Args:
        labels: class indices, integer ``(N,)``, on the CPU.
        share: share of labels, in 0..1, that are drawn anew; ``round(share * N)`` of them.
        num_classes: number of classes ``K``.
        generator: CPU generator that decides which labels, and what they become.
        always_wrong: draw from the other classes only; else from all, so that one in ``K`` of the drawn stays right.

    Returns:
        New labels; ``labels`` is left as it is.

    Raises:
        ValueError: ``share`` outside 0..1, or labels that are not class indices.

    >>> damaged = corrupt_labels(torch.zeros(10, dtype=torch.int64), 0.4, 3, torch.Generator().manual_seed(0))
    >>> int((damaged != 0).sum())
    4
    """
    _need_share(share, "share")
    check_targets(labels, num_classes)
    if labels.is_floating_point():
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; class indices are integers of shape (N,).")
    positions = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    damaged = labels.clone()
    if always_wrong:
        step = torch.randint(1, num_classes, (len(positions),), generator=generator)
        damaged[positions] = ((labels[positions] + step) % num_classes).to(labels.dtype)
    else:
        damaged[positions] = torch.randint(num_classes, (len(positions),), generator=generator).to(labels.dtype)
    return damaged


def _need_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; a share or probability lies between 0 and 1.")
