"""Measure the course's promises about speed, each side by side with what it is compared to, and keep the numbers.

Every row is a ratio of two times taken in turns: its median, lowest and highest value over the rounds, and whether the goal
is met. Run it on a machine that does nothing else: `make bench`, or `python benchmarks/bench.py --help`.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

import course_utils
from course_utils import augment, data, detection, files, precision, record, train
from course_utils.models import MLP, ResNet18, SmallCNN
from course_utils.techniques import ensembles, mixing, noise, pseudo, smoothing

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "bench.json"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10


def ratios(above: Callable[[], object], below: Callable[[], object], rounds: int, *, warm: bool = True) -> list[float]:
    """Time of ``above`` over time of ``below``, once a round; who goes first alternates."""
    if rounds > 1 and warm:  # the first calls pay for caches and worker processes: they do not count
        above(), below()
    found = []
    for number in range(rounds):
        seconds = {}
        for run in (above, below) if number % 2 else (below, above):
            start = time.perf_counter()
            run()
            seconds[run] = time.perf_counter() - start
        found.append(seconds[above] / seconds[below])
    return found


def row(name: str, found: list[float], *, note: str, at_least: float | None = None, at_most: float | None = None) -> dict:
    """A row of the table; the goal has one direction."""
    ratio = statistics.median(found)
    if at_least is not None:
        met, goal = ratio >= at_least, f"at least {at_least:g}"
    elif at_most is not None:
        met, goal = ratio <= at_most, f"at most {at_most:g}"
    else:
        raise TypeError(f"{name} has no goal: give at_least or at_most.")
    return {"name": name, "ratio": ratio, "low": min(found), "high": max(found), "goal": goal, "met": met, "note": note}


class PerSample(Dataset):
    """The usual pipeline: one image after the other, through PIL."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        steps = [
            transforms.ToPILImage(),
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.x[position]), self.y[position]


