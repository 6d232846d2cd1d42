"""Training, evaluation and prediction: one loop that knows the four function shapes and no technique by name.

Lesson 00 writes the same loop out inline and proves that `fit` gives the same weights.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from course_utils import batches, modes, parallel, precision, runtime, valid
from course_utils.batches import Batches, BatchTransform, Loss, NonFiniteLossError
from course_utils.checkpoint import CheckpointError, Run
from course_utils.history import EarlyStopping, EpochSums, History
from course_utils.precision import Amp
from course_utils.schedules import EveryStep, Schedule

# What a user of this room needs, also where it is made in another one.
__all__ = [
    "CheckpointError",
    "EarlyStopping",
    "Evaluation",
    "EveryStep",
    "History",
    "NonFiniteLossError",
    "Predictions",
    "evaluate",
    "fit",
    "predict",
]


class Evaluation(NamedTuple):
    """What `evaluate` returns: mean ``loss`` over the samples, and ``accuracy`` in 0..1 (NaN for regression)."""

    loss: float
    accuracy: float


class Predictions(NamedTuple):
    """What `predict` returns, in the loader's order and on the CPU: float32 ``logits`` ``(N, K)``, and ``targets``."""

    logits: Tensor
    targets: Tensor


@parallel.lost_workers_named()
@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    model: nn.Module,
    train_loader: Batches,
    *,
    optimizer: torch.optim.Optimizer,
    loss: Loss = F.cross_entropy,
    epochs: int,
    val_loader: Batches | None = None,
    batch_transform: BatchTransform | None = None,
    scheduler: LRScheduler | EveryStep | None = None,
    early_stopping: EarlyStopping | None = None,
    extra_loss: Callable[[nn.Module, int], Tensor | float] | None = None,
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
            normalisations all of whose neighbours are in training mode (`modes.frozen_parts`). All else is trained, so also a
            body that was trained before, and so comes in evaluation mode, under a new head. Weights and images get the layout
            of `precision.layout`.
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
        scheduler: moves once an epoch, or as ``EveryStep(scheduler)`` after every optimizer step (one-cycle); a step that
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
    schedule = Schedule(scheduler)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS asks for the loss several times per step, which fit does not do: write the loop yourself.")
    if val_loader is None and (early_stopping is not None or schedule.watches_validation):
        raise ValueError("early stopping and ReduceLROnPlateau look at the validation loss: give val_loader.")

    scaler = precision.scaler(model, amp)
    run = Run(model, optimizer, schedule, scaler, train_loader, checkpoint)
    run.begin(epochs, val_loader, early_stopping)
    first_epoch = len(run.history.rows) + 1

    arithmetic = precision.arithmetic(model, amp)
    precision.lay_out(model, optimizer, arithmetic.layout)
    frozen = modes.frozen_parts(model)
    network = parallel.shared_out(model)  # under torchrun it shares out each batch; else the model itself
    run.start_as_rank_0()

    steps = batches.length(train_loader)
    total = None if steps is None else steps * (epochs + 1 - first_epoch)
    bar = runtime.progress(description="training", total=total, show=progress)
    try:
        for epoch in range(first_epoch, epochs + 1):
            if run.history.stopped_early:
                break
            start = time.perf_counter()
            row = {"lr": float(optimizer.param_groups[0]["lr"])}
            sums = EpochSums()
            modes.set_training(network, frozen)

            for step, (x, y) in enumerate(train_loader):
                x, y = batches.prepared(x, y, arithmetic)
                inputs, targets = batch_transform(x, y) if batch_transform else (x, y)

                logits = batches.logits_of(network, inputs, arithmetic)  # (B, K)
                targets = batches.fitting(logits, targets)  # (B,) or (B, K)
                with batches.labels_blamed(logits, targets):
                    batch_loss = loss(logits, targets)
                sums.count(logits, y, targets, batch_loss)

                if extra_loss is not None:
                    with arithmetic.autocast:
                        extra = torch.as_tensor(extra_loss(model, epoch), device=arithmetic.device)
                    sums.extras.append(extra.detach())
                    batch_loss = batch_loss + extra
                if not batch_loss.requires_grad:
                    raise ValueError("there is nothing to train: the loss depends on no parameter that requires a gradient.")

                optimizer.zero_grad()
                scaler.scale(batch_loss).backward()
                if epoch == first_epoch and step == 0:  # gradients are there, and no average yet
                    precision.use_fused_step(optimizer)
                with schedule.after_step(scaler):
                    scaler.step(optimizer)
                    scaler.update()
                bar.update()

            try:
                row |= sums.means(epoch)
                if val_loader is not None:
                    found = _judged(*_outputs(network, val_loader, amp, need_finite=False), loss)
                    batches.need_finite(found.loss, f"the validation loss of epoch {epoch}")
                    row |= {"val_loss": found.loss, "val_accuracy": found.accuracy}
            except NonFiniteLossError as error:
                cause = batches.cause_of_a_loss_that_is_not_finite(train_loader, val_loader, batch_transform)
                raise NonFiniteLossError(f"{error} {cause}{run.kept(epoch - 1)}") from None

            row = parallel.from_first(row | {"seconds": time.perf_counter() - start})
            run.history.rows.append(row)
            schedule.after_epoch(row)
            run.keep_best(early_stopping)
            bar.set_postfix_str(run.history.last_epoch())
            run.save()
    finally:
        bar.close()
        if run.best is not None:
            model.load_state_dict(run.best)
        modes.end_training(model, frozen)
    return run.history


