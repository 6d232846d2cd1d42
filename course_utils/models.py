"""Small reference networks for images of 28 to 64 pixels with any number of channels, and an MLP.

All return logits ``(B, num_classes)``. Widths are arguments, so that a lesson can be honest on a laptop.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from course_utils import runtime, valid


def fresh(make: Callable[..., nn.Module], seed: int, **architecture: Any) -> nn.Module:
    """A new network whose first weights the seed decides, on `runtime.device` (lesson 00).

    It seeds all generators (`runtime.seed_everything`), makes the network, and moves it: what a run does first.

    Args:
        make: a class of this module, or a function that builds a network.
        seed: see `runtime.seed_everything`.
        architecture: arguments of ``make``, such as ``width=8``.

    Raises:
        ValueError: ``make`` is a network already, or makes something else; a bad seed.

    >>> model = fresh(SmallCNN, seed=0, width=8)
    >>> bool((model[0].weight == fresh(SmallCNN, seed=0, width=8)[0].weight).all())
    True
    """
    if isinstance(make, nn.Module):
        name = type(make).__name__
        raise ValueError(f"make is a network already, with weights from before the seed: give what makes it, such as {name}.")
    runtime.seed_everything(seed)
    model = make(**architecture)
    if not isinstance(model, nn.Module):
        raise ValueError(f"make returned a {type(model).__name__}; it must return a network (nn.Module).")
    return model.to(runtime.device())


class _Layers(nn.Sequential):
    """A chain of layers whose slices are plain chains: torch would build them with the arguments of the subclass."""

    def __getitem__(self, index: int | slice) -> nn.Module:  # type: ignore[override]  # torch says the same in overloads
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)


class MLP(_Layers):
    """Fully connected net with ReLU; inputs of any shape are flattened first (lesson 01).

    Args:
        in_features: values per sample, such as ``1 * 28 * 28``.
        num_classes: logits per sample (1 for regression).
        hidden: widths of the hidden layers; an empty tuple gives a linear model.
        dropout: probability of zeroing a hidden unit while training, never on the output.
        batch_norm: normalise each hidden layer before its ReLU.

    Raises:
        ValueError: a width or count is not a whole number of at least 1, or ``dropout`` is outside [0, 1).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        in_features, num_classes = _counts(in_features=in_features, num_classes=num_classes)
        widths = valid.whole_numbers(hidden, "hidden", 1)
        dropout = _rate(dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        for width in widths:
            layers.append(nn.Linear(in_features, width, bias=not batch_norm))
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers.append(nn.ReLU())
            layers += [nn.Dropout(dropout)] if dropout else []
            in_features = width
        super().__init__(*layers, nn.Linear(in_features, num_classes))


class SmallCNN(_Layers):
    """Two strided 3x3 convolutions and a linear layer: the smallest net here that still sees shapes (lesson 01).

    Args:
        in_channels: channels of the images.
        num_classes: logits per sample.
        image_size: height and width in pixels.
        width: channels of the first convolution; the second has twice as many.
        dropout: probability of zeroing a feature before the linear layer while training.
        batch_norm: normalise each convolution's output before its ReLU.

    Raises:
        ValueError: a size is not a whole number of at least 1, or ``dropout`` is outside [0, 1).
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        *,
        image_size: int = 28,
        width: int = 16,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        in_channels, num_classes = _counts(in_channels=in_channels, num_classes=num_classes)
        image_size, width = _counts(image_size=image_size, width=width)
        dropout = _rate(dropout)
        layers: list[nn.Module] = []
        for out_channels in (width, 2 * width):
            layers.append(nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
            layers.append(nn.ReLU())
            in_channels = out_channels
        side = (image_size + 3) // 4
        layers.append(nn.Flatten())
        layers += [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers, nn.Linear(in_channels * side**2, num_classes))


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3x3 first convolution with stride 1 and no max-pooling.

    11,173,962 parameters at 3 channels, 10 classes and ``width=64``. He et al., *Deep Residual Learning for Image
    Recognition*, 2016, sections 3.4 and 4.2.

    Args:
        in_channels, num_classes: as the data have them.
        width: channels of the first stage; each of the three later stages has twice as many as the one before.

    Raises:
        ValueError: a count is not a whole number of at least 1.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, *, width: int = 64) -> None:
        super().__init__()
        in_channels, num_classes, width = _counts(in_channels=in_channels, num_classes=num_classes, width=width)
        self.stem = nn.Sequential(*_conv_bn(in_channels, width), nn.ReLU())
        stages: list[nn.Module] = []
        channels = width
        for stage in range(4):
            out_channels = width * 2**stage
            stages += [
                _Residual(channels, out_channels, stride=1 if stage == 0 else 2),
                _Residual(out_channels, out_channels),
            ]
            channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))


class _Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_bn(in_channels, out_channels, stride), nn.ReLU(), *_conv_bn(out_channels, out_channels)
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(in_channels, out_channels, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


class AlexNet(_Layers):
    """AlexNet's plan, five convolutions and three linear layers, at a size for images of 28 to 64 pixels.

    Krizhevsky et al., *ImageNet Classification with Deep Convolutional Neural Networks*, 2012, section 3.5.

    Args:
        in_channels, num_classes: as the data have them.
        width: channels of the first convolution (the others have 3, 6, 4 and 4 times as many).
        dropout: probability in the two hidden linear layers while training.

    Raises:
        ValueError: a count is not a whole number of at least 1, or ``dropout`` is outside [0, 1).
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, *, width: int = 16, dropout: float = 0.5) -> None:
        in_channels, num_classes, width = _counts(in_channels=in_channels, num_classes=num_classes, width=width)
        dropout = _rate(dropout)
        plan = ((1, True), (3, True), (6, False), (4, False), (4, True))  # (channels / width, pool afterwards)
        super().__init__(*_conv_stack(in_channels, width, plan), *_classifier(4 * width, 2, 16 * width, num_classes, dropout))


