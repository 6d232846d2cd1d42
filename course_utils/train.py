"""Training, evaluation and prediction: one loop that knows the four function shapes and no technique by name.

Lesson 00 writes the same loop out inline and proves that `fit` gives the same weights.
"""

import copy
import math
import re
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from course_utils import checkpoint as checkpoints
from course_utils import parallel, precision, runtime, valid
from course_utils.checkpoint import CheckpointError, save_atomically
from course_utils.precision import Amp

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[Tensor, Tensor], Tensor]


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names epoch and step."""


class Evaluation(NamedTuple):
    """What `evaluate` returns: mean ``loss`` over the samples, and ``accuracy`` in 0..1 (NaN for regression)."""

    loss: float
    accuracy: float


class Predictions(NamedTuple):
    """What `predict` returns, in the loader's order and on the CPU: float32 ``logits`` ``(N, K)``, and ``targets``."""

    logits: Tensor
    targets: Tensor


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


@parallel.lost_workers_named()
def fit(
    model: nn.Module,
    train_loader: Iterable[tuple[Tensor, Tensor]],
    *,
    optimizer: torch.optim.Optimizer,
    loss: Loss = F.cross_entropy,
    epochs: int,
    val_loader: Iterable[tuple[Tensor, Tensor]] | None = None,
    batch_transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    schedule_every: Literal["epoch", "step"] = "epoch",
    early_stopping: EarlyStopping | None = None,
    extra_loss: Callable[[nn.Module, int], Tensor] | None = None,
    amp: Amp = "auto",
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> History:
    """Train ``model`` where its parameters are, and return what happened. Written out inline in lesson 00.

    However training ends, also by an interrupt or an error, the model is left in evaluation mode, and with the best weights so
    far under early stopping.

    Under torchrun (``torchrun --nproc-per-node=4 lesson.py``) the workers share out each batch: batches, loss curve and
    weights are those of one process to float tolerance, the history is equal on all ranks, and rank 0 writes the checkpoint,
    which all machines must see. Random numbers drawn in the model (dropout) differ from rank to rank; ``batch_transform``
    and ``extra_loss`` are the same on every rank. A parameter must get a gradient in every step of the run or in none.

    Args:
        model: called as ``model(x)``. In a model in training mode, frozen parts in evaluation mode stay so, also in later
            calls, until ``model.train()`` is called: parts none of whose parameters requires a gradient, and batch
            normalisations all of whose neighbours are in training mode. All else is trained, so also a body that was trained
            before (and so comes in evaluation mode) under a new head. Weights and images get the layout of
            `precision.layout`.
        train_loader: batches ``(x, y)`` with ``y`` class indices ``(B,)``, integers of any width or booleans, which arrive as
            int64; probabilities ``(B, K)``; or numbers shaped like the model's output. Floating point ``x`` and ``y`` are
            turned into the model's own type. Iterated once an epoch.
        optimizer: over the model's parameters. Torch's fused update is switched on where it has one and the choice was
            left open.
        loss: ``(logits, y) -> scalar`` mean over the batch.
        epochs: passes over ``train_loader``, at least 1.
        val_loader: evaluated once an epoch, by the same loss.
        batch_transform: ``(x, y) -> (x, y)`` on each training batch, on the device. Training accuracy is counted against the
            loader's labels, not the transformed ones; where images are mixed it is only a lower bound.
        scheduler: stepped once an epoch, or after every optimizer step with ``schedule_every="step"`` (one-cycle); a step that
            fp16's loss scaling left out does not count. ``ReduceLROnPlateau`` is given the validation loss, or with
            ``mode="max"`` the validation accuracy.
        early_stopping: needs ``val_loader``.
        extra_loss: ``(model, epoch) -> scalar``, a tensor or a number, added to the loss of every step; epochs count from 1 (an
            unlabelled term).
        amp: mixed precision. ``"auto"``: bf16 on GPUs that have it, fp16 with loss scaling on older ones, bf16 on CPUs with
            units for it (AMX, AVX-512 BF16), else none. The loss itself is always computed in float32 (for a float64 model in
            float64).
        progress: show one bar for the whole run, with the last epoch's loss and accuracy.
        checkpoint: file written after each epoch, whole or not at all. If it exists, the run goes on from there and ends
            with the same weights, bit for bit on the same CPU, as if it had never stopped. The state of torch's, NumPy's
            and Python's global generators is kept, and that of a ``generator`` of the loader or its sampler; that of a
            DataLoader's ``persistent_workers`` cannot be, so what such workers draw themselves differs.
            This call's arguments decide: early stopping is judged anew by its rule, and a learning rate, a schedule or
            another setting that is not the file's is refused.

    Raises:
        ValueError: no epochs, an empty loader, ``y`` that does not fit the model's output in any batch (read at the end of the
            epoch, or when a loss stumbles over it), integer inputs that the model cannot take, a batch of one sample in front
            of a batch normalisation, a schedule shorter than the run, early stopping without ``val_loader``.
        NonFiniteLossError: the loss became NaN or infinite; a checkpoint keeps the last good epoch.
        CheckpointError: the checkpoint is damaged, a folder, of another model, optimizer or schedule, or of more epochs.
        OSError: the checkpoint cannot be written; found before the first epoch where it can be.
        LostWorkerError: under torchrun, another worker was killed or failed.
    """
    epochs = valid.whole_number(epochs, "epochs", 1)
    _check_arguments(optimizer, val_loader, scheduler, schedule_every, early_stopping)
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(model, train_loader, optimizer, loss, batch_transform, scheduler, schedule_every, extra_loss, amp)
        path = Path(checkpoint).expanduser() if checkpoint is not None else None
        run.begin(path, epochs, val_loader, early_stopping)
        done = len(run.history.rows)
        total = None if run.steps is None else run.steps * (epochs - done)
        try:
            with runtime.progress(description="training", total=total, show=progress) as bar:
                for epoch in range(done + 1, epochs + 1):
                    if run.history.stopped_early:
                        break
                    row = run.whole_epoch(epoch, bar, val_loader, path)
                    run.keep_best(early_stopping)
                    bar.set_postfix_str(_summary(row))
                    if path is not None:
                        run.save(path)
        finally:
            if run.best is not None:
                model.load_state_dict(run.best)
            model.eval()
    return run.history


def evaluate(
    model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], *, loss: Loss = F.cross_entropy, amp: Amp = "auto"
) -> Evaluation:
    """Loss and accuracy of a model in evaluation mode over all samples of a loader, each counted once.

    Accuracy compares the largest logit with the label (with the most probable class for targets ``(N, K)``).
    Inputs and targets are taken as in `fit`. The model's mode is put back afterwards. Lesson 00.

    Raises:
        ValueError: the loader is empty, targets do not fit the model's output, or inputs or targets are not finite.
    """
    found = _predict(model, loader, amp)
    found.refuse_bad_inputs()
    if found.targets.is_floating_point() and not bool(found.targets.isfinite().all()):
        raise ValueError(f"the targets {_NOT_FINITE}")
    return found.evaluation(loss)


