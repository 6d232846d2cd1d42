"""What a training run leaves behind: epochs as rows of a table, their means, and the rule that says when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from course_utils import batches

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a monitored value has not improved for ``patience`` epochs, and go back to the best weights.

    The rule of Prechelt, *Early Stopping - But When?*, 1998 (his UP criterion watches single rises; this is the common
    form with patience). Built in lesson 01.

    Args:
        patience: epochs without improvement after which to stop, at least 1; ``None`` never stops, and still the best
            weights are kept.
        monitor: ``"val_loss"`` (lower is better) or ``"val_accuracy"`` (higher is better).
        min_delta: a change counts as improvement only when it is larger than this, at least 0.

    Raises:
        ValueError: a value outside those ranges.

    >>> rule = EarlyStopping(patience=2)
    >>> rule.best_epoch([0.9, 0.5, 0.6, 0.7]), rule.should_stop([0.9, 0.5, 0.6, 0.7]), rule.should_stop([0.9, 0.5, 0.6])
    (2, True, False)
    """

    patience: int | None = 5
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience is not None and not self.patience >= 1:
            raise ValueError(f"patience is {self.patience}; it must be at least 1 epoch, or None to never stop.")
        if self.monitor not in ("val_loss", "val_accuracy"):
            raise ValueError(f"monitor is {self.monitor!r}; it must be 'val_loss' or 'val_accuracy'.")
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta is {self.min_delta}; it must not be negative.")

    def best_epoch(self, values: Sequence[float]) -> int:
        """Number, from 1, of the last epoch that improved on all before it by more than ``min_delta``."""
        sign = 1 if self.monitor == "val_loss" else -1
        best = 0
        for epoch in range(1, len(values)):
            if sign * values[epoch] < sign * values[best] - self.min_delta:
                best = epoch
        return best + 1

    def should_stop(self, values: Sequence[float]) -> bool:
        """Whether ``patience`` epochs have passed since the best one."""
        return self.patience is not None and len(values) - self.best_epoch(values) >= self.patience


@dataclass
class History:
    """What happened in a run, epoch by epoch.

    Attributes:
        rows: a dict per epoch: ``train_loss`` and ``train_accuracy`` (means over the epoch's samples, taken while the
            weights were changing and with dropout on), ``val_loss`` and ``val_accuracy``, ``extra_loss`` where one was
            given, ``lr`` in the epoch, ``seconds``.
        best_epoch: the epoch, from 1, whose weights the model has now; without early stopping the last.
        stopped_early: whether early stopping ended the run.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False

    def judge(self, rule: EarlyStopping | None) -> None:
        """Set ``best_epoch`` and ``stopped_early`` by a rule; without one the last epoch counts.

        Raises:
            ValueError: epochs lack what the rule watches.
        """
        self.best_epoch, self.stopped_early = len(self.rows), False
        if rule is None:
            return
        if not all(rule.monitor in row for row in self.rows):
            raise ValueError(f"early stopping watches {rule.monitor}, and there are epochs without validation.")
        values = [row[rule.monitor] for row in self.rows]
        if np.isnan(values).any():
            raise ValueError(f"early stopping watches {rule.monitor}, which these targets do not have: watch val_loss.")
        self.best_epoch, self.stopped_early = rule.best_epoch(values), rule.should_stop(values)

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a table with index ``epoch`` from 1."""
        import pandas as pd

        return pd.DataFrame(self.rows, index=pd.RangeIndex(1, len(self.rows) + 1, name="epoch"))

    def last_epoch(self) -> str:
        """Loss and accuracy of the last epoch in few words: training, then validation."""
        words = []
        for word in ("loss", "accuracy"):
            values = [self.rows[-1].get(f"{part}_{word}", np.nan) for part in ("train", "val")]
            shown = ", val ".join(f"{value:.3f}" for value in values if not np.isnan(value))
            words += [f"{word} {shown}"] if shown else []
        return ", ".join(words)


class EpochSums:
    """What an epoch's steps leave behind, on the device: read once, at its end, since each read would stall a GPU."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.extras: list[Tensor] = []
        self.sizes: list[int] = []
        self.correct: list[Tensor] = []
        self.known: list[Tensor] = []  # where targets are numbers: whether they name classes
        self.ends: list[Tensor] = []  # smallest and largest label
        self.classes = 0

    def count(self, logits: Tensor, y: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Add a step: accuracy is counted against ``y``, the loader's labels, and not the transformed ``targets``.

        Raises:
            ValueError: the batch is empty.
        """
        if not len(y):
            raise ValueError("a batch holds no sample: leave it out.")
        self.losses.append(loss.detach())
        self.sizes.append(len(y))
        for indices in (y,) if targets is y else (y, targets):
            if not indices.is_floating_point() and logits.ndim > 1:
                self.classes = logits.shape[1]
                self.ends += indices.aminmax()
        labels, known = batches.classes_named_by(y)
        if labels is not None and logits.ndim == 2:
            self.correct.append((logits.detach().argmax(1) == labels).sum())
            if isinstance(known, Tensor):
                self.known.append(known)

    def means(self, epoch: int) -> dict[str, float]:
        """Means over the epoch's samples.

        Raises:
            ValueError: there was no batch, or a label without an output.
            NonFiniteLossError: a step's loss is NaN or infinite.
        """
        if not self.losses:
            raise ValueError("train_loader is empty: it gives no batch.")
        if self.ends:
            batches.check_range(*torch.stack(self.ends).aminmax(), self.classes)
        row = {"train_loss": self._mean(self.losses, f"the training loss of epoch {epoch}"), "train_accuracy": torch.nan}
        if len(self.correct) == len(self.sizes) and (not self.known or bool(torch.stack(self.known).all())):
            row["train_accuracy"] = torch.stack(self.correct).sum().item() / sum(self.sizes)
        if self.extras:
            row["extra_loss"] = self._mean(self.extras, f"the extra loss of epoch {epoch}")
        return row

    def _mean(self, values: list[Tensor], what: str) -> float:
        losses = torch.stack(values).double().cpu()
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            batches.need_finite(losses[step].item(), f"{what}, step {step + 1} of {len(losses)},")
        weights = torch.tensor(self.sizes, dtype=torch.float64)
        return ((losses * weights).sum() / weights.sum()).item()
