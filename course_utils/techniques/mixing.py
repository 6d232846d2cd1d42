"""Batch transforms that mix pairs of images and their targets: mixup and CutMix. Built in lesson 07.

Each takes class indices ``(B,)`` or probabilities ``(B, K)`` and returns probabilities ``(B, K)``, so that transforms can be
chained (`augment.chain`). In a chain, normalise first; smooth labels before or after mixing, with the same result; disturb
labels before mixing, since afterwards a target no longer belongs to one image. Random numbers come from torch's global
generators; none is read back from a GPU.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_utils import valid
from course_utils.data import BatchTransform
from course_utils.techniques.targets import as_probabilities


def mixup(alpha: float, num_classes: int) -> BatchTransform:
    """Mix each image of a batch with another one of it, and their targets in the same proportion.

    One λ from Beta(α, α) and one permutation per batch. Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018,
    equation 2. Lesson 07.

    Args:
        alpha: finite, above 0. At 1, λ is uniform in 0..1; below 1 one image of each pair mostly dominates; above 1 halves are
            likely. Towards 0, λ is 0 or 1; towards infinity it is a half.
        num_classes: number of classes ``K``, at least 2.

    Returns:
        Transform of floating ``(B, ...)`` and targets to the same shape and ``(B, K)``. A batch of one sample is mixed
        with itself, so it stays as it is. Equals ``torchvision.transforms.v2.MixUp`` for the same λ and pairs (which there
        are neighbours in the batch).

    Raises:
        ValueError: ``alpha`` is not above 0, ``num_classes`` is below 2; integer images; unequal numbers of images and
            targets; targets as in `as_probabilities`.
    """
    draw_lam, num_classes = _beta(alpha), _classes(num_classes)

    def mixed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_floats(x)
        p = as_probabilities(y, num_classes)
        valid.as_many(x, p)
        return _lerp_pairs(x, p, _random_pairs(x), draw_lam())

    return mixed


def mix_pairs(x: Tensor, p: Tensor, index: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """λ of each sample plus 1 - λ of its partner, for images and targets.

    Args:
        x: inputs, floating ``(B, ...)``.
        p: probabilities ``(B, K)``.
        index: partner of each sample, its position in the batch, integers of any width ``(B,)``.
        lam: λ in 0..1.

    Raises:
        ValueError: ``lam`` outside 0..1, integer inputs or targets, unequal numbers of them, or, on a CPU, a position outside
            the batch.

    >>> x, p = mix_pairs(torch.tensor([[0.0], [4.0]]), torch.eye(2), torch.tensor([1, 0]), 0.75)
    >>> x.flatten().tolist(), p[0].tolist()
    ([1.0, 3.0], [0.75, 0.25])
    """
    _need_floats(x)
    _need_floats(p, "targets")
    return _lerp_pairs(x, p, _partners(x, p, index), valid.share(lam, "lam"))


def _lerp_pairs(x: Tensor, p: Tensor, index: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    return torch.lerp(x.index_select(0, index), x, lam), torch.lerp(p[index], p, lam)


def cutmix(alpha: float, num_classes: int) -> BatchTransform:
    """Paste a random box of another image of the batch into each image; targets are mixed by area.

    One box and one permutation per batch. Its area is 1 - λ of the image, λ from Beta(α, α), before it is cut at the borders;
    targets count the pixels that it really covers. Yun et al., *CutMix: Regularization Strategy to Train Strong Classifiers
    with Localizable Features*, 2019, section 3. Lesson 07.

    Args, returns and raises as `mixup`, and a ``ValueError`` for inputs other than ``(B, C, H, W)``. Equals
    ``torchvision.transforms.v2.CutMix`` for the same box and pairs.
    """
    draw_lam, num_classes = _beta(alpha), _classes(num_classes)

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
        p = as_probabilities(y, num_classes)
        valid.as_many(x, p)
        return paste_box(x, p, _random_pairs(x), (top, bottom, left, right))

    return cut


def paste_box(x: Tensor, p: Tensor, index: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Replace ``x[:, :, top:bottom, left:right]`` by the partner's pixels; targets are mixed by the share of area.

    Args:
        x, p, index: as in `mix_pairs`, with images ``(B, C, H, W)``.
        box: ``top, bottom, left, right`` in pixels, within the image; ends are exclusive.

    Raises:
        ValueError: integer targets, other inputs than images, unequal numbers of them, a box that is not within the image, or,
            on a CPU, a position outside the batch.
    """
    _need_floats(p, "targets")
    valid.tensors(x=x)
    if x.ndim != 4:
        raise ValueError(f"a box is pasted into images (B, C, H, W), not into shape {tuple(x.shape)}.")
    index = _partners(x, p, index)
    top, bottom, left, right = box
    if not (0 <= top <= bottom <= x.shape[2] and 0 <= left <= right <= x.shape[3]):
        raise ValueError(f"box (top, bottom, left, right) is {tuple(box)}; it must lie within {tuple(x.shape[2:])} pixels.")
    pasted = x.clone()
    pasted[:, :, top:bottom, left:right] = x[index, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
    return pasted, torch.lerp(p[index], p, lam)


def _beta(alpha: float) -> Callable[[], float]:
    """Draws of λ from Beta(α, α). On the CPU: a number that the host must know costs nothing there, and on a GPU a wait."""
    rule = "Beta(alpha, alpha) needs a finite number above 0. To mix nothing, leave mixing out"
    alpha = valid.number(alpha, "alpha", rule, valid.ABOVE_0)
    if 0.1 <= alpha <= 1e6:  # torch's own draws, in float32, are right there
        distribution = torch.distributions.Beta(alpha, alpha)
        return lambda: float(distribution.sample())
    # Below, both of torch's gamma draws underflow at once, and λ would be a half where it should be 0 or 1.
    gamma = torch.distributions.Gamma(torch.full((2,), alpha + 1, dtype=torch.float64), 1.0)

    def in_logarithms() -> float:
        # λ = G₁ / (G₁ + G₂) for two draws from Gamma(α), which are each one from Gamma(α + 1) times U^(1/α).
        first, second = gamma.sample().log().tolist()
        of_first, of_second = (1 - torch.rand(2, dtype=torch.float64)).log().tolist()
        return float(torch.tensor(first - second + (of_first - of_second) / alpha, dtype=torch.float64).sigmoid())

    return in_logarithms


def _classes(num_classes: int) -> int:
    return valid.whole_number(num_classes, "num_classes", 2)


def _random_pairs(x: Tensor) -> Tensor:
    return torch.rand(len(x), device=x.device).argsort()  # `randperm` on a GPU passes by the host


def _partners(x: Tensor, p: Tensor, index: Tensor) -> Tensor:
    """Positions in the batch as int64, after a look at all three sizes."""
    valid.as_many(x, p)
    valid.tensors(index=index)
    if index.shape != (len(x),) or index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        raise ValueError(
            f"index is {index.dtype} of shape {tuple(index.shape)}; give the position of each sample's partner, integers "
            f"({len(x)},)."
        )
    index = index.long()
    if index.device.type == "cpu" and len(x) and not (index.min() >= 0 and index.max() < len(x)):
        raise ValueError(f"index goes from {index.min()} to {index.max()}; positions in the batch are 0 to {len(x) - 1}.")
    return index


def _need_floats(x: Tensor, what: str = "images") -> None:
    valid.tensors(**{what: x})
    if not x.is_floating_point():
        cure = "normalise first (augment.normalize)" if what == "images" else "use probabilities (as_probabilities)"
        raise ValueError(f"{what} are {x.dtype}; mixing needs floating point numbers: {cure}.")