def predict(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], *, amp: Amp = "auto") -> Predictions:
    """Logits of a model in evaluation mode, and the targets beside them, in the loader's order.

    Inputs are taken as in `fit`. The model's mode is put back afterwards. Lesson 00.

    Raises:
        ValueError: the loader is empty, or inputs are not finite.
    """
    found = _predict(model, loader, amp)
    found.refuse_bad_inputs()
    return Predictions(found.logits.cpu(), found.targets.cpu())


class _Predicted(NamedTuple):
    """Logits and targets of a whole loader, on the device."""

    logits: Tensor
    targets: Tensor
    bad_batch: int | None  # the first batch, from 1, whose inputs are not finite, if that made logits so

    def refuse_bad_inputs(self) -> None:
        if self.bad_batch is not None:
            raise ValueError(f"the inputs of batch {self.bad_batch} {_NOT_FINITE}")

    def evaluation(self, loss: Loss) -> Evaluation:
        logits, targets = self.logits, _fitting(self.logits, self.targets)
        with torch.no_grad():
            _check_labels(targets, logits)
            value = loss(logits, targets).item()
        labels, known = _labels_of(targets)
        # What is not a number names no class.
        right = (logits.argmax(1) == labels) & logits.isfinite().all(1) if known else None
        return Evaluation(value, torch.nan if right is None else right.double().mean().item())