def loader_rows(quick: bool) -> list[dict]:
    """Images a second of `TensorLoader` over those of a `DataLoader`, same augmentation."""
    count, passes, rounds = (256, 1, 1) if quick else (4096, 5, 9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.randint(10, (count,), generator=generator)
    normalize = augment.normalize(torch.tensor(MEAN), torch.tensor(STD))
    batched = augment.chain(augment.random_crop(4), augment.random_flip(), normalize)
    ours = data.TensorLoader(x, y, 128, shuffle=True, batch_transform=batched)
    rows = []
    for workers in (0, 2):
        theirs = DataLoader(PerSample(x, y), 128, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        found = ratios(partial(drain, theirs), lambda: [drain(ours) for _ in range(passes)], rounds)
        note = f"images/s, {count} images of 3x32x32 in batches of 128; crop, flip and normalise"
        name = f"TensorLoader / per-sample DataLoader, {workers} workers"
        rows.append(row(name, [passes * ratio for ratio in found], at_least=20, note=note))
    return rows


def drain(loader: data.TensorLoader | DataLoader) -> int:
    """Take every batch; the number of samples seen."""
    return sum(len(y) for _, y in loader)


def chosen_numbers() -> str:
    """The type in which `fit` computes layers here, such as ``"bfloat16"``."""
    return str(precision.choose(torch.device("cpu"), "auto") or torch.float32).removeprefix("torch.")


def bare_loop(model: nn.Module, loader: data.TensorLoader, optimizer: torch.optim.Optimizer, epochs: int) -> list[tuple]:
    """What `fit` does without validation, written out with nothing around it."""
    cpu = torch.device("cpu")
    layout = precision.layout(model, cpu)  # the same choices as fit's
    model.to(memory_format=layout)
    autocast = precision.autocast(cpu, precision.choose(cpu, "auto"))
    rows = []
    for _ in range(epochs):
        model.train()
        losses, correct, count = [], [], 0
        for x, y in loader:
            with autocast:
                logits = model(x.contiguous(memory_format=layout))
            logits = logits.float()
            loss = F.cross_entropy(logits, y)
            losses.append(loss.detach() * len(y))
            correct.append((logits.detach().argmax(1) == y).sum())
            count += len(y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        rows.append((torch.stack(losses).sum().item() / count, torch.stack(correct).sum().item() / count))
    return rows


def bound_rows(quick: bool) -> list[dict]:
    """Images a second of `TensorLoader` as a share of what reading, converting, normalising and writing them takes at least."""
    count, passes, rounds = (256, 1, 1) if quick else (8192, 10, 9)
    x = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(count, dtype=torch.int64)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    loader = data.TensorLoader(x, y, 128, shuffle=True, batch_transform=augment.normalize(mean, std))
    shift, scale = (255 * mean).view(3, 1, 1), (1 / (255 * std)).view(3, 1, 1)
    room = torch.empty(128, 3, 32, 32)

    def bound():
        for batch in x.split(128):  # in their order, into memory that is there: no loader can do less
            out = room[: len(batch)].copy_(batch)
            out.sub_(shift).mul_(scale)

    found = ratios(lambda: [bound() for _ in range(passes)], lambda: [drain(loader) for _ in range(passes)], rounds)
    note = f"images/s, {count} images of 3x32x32 in batches of 128; shuffled and normalised, against normalised in their order"
    return [row("TensorLoader / copy and normalise alone", found, at_least=0.5, note=note)]


def textbook_loop(model: nn.Module, loader: data.TensorLoader, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """An epoch as tutorials write it: in fp32, images as they come, two numbers read at each step."""
    criterion = nn.CrossEntropyLoss()
    model.train()
    running_loss, correct, count = 0.0, 0, 0
    for x, y in loader:
        optimizer.zero_grad()
        outputs = model(x)
        loss = criterion(outputs, y)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * len(y)
        correct += (outputs.argmax(1) == y).sum().item()
        count += len(y)
    return running_loss / count, correct / count


@torch.no_grad()
def textbook_evaluation(model: nn.Module, loader: data.TensorLoader) -> tuple[float, float]:
    """The same for evaluation."""
    criterion = nn.CrossEntropyLoss()
    model.eval()
    running_loss, correct, count = 0.0, 0, 0
    for x, y in loader:
        outputs = model(x)
        running_loss += criterion(outputs, y).item() * len(y)
        correct += (outputs.argmax(1) == y).sum().item()
        count += len(y)
    return running_loss / count, correct / count


def textbook_rows(quick: bool) -> list[dict]:
    """Training and evaluation of whole networks: the textbook's loops over `fit` and `evaluate`; and the share of the peak."""
    numbers = chosen_numbers()
    bf16 = numbers == "bfloat16"
    fashion = data.load("fashion-small")
    small = augment.normalize(fashion.mean, fashion.std)(fashion.train.x, fashion.train.y)[0]
    large = F.pad(small, [2] * 4).expand(-1, 3, -1, -1).contiguous()
    cases = (
        ("ResNet-18, 32x32", ResNet18, large, 64 if quick else 256, 2.0 if bf16 else 1.1),
        ("SmallCNN, 28x28", SmallCNN, small, 128 if quick else 4000, 1.0),
    )
    rounds = 1 if quick else 15
    rows = []
    for name, make, images, count, goal in cases:
        loader = data.TensorLoader(images[:count], fashion.train.y[:count], 64)

        def textbook(make=make, loader=loader):
            model = seeded(make)
            textbook_loop(model, loader, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4))

        def with_fit(make=make, loader=loader):
            model = seeded(make)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
            train.fit(model, loader, optimizer=optimizer, epochs=1, progress=False)

        note = f"{len(loader)} steps of 64 images; fit in {numbers}, the textbook in float32"
        found = ratios(textbook, with_fit, rounds)
        rows.append(row(f"textbook training / fit, {name}", found, at_least=goal, note=note))
        if make is not ResNet18:
            continue
        model, batches = seeded(make), len(loader)
        trained = copy.deepcopy(model)
        trained.to(memory_format=precision.layout(trained, torch.device("cpu")))  # as `fit` leaves a model
        evaluation = partial(train.evaluate, trained, loader)
        note = f"{batches} batches of 64 images; evaluate in {numbers}, the textbook in float32"
        found = ratios(partial(textbook_evaluation, model, loader), evaluation, rounds)
        rows.append(row(f"textbook evaluation / evaluate, {name}", found, at_least=2.5 if bf16 else 1.0, note=note))
        step, forward = flops_of_a_step(model, images[:64], fashion.train.y[:64])
        for what, run, work, goal in (("fit", with_fit, step, 0.2), ("evaluate", evaluation, forward, 0.4)):
            matmuls, size = products(work * batches, torch.bfloat16 if bf16 else torch.float32)
            note = f"{work / 1e9:.0f} GFLOP a batch of 64 images, against products of {size}x{size} matrices in {numbers}"
            rows.append(row(f"{what} / matrix peak, {name}", ratios(matmuls, run, rounds), at_least=goal, note=note))
    return rows


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The same fresh model for both sides."""
    torch.manual_seed(0)
    return make()


def flops_of_a_step(model: nn.Module, x: Tensor, y: Tensor) -> tuple[int, int]:
    """Floating point operations of a forward and a backward pass, and of the forward pass alone, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        loss = F.cross_entropy(model(x), y)
        forward = counter.get_total_flops()
        loss.backward()
    return counter.get_total_flops(), forward


def products(work: int, numbers: torch.dtype, size: int = 2048) -> tuple[Callable[[], None], int]:
    """A function that multiplies square matrices until ``work`` operations are done, and their size."""
    left, right = (torch.randn(size, size, dtype=numbers) for _ in range(2))
    times, rest = divmod(work, 2 * size**3)

    def multiply() -> None:
        for _ in range(times):
            left @ right
        left[: max(1, round(rest / (2 * size**2)))] @ right

    return multiply, size


def fit_rows(quick: bool) -> list[dict]:
    """Time of `fit` over that of the bare loop."""
    fashion = data.load("fashion-small")
    x = augment.normalize(fashion.mean, fashion.std)(fashion.train.x, fashion.train.y)[0]
    coloured = F.pad(x, [2] * 4).expand(-1, 3, -1, -1).contiguous()
    cases = (
        ("SmallCNN, 28x28", SmallCNN, x, 128 if quick else 4000, 1 if quick else 2),
        ("ResNet18 of width 16, 32x32", lambda: ResNet18(width=16), coloured, 64 if quick else 640, 1),
    )
    rows = []
    for name, make, images, count, epochs in cases:
        loader = data.TensorLoader(images[:count], fashion.train.y[:count], 64)

        def with_fit(make=make, loader=loader, epochs=epochs):
            model, optimizer = prepared(make)
            train.fit(model, loader, optimizer=optimizer, epochs=epochs, progress=False)

        def bare(make=make, loader=loader, epochs=epochs):
            model, optimizer = prepared(make)
            bare_loop(model, loader, optimizer, epochs)

        found = ratios(with_fit, bare, 1 if quick else 15)
        layout = str(precision.layout(make(), torch.device("cpu"))).removeprefix("torch.")
        note = f"{epochs * len(loader)} steps of 64 images in {chosen_numbers()}, {layout}, fused SGD"
        rows.append(row(f"fit / bare loop, {name}", found, at_most=1.03, note=note))
    return rows


def prepared(make: Callable[[], nn.Module]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same fresh model and optimizer for both sides."""
    torch.manual_seed(0)
    model = make()
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)


def import_rows(quick: bool) -> list[dict]:
    """Time of a fresh interpreter that imports the course over one that imports torch and torchvision."""
    files = sorted(Path(course_utils.__file__).parent.glob("*.py"))
    rooms = [f"course_utils.{path.stem}" for path in files if path.stem not in ("__init__", "plots")]
    base = "import torch, torchvision"

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    found = ratios(lambda: run(f"{base}, {', '.join(rooms)}"), lambda: run(base), 1 if quick else 11)
    note = f"whole interpreter; the {len(rooms)} rooms that there were when this was measured, plots and techniques left out"
    return [row("import with course_utils / torch and torchvision alone", found, at_most=1.10, note=note)]


def iou_rows(quick: bool) -> list[dict]:
    """Speed of `box_iou` over that of torchvision's."""
    count, rounds = (300, 1) if quick else (10_000, 11)
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(2, 2, count, 2, generator=generator)
    boxes1, boxes2 = torch.cat([corner, corner + size], -1)
    found = ratios(lambda: torchvision.ops.box_iou(boxes1, boxes2), lambda: detection.box_iou(boxes1, boxes2), rounds)
    note = f"IoU of {count} x {count} boxes, float32"
    return [row("detection.box_iou / torchvision's, speed", found, at_least=0.8, note=note)]


def random_detections(images: int, per_image: int, classes: int, truths: int) -> tuple[list[dict], list[dict]]:
    """Ground truth, and detections that are moved copies of it: most of them match at some threshold."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets = [], []
    for _ in range(images):
        corner, size = 100 * torch.rand(2, truths, 2, generator=generator)
        boxes = torch.cat([corner, corner + size], -1)
        labels = torch.randint(classes, (truths,), generator=generator)
        chosen = torch.randint(truths, (per_image,), generator=generator)
        moved = boxes[chosen] + 5 * torch.randn(per_image, 1, generator=generator)
        scores = torch.rand(per_image, generator=generator)
        targets.append({"boxes": boxes, "labels": labels})
        predictions.append({"boxes": moved, "scores": scores, "labels": labels[chosen]})
    return predictions, targets


def as_coco(predictions: list[dict], targets: list[dict], classes: int) -> tuple[COCO, COCO]:
    """The same boxes as pycocotools wants them."""
    images = [{"id": number} for number in range(len(targets))]
    annotations: list[dict] = []
    results: list[dict] = []
    for number, (found, truth) in enumerate(zip(predictions, targets, strict=True)):
        xywh = detection.convert_boxes(truth["boxes"].double(), "xyxy", "xywh").tolist()
        for box, label in zip(xywh, truth["labels"].tolist(), strict=True):
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box}
            annotations.append(one | {"area": box[2] * box[3], "iscrowd": 0})
        xywh = detection.convert_boxes(found["boxes"].double(), "xyxy", "xywh").tolist()
        for box, label, score in zip(xywh, found["labels"].tolist(), found["scores"].tolist(), strict=True):
            results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    truths = COCO()
    truths.dataset = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label} for label in range(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truths.createIndex()
        return truths, truths.loadRes(results)


def detection_rows(quick: bool) -> list[dict]:
    """Time of pycocotools over that of `evaluate_detections`; pycocotools has its format ready-made, and area "all" alone."""
    rows = []
    for classes in (1, 10):
        count, rounds = (50, 1) if quick else (5000, 5)
        predictions, targets = random_detections(count, 20, classes, 8)
        truths, results = as_coco(predictions, targets, classes)

        def theirs(truths=truths, results=results):
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation = COCOeval(truths, results, "bbox")
                evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
                evaluation.params.maxDets = [100]
                evaluation.evaluate()
                evaluation.accumulate()
            return evaluation.eval["precision"].mean()

        def ours(predictions=predictions, targets=targets):
            return detection.evaluate_detections(predictions, targets).ap

        assert abs(theirs() - ours()) < 1e-6
        note = f"{count} images x 20 detections, {classes} classes, area all, 100 detections at most"
        name = f"pycocotools / evaluate_detections, {classes} classes"
        rows.append(row(name, ratios(theirs, ours, rounds), at_least=1, note=note))
    return rows


def transform_rows(quick: bool) -> list[dict]:
    """Time of batch transforms over that of one training step of ResNet-18 on the same batch."""
    batch, width, rounds = (8, 4, 1) if quick else (128, 64, 7)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, generator=generator)
    y = torch.randint(10, (batch,), generator=generator)
    model, optimizer = prepared(lambda: ResNet18(width=width))
    loader = data.TensorLoader(x, y, batch)
    transforms_of = {
        "mixup": mixing.mixup(0.2, 10),
        "CutMix": mixing.cutmix(1.0, 10),
        "label smoothing": smoothing.label_smoothing(0.1, 10),
        "DisturbLabel": noise.disturb_label(0.3, 10),
    }

    def step() -> None:
        train.fit(model, loader, optimizer=optimizer, epochs=1, progress=False)

    note = f"one step of {batch} images of 3x32x32, ResNet-18 of width {width}, `fit`'s precision"
    return [
        row(f"{name} of a batch / step of ResNet-18", ratios(partial(transform, x, y), step, rounds), at_most=0.05, note=note)
        for name, transform in transforms_of.items()
    ]


def together_rows(quick: bool) -> list[dict]:
    """Time of members trained one after the other by `fit`, over that of all at once by `fit_together`, both in float32."""
    count, epochs, rounds = (10, 1, 1) if quick else (10, 5, 9)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(500, 784, generator=generator), torch.randint(10, (500,), generator=generator)
    # Convolutions at once pay or not, depending on threads and batches: one thread was seen at 0.63 to 0.71.
    cases: dict[str, tuple[Callable[[], nn.Module], Tensor, float]] = {
        "MLPs": (lambda: MLP(784, 10, hidden=(32, 32)), x, 1.8),
        "CNNs": (SmallCNN, x.reshape(500, 1, 28, 28), 1.0),
    }
    rows = []
    for name, (make, inputs, goal) in cases.items():
        torch.manual_seed(0)
        members = [make() for _ in range(count)]
        loaders = [data.TensorLoader(inputs, y, 16, shuffle=True) for _ in members]

        def one_by_one(members=members, loaders=loaders):
            for member, loader in zip(members, loaders, strict=True):
                adam = torch.optim.Adam(member.parameters(), lr=1e-3)
                train.fit(member, loader, optimizer=adam, epochs=epochs, amp="off", progress=False)

        def at_once(members=members, loaders=loaders):
            make_adam = partial(torch.optim.Adam, lr=1e-3, fused=True)  # fused as in `fit`
            ensembles.fit_together(members, loaders, optimizer=make_adam, epochs=epochs, progress=False)

        found = ratios(one_by_one, at_once, rounds)
        note = f"{count} members, {epochs} epochs of 500 samples of 784 values in batches of 16, Adam, float32"
        rows.append(row(f"{count} {name} one by one / at once by vmap", found, at_least=goal, note=note))
    return rows


class PerSampleDigits(Dataset):
    """Digits one after the other, through PIL, as the published notebook loads them."""

    def __init__(self, split: data.Split, mean: Tensor, std: Tensor) -> None:
        self.x, self.y = split
        steps = [transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.x[position]), self.y[position]


def published_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, labelled: DataLoader, unlabelled: DataLoader, held_out: DataLoader
) -> float:
    """Pseudo-labelling as it was published, in float32: a validation after every step, the best of them kept."""
    batches, best = itertools.chain.from_iterable(itertools.repeat(unlabelled)), 0.0
    for x, y in labelled:
        model.train()
        u, _ = next(batches)
        with torch.no_grad():
            labels = model(u).argmax(1)
        loss = F.cross_entropy(model(x), y) + F.cross_entropy(model(u), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        right, count = 0, 0
        with torch.no_grad():
            for images, truth in held_out:
                right += (model(images).argmax(1) == truth).sum().item()
                count += len(truth)
        best = max(best, right / count)
    return best


def pseudo_rows(quick: bool) -> list[dict]:
    """Time of the published pseudo-labelling epoch over that of `fit` with `pseudo_label_loss` and one validation."""
    digits = data.load("mnist-small")
    count, rounds = (128, 1) if quick else (512, 9)
    few, rest = (data.Split(digits.train.x[part], digits.train.y[part]) for part in (slice(count), slice(count, 2 * count)))
    held_out = data.Split(digits.val.x[:400], digits.val.y[:400])
    theirs = [DataLoader(PerSampleDigits(split, digits.mean, digits.std), 64, shuffle=True) for split in (few, rest)]
    theirs.append(DataLoader(PerSampleDigits(held_out, digits.mean, digits.std), 64))
    normalize = augment.normalize(digits.mean, digits.std)
    labelled = data.TensorLoader(few.x, few.y, 64, shuffle=True, batch_transform=normalize)
    unlabelled = data.TensorLoader(rest.x, rest.y, 64, shuffle=True, batch_transform=normalize)
    validation = data.TensorLoader(held_out.x, held_out.y, 400, batch_transform=normalize)

    def published() -> None:
        published_epoch(*prepared(lambda: SmallCNN(dropout=0.5)), *theirs)

    def efficient() -> None:
        model, optimizer = prepared(lambda: SmallCNN(dropout=0.5))
        extra = pseudo.pseudo_label_loss(unlabelled, lambda epoch: 1.0)
        train.fit(model, labelled, optimizer=optimizer, epochs=1, val_loader=validation, extra_loss=extra, progress=False)

    numbers = precision.choose(torch.device("cpu"), "auto")
    steps = len(labelled)
    note = f"{steps} steps of 64 + 64 digits; {steps} validations of 400 and PIL, against 1 and {numbers or torch.float32}"
    goal = 2 if numbers is None else 4
    name = "published pseudo-labelling epoch / fit with pseudo_label_loss"
    return [row(name, ratios(published, efficient, rounds), at_least=goal, note=note)]


def suite_rows(quick: bool) -> list[dict]:
    """Time of all lessons one after the other by Jupyter's own command, over that of `make lessons`; both make pages."""
    lessons = sorted(map(str, (ROOT / "notebooks").glob("*.ipynb")))[: 1 if quick else None]
    environment = os.environ | {"COURSE_PROFILE": "ci"}

    def run(*command: str) -> None:
        silent = subprocess.DEVNULL
        subprocess.run([sys.executable, *command], check=True, stdout=silent, stderr=silent, env=environment)

    with tempfile.TemporaryDirectory() as pages:

        def one_by_one():
            for lesson in lessons:
                run("-m", "nbconvert", "--to", "html", "--execute", "--output-dir", pages, lesson)

        def side_by_side():
            run(
                str(ROOT / "tools" / "lessons.py"),
                *lessons,
                "--profile",
                "ci",
                "--out",
                pages,
                "--executed",
                f"{pages}/executed",
            )

        found = ratios(one_by_one, side_by_side, 1 if quick else 5, warm=False)
    note = f"{len(lessons)} lessons at profile ci, each in a kernel of its own"
    return [row("jupyter nbconvert, lesson by lesson / make lessons", found, at_least=1.8, note=note)]


MEASURES = {
    measure.__name__.removesuffix("_rows"): measure
    for measure in (
        loader_rows,
        bound_rows,
        textbook_rows,
        fit_rows,
        transform_rows,
        together_rows,
        pseudo_rows,
        import_rows,
        iou_rows,
        detection_rows,
        suite_rows,
    )
}


def renewed(kept: list[dict], found: list[dict]) -> list[dict]:
    """Rows of a table with some of them measured again, and new ones beside those that were measured with them."""
    names = {row["name"] for row in found}
    place = next((number for number, row in enumerate(kept) if row["name"] in names), len(kept))
    others = [row for row in kept if row["name"] not in names]
    return [*others[:place], *found, *others[place:]]


def main() -> None:
    """Measure, print the table, write the file."""
    files.spell_out()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run in seconds: the numbers mean nothing")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="measure these again, and keep the file's other rows")
    parser.add_argument("--out", type=Path, help="JSON file to write (default: results/bench.json; none with --quick)")
    options = parser.parse_args()
    out = options.out or (None if options.quick else RESULTS)
    header, rows = {**record.machine(), "quick": options.quick}, []
    if options.only and out is not None and out.exists():
        kept = json.loads(out.read_text(encoding="utf-8"))
        rows = kept.pop("rows")
        if kept != header:
            parser.error(f"{out} was measured elsewhere, or with other versions: measure all rows, or give another --out.")
    for name in options.only or MEASURES:
        measured = MEASURES[name](options.quick)
        rows = renewed(rows, measured)
        for found in measured:
            print(
                f"{found['name']:<56} {found['ratio']:8.3f} ({found['low']:.3f} to {found['high']:.3f})  "
                f"goal: {found['goal']:<13} {'met' if found['met'] else 'MISSED':<6}  {found['note']}",
                flush=True,
            )
    if out is not None:
        files.write_text(out, json.dumps({**header, "rows": rows}, indent=2, ensure_ascii=False) + "\n")
        print(f"written to {out}")


if __name__ == "__main__":
    main()
