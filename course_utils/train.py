"""Training, evaluation and prediction: one loop that knows the four function shapes and no technique by name.

Lesson 00 writes the same loop out inline and proves that `fit` gives the same weights.
"""

import copy
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from course_utils import parallel, runtime

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[Tensor, Tensor], Tensor]
Amp = Literal["auto", "off", "bf16", "fp16"]


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names epoch and step."""


class CheckpointError(RuntimeError):
    """A checkpoint file cannot be read, or belongs to another run."""


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
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}; it must be at least 1 epoch, or None to never stop.")
        if self.monitor not in ("val_loss", "val_accuracy"):
            raise ValueError(f"monitor is {self.monitor!r}; it must be 'val_loss' or 'val_accuracy'.")
        if self.min_delta < 0:
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

    Under torchrun (``torchrun --nproc-per-node=4 lesson.py``) the workers share out each batch: batches, loss curve and
    weights are those of one process to float tolerance, the history is equal on all ranks, and rank 0 writes the checkpoint,
    which all machines must see. Random numbers drawn in the model (dropout) differ from rank to rank; ``batch_transform``
    and ``extra_loss`` are the same on every rank. A parameter must get a gradient in every step of the run or in none.

    Args:
        model: called as ``model(x)``. Left in evaluation mode, with the best weights under early stopping.
        train_loader: batches ``(x, y)`` with ``y`` class indices ``(B,)``, probabilities ``(B, K)``, or numbers shaped like the
            model's output. Iterated once an epoch.
        optimizer: over the model's parameters. Torch's fused update is switched on where it has one and the choice was
            left open.
        loss: ``(logits, y) -> scalar`` mean over the batch.
        epochs: passes over ``train_loader``, at least 1.
        val_loader: evaluated once an epoch, by the same loss.
        batch_transform: ``(x, y) -> (x, y)`` on each training batch, on the device. Training accuracy is counted against the
            loader's labels, not the transformed ones; where images are mixed it is only a lower bound.
        scheduler: stepped once an epoch, or after every optimizer step with ``schedule_every="step"`` (one-cycle).
            ``ReduceLROnPlateau`` is given the validation loss.
        early_stopping: needs ``val_loader``.
        extra_loss: ``(model, epoch) -> scalar`` added to the loss of every step, epochs from 1 (an unlabelled term).
        amp: mixed precision. ``"auto"``: bf16 on GPUs that have it, fp16 with loss scaling on older ones, bf16 on CPUs with
            units for it (AMX, AVX-512 BF16), else none. The loss itself is always computed in float32.
        progress: show one bar for the whole run, with the last epoch's loss and accuracy.
        checkpoint: file written after each epoch, whole or not at all. If it exists, the run goes on from there and ends
            with the same weights, bit for bit on the same CPU, as if it had never stopped. The state of torch's, NumPy's
            and Python's global generators is kept, and that of a ``generator`` of the loader or its sampler.

    Raises:
        ValueError: no epochs, an empty loader, ``y`` that does not fit the model's output, early stopping without
            ``val_loader``.
        NonFiniteLossError: the loss became NaN or infinite; a checkpoint keeps the last good epoch.
        CheckpointError: the checkpoint is damaged or of another model or optimizer.
        LostWorkerError: under torchrun, another worker was killed or failed.
    """
    _check_arguments(epochs, val_loader, scheduler, schedule_every, early_stopping)
    run = _Run(model, train_loader, optimizer, loss, batch_transform, scheduler, schedule_every, extra_loss, amp)
    history = run.history
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        run.load(path, early_stopping)
    run.start_as_rank_0(path)
    first = len(history.rows) + 1
    steps = len(train_loader) if hasattr(train_loader, "__len__") else None
    total = None if steps is None else steps * max(0, epochs - first + 1)
    with runtime.progress(description="training", total=total, show=progress) as bar:
        for epoch in range(first, epochs + 1):
            if history.stopped_early:
                break
            start = time.perf_counter()
            try:
                row = run.train_epoch(epoch, bar)
                if val_loader is not None:
                    row["val_loss"], row["val_accuracy"] = evaluate(run.shared, val_loader, loss=loss, amp=amp)
                    _need_finite(row["val_loss"], f"the validation loss of epoch {epoch}")
            except NonFiniteLossError as error:
                saved = f" {path} keeps epoch {epoch - 1}, the last good one." if path is not None and path.exists() else ""
                raise NonFiniteLossError(f"{error}{saved}") from None
            row = parallel.from_first(row | {"seconds": time.perf_counter() - start})
            history.rows.append(row)
            if scheduler is not None and schedule_every == "epoch":
                # Only this scheduler wants to know how well it went.
                plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(row["val_loss"]) if plateau else scheduler.step()
            run.keep_best(early_stopping)
            bar.set_postfix_str(_summary(row))
            if path is not None:
                run.save(path)
    if run.best is not None:
        model.load_state_dict(run.best)
    model.eval()
    return history


