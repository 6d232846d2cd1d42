"""Datasets as whole tensors with enforced disjoint splits, and the loader that indexes them in batches."""

import difflib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_utils import parallel, runtime, valid

BatchTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_HERE = Path(__file__).parent
# A wheel carries the bundled files inside the package; a clone keeps them at its top.
BUNDLED_DIR = _HERE / "_data" if (_HERE / "_data").is_dir() else _HERE.parent / "data"
BUNDLED = ("fashion-small", "mnist-small", "boston")


class Published(NamedTuple):
    """A full set as its authors published it, by which `load` knows what torchvision has brought.

    ``sha256``: from the name of a file to its digest, where torchvision checks what it downloads, but not what lies on disk.
    """

    torchvision_name: str
    samples: tuple[int, int]  # in the training and the test split
    image_shape: tuple[int, int, int]
    sha256: dict[str, str]


PUBLISHED = {
    "mnist": Published(
        "MNIST",
        (60_000, 10_000),
        (1, 28, 28),
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion": Published(
        "FashionMNIST",
        (60_000, 10_000),
        (1, 28, 28),
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "cifar10": Published("CIFAR10", (50_000, 10_000), (3, 32, 32), {}),
}
NAMES = (*BUNDLED, *PUBLISHED)


class DataError(ValueError):
    """Data that would give a wrong tensor: damaged, empty, mislabelled, or shared between splits."""


class Split(NamedTuple):
    """Inputs and targets of one split.

    ``x``: images, uint8 ``(N, C, H, W)`` in 0..255, or a table, float32 ``(N, F)``.
    ``y``: class indices, integers of any width or booleans ``(N,)``, which a `Dataset` keeps as int64; or regression targets,
    float32 ``(N,)``.
    """

    x: Tensor
    y: Tensor

    def first(self, n: int) -> "Split":
        """The first ``n`` samples, without a copy: a small training set (the bundled sets are shuffled).

        Raises:
            ValueError: ``n`` is not a whole number from 1 to the number of samples, or there are not as many targets as inputs.
        """
        valid.as_many(self.x, self.y)
        n = valid.whole_number(n, "n", 1, len(self.x))
        return Split(self.x[:n], self.y[:n])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits that share no sample, with their class names. Checked when made (lesson 00).

    Raises:
        DataError: a split is empty, has another dtype or shape than `Split` says, has a label outside ``classes``,
            or holds a sample (compared by content) that another split holds too.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...] = ()  # empty for regression
    removed: int = 0  # samples left out because a later split holds the very same one

    def __post_init__(self) -> None:
        splits = {"train": self.train, "val": self.val, "test": self.test}
        shape = getattr(self.train.x, "shape", ())[1:]
        for label, split in splits.items():
            checked = _checked_split(f"{self.name}, {label} split", split, len(self.classes), shape)
            object.__setattr__(self, label, checked)  # the way round "frozen" that `dataclasses` itself takes
        content = {label: _contents(split.x) for label, split in splits.items()}
        for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
            if shared := len(set(content[first]) & set(content[second])):
                raise DataError(
                    f"{self.name}: {shared} different samples stand in both the {first} and the {second} split. "
                    "A score on one would be measured on samples seen in the other: split again, each sample once."
                )

    @cached_property
    def mean(self) -> Tensor:
        """Mean of each channel (images, of values scaled to 0..1) or feature over the training split, float32."""
        return self._moments[0]

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of each channel or feature over the training split, in the units of `mean`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        x = self.train.x
        if x.dtype != torch.uint8:
            constant = x.amax(0) == x.amin(0)  # rounding of the mean would leave it a tiny spread, to be divided by
            return x.mean(0), x.std(0, correction=0).masked_fill(constant, 0)
        values = torch.arange(256, dtype=torch.float64) / 255
        # 256 counts a channel are exact and need no float copy of the whole set.
        share = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)]).double()
        share /= share.sum(1, keepdim=True)
        mean = share @ values
        return mean.float(), (share * (values - mean[:, None]) ** 2).sum(1).sqrt().float()


