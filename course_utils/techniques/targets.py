"""Targets as probabilities: what lets batch transforms take class indices and each other's soft targets alike."""

import torch
from torch import Tensor

from course_utils import valid


def as_probabilities(y: Tensor, num_classes: int) -> Tensor:
    """Class indices as one-hot rows; probabilities as they are.

    Args:
        y: class indices, integers of any width or booleans (classes 0 and 1) ``(B,)``, or probabilities, floating ``(B, K)``.
        num_classes: number of classes ``K``, at least 2.

    Returns:
        ``(B, K)``: float32 for class indices, else ``y`` itself. Never waits for a GPU, as ``F.one_hot`` does.

    Raises:
        ValueError: another shape or type, or, on a CPU, a class index outside ``0 .. K - 1``; on a GPU torch's own device
            assertion reports that one later.

    >>> as_probabilities(torch.tensor([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    y = checked(y, num_classes)
    if y.is_floating_point():
        return y
    return torch.zeros(len(y), num_classes, device=y.device).scatter_(1, y.unsqueeze(1), 1.0)


def checked(y: Tensor, num_classes: int) -> Tensor:
    """Class indices as int64, probabilities as they are, for functions that take both.

    Arguments and errors are as for `as_probabilities`.
    """
    num_classes = valid.whole_number(num_classes, "num_classes", 2)
    if not isinstance(y, Tensor) or not y.is_floating_point():
        return valid.class_indices(y, num_classes, "targets", "(B,)")
    valid.tensors(targets=y)
    if y.ndim != 2 or y.shape[1] != num_classes:
        raise ValueError(
            f"targets are {y.dtype} of shape {tuple(y.shape)}; use probabilities (B, {num_classes}) or class indices, "
            "integers (B,)."
        )
    return valid.savable(y)