def evaluate(
    model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], *, loss: Loss = F.cross_entropy, amp: Amp = "auto"
) -> Evaluation:
    """Loss and accuracy of a model in evaluation mode over all samples of a loader, each counted once.

    Accuracy compares the largest logit with the label (with the most probable class for targets ``(N, K)``).
    The model's mode is put back afterwards. Lesson 00.

    Raises:
        ValueError: the loader is empty, or targets do not fit the model's output.
    """
    logits, targets = _predict(model, loader, amp)
    _check_shapes(logits, targets)
    to_labels = _labels_of(targets)
    accuracy = (logits.argmax(1) == to_labels(targets)).double().mean().item() if to_labels else torch.nan
    return Evaluation(loss(logits, targets).item(), accuracy)


def predict(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], *, amp: Amp = "auto") -> Predictions:
    """Logits of a model in evaluation mode, and the targets beside them, in the loader's order.

    The model's mode is put back afterwards. Lesson 00.

    Raises:
        ValueError: the loader is empty.
    """
    logits, targets = _predict(model, loader, amp)
    return Predictions(logits.cpu(), targets.cpu())


def save_atomically(state: dict, path: str | Path) -> None:
    """Write ``torch.save(state)`` to ``path`` so that a reader finds the old file or the new one, never half of one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@torch.no_grad()
def _predict(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], amp: Amp) -> Predictions:
    device, conv = _layout(model)
    autocast = _autocast(device, _precision(device, amp))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    logits, targets = [], []
    # The outermost autocast owns the cast copies of weights: with this one around, all batches share them.
    keep_casts = torch.autocast(device.type, enabled=False)
    try:
        with keep_casts:
            for x, y in loader:
                with autocast:
                    logits.append(model(_to(x, device, conv)).float())
                targets.append(y.to(device, non_blocking=True))
    finally:
        for module, training in modes:  # one by one: a part that was frozen in evaluation mode stays so
            module.training = training
    if not logits:
        raise ValueError("the loader is empty: it gives no batch to evaluate.")
    return Predictions(torch.cat(logits), torch.cat(targets))


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
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.device, self.conv = _layout(model)
        if self.conv:
            model.to(memory_format=torch.channels_last)
        self.shared = parallel.shared_out(model)
        _use_fused_step(model, optimizer)
        precision = _precision(self.device, amp)
        self.autocast = _autocast(self.device, precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """One pass. Sums stay on the device and are read once, at the end: reading them at each step would stall a GPU."""
        self.shared.train()
        row = {"lr": float(self.optimizer.param_groups[0]["lr"])}
        losses, extras, correct, sizes = [], [], [], []
        to_labels = None
        for step, (x, y) in enumerate(self.train_loader):
            x, y = _to(x, self.device, self.conv), y.to(self.device, non_blocking=True)
            inputs, targets = self.batch_transform(x, y) if self.batch_transform else (x, y)
            with self.autocast:
                logits = self.shared(inputs)
            logits = logits.float()
            if step == 0:
                _check_shapes(logits, targets)
                to_labels = _labels_of(y)
            batch_loss = self.loss(logits, targets)
            losses.append(batch_loss.detach())
            sizes.append(len(y))
            if to_labels:
                correct.append((logits.detach().argmax(1) == to_labels(y)).sum())
            if self.extra_loss:
                with self.autocast:
                    extra = self.extra_loss(self.model, epoch)
                extras.append(extra.detach())
                batch_loss = batch_loss + extra
            self._step(batch_loss)
            bar.update()
        if not losses:
            raise ValueError("train_loader is empty: it gives no batch.")
        row["train_loss"] = _epoch_mean(losses, sizes, f"the training loss of epoch {epoch}")
        row["train_accuracy"] = torch.stack(correct).sum().item() / sum(sizes) if correct else torch.nan
        if extras:
            row["extra_loss"] = _epoch_mean(extras, sizes, f"the extra loss of epoch {epoch}")
        return row

    def _step(self, batch_loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(batch_loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scheduler is not None and self.schedule_every == "step":
            self.scheduler.step()

    def keep_best(self, rule: EarlyStopping | None) -> None:
        """Copy the weights if the epoch just finished is the best so far, and note whether to stop."""
        last = len(self.history.rows)
        self.history.best_epoch = last
        if rule is None:
            return
        values = [row[rule.monitor] for row in self.history.rows]
        if np.isnan(values[-1]):
            raise ValueError(f"early stopping watches {rule.monitor}, which these targets do not have: watch val_loss.")
        self.history.best_epoch = rule.best_epoch(values)
        self.history.stopped_early = rule.should_stop(values)
        if self.history.best_epoch == last:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def start_as_rank_0(self, path: Path | None) -> None:
        """Take over the random state of rank 0. Its weights have come already."""
        if runtime.world_size() == 1:
            return
        epochs, state = parallel.from_first((len(self.history.rows), _random_state(self._generators())))
        if epochs != len(self.history.rows):
            raise CheckpointError(f"rank 0 goes on after epoch {epochs} of {path}: put it where all machines see it.")
        state["cuda"] = state["cuda"][:1] * len(state["cuda"])  # rank 0 trains on the first
        _set_random_state(state, self._generators())

    def save(self, path: Path) -> None:
        if runtime.rank() == 0:
            save_atomically(
                {
                    "kinds": self._kinds(),
                    "model": self.model.state_dict(),
                    "optimizer": _plain(self.optimizer.state_dict()),
                    "scheduler": None if self.scheduler is None else _plain(self.scheduler.state_dict()),
                    "scaler": self.scaler.state_dict(),
                    "best": self.best,
                    "history": vars(self.history),
                    "random": _random_state(self._generators()),
                },
                path,
            )
        parallel.from_first(None)  # nobody goes on, and reads the file before it is there

    def load(self, path: Path, rule: EarlyStopping | None) -> None:
        cure = f"Delete {path} to start again, or give the run another checkpoint file."
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if set(state) != {"kinds", "model", "optimizer", "scheduler", "scaler", "best", "history", "random"}:
                raise KeyError("it lacks parts of a run")
        except Exception as error:  # what is no checkpoint fails in many ways, and the cure is the same
            raise CheckpointError(f"{path} is not a readable checkpoint ({error}). {cure}") from error
        try:
            if state["kinds"] != self._kinds():
                raise ValueError(f"it is of a run with {state['kinds']}, this one has {self._kinds()}")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
            _set_random_state(state["random"], self._generators())
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} belongs to another model, optimizer or loader ({error}). {cure}") from error
        for name, value in state["history"].items():
            setattr(self.history, name, value)
        if rule is None:
            return
        self.best = state["best"]
        values = [row.get(rule.monitor, np.nan) for row in self.history.rows]
        if self.best is None or rule.best_epoch(values) != self.history.best_epoch:
            raise CheckpointError(f"{path} does not keep the best epoch by this rule of early stopping. {cure}")

    def _kinds(self) -> dict[str, str]:
        return {name: type(getattr(self, name)).__name__ for name in ("model", "optimizer", "scheduler")}

    def _generators(self) -> list[torch.Generator]:
        loader = self.train_loader
        owners = (loader, getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
        found = [getattr(owner, "generator", None) for owner in owners]
        return list({id(generator): generator for generator in found if generator is not None}.values())


def _plain(state: object) -> object:
    """Turn NumPy's numbers (a schedule may compute with them) into Python's: the safe reader of checkpoints takes no others."""
    if isinstance(state, dict):
        plain = copy.copy(state)  # keeps the kind of dict: MultiStepLR counts its milestones in a Counter
        for key, value in state.items():
            plain[key] = _plain(value)
        return plain
    if isinstance(state, (list, tuple)):
        return type(state)(_plain(value) for value in state)
    return state.item() if isinstance(state, np.generic) else state


def _summary(row: dict[str, float]) -> str:
    """Loss and accuracy of an epoch in few words: training, then validation."""
    pairs = (("loss", "train_loss", "val_loss"), ("accuracy", "train_accuracy", "val_accuracy"))
    shown = {word: [f"{row[name]:.3f}" for name in names if not np.isnan(row.get(name, np.nan))] for word, *names in pairs}
    return ", ".join(f"{word} {', val '.join(values)}" for word, values in shown.items() if values)


def _random_state(generators: list[torch.Generator]) -> dict:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - a batch transform may draw from the global state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
        "generators": [generator.get_state() for generator in generators],
    }


def _set_random_state(state: dict, generators: list[torch.Generator]) -> None:
    if len(state["generators"]) != len(generators):
        raise ValueError(
            f"it was saved with {len(state['generators'])} generators in the loader, and now there are {len(generators)}"
        )
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)


def _epoch_mean(values: list[Tensor], sizes: list[int], what: str) -> float:
    values = torch.stack(values).double().cpu()
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        _need_finite(values[step].item(), f"{what}, step {step + 1} of {len(sizes)},")
    weights = torch.tensor(sizes, dtype=torch.float64)
    return ((values * weights).sum() / weights.sum()).item()


def _need_finite(value: float, what: str) -> None:
    if not np.isfinite(value):
        raise NonFiniteLossError(
            f"{what} is {value}. Usual causes: a learning rate that is too high (try a tenth), inputs that are not normalised, "
            "or a logarithm or division of zero in the loss."
        )


def _check_arguments(
    epochs: int, val_loader: object, scheduler: object, schedule_every: str, early_stopping: EarlyStopping | None
) -> None:
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1.")
    if schedule_every not in ("epoch", "step"):
        raise ValueError(f"schedule_every is {schedule_every!r}; it must be 'epoch' or 'step'.")
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and schedule_every == "step":
        raise ValueError(
            "ReduceLROnPlateau looks at the validation loss, which exists once an epoch: use schedule_every='epoch'."
        )
    if val_loader is None and (early_stopping is not None or plateau):
        raise ValueError("early stopping and ReduceLROnPlateau look at the validation loss: give val_loader.")


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    """Refuse what torch would broadcast in silence or report in the words of a kernel. Reads the device once a run."""
    if targets.is_floating_point():
        if logits.shape != targets.shape:
            raise ValueError(
                f"the model gives {tuple(logits.shape)} and the targets are {tuple(targets.shape)}; numbers and probabilities "
                "need the same shape on both sides, or the loss broadcasts them against each other in silence."
            )
        return
    if logits.ndim < 2 or logits.shape[0] != targets.shape[0] or logits.shape[2:] != targets.shape[1:]:
        raise ValueError(
            f"the model gives {tuple(logits.shape)} and the class labels are {tuple(targets.shape)}; "
            "expected logits (B, K) for labels (B,)."
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        count = logits.shape[1]
        raise ValueError(f"labels go from {low} to {high}, and the model has {count} outputs, for labels 0 to {count - 1}.")


def _labels_of(targets: Tensor) -> Callable[[Tensor], Tensor] | None:
    """How to read class labels off targets like these: as they are, by the most probable class, or not at all."""
    if not targets.is_floating_point():
        return (lambda y: y) if targets.ndim == 1 else None
    if targets.ndim == 2 and targets.shape[1] > 1:
        sums = targets.sum(1)
        if bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            return lambda y: y.argmax(1)
    return None


def _layout(model: nn.Module) -> tuple[torch.device, bool]:
    """Device of a model, and whether its convolutions want images in channels-last order."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, any(isinstance(module, nn.Conv2d) for module in model.modules())


def _to(x: Tensor, device: torch.device, conv: bool) -> Tensor:
    layout = torch.channels_last if conv and x.ndim == 4 else torch.preserve_format
    return x.to(device, non_blocking=True, memory_format=layout)


def _use_fused_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let torch update all parameters in one kernel, where it can and the caller left the choice open (``fused=None``)."""
    if any(getattr(module, "sparse", False) for module in model.modules()):
        return  # embeddings with sparse gradients, which the fused kernels refuse
    for group in optimizer.param_groups:
        open_choice = "fused" in group and group["fused"] is None and group.get("foreach") is None
        plain = not group.get("capturable") and not group.get("differentiable")
        fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])
        if open_choice and plain and fits and not optimizer.state:
            group["fused"] = True


def _precision(device: torch.device, amp: Amp) -> torch.dtype | None:
    choices = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp in choices:
        return choices[amp]
    if amp != "auto":
        raise ValueError(f"amp is {amp!r}; it must be 'auto', 'off', 'bf16' or 'fp16'.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16_units() else None


def _cpu_has_bf16_units() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.10 does not tell: then fp32, which is safe
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype=precision or torch.bfloat16, enabled=precision is not None)