def _predict(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], amp: Amp) -> _Predicted:
    device = _device(model)
    layout = precision.layout(model, device)
    autocast = precision.autocast(device, precision.choose(device, amp, model))
    own_type = precision.own_type(model)
    logits, targets, sums = [], [], []
    # The outermost autocast owns the cast copies of weights: with this one around, all batches share them.
    keep_casts = torch.autocast(device.type, enabled=False)
    with precision.evaluation_mode(model), torch.no_grad(), keep_casts:
        for x, y in loader:
            x, y = _as_type(_on(device, x), own_type), _integers_as_int64(_on(device, y))
            logits.append(_call(model, precision.laid_out(x, layout), autocast))
            sums.append(_sum(x))
            targets.append(y)
    if not logits:
        raise ValueError("the loader is empty: it gives no batch to evaluate.")
    logits = torch.cat(logits)
    bad = [] if bool(logits.isfinite().all()) else (~torch.stack(sums).isfinite()).nonzero()
    return _Predicted(logits, torch.cat(targets), int(bad[0]) + 1 if len(bad) else None)


class _Run:
    """Everything of a run that changes while it goes on, and so must be saved to go on later."""

    def __init__(
        self,
        model: nn.Module,
        train_loader: Iterable[tuple[Tensor, Tensor]],
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        batch_transform: Callable | None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        schedule_every: str,
        extra_loss: Callable | None,
        amp: Amp,
    ) -> None:
        self.model, self.train_loader, self.optimizer, self.loss = model, train_loader, optimizer, loss
        self.batch_transform, self.extra_loss = batch_transform, extra_loss
        self.scheduler, self.schedule_every = scheduler, schedule_every
        self.steps = _length(train_loader)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.frozen = _frozen_parts(model)
        self.device, self.own_type, self.amp = _device(model), precision.own_type(model), amp
        self.settings: dict = {}
        if scheduler is not None:  # NumPy's numbers do not compute after a checkpoint as before it
            scheduler.load_state_dict(checkpoints.plain(scheduler.state_dict()))
        self.stepped = False
        chosen = precision.choose(self.device, amp, model)
        self.autocast = precision.autocast(self.device, chosen)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=chosen is torch.float16)
        self.shared = model  # as it is called
        self.layout = torch.contiguous_format

    def begin(self, path: Path | None, epochs: int, val_loader: object, rule: EarlyStopping | None) -> None:
        """Go on from a checkpoint if there is one, refuse now what would fail later, and get the model ready."""
        if path is not None:
            self.settings = checkpoints.settings(self.model, self.optimizer, self.scheduler, self.schedule_every, path)
            if path.is_file():
                self.load(path, epochs, val_loader, rule)
            elif runtime.rank() == 0:
                checkpoints.need_readable(self._moving() | {"settings": self.settings})
            if runtime.rank() == 0:
                checkpoints.need_place(path)
        self._check_schedule(epochs)
        self.layout = precision.lay_out(self.model, self.device)
        precision.match_layout(self.optimizer)
        self.shared = parallel.shared_out(self.model)
        self.start_as_rank_0(path)

    def whole_epoch(self, epoch: int, bar: tqdm, val_loader: object, path: Path | None) -> dict[str, float]:
        """Train and validate for an epoch, and enter it into the history."""
        start = time.perf_counter()
        try:
            row = self.train_epoch(epoch, bar)
            if val_loader is not None:
                row["val_loss"], row["val_accuracy"] = self._validate(epoch, val_loader)
        except NonFiniteLossError as error:
            bad = _not_finite("training", self.train_loader, self.batch_transform) | _not_finite("validation", val_loader)
            cause = f"The {' and the '.join(sorted(bad))} {_NOT_FINITE}" if bad else _USUAL_CAUSES
            saved = f" {path} keeps epoch {epoch - 1}, the last good one." if path is not None and path.exists() else ""
            raise NonFiniteLossError(f"{error} {cause}{saved}") from None
        row = parallel.from_first(row | {"seconds": time.perf_counter() - start})
        self.history.rows.append(row)
        if self.scheduler is not None and self.schedule_every == "epoch":
            # Only this scheduler wants to know how well it went.
            plateau = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            watched = "val_accuracy" if getattr(self.scheduler, "mode", "min") == "max" else "val_loss"
            self.scheduler.step(row[watched]) if plateau else self.scheduler.step()
        return row

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """One pass. Sums stay on the device and are read once, at the end: reading them at each step would stall a GPU."""
        self._training_mode()
        row = {"lr": float(self.optimizer.param_groups[0]["lr"])}
        seen = _Seen()
        for x, y in self.train_loader:
            x, y = _as_type(_on(self.device, x), self.own_type), _integers_as_int64(_on(self.device, y))
            inputs, targets = self.batch_transform(x, y) if self.batch_transform else (x, y)
            logits = _call(self.shared, precision.laid_out(inputs, self.layout), self.autocast)
            targets = _fitting(logits, _integers_as_int64(targets))
            seen.count(logits.detach(), y, targets)
            try:
                batch_loss = self.loss(logits, targets)
            except (IndexError, RuntimeError):  # torch stumbles over a label without an output; other losses may not
                _check_labels(targets, logits)
                raise
            seen.losses.append(batch_loss.detach())
            if self.extra_loss:
                with self.autocast:
                    extra = torch.as_tensor(self.extra_loss(self.model, epoch), device=self.device)
                seen.extras.append(extra.detach())
                batch_loss = batch_loss + extra
            if not batch_loss.requires_grad:
                raise ValueError("there is nothing to train: the loss depends on no parameter that requires a gradient.")
            self._step(batch_loss)
            bar.update()
        return row | seen.summary(epoch)

    def _training_mode(self) -> None:
        self.shared.train()
        for part in self.frozen:
            part.training = False

    def _step(self, batch_loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(batch_loss).backward()
        if not self.stepped:
            precision.use_fused_step(self.optimizer)
            self.stepped = True
        by_step = self.scheduler is not None and self.schedule_every == "step"
        # Asking for the scale waits for a GPU; only a schedule by step with fp16 has to know what became of each step.
        before = self.scaler.get_scale() if by_step and self.scaler.is_enabled() else 0.0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if by_step and not (self.scaler.is_enabled() and self.scaler.get_scale() < before):
            self.scheduler.step()

    def _validate(self, epoch: int, val_loader: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
        value = _predict(self.shared, val_loader, self.amp).evaluation(self.loss)
        _need_finite(value.loss, f"the validation loss of epoch {epoch}")
        return value

    def keep_best(self, rule: EarlyStopping | None) -> None:
        """Judge the epochs so far by a rule, and keep the weights if the last one is the best."""
        self.history.judge(rule)
        if rule is None:
            self.best = None
        elif self.history.best_epoch == len(self.history.rows):
            self.best = copy.deepcopy(self.model.state_dict())

    def start_as_rank_0(self, path: Path | None) -> None:
        """Take over the random state of rank 0. Its weights have come already."""
        if runtime.world_size() == 1:
            return
        own = checkpoints.generators(self.train_loader)
        epochs, state = parallel.from_first((len(self.history.rows), checkpoints.random_state(own)))
        if epochs != len(self.history.rows):
            raise CheckpointError(f"rank 0 goes on after epoch {epochs} of {path}: put it where all machines see it.")
        state["cuda"] = state["cuda"][:1] * len(state["cuda"])  # rank 0 trains on the first
        checkpoints.set_random_state(state, own)

    # --- checkpoints ---------------------------------------------------------------------------------------------------------

    def _moving(self) -> dict:
        """State of what steps and counts, but for the weights."""
        return {
            "optimizer": checkpoints.plain(self.optimizer.state_dict()),
            "scheduler": None if self.scheduler is None else checkpoints.plain(self.scheduler.state_dict()),
            "scaler": self.scaler.state_dict(),
        }

    def save(self, path: Path) -> None:
        if runtime.rank() == 0:
            random = checkpoints.random_state(checkpoints.generators(self.train_loader))
            state = {"settings": self.settings, "model": self.model.state_dict(), "best": self.best, "random": random}
            save_atomically(state | self._moving() | {"history": vars(self.history)}, path)
        parallel.from_first(None)  # nobody goes on, and reads the file before it is there

    def load(self, path: Path, epochs: int, val_loader: object, rule: EarlyStopping | None) -> None:
        """Take over what a checkpoint holds; one that does not belong to this run leaves the run as it is."""
        cure = f"Delete {path} to start again, or give the run another checkpoint file."
        parts = {"settings", "model", "optimizer", "scheduler", "scaler", "best", "history", "random"}
        state = checkpoints.read(path, parts, cure)
        generators = checkpoints.generators(self.train_loader)
        other = (
            checkpoints.difference(state["settings"], self.settings)
            or checkpoints.other_weights(state["model"], self.model.state_dict())
            or checkpoints.other_generators(state["random"], generators)
        )
        if other:
            raise CheckpointError(f"{path} belongs to another model, optimizer, schedule or loader ({other}). {cure}")
        history = History(**state["history"])
        done = len(history.rows)
        if epochs < done:
            raise CheckpointError(f"{path} is of {done} epochs already, and this run asks for {epochs}. {cure}")
        # Its best epoch's weights are there if that is the last epoch, or was the best by the rule of that time.
        kept = {done} if state["best"] is None else {done, history.best_epoch}
        try:
            history.judge(rule)
        except ValueError as error:
            raise CheckpointError(f"{path} was made without what early stopping needs ({error}) {cure}") from error
        if history.best_epoch not in kept:
            raise CheckpointError(f"{path} does not keep the best epoch by this rule of early stopping. {cure}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            if state["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            for loader in (self.train_loader, val_loader):
                if getattr(loader, "persistent_workers", False):
                    iter(loader)  # their start draws a number, which the run that is gone on with has drawn already
            checkpoints.set_random_state(state["random"], generators)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{path} belongs to another model, optimizer, schedule or loader ({error}). {cure}"
            ) from error
        self.history, self.best = history, state["best"]
        self.keep_best(rule)

    def _check_schedule(self, epochs: int) -> None:
        """A one-cycle schedule has an end, and torch says so when it is there, in the middle of an epoch."""
        end, done = _end(self.scheduler), getattr(self.scheduler, "last_epoch", 0)
        if end is None or self.steps is None:
            return
        left = (epochs - len(self.history.rows)) * (self.steps if self.schedule_every == "step" else 1)
        if done + left > end:
            cure = (
                "Make model, optimizer and schedule anew: this one has begun already." if done else "Give it more total_steps."
            )
            raise ValueError(
                f"the schedule ends after {end} steps, and this run goes to {done + left}: {epochs} epochs of {self.steps} "
                f"steps, schedule_every={self.schedule_every!r}. {cure}"
            )


class _Seen:
    """What an epoch's steps leave behind, on the device: read once, at its end."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.extras: list[Tensor] = []
        self.sizes: list[int] = []
        self.correct: list[Tensor] = []
        self.known: list[Tensor] = []
        self.ends: list[Tensor] = []  # smallest and largest label
        self.classes = 0

    def count(self, logits: Tensor, y: Tensor, targets: Tensor) -> None:
        if not len(y):
            raise ValueError("a batch holds no sample: leave it out.")
        self.sizes.append(len(y))
        for labels in (y,) if targets is y else (y, targets):
            if not labels.is_floating_point() and logits.ndim > 1:
                self.classes = logits.shape[1]
                self.ends += labels.aminmax()
        labels, known = _labels_of(y)
        if labels is not None and logits.ndim == 2:
            self.correct.append((logits.argmax(1) == labels).sum())
            if known is not True:
                self.known.append(known)

    def summary(self, epoch: int) -> dict[str, float]:
        """Means over the epoch's samples.

        Raises:
            ValueError: there was no batch, or a label without an output.
            NonFiniteLossError: a step's loss is NaN or infinite.
        """
        if not self.losses:
            raise ValueError("train_loader is empty: it gives no batch.")
        if self.ends:
            _check_range(*torch.stack(self.ends).aminmax(), self.classes)
        row = {"train_loss": self._mean(self.losses, f"the training loss of epoch {epoch}"), "train_accuracy": torch.nan}
        if len(self.correct) == len(self.sizes) and (not self.known or bool(torch.stack(self.known).all())):
            row["train_accuracy"] = torch.stack(self.correct).sum().item() / sum(self.sizes)
        if self.extras:
            row["extra_loss"] = self._mean(self.extras, f"the extra loss of epoch {epoch}")
        return row

    def _mean(self, values: list[Tensor], what: str) -> float:
        values = torch.stack(values).double().cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            _need_finite(values[step].item(), f"{what}, step {step + 1} of {len(values)},")
        weights = torch.tensor(self.sizes, dtype=torch.float64)
        return ((values * weights).sum() / weights.sum()).item()


def _summary(row: dict[str, float]) -> str:
    """Loss and accuracy of an epoch in few words: training, then validation."""
    pairs = (("loss", "train_loss", "val_loss"), ("accuracy", "train_accuracy", "val_accuracy"))
    shown = {word: [f"{row[name]:.3f}" for name in names if not np.isnan(row.get(name, np.nan))] for word, *names in pairs}
    return ", ".join(f"{word} {', val '.join(values)}" for word, values in shown.items() if values)


# --- what is taken, and what is refused --------------------------------------------------------------------------------------


def _check_arguments(
    optimizer: object, val_loader: object, scheduler: object, schedule_every: str, early_stopping: EarlyStopping | None
) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS asks for the loss several times a step, which fit does not do: write the loop yourself.")
    if schedule_every not in ("epoch", "step"):
        raise ValueError(f"schedule_every is {schedule_every!r}; it must be 'epoch' or 'step'.")
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and schedule_every == "step":
        raise ValueError(
            "ReduceLROnPlateau looks at the validation loss, which exists once an epoch: use schedule_every='epoch'."
        )
    if val_loader is None and (early_stopping is not None or plateau):
        raise ValueError("early stopping and ReduceLROnPlateau look at the validation loss: give val_loader.")


def _call(model: nn.Module, x: Tensor, autocast: torch.autocast) -> Tensor:
    """A model's output in float32 (float64 as it is), and torch's refusals in the words of what is to be done."""
    try:
        with autocast:
            logits = model(x)
    except (RuntimeError, ValueError) as error:
        if len(x) == 1 and "Expected more than 1 value per channel" in str(error):
            raise ValueError(
                "a batch has one sample, and batch normalisation needs two to see a spread: use a loader with drop_last=True, "
                "or another batch size."
            ) from error
        if not x.is_floating_point() and "'indices'" in str(error):
            raise ValueError(
                f"inputs are {x.dtype}, and an embedding looks them up: turn them into int64 by x.long()."
            ) from error
        if not x.is_floating_point() and re.search(
            r"dtype|[Ss]calar type|[Ii]nput type|result type|not implemented for", str(error)
        ):
            raise ValueError(
                f"inputs are {x.dtype}, and the model computes with floating point numbers: turn them into such first, images "
                "by batch_transform=augment.normalize(mean, std) in fit or in the loader, other data by x.float()."
            ) from error
        raise
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model gives a {type(logits).__name__}; wrap it in a module that gives one tensor, its logits.")
    if logits.ndim == 0 or len(logits) != len(x):
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for a batch of {len(x)}: it must give a row for each sample, also "
            "for one (squeeze(1) instead of squeeze())."
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor on a device; one made in inference mode is copied, since training may not remember it."""
    tensor = tensor.to(device, non_blocking=True)
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _as_type(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Floating point inputs in the model's own type: NumPy's are float64, and no layer takes both."""
    return x.to(dtype) if dtype is not None and x.is_floating_point() and x.dtype != dtype else x


def _integers_as_int64(y: Tensor) -> Tensor:
    return y if y.is_floating_point() or y.is_complex() else y.long()


def _fitting(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets in the type of the logits; refuses shapes that torch would broadcast in silence or report in a kernel's words."""
    if targets.is_floating_point():
        if logits.shape != targets.shape:
            raise ValueError(
                f"the model gives {tuple(logits.shape)} and the targets are {tuple(targets.shape)}; numbers and probabilities "
                "need the same shape on both sides, or the loss broadcasts them against each other in silence."
            )
        return targets.to(logits.dtype)
    if logits.ndim < 2 or logits.shape[0] != targets.shape[0] or logits.shape[2:] != targets.shape[1:]:
        numbers = " For one-hot rows or numbers give y.float()." if logits.shape == targets.shape else ""
        raise ValueError(
            f"the model gives {tuple(logits.shape)} and the class labels are {tuple(targets.shape)}; "
            f"expected logits (B, K) for labels (B,).{numbers}"
        )
    return targets


def _check_labels(targets: Tensor, logits: Tensor) -> None:
    if not targets.is_floating_point() and targets.numel():
        _check_range(*targets.aminmax(), logits.shape[1])


def _check_range(low: Tensor, high: Tensor, outputs: int) -> None:
    low, high = int(low), int(high)
    if low < 0 or high >= outputs:
        raise ValueError(f"labels go from {low} to {high}, and the model has {outputs} outputs, for labels 0 to {outputs - 1}.")


def _labels_of(y: Tensor) -> tuple[Tensor | None, Tensor | bool]:
    """Class labels as targets name them, and whether they do: of numbers, only probabilities name a class (on the device)."""
    if not y.is_floating_point():
        return (y, True) if y.ndim == 1 else (None, False)
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(1), (y >= 0).all() & ((y.sum(1) - 1).abs() <= 1e-3).all()
    return None, False


_USUAL_CAUSES = (
    "Usual causes: a learning rate that is too high (try a tenth), inputs that are not normalised, "
    "or a logarithm or division of zero in the loss."
)
_NOT_FINITE = "are not finite (NaN or infinite): fill or drop those samples."


def _sum(x: Tensor) -> Tensor:
    """A sum tells at little cost whether all is finite."""
    return x.sum(dtype=torch.float32) if x.is_floating_point() else x.new_zeros((), dtype=torch.float32)


def _not_finite(name: str, loader: object, transform: Callable | None = None) -> set[str]:
    """What one more pass finds that is not finite. For a run that has failed: each step could not be asked at no cost."""
    bad = set()
    for x, y in loader if loader is not None and _length(loader) is not None else ():
        parts = {f"{name} inputs": x, f"{name} targets": y}
        bad |= {part for part, values in parts.items() if not bool(_sum(values).isfinite())}
        if transform is not None and not bad and not all(bool(_sum(values).isfinite()) for values in transform(x, y)):
            bad.add("batches that batch_transform makes")
    return bad


def _length(loader: object) -> int | None:
    """Batches in a loader, where it knows."""
    try:
        return len(loader)
    except TypeError:  # also a DataLoader of a dataset without a length
        return None


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


# Parts that were frozen when a model was first trained: afterwards all of it is in evaluation mode.
_FROZEN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _frozen_parts(model: nn.Module) -> list[nn.Module]:
    """Parts that stay in evaluation mode: as the caller set them, or, in a model that `fit` has left so, as they were then."""
    if model.training:
        pairs = [(parent, part) for parent in model.modules() for part in parent.children()]
        _FROZEN[model] = [module for pair in pairs if _is_frozen(*pair) for module in pair[1].modules()]
    return _FROZEN.get(model, [])


def _is_frozen(parent: nn.Module, part: nn.Module) -> bool:
    """Evaluation mode alone is no wish to freeze: `fit` has left so the body that a new head is put on."""
    if part.training:
        return False
    weights = list(part.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        return True
    norms = nn.modules.batchnorm._BatchNorm
    layers = [
        each.training for each in parent.children() if not isinstance(each, norms) and any(True for _ in each.parameters())
    ]
    return isinstance(part, norms) and bool(layers) and all(layers)


def _need_finite(value: float, what: str) -> None:
    if not np.isfinite(value):
        raise NonFiniteLossError(f"{what} is {value}.")


def _device(model: nn.Module) -> torch.device:
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