def _checked_split(label: str, split: Split, num_classes: int, sample_shape: tuple[int, ...]) -> Split:
    x, y = split
    try:
        valid.tensors(x=x, y=y)
    except ValueError as error:
        raise DataError(f"{label}: {error}") from None
    if not x.ndim or not y.ndim or len(x) == 0:
        raise DataError(f"{label} is empty: give every split at least one sample.")
    if len(x) != len(y):
        raise DataError(f"{label} has {len(x)} inputs and {len(y)} targets; it needs one target for each input.")
    if x.shape[1:] != sample_shape:
        raise DataError(f"{label} has samples of shape {tuple(x.shape[1:])}, the train split {tuple(sample_shape)}.")
    if not ((x.dtype == torch.uint8 and x.ndim == 4) or (x.dtype == torch.float32 and x.ndim == 2)):
        raise DataError(f"{label}: inputs are {x.dtype} of shape {tuple(x.shape)}; use uint8 (N, C, H, W) or float32 (N, F).")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise DataError(f"{label} has inputs that are not finite: fill or drop those rows first.")
    if num_classes == 0:
        if y.dtype != torch.float32 or y.ndim != 1 or not bool(y.isfinite().all()):
            raise DataError(f"{label}: regression targets must be finite float32 (N,), not {y.dtype} {tuple(y.shape)}.")
        return Split(x, y)
    try:
        y = valid.class_indices(y)
    except ValueError as error:
        raise DataError(f"{label}: {error} They are kept as int64 (N,).") from None
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{label} has labels from {low} to {high}, but there are {num_classes} classes (0 to {num_classes - 1})."
        )
    return Split(x, y)


