"""The practical: ResNet-18 by the lecture's recipe or by a short one, in four arms. Built in lesson 13."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils import augment, data, models, precision, train
from course_utils.techniques import mixing, smoothing

ARMS = ("plain", "mixup", "smoothing", "both")
MIXUP_ALPHA = 1.0  # the lecture, and Zhang et al., 2018, for CIFAR-10
SMOOTHING_ALPHA = 0.1  # the lecture, and Szegedy et al., 2016


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum 0.9, and how its learning rate moves.

    Attributes:
        name, source: its label, and where its settings come from.
        epochs, batch_size, lr, weight_decay, nesterov: as in torch.
        milestones: epochs after which the learning rate falls to a tenth; without any, it rises to ``lr`` in the first fifth
            of the steps and then falls to almost 0, both in a straight line.
    """

    name: str
    source: str
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    nesterov: bool = False
    milestones: tuple[int, ...] = ()

    def fit_options(self, model: nn.Module, steps: int) -> dict[str, Any]:
        """Optimizer and schedule, as `train.fit` takes them, for epochs of ``steps`` steps. Lesson 13."""
        optimizer = torch.optim.SGD(
            model.parameters(), lr=self.lr, momentum=0.9, weight_decay=self.weight_decay, nesterov=self.nesterov
        )
        if self.milestones:
            falling = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.milestones), gamma=0.1)
            return {"optimizer": optimizer, "scheduler": falling}
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.lr,
            total_steps=self.epochs * steps,
            pct_start=0.2,
            anneal_strategy="linear",
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "scheduler": train.EveryStep(cycle)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "short",
            "one cycle with Nesterov momentum, after D. Page, How to Train Your ResNet, 2018; "
            "the peak is the lecture's learning rate times 512 / 128 (Goyal et al., 2017)",
            epochs=20,
            batch_size=512,
            lr=0.4,
            weight_decay=5e-4,
            nesterov=True,
        ),
        Recipe(
            "lecture",
            "the lecture; its code does not show the batch size, and 128 is the usual one",
            epochs=150,
            batch_size=128,
            lr=0.1,
            weight_decay=2e-4,
            milestones=(50, 100),
        ),
    )
}


def batch_transforms(num_classes: int) -> dict[str, data.BatchTransform | None]:
    """What each of `ARMS` does to a batch: nothing, mixup, label smoothing (the rest over all classes), or both. Lesson 13."""
    smooth = smoothing.label_smoothing(SMOOTHING_ALPHA, num_classes)
    mix = mixing.mixup(MIXUP_ALPHA, num_classes)
    return {"plain": None, "mixup": mix, "smoothing": smooth, "both": augment.chain(smooth, mix)}


def train_arm(
    split: data.Split | tuple[Tensor, Tensor],
    arm: str,
    recipe: Recipe,
    seed: int,
    normalize: data.BatchTransform,
    num_classes: int,
    *,
    width: int = 64,
    padding: int = 4,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> tuple[nn.Module, train.History]:
    """Train one ResNet-18, on `runtime.device`. Written out in lesson 13.

    Each image is cut out anew at a random place, mirrored half of the time, and normalised, in batches on the device.

    Args:
        split: images ``(N, C, H, W)``, uint8, and class indices ``(N,)``.
        arm: one of `ARMS`.
        recipe: one of `RECIPES`, or another.
        seed: first weights, order of the batches, and all random numbers of the training.
        normalize: such as `augment.normalize` of the training split's mean and standard deviation.
        num_classes: of the data.
        width: channels of the first stage; 64 in the paper.
        padding: pixels by which an image may be shifted.
        checkpoint, progress: as in `train.fit`.

    Raises:
        ValueError: an unknown arm, or what `train.fit` refuses.
    """
    changes = batch_transforms(num_classes)
    if arm not in changes:
        raise ValueError(f"there is no arm {arm!r}; take one of {', '.join(ARMS)}.")
    model = models.fresh(models.ResNet18, seed, in_channels=split[0].shape[1], num_classes=num_classes, width=width)
    augmented = augment.chain(augment.random_crop(padding), augment.random_flip(), normalize)
    loader = data.shuffled(split, seed, augmented, batch_size=recipe.batch_size)
    history = train.fit(
        model,
        loader,
        **recipe.fit_options(model, len(loader)),
        epochs=recipe.epochs,
        batch_transform=changes[arm],
        checkpoint=checkpoint,
        progress=progress,
    )
    return model, history


def flops_of_an_image(shape: tuple[int, ...] | torch.Size, num_classes: int, width: int = 64) -> float:
    """Operations to learn from one image: forward and backward, in convolutions and products. Counted by torch, not computed.

    Args:
        shape: of the image, ``(C, H, W)``.
        num_classes, width: as in `models.ResNet18`.
    """
    with torch.device("meta"):
        model = models.ResNet18(shape[0], num_classes, width=width)
        images, labels = torch.empty(2, *shape), torch.zeros(2, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(model(images), labels).backward()
    return counter.get_total_flops() / len(images)


def matmul_rate(device: torch.device) -> float:
    """Operations a second of large matrix products, in the precision of the training: the median of five rounds.

    No network gets so far; it is what the card can do at best.
    """
    size, times = (256, 2) if device.type == "cpu" else (8192, 50)
    numbers = precision.choose(device, "auto") or torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=numbers) for _ in range(2))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(times):
            product = left @ right
        product[0, 0].item()  # waits for all of them
        seconds.append(time.perf_counter() - start)
    return times * 2 * size**3 / statistics.median(seconds[1:])  # the first one warms up
