"""Augmentation and normalisation of whole batches, on the device where the batch is.

Each function here returns a batch transform ``(x, y) -> (x, y)`` that leaves ``y`` alone and never changes its input in
place. Randomness comes from torch's global generator of the batch's device, so `runtime.seed_everything` fixes it.
"""

import torch
from torch import Tensor

from course_utils import valid
from course_utils.data import BatchTransform


def chain(*transforms: BatchTransform) -> BatchTransform:
    """Apply batch transforms from left to right.

    >>> x, y = chain(random_flip(p=1.0), random_flip(p=1.0))(torch.arange(6.0).reshape(1, 1, 2, 3), torch.zeros(1))
    >>> x.flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """

    def chained(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for transform in transforms:
            x, y = transform(x, y)
        return x, y

    return chained


def normalize(mean: Tensor, std: Tensor) -> BatchTransform:
    """Scale integer images to 0..1 first, then subtract ``mean`` and divide by ``std`` along dimension 1.

    Args:
        mean, std: one value per channel ``(C,)`` or feature ``(F,)``, from the training split alone (`data.Dataset`);
            for images in units of 0..1. Finite.

    Returns:
        Transform to float32 of the same shape. Images ``(B, C, H, W)`` are floats in units of 0..1, booleans, or integers in
        0..255: uint8, or any other width. What has fewer dimensions, such as a table ``(B, F)``, is scaled first only if it is
        uint8. Equals ``torchvision.transforms.v2.ToDtype(torch.float32, scale=True)`` of the uint8 or float
        batch and then ``Normalize(mean, std)``.

    Raises:
        ValueError: a standard deviation is not above zero, mean or standard deviation is not finite, or the statistics do not
            fit the batch's channels; integer images outside 0..255. On a GPU, where reading values back would stall it,
            those pixels become NaN instead, which `train.fit` reports with the epoch's loss.
    """
    mean, std = valid.floats(mean, "mean").float(), valid.floats(std, "std").float()
    if mean.shape != std.shape or mean.ndim != 1:
        raise ValueError(f"mean {tuple(mean.shape)} and std {tuple(std.shape)} must both be of shape (C,).")
    if not bool((mean.isfinite() & std.isfinite()).all()):
        raise ValueError("mean or std is not finite: fill or drop NaN and infinity in the training split first.")
    if not bool((1 / std).isfinite().all()) or not bool((std > 0).all()):
        raise ValueError("a channel or feature has standard deviation 0: it is constant, so drop it.")
    on_device: dict = {}

    def normalized(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        valid.tensors(images=x)
        if x.ndim < 2 or x.shape[1] != len(mean):
            raise ValueError(f"batch of shape {tuple(x.shape)} does not have the {len(mean)} channels of mean and std.")
        if x.is_complex():
            raise ValueError(f"images are {x.dtype}; use integers or floating point numbers.")
        if x.ndim >= 4 and not x.is_floating_point() and x.dtype not in (torch.uint8, torch.bool):
            x, unit = _bytes_of(x), 255.0
        else:
            unit = 255.0 if x.dtype == torch.uint8 else 1.0
        key = (x.device, x.ndim, unit)
        if key not in on_device:  # one transfer per run, not one per batch
            shape = (1, -1) + (1,) * (x.ndim - 2)
            with torch.inference_mode(False):  # else a first batch within it would leave numbers that training cannot use
                on_device[key] = (mean * unit).to(x.device).view(shape), (1 / (std * unit)).to(x.device).view(shape)
        shift, scale = on_device[key]
        return (x.float() - shift).mul_(scale), y

    return normalized


def random_crop(padding: int) -> BatchTransform:
    """Pad images with zeros on every side and cut a window of the old size at a random place, one place per image.

    Args:
        padding: pixels on each side, at least 1; a shift of ``-padding .. padding`` in each direction is equally likely.

    Returns:
        Transform of ``(B, C, H, W)`` to the same shape and dtype. Each image equals what
        ``torchvision.transforms.RandomCrop((H, W), padding)`` gives for its place.

    Raises:
        ValueError: ``padding`` is not a whole number of at least 1, or the batch is not ``(B, C, H, W)``.
    """
    padding = valid.whole_number(padding, "padding", 1)

    def cropped(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_images(x)
        if x.numel() == 0:
            return x, y
        batch, channels, height, width = x.shape
        padded = torch.nn.functional.pad(x, (padding,) * 4)
        top, left = torch.randint(2 * padding + 1, (2, batch, 1, 1), device=x.device)
        plane = torch.arange(batch * channels, device=x.device).view(batch, channels, 1)
        row = plane * padded.shape[2] + top + torch.arange(height, device=x.device)
        # All runs of `width` pixels as one view, of which a row is picked whole: on a CPU thrice as fast as pixel by pixel.
        runs = padded.flatten().unfold(0, width, 1)
        return runs.index_select(0, (row * padded.shape[3] + left).flatten()).view(x.shape), y

    return cropped


def random_flip(p: float = 0.5) -> BatchTransform:
    """Mirror each image left to right with probability ``p``, in 0..1.

    Returns:
        Transform of ``(B, C, H, W)`` to the same shape and dtype.

    Raises:
        ValueError: ``p`` is outside 0..1, or the batch is not ``(B, C, H, W)``.
    """
    p = valid.share(p, "p", "a probability")

    def flipped(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _need_images(x)
        mirrored = torch.rand(len(x), device=x.device) < p
        # Picking whole images of both is four times as fast on a CPU as choosing pixel by pixel with `torch.where`.
        both = torch.cat([x, x.flip(-1)])
        return both.index_select(0, torch.arange(len(x), device=x.device) + len(x) * mirrored), y

    return flipped


def _bytes_of(x: Tensor) -> Tensor:
    """Integer images in 0..255 as floats, whatever their width."""
    if x.device.type != "cpu":
        return x.float().masked_fill((x < 0) | (x > 255), torch.nan)
    if x.numel():
        low, high = (int(value) for value in x.long().aminmax())
        if low < 0 or high > 255:
            raise ValueError(f"images are {x.dtype} from {low} to {high}; integers must lie in 0..255, as in uint8 images.")
    return x.float()


def _need_images(x: Tensor) -> None:
    valid.tensors(images=x)
    if x.ndim != 4:
        raise ValueError(f"augmentation needs a batch of images (B, C, H, W), not shape {tuple(x.shape)}.")