def _contents(x: Tensor) -> list[bytes]:
    rows = x.detach().cpu().reshape(len(x), -1)
    rows = rows + 0.0 if rows.is_floating_point() else rows  # -0.0 is 0.0
    return [row.tobytes() for row in rows.contiguous().numpy()]


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Load a dataset by name.

    ``"fashion-small"``, ``"mnist-small"`` and ``"boston"`` are bundled and load without a network. ``"mnist"``,
    ``"fashion"`` and ``"cifar10"`` are the full sets: torchvision downloads them on first use, with a progress bar, into
    ``root`` (or ``COURSE_DATA``, or a cache folder in the home directory); their validation split is 5,000 images
    drawn class by class from the published training set, and their test split is the published one.

    Args:
        name: one of `NAMES`.
        root: folder of the files, or for downloads; as above when ``None``.

    Raises:
        DataError: the name is unknown, or the files are damaged, incomplete or cannot be downloaded.

    >>> fashion = load("fashion-small")
    >>> fashion.train.x.shape, fashion.train.x.dtype, len(fashion.classes)
    (torch.Size([4000, 1, 28, 28]), torch.uint8, 10)
    """
    if name in BUNDLED:
        return _load_bundled(name, Path(root) if root else BUNDLED_DIR)
    if name in PUBLISHED:
        return _load_published(name, Path(root) if root else _cache_dir())
    close = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(f"There is no dataset {name!r}.{hint} Known: {', '.join(NAMES)}.")


def _cache_dir() -> Path:
    return Path(os.environ.get("COURSE_DATA") or Path.home() / ".cache" / "better-models")


def _load_bundled(name: str, root: Path) -> Dataset:
    path = root / f"{name}.npz"
    cure = "Restore it with `git checkout -- data`, or install the package again."
    try:
        expected = json.loads((root / "manifest.json").read_text(encoding="utf-8"))[path.name]["sha256"]
        found = sha256(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Bundled data {path} or its manifest cannot be read ({error}). {cure}") from error
    if found != expected:
        raise DataError(f"Bundled file {path} is damaged: its sha256 starts {found[:12]}, not {expected[:12]}. {cure}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = {
                label: Split(torch.from_numpy(arrays[f"{label}_x"]), torch.from_numpy(arrays[f"{label}_y"]))
                for label in ("train", "val", "test")
            }
            classes = tuple(str(word) for word in arrays["classes"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"Bundled file {path} does not hold what it should ({error}). {cure}") from error
    return Dataset(name, parts["train"], parts["val"], parts["test"], classes=classes)


def _load_published(name: str, root: Path) -> Dataset:
    from torchvision import datasets  # a second of import that the bundled sets need not pay

    class_name, counts, shape, digests = PUBLISHED[name]
    published = getattr(datasets, class_name)
    place = f"the files that start with cifar-10 in {root}" if name == "cifar10" else f"the folder {root / class_name}"
    cure = f"Delete {place} and load it again with a network; the bundled sets need none ({', '.join(BUNDLED)})."
    with parallel.in_turn():
        try:
            root.mkdir(parents=True, exist_ok=True)
            train, test = (published(str(root), train=part, download=True) for part in (True, False))
        except Exception as error:  # network, disk, digest and half-written files each fail in their own way, with one cure
            raise DataError(f"{class_name} could not be loaded ({type(error).__name__}: {error}). {cure}") from error
    for file, digest in digests.items():
        if sha256(root / class_name / "raw" / file) != digest:
            raise DataError(f"{class_name}: the file {file} on disk is not the published one. {cure}")
    splits = [_as_split(part) for part in (train, test)]
    for split, count in zip(splits, counts, strict=True):
        if split.x.shape != (count, *shape) or split.y.shape != (count,):
            raise DataError(f"{class_name}: expected {count} images {shape}, found {tuple(split.x.shape)}. {cure}")
    return carve(name, *splits, classes=tuple(train.classes), per_class=500)


def _as_split(published: Any) -> Split:
    x = torch.as_tensor(published.data)
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
    return Split(x, torch.as_tensor(published.targets, dtype=torch.int64))


def carve(name: str, train: Split, test: Split, *, classes: tuple[str, ...], per_class: int) -> Dataset:
    """Carve a validation split of ``per_class`` samples per class out of a training set and keep ``test`` as it is.

    A training or validation sample that is identical to one of a later split is left out and counted in
    ``Dataset.removed`` (published sets do hold some). The choice depends on the data alone: the same for everyone.

    Args:
        name, classes: of the `Dataset`.
        train, test: the two splits; their labels as `Split` says.
        per_class: validation samples of each class, at least 1.

    Raises:
        DataError: a class has fewer than ``per_class`` samples, or what `Dataset` refuses.
        ValueError: ``per_class`` is not a whole number of at least 1.
    """
    per_class = valid.whole_number(per_class, "per_class", 1)
    shape = getattr(train.x, "shape", ())[1:]
    train = _checked_split(f"{name}, train split", train, len(classes), shape)
    test = _checked_split(f"{name}, test split", test, len(classes), shape)
    val_index, train_index = balanced_split(train.y, (per_class,), torch.Generator().manual_seed(0))
    test_content = set(_contents(test.x))
    content = _contents(train.x)
    val_index = torch.tensor([i for i in val_index.tolist() if content[i] not in test_content], dtype=torch.int64)
    later = test_content | {content[i] for i in val_index.tolist()}
    train_index = torch.tensor([i for i in train_index.tolist() if content[i] not in later], dtype=torch.int64)
    return Dataset(
        name,
        Split(train.x[train_index], train.y[train_index]),
        Split(train.x[val_index], train.y[val_index]),
        test,
        classes=classes,
        removed=len(train.y) - len(val_index) - len(train_index),
    )


def balanced_split(labels: Tensor, per_class: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    """Split positions into disjoint parts with the same number of samples of every class, and the rest.

    Args:
        labels: class indices, integers of any width or booleans ``(N,)``; at least one.
        per_class: for each part, how many samples of each class it takes, at least 0.
        generator: CPU generator that decides which samples go where, and their shuffled order.

    Returns:
        One int64 tensor of positions per part, then one with all remaining positions; each is shuffled.

    Raises:
        DataError: no labels, or a class has too few samples.
        ValueError: labels that are not class indices, or a number of samples that is not a whole number.

    >>> small, rest = balanced_split(torch.tensor([0, 1, 0, 1, 0]), (1,), torch.Generator().manual_seed(0))
    >>> len(small), len(rest)
    (2, 3)
    """
    labels, generator = valid.class_indices(labels), valid.cpu_generator(generator)
    counts = valid.whole_numbers(per_class, "per_class", 0)
    if len(labels) == 0:
        raise DataError("there are no labels to split.")
    needed = sum(counts)
    parts: list[list[Tensor]] = [[] for _ in range(len(counts) + 1)]
    for label in labels.unique().tolist():
        positions = (labels == label).nonzero().flatten()
        if len(positions) < needed:
            raise DataError(f"class {label} has {len(positions)} samples, and the split asks for {needed} of each class.")
        positions = positions[torch.randperm(len(positions), generator=generator)]
        sizes = [*counts, len(positions) - needed]
        for part, chunk in zip(parts, positions.split(sizes), strict=True):
            part.append(chunk)
    joined = [torch.cat(part) for part in parts]
    return [part[torch.randperm(len(part), generator=generator)] for part in joined]


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TensorLoader:
    """Batches from tensors that live whole on the device: one indexing operation per batch, no worker, no copy per sample.

    It can stand wherever a ``torch.utils.data.DataLoader`` over a ``TensorDataset`` stands, and gives the same batches
    for the same ``sampler``. Compared with it in lesson 00.

    Args:
        x: inputs, ``(N, ...)``.
        y: targets, ``(N,)`` class indices or numbers, or ``(N, K)`` probabilities.
        batch_size: samples per batch, at least 1; the last batch is smaller when they do not divide.
        shuffle: a new random order for each pass.
        sampler: positions in the order wanted, whole numbers of any kind, iterated anew for each pass, with a length (any
            torch ``Sampler``, or a tensor of positions); instead of ``shuffle``.
        generator: CPU generator that draws the order, so that it is the same on every device; torch's global one when ``None``.
        batch_transform: ``(x, y) -> (x, y)`` on each batch, on the device: augmentation, normalisation, mixing.
        device: where the tensors are kept; by default, where ``x`` is.
        drop_last: leave out a smaller last batch; ``False`` unless asked for, since it loses samples.

    Raises:
        ValueError: no tensors, empty or unequal ones, a batch size that is not a whole number of at least 1, ``shuffle``
            together with ``sampler``, a generator that is not on the CPU, a pass in which no batch would be left, a sampler
            without a length, or one that gives anything but positions; or a ``batch_transform`` that cannot be called.
        IndexError: the sampler gives a position outside the tensors.

    >>> loader = TensorLoader(torch.zeros(10, 3), torch.arange(10), batch_size=4)
    >>> [len(y) for x, y in loader], len(loader)
    ([4, 4, 2], 3)
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        generator: torch.Generator | None = None,
        batch_transform: BatchTransform | None = None,
        device: torch.device | str | None = None,
        drop_last: bool = False,
    ) -> None:
        valid.tensors(x=x, y=y)
        inputs, count = (len(values) if values.ndim else 0 for values in (x, y))
        if inputs == 0 or inputs != count:
            raise ValueError(f"TensorLoader needs as many targets as inputs and at least one: got {inputs} and {count}.")
        if sampler is not None and not isinstance(sampler, Sized):
            raise ValueError("the sampler has no length: give a list of its positions, or a torch Sampler.")
        if shuffle and sampler is not None:
            raise ValueError("Give either shuffle=True or a sampler: a sampler decides the order by itself.")
        self.x = x.to(device)
        self.y = y.to(self.x.device)
        self.batch_size = valid.whole_number(batch_size, "batch_size", 1)
        self.shuffle, self.sampler, self.generator = shuffle, sampler, valid.cpu_generator(generator)
        if batch_transform is not None and not callable(batch_transform):
            raise ValueError(f"batch_transform is {batch_transform!r}; give a function, and sizes by name: batch_size=64.")
        self.batch_transform = batch_transform
        self.drop_last = drop_last
        if self._count() == 0:
            raise ValueError("the sampler has no position to give: there would be no batch.")
        if len(self) == 0:
            raise ValueError(f"{self._count()} samples in batches of {batch_size} with drop_last=True leave no batch.")

    def _count(self) -> int:
        return len(self.x) if self.sampler is None else len(self.sampler)

    def __len__(self) -> int:
        full, rest = divmod(self._count(), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def _order(self) -> Tensor:
        if self.sampler is not None:
            return self._sampled(self.sampler)
        if self.shuffle:
            return torch.randperm(len(self.x), generator=self.generator)
        return torch.arange(len(self.x))

    def _sampled(self, sampler: Iterable[int]) -> Tensor:
        given = sampler if isinstance(sampler, Tensor) else list(sampler)
        try:
            order = torch.as_tensor(given).cpu()
        except (TypeError, ValueError, RuntimeError):  # words, or lists of unequal length
            order = None
        if order is None or order.ndim != 1 or len(order) == 0 or order.is_floating_point() or order.dtype == torch.bool:
            shown = f"{order.dtype} of shape {tuple(order.shape)}" if order is not None else repr(given[0])
            raise ValueError(f"the sampler gave {shown}; it must give positions, whole numbers one by one, at least one.")
        order = order.long()
        if order.min() < 0 or order.max() >= len(self.x):
            raise IndexError(f"the sampler gave positions {order.min()} to {order.max()}; there are {len(self.x)} samples.")
        return order

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order().to(self.x.device, non_blocking=True)
        for index in order.split(self.batch_size):
            if self.drop_last and len(index) < self.batch_size:
                return
            # On a CPU far faster than self.x[index], which copies value by value.
            batch = self.x.index_select(0, index), self.y.index_select(0, index)
            yield self.batch_transform(*batch) if self.batch_transform else batch


def shuffled(
    split: Split | tuple[Tensor, Tensor],
    seed: int,
    batch_transform: BatchTransform | None = None,
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> TensorLoader:
    """Batches to train on, in a new order each pass. The seed decides the orders, so two techniques see the same batches.

    Args:
        split: inputs and targets; see `TensorLoader`.
        seed: at least 0.
        batch_transform: what is done with each batch, such as `augment.normalize`.
        batch_size: samples per batch.
        device: where the tensors are kept; `runtime.device` when ``None``.

    Raises:
        ValueError: as `TensorLoader`, or a seed that is not a whole number.

    >>> train_loader = shuffled(load("mnist-small").train.first(100), seed=0)
    >>> [len(y) for x, y in train_loader]
    [64, 36]
    """
    order = torch.Generator().manual_seed(valid.whole_number(seed, "seed", 0))
    x, y = _inputs_and_targets(split)
    device = device or runtime.device()
    return TensorLoader(x, y, batch_size, shuffle=True, generator=order, batch_transform=batch_transform, device=device)


def in_order(
    split: Split | tuple[Tensor, Tensor],
    batch_transform: BatchTransform | None = None,
    *,
    batch_size: int = 1000,
    device: torch.device | str | None = None,
) -> TensorLoader:
    """Batches to validate or test on, in the order of the split; arguments and errors are as for `shuffled`."""
    x, y = _inputs_and_targets(split)
    return TensorLoader(x, y, batch_size, batch_transform=batch_transform, device=device or runtime.device())


def _inputs_and_targets(split: Split | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if isinstance(split, Dataset):
        raise ValueError("split is a whole dataset; give one of its splits, such as dataset.train.")
    if not isinstance(split, (tuple, list)) or len(split) != 2:
        raise ValueError(f"split is a {type(split).__name__}; give inputs and targets, such as dataset.train or (x, y).")
    return split[0], split[1]
