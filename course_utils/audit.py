"""The data as the network gets them: values, repeated samples, overlap of splits, classes, pictures. Built in lesson 12."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from course_utils import valid

if TYPE_CHECKING:
    import pandas as pd

# Far above what chance or a random crop does between splits of one set, far below what a forgotten transform does.
_FAR, _CERTAIN = 0.5, 5.0  # distance of typical samples in their own spread, and in standard errors
_UNEVEN = 1.5  # largest class over smallest
_LARGE = 10.0  # standard deviation of inputs
_SHOWN = 10


class _Split(NamedTuple):
    x: Tensor
    y: Tensor | None
    content: list[bytes]
    counts: dict[int, int]


@dataclass(frozen=True, eq=False)
class Report:
    """What `audit` found.

    Attributes:
        rows: a dict per split: ``samples``; ``unique`` samples; ``lowest`` and ``highest`` value, ``mean`` and ``std`` of all
            finite values (NaN where there is none); ``smallest class`` and ``largest class``, samples of the rarest and of the
            most frequent class; and for each other split ``in <name>``, the number of samples that it holds too.
        findings: what is suspicious, a sentence each; empty when nothing is.
        images: per split of images, uint8 ``(n, C, H, W)``: the first sample of each class (without labels: the first ten), its
            split's range of finite values stretched to 0..255, NaN in black. What no count can see, such as mirrored letters,
            an eye sees here.
    """

    rows: dict[str, dict[str, float]]
    findings: list[str]
    images: dict[str, Tensor]

    @property
    def table(self) -> "pd.DataFrame":
        """The rows as a table with a column per split."""
        import pandas as pd

        labels = dict.fromkeys(label for row in self.rows.values() for label in row)
        columns = {name: [row.get(label, "") for label in labels] for name, row in self.rows.items()}
        return pd.DataFrame(columns, index=list(labels), dtype=object)


def audit(**splits: Iterable[tuple[Tensor, Tensor]] | tuple[Tensor, Tensor | None]) -> Report:
    """Audit named splits, given as the network really receives them: after all transforms, not before. Built in lesson 12.

    Images are compared up to brightness, contrast and mirroring, so that a transform that was forgotten in one split does not
    hide that two splits share samples; anything else that changes an image (crops, mixing) does hide it, so leave it out.
    Tables are compared value by value, and so are images of one value only and images with NaN or infinity. A sample without
    any finite value equals no other.

    Args:
        splits: by name, each a loader of batches ``(x, y)``, read once, or a pair of whole tensors: ``x`` ``(N, ...)`` and
            class indices ``y`` ``(N,)``, integers of any width or booleans. Classes are not counted for targets of another
            kind, or where ``y`` is ``None``.

    Returns:
        `Report`. The first split is the one that the others' values are compared with.

    Raises:
        ValueError: no splits, an empty one, one that is neither a loader nor a pair of tensors, samples without values or of
            different shapes in one, complex numbers, or ``x`` and ``y`` of different lengths.

    >>> x, y = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    >>> audit(train=(x[:30], y[:30]), val=(x[30:], y[30:])).findings
    []
    >>> audit(train=(x[:30], y[:30]), val=(x[20:] * 255, y[20:])).findings[-1]
    'val shares 10 of its 20 samples with train: a score on one does not say how well new samples are answered.'
    """
    if not splits:
        raise ValueError("audit() needs at least one split, such as audit(train=train_loader, val=val_loader).")
    parts = {name: _read(name, split) for name, split in splits.items()}
    rows = {name: _describe(part) for name, part in parts.items()}
    findings = [sentence for name, part in parts.items() for sentence in _alone(name, part, rows[name])]
    reference, *others = parts
    for name in others:
        findings += _values_apart(reference, name, parts, rows)
    classes = set().union(*(part.counts for part in parts.values()))
    for name, part in parts.items():
        if part.counts and (missing := sorted(classes - set(part.counts))):
            findings.append(f"{name} has no sample of class {', '.join(map(str, missing))}, and another split has.")
    for first, second in combinations(parts, 2):
        content = {name: set(parts[name].content) for name in (first, second)}
        for name, other in ((first, second), (second, first)):
            rows[name][f"in {other}"] = sum(sample in content[other] for sample in parts[name].content)
        if shared := rows[second][f"in {first}"]:
            findings.append(
                f"{second} shares {shared:,} of its {len(parts[second].x):,} samples with {first}: "
                "a score on one does not say how well new samples are answered."
            )
    return Report(rows, findings, {name: _pictures(part) for name, part in parts.items() if part.x.ndim == 4})


def _read(name: str, split: Iterable[tuple[Tensor, Tensor]] | tuple[Tensor, Tensor | None]) -> _Split:
    if _is_pair(split):
        x, y = split
        _need_tensors(name, x, y)
    else:
        batches = _batches(name, split)
        if not batches:
            raise ValueError(f"split {name} is empty: its loader gives no batch.")
        if len(shapes := {tuple(x.shape[1:]) for x, _ in batches}) > 1:
            raise ValueError(f"split {name} has samples of shapes {sorted(shapes)}; audit compares samples of one shape.")
        x = torch.cat([x for x, _ in batches])
        targets = [y.cpu() for _, y in batches if y is not None]
        y = torch.cat(targets) if len(targets) == len(batches) else None
    x = x.detach().cpu()
    if x.is_complex():
        raise ValueError(f"split {name} has inputs of {x.dtype}; audit looks at real numbers.")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"split {name} is empty: give every split at least one sample.")
    if x.numel() == 0:
        raise ValueError(f"split {name} has samples of shape {tuple(x.shape[1:])}: there is no value to look at.")
    if y is not None and y.ndim == 0:
        raise ValueError(f"split {name} has one target without a dimension; it needs one for each input, (N,).")
    if y is not None and len(y) != len(x):
        raise ValueError(f"split {name} has {len(x)} inputs and {len(y)} targets; it needs one target for each input.")
    labels = valid.class_indices(y.cpu()) if y is not None and y.ndim == 1 and not y.is_floating_point() else None
    counts = dict(sorted(Counter(labels.tolist()).items())) if labels is not None else {}
    return _Split(x, labels, _content(name, x), counts)


def _is_pair(split: object) -> TypeGuard[tuple[Tensor, Tensor | None]]:
    return isinstance(split, tuple) and len(split) == 2 and not isinstance(split[0], (tuple, list))


def _batches(name: str, split: object) -> list[tuple[Tensor, Tensor | None]]:
    wanted = "give a pair (x, y) of whole tensors, (x, None) without labels, or a loader of batches (x, y)"
    if isinstance(split, (Tensor, np.ndarray)) or not isinstance(split, Iterable):
        raise ValueError(f"split {name} is of type {type(split).__name__}; {wanted}.")
    batches: list[tuple[Tensor, Tensor | None]] = []
    for batch in split:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                f"split {name} holds something of type {type(batch).__name__} that is not a batch (x, y); {wanted}."
            )
        _need_tensors(name, *batch)
        batches.append((batch[0].cpu(), batch[1]))
    return batches


def _need_tensors(name: str, x: Tensor, y: Tensor | None) -> None:
    valid.tensors(**{f"x of split {name}": x}, **({} if y is None else {f"y of split {name}": y}))


def _content(name: str, x: Tensor) -> list[bytes]:
    """One key per sample, the same for samples that count as the same."""
    rows = x.reshape(len(x), -1)
    keys = _of_images(_doubles(rows), x.shape) if x.ndim >= 4 else _of_rows(rows)
    for position in (~rows.isfinite().any(1)).nonzero().flatten().tolist():
        keys[position] = f"{name} {position}".encode()  # nothing is known of it, also not that it equals another
    return keys


def _of_rows(rows: Tensor) -> list[bytes]:
    keys = [row.tobytes() for row in _doubles(rows).numpy()]
    if not rows.is_floating_point():
        rows = rows.long()
        for position in (rows.double().long() != rows).any(1).nonzero().flatten().tolist():
            keys[position] = b"integers " + rows[position].numpy().tobytes()  # beyond 2 ** 53, where floats have gaps
    return keys


def _doubles(values: Tensor) -> Tensor:
    """Values as float64, equal bytes for equal values: -0.0 is 0.0, and NaN is NaN whatever its sign bit."""
    values = values.double() + 0.0
    return values.masked_fill_(values.isnan(), torch.nan)


def _of_images(values: Tensor, shape: torch.Size) -> list[bytes]:
    low, high = values.aminmax(dim=1, keepdim=True)
    spread = high - low
    stretched = spread.isfinite() & (spread > 0)  # else there is nothing to stretch, or no way to
    shares = ((values - low) / spread.where(stretched, 1)).nan_to_num().clamp(0, 1)
    # Values of uint8 images lie on this grid, half way between two of its steps, or at least 1/510 of a step from there. A
    # rounded copy of an image may fall on either side of a half, so the grid is shifted by half as much.
    keys = _up_to_mirroring((shares * 255 + (0.5 + 1 / 1020)).floor().to(torch.uint8).view(shape))
    others = (~stretched).flatten().nonzero().flatten()
    for position, key in zip(others.tolist(), _up_to_mirroring(values.view(shape)[others]), strict=True):
        keys[position] = key
    return keys


def _up_to_mirroring(images: Tensor) -> list[bytes]:
    pairs = zip(images.numpy(), images.flip(-1).numpy(), strict=True)
    return [min(image.tobytes(), mirrored.tobytes()) for image, mirrored in pairs]


def _describe(part: _Split) -> dict[str, float]:
    values = part.x.double()
    values = values[values.isfinite()]
    values = values if len(values) else torch.full((1,), torch.nan, dtype=torch.float64)
    row: dict[str, float] = {"samples": len(part.x), "unique": len(set(part.content))}
    row |= {"lowest": values.min().item(), "highest": values.max().item()}
    row |= {"mean": values.mean().item(), "std": values.std(correction=0).item()}
    if part.counts:
        row |= {"smallest class": min(part.counts.values()), "largest class": max(part.counts.values())}
    return row


def _alone(name: str, part: _Split, row: dict[str, float]) -> Iterable[str]:
    if broken := int((~part.x.isfinite()).reshape(len(part.x), -1).any(1).sum()):
        yield f"{name} has values that are not finite: fill or drop them. They stand in {broken:,} of its samples."
    if row["unique"] < row["samples"]:
        yield f"{name} has {row['samples']:,} samples, but only {row['unique']:,} different ones."
    if part.counts and row["largest class"] > _UNEVEN * row["smallest class"]:
        yield f"{name} is not balanced: from {row['smallest class']:,} to {row['largest class']:,} samples per class."
    if row["std"] > _LARGE:
        yield f"{name} has large values ({_range(row)}): networks learn best from inputs with mean 0 and standard deviation 1."


def _values_apart(first: str, second: str, parts: dict[str, _Split], rows: dict[str, dict[str, float]]) -> Iterable[str]:
    """Compare the typical sample of two splits by its mean and its standard deviation."""
    for measure in (lambda x: x.mean(1), lambda x: x.std(1, correction=0)):
        one, two = (measure(_whole_rows(parts[name].x)) for name in (first, second))
        if len(one) == 0 or len(two) == 0:
            return
        spread = ((one.var(correction=0) + two.var(correction=0)) / 2).sqrt().clamp(min=1e-6 * one.abs().max())
        chance = (1 / len(one) + 1 / len(two)) ** 0.5
        if (one.mean() - two.mean()).abs() > max(_FAR, _CERTAIN * chance) * spread:
            yield (
                f"{first} and {second} do not get the same treatment: values {_range(rows[first])}, and {_range(rows[second])}."
            )
            return


def _whole_rows(x: Tensor) -> Tensor:
    """The samples whose values are all finite, flat."""
    rows = x.reshape(len(x), -1).double()
    return rows[rows.isfinite().all(1)]


def _range(row: dict[str, float]) -> str:
    return f"from {row['lowest']:.3g} to {row['highest']:.3g}, mean {row['mean']:.3g}, std {row['std']:.3g}"


def _pictures(part: _Split) -> Tensor:
    y = part.y
    first = [] if y is None else [int((y == label).nonzero()[0]) for label in part.counts]
    shown = part.x[first or slice(_SHOWN)]
    values = part.x.double()
    values = values[values.isfinite()]
    low, high = values.aminmax() if len(values) else (0.0, 0.0)
    shares = (shown.double() - low) / max(float(high - low), 1e-300)
    return (shares.nan_to_num(nan=0).clamp(0, 1) * 255).round().to(torch.uint8)
