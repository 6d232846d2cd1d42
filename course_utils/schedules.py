"""When `train.fit` moves a learning-rate schedule, and whether it lasts for the run."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


@dataclass(frozen=True)
class EveryStep:
    """A schedule for `train.fit` that moves after every optimizer step, as one-cycle does, and not once an epoch.

    Args:
        scheduler: any of ``torch.optim.lr_scheduler`` but ``ReduceLROnPlateau``.

    Raises:
        ValueError: a plateau cannot be seen at every step.

    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> schedule = EveryStep(torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100))
    """

    scheduler: LRScheduler

    def __post_init__(self) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise ValueError(
                "ReduceLROnPlateau looks at the validation loss, which exists once an epoch: give it without EveryStep."
            )


class Schedule:
    """A scheduler, or none, and when it moves."""

    def __init__(self, scheduler: LRScheduler | EveryStep | None) -> None:
        self.by_step = isinstance(scheduler, EveryStep)
        self.scheduler = scheduler.scheduler if isinstance(scheduler, EveryStep) else scheduler
        self.watches_validation = isinstance(self.scheduler, ReduceLROnPlateau)

    @contextmanager
    def after_step(self, scaler: torch.amp.GradScaler) -> Iterator[None]:
        """Move by a step after the optimizer's step in the block, unless fp16's loss scaling left that out."""
        # Asking for the scale waits for a GPU; only a schedule by step with fp16 has to know what became of each step.
        asks = self.by_step and scaler.is_enabled()
        before = scaler.get_scale() if asks else 0.0
        yield
        if self.by_step and self.scheduler is not None and not (asks and scaler.get_scale() < before):
            self.scheduler.step()

    def after_epoch(self, row: Mapping[str, float]) -> None:
        """Move by an epoch; ``row`` is the epoch's, in which a plateau looks for what it watches."""
        if self.scheduler is None or self.by_step:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(row["val_accuracy" if self.scheduler.mode == "max" else "val_loss"])
        else:
            self.scheduler.step()

    def need_length(self, done: int, epochs: int, steps: int | None) -> None:
        """Raise unless the schedule lasts: torch says that one-cycle has ended when it is there, in the middle of an epoch.

        Args:
            done: epochs that were trained before.
            epochs: of the whole run.
            steps: of an epoch; ``None`` where the loader does not know.

        Raises:
            ValueError: it ends before the run.
        """
        end, begun = _end(self.scheduler), getattr(self.scheduler, "last_epoch", 0)
        if end is None or steps is None:
            return
        last = begun + (epochs - done) * (steps if self.by_step else 1)
        if last > end:
            moves = "every step" if self.by_step else "every epoch"
            cure = "Make model, optimizer and schedule anew: this one has begun already."
            raise ValueError(
                f"the schedule ends after {end} steps, and this run goes to {last}: {epochs} epochs of {steps} steps, and it "
                f"moves {moves}. {cure if begun else 'Give it more total_steps.'}"
            )


def _end(scheduler: object) -> int | None:
    """After how many steps a schedule, or one within it, ends."""
    ends = [getattr(scheduler, "total_steps", None)]
    inner = getattr(scheduler, "_schedulers", ())
    starts = [0, *getattr(scheduler, "_milestones", [0] * len(inner))]
    for start, stop, part in zip(starts, [*starts[1:], math.inf], inner, strict=False):
        own = _end(part)
        if own is not None and (stop <= start or start + own < stop):
            ends.append(start + own)
    return min((end for end in ends if end is not None), default=None)