class VGG16(_Layers):
    """VGG-16's plan, thirteen 3x3 convolutions in five blocks and three linear layers, with batch normalisation.

    Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2015, table 1, column D;
    batch normalisation is added, since without it the net does not train from scratch in a short time.

    Args:
        in_channels, num_classes: as the data have them.
        width: channels of the first block (64 in the paper); the blocks have 1, 2, 4, 8 and 8 times as many.
        dropout: probability in the two hidden linear layers while training.

    Raises:
        ValueError: a count is not a whole number of at least 1, or ``dropout`` is outside [0, 1).
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, *, width: int = 16, dropout: float = 0.5) -> None:
        in_channels, num_classes, width = _counts(in_channels=in_channels, num_classes=num_classes, width=width)
        dropout = _rate(dropout)
        blocks = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (channels / width, convolutions)
        plan = tuple((times, i == count - 1) for times, count in blocks for i in range(count))
        layers = _conv_stack(in_channels, width, plan, batch_norm=True)
        super().__init__(*layers, *_classifier(8 * width, 1, 8 * width, num_classes, dropout))


def _conv_bn(in_channels: int, out_channels: int, stride: int = 1, kernel: int = 3) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


def _conv_stack(
    in_channels: int, width: int, plan: tuple[tuple[int, bool], ...], *, batch_norm: bool = False
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for times, pool in plan:
        layers.append(nn.Conv2d(in_channels, times * width, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(times * width)] if batch_norm else []
        layers.append(nn.ReLU())
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if pool else []  # ceil: five poolings leave a pixel of 28
        in_channels = times * width
    return layers


def _classifier(channels: int, side: int, hidden: int, num_classes: int, dropout: float) -> list[nn.Module]:
    # Pooled to side x side, so that one linear layer fits images of any size.
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(side), nn.Flatten()]
    features = channels * side**2
    for _ in range(2):
        layers += [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout)]
        features = hidden
    return [*layers, nn.Linear(features, num_classes)]


def _counts(**values: int) -> list[int]:
    return [valid.whole_number(value, name, 1) for name, value in values.items()]


def _rate(dropout: float) -> float:
    return valid.number(dropout, "dropout", "a dropout rate is at least 0 and below 1", 0, valid.BELOW_1)
