"""Targets as probabilities: what lets batch transforms take class indices and each other's soft targets alike."""

import torch
from torch import Tensor


def as_probabilities(y: Tensor, num_classes: int) -> Tensor:
    """Class indices as one-hot rows; probabilities as they are.

    Args:
        y: class indices, integer ``(B,)``, or probabilities, floating ``(B, K)``.
        num_classes: number of classes ``K``, at least 2.

    Returns:
        ``(B, K)``: float32 for class indices, else ``y`` itself. Never waits for a GPU, as ``F.one_hot`` does.

    Raises:
        ValueError: another shape or type, or, on a CPU, a class index outside ``0 .. K - 1``; on a GPU torch's own device
            assertion reports that one later.

    >>> as_probabilities(torch.tensor([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    check_targets(y, num_classes)
    if y.is_floating_point():
        return y
    return torch.zeros(len(y), num_classes, device=y.device).scatter_(1, y.long().unsqueeze(1), 1.0)


def check_targets(y: Tensor, num_classes: int) -> None:
    """Raise the errors of `as_probabilities`, for transforms that leave class indices what they are."""
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 2.")
    if y.is_floating_point():
        if y.ndim != 2 or y.shape[1] != num_classes:
            raise ValueError(
                f"targets are {y.dtype} of shape {tuple(y.shape)}; use probabilities (B, {num_classes}) or class indices, "
                "integers (B,)."
            )
        return
    if y.ndim != 1 or y.dtype == torch.bool or y.is_complex():
        raise ValueError(f"targets are {y.dtype} of shape {tuple(y.shape)}; class indices are integers of shape (B,).")
    if y.device.type == "cpu" and len(y):  # reading values back would stall a GPU
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= num_classes:
            raise ValueError(f"targets go from {low} to {high}; {num_classes} classes are numbered 0 to {num_classes - 1}.")