def evaluate(model: nn.Module, loader: Batches, *, loss: Loss = F.cross_entropy, amp: Amp = "auto") -> Evaluation:
    """Loss and accuracy of a model in evaluation mode over all samples of a loader, each counted once.

    Accuracy compares the largest logit with the label (with the most probable class for targets ``(N, K)``).
    The model's mode is put back afterwards. Lesson 00.

    Args:
        model, loader, loss, amp: as in `fit`.

    Raises:
        ValueError: the loader is empty, targets do not fit the model's output, or inputs or targets are not finite.
    """
    logits, targets = _outputs(model, loader, amp)
    if targets.is_floating_point() and not bool(targets.isfinite().all()):
        raise ValueError(f"the targets {batches.NOT_FINITE}")
    return _judged(logits, targets, loss)


def predict(model: nn.Module, loader: Batches, *, amp: Amp = "auto") -> Predictions:
    """Logits of a model in evaluation mode, and the targets beside them, in the loader's order.

    The model's mode is put back afterwards. Lesson 00.

    Args:
        model, loader, amp: as in `fit`.

    Raises:
        ValueError: the loader is empty, or inputs are not finite.
    """
    logits, targets = _outputs(model, loader, amp)
    return Predictions(logits.cpu(), targets.cpu())


def _outputs(model: nn.Module, loader: Batches, amp: Amp, *, need_finite: bool = True) -> tuple[Tensor, Tensor]:
    """Logits and targets of a whole loader, on the device."""
    arithmetic = precision.arithmetic(model, amp)
    logits, targets, sums = [], [], []
    # The outermost autocast owns the cast copies of weights: with this one around, all batches share them.
    keep_casts = torch.autocast(arithmetic.device.type, enabled=False)
    with modes.evaluation(model), torch.no_grad(), keep_casts:
        for x, y in loader:
            x, y = batches.prepared(x, y, arithmetic)
            logits.append(batches.logits_of(model, x, arithmetic))
            targets.append(y)
            sums.append(batches.sum_of(x))
    if not logits:
        raise ValueError("the loader is empty: it gives no batch to evaluate.")
    answer = torch.cat(logits)
    if need_finite and not bool(answer.isfinite().all()):
        for bad in (~torch.stack(sums).isfinite()).nonzero()[:1]:  # a model that has diverged is no fault of the inputs
            raise ValueError(f"the inputs of batch {int(bad) + 1} {batches.NOT_FINITE}")
    return answer, torch.cat(targets)


def _judged(logits: Tensor, targets: Tensor, loss: Loss) -> Evaluation:
    targets = batches.fitting(logits, targets)
    with torch.no_grad():
        batches.check_labels(logits, targets)
        value = loss(logits, targets).item()
    labels, known = batches.classes_named_by(targets)
    if not known:
        return Evaluation(value, torch.nan)
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)  # what is not a number names no class
    return Evaluation(value, right.double().mean().item())
