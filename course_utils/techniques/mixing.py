"""Batch transforms that mix pairs of images and their targets: mixup, CutMix, pixel maximum. Built in lesson 07.

Each takes class indices ``(B,)`` or probabilities ``(B, K)`` and returns probabilities ``(B, K)``, so that transforms can be
chained (`augment.chain`). In a chain, normalise first; smooth labels before or after mixing, with the same result; disturb
labels before mixing, since afterwards a target no longer belongs to one image. Random numbers come from torch's global
generators; none is read back from a GPU.
"""

import math

import torch
from torch import Tensor

from course_utils.augment import BatchTransform
from course_utils.techniques.targets import as_probabilities


def mixup(alpha: float, num_classes: int) -> BatchTransform:
    """Mix each image of a batch with another one of it, and their targets in the same proportion.

    One λ from Beta(α, α) and one permutation a batch. Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018,
    equation 2. Lesson 07.

    Args:
        alpha: above 0. At 1, λ is uniform in 0..1; below 1 one image of each pair mostly dominates; above 1 halves are likely.
        num_classes: number of classes ``K``.

    Returns:
        Transform of floating ``(B, ...)`` and targets to the same shape and ``(B, K)``. A batch of one sample is mixed
        with itself, so it stays as it is. Equals ``torchvision.transforms.v2.MixUp`` for the same λ and pairs (which there
        are neighbours in the batch).

    Raises:
        ValueError: ``alpha`` is not above 0; integer images; targets as in `as_probabilities`.
    """
    draw_lam = _beta(alpha)

    def mixed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_floats(x)
        return mix_pairs(x, as_probabilities(y, num_classes), _random_pairs(x), draw_lam())

    return mixed


def mix_pairs(x: Tensor, p: Tensor, index: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """λ of each sample plus 1 - λ of its partner, for images and targets.

    Args:
        x: inputs, floating ``(B, ...)``.
        p: probabilities ``(B, K)``.
        index: partner of each sample, int64 ``(B,)``.
        lam: λ in 0..1.

    >>> x, p = mix_pairs(torch.tensor([[0.0], [4.0]]), torch.eye(2), torch.tensor([1, 0]), 0.75)
    >>> x.flatten().tolist(), p[0].tolist()
    ([1.0, 3.0], [0.75, 0.25])
    """
    return torch.lerp(x.index_select(0, index), x, lam), torch.lerp(p[index], p, lam)


def cutmix(alpha: float, num_classes: int) -> BatchTransform:
    """Paste a random box of another image of the batch into each image; targets are mixed by area.

    One box and one permutation a batch. Its area is 1 - λ of the image, λ from Beta(α, α), before it is cut at the borders;
    targets count the pixels that it really covers. Yun et al., *CutMix*, 2019. Lesson 07.

    Args, returns and raises as `mixup`, and a ``ValueError`` for inputs other than ``(B, C, H, W)``. Equals
    ``torchvision.transforms.v2.CutMix`` for the same box and pairs.
    """
    draw_lam = _beta(alpha)

    def cut(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_floats(x)
        if x.ndim != 4:
            raise ValueError(f"CutMix needs a batch of images (B, C, H, W), not shape {tuple(x.shape)}.")
        height, width = x.shape[2:]
        half = 0.5 * math.sqrt(1 - draw_lam())
        half_height, half_width = int(half * height), int(half * width)
        row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, bottom = max(row - half_height, 0), min(row + half_height, height)
        left, right = max(column - half_width, 0), min(column + half_width, width)
        return paste_box(x, as_probabilities(y, num_classes), _random_pairs(x), (top, bottom, left, right))

    return cut


def paste_box(x: Tensor, p: Tensor, index: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Replace ``x[:, :, top:bottom, left:right]`` by the partner's pixels; targets are mixed by the share of area.

    Args:
        x, p, index: as in `mix_pairs`, with images ``(B, C, H, W)``.
        box: ``top, bottom, left, right`` in pixels, within the image; ends are exclusive.
    """
    top, bottom, left, right = box
    pasted = x.clone()
    pasted[:, :, top:bottom, left:right] = x[index, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
    return pasted, torch.lerp(p[index], p, lam)


def max_mix(num_classes: int) -> BatchTransform:
    """Overlay pairs of images by the larger of each two pixels; targets are half one and half the other.

    For images whose patterns are bright on dark, as strokes and defect maps are: there a maximum is what two patterns at once
    look like. One permutation a batch. Lesson 07.

    Returns:
        Transform as `mixup`. A sample that is its own partner stays as it is.

    Raises:
        ValueError: integer images; targets as in `as_probabilities`.
    """

    def overlaid(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_floats(x)
        index = _random_pairs(x)
        p = as_probabilities(y, num_classes)
        return torch.maximum(x, x.index_select(0, index)), torch.lerp(p[index], p, 0.5)

    return overlaid


def _beta(alpha: float):
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(
            f"alpha is {alpha}; Beta(alpha, alpha) needs a finite number above 0. To mix nothing, leave mixing out."
        )
    distribution = torch.distributions.Beta(float(alpha), float(alpha))
    # On the CPU: a number that the host must know costs nothing there, and on a GPU would cost a wait.
    return lambda: float(distribution.sample())


def _random_pairs(x: Tensor) -> Tensor:
    return torch.rand(len(x), device=x.device).argsort()  # `randperm` on a GPU passes by the host


def _need_floats(x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"images are {x.dtype}; mixing needs floating point numbers: normalise first (augment.normalize).")
