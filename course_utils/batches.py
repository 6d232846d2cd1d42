"""What batches, labels and logits may be, brought into the form that `train` computes with; the rest is refused in words."""

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from course_utils import precision, valid
from course_utils.data import BatchTransform

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]

NOT_FINITE = "are not finite (NaN or infinite): fill or drop those samples."


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names epoch and step."""


def length(loader: object) -> int | None:
    """Batches in a loader, where it knows."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader of a dataset without a length
        return None


# --- before and after the model ----------------------------------------------------------------------------------------------


def prepared(x: Tensor, y: Tensor, arithmetic: precision.Arithmetic) -> tuple[Tensor, Tensor]:
    """A batch on the model's device: floating point inputs in the model's own type (NumPy's are float64), labels as int64."""
    x, y = (valid.savable(values.to(arithmetic.device, non_blocking=True)) for values in (x, y))
    if arithmetic.own_type is not None and x.is_floating_point():
        x = x.to(arithmetic.own_type)
    return x, _integers_as_int64(y)


def logits_of(model: nn.Module, x: Tensor, arithmetic: precision.Arithmetic) -> Tensor:
    """A model's output for a prepared batch, in float32 (float64 as it is).

    Raises:
        ValueError: integers that the model does not take, one sample in front of a batch normalisation, or an output that is
            no tensor with a row for each sample.
    """
    x = precision.laid_out(x, arithmetic.layout)
    try:
        with arithmetic.autocast:
            logits = model(x)
    except (RuntimeError, ValueError) as error:
        if reason := _refusal(x, str(error)):
            raise ValueError(reason) from error
        raise
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model gives a {type(logits).__name__}; wrap it in a module that gives one tensor, its logits.")
    if logits.ndim == 0 or len(logits) != len(x):
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for a batch of {len(x)}: it must give a row for each sample, also "
            "for one (squeeze(1) instead of squeeze())."
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def _refusal(x: Tensor, error: str) -> str:
    """What torch means, and what is to be done."""
    if len(x) == 1 and "Expected more than 1 value per channel" in error:
        return (
            "a batch has one sample, and batch normalisation needs two to see a spread: use a loader with drop_last=True, "
            "or another batch size."
        )
    if x.is_floating_point():
        return ""
    if "'indices'" in error:
        return f"inputs are {x.dtype}, and an embedding looks them up: turn them into int64 by x.long()."
    if re.search(r"dtype|[Ss]calar type|[Ii]nput type|result type|not implemented for", error):
        return (
            f"inputs are {x.dtype}, and the model computes with floating point numbers: turn them into such first, images by "
            "batch_transform=augment.normalize(mean, std) in fit or in the loader, other data by x.float()."
        )
    return ""


# --- targets -----------------------------------------------------------------------------------------------------------------


def _integers_as_int64(y: Tensor) -> Tensor:
    return y if y.is_floating_point() or y.is_complex() else y.long()


def fitting(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets in the type of the logits, class indices as int64.

    Raises:
        ValueError: shapes that torch would broadcast in silence or report in a kernel's words.
    """
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
    return _integers_as_int64(targets)


def check_labels(logits: Tensor, targets: Tensor) -> None:
    """Raise unless the model has an output for each class index. Waits for a GPU.

    Raises:
        ValueError: a label without an output.
    """
    if not targets.is_floating_point() and targets.numel():
        check_range(*targets.aminmax(), logits.shape[1])


def check_range(low: Tensor, high: Tensor, outputs: int) -> None:
    """Raise unless a model has outputs for the smallest and the largest of some labels.

    Raises:
        ValueError: it has not.
    """
    if low < 0 or high >= outputs:
        raise ValueError(
            f"labels go from {int(low)} to {int(high)}, and the model has {outputs} outputs, for labels 0 to {outputs - 1}."
        )


@contextmanager
def labels_blamed(logits: Tensor, targets: Tensor) -> Iterator[None]:
    """Where a loss stumbles over a label without an output, say so; other losses may not, so labels are looked at again later.

    Raises:
        ValueError: in place of torch's error about such a label.
    """
    try:
        yield
    except (IndexError, RuntimeError):
        check_labels(logits, targets)
        raise


def classes_named_by(y: Tensor) -> tuple[Tensor | None, Tensor | bool]:
    """Class labels as targets name them, and whether they do: of numbers, only probabilities name a class (on the device)."""
    if not y.is_floating_point():
        return (y, True) if y.ndim == 1 else (None, False)
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(1), (y >= 0).all() & ((y.sum(1) - 1).abs() <= 1e-3).all()
    return None, False


# --- what is not finite ------------------------------------------------------------------------------------------------------


def sum_of(x: Tensor) -> Tensor:
    """A sum tells at little cost whether all is finite."""
    return x.sum(dtype=torch.float32) if x.is_floating_point() else x.new_zeros((), dtype=torch.float32)


def need_finite(value: float, what: str) -> None:
    """Raise unless a loss is finite.

    Raises:
        NonFiniteLossError: it is not; ``what`` it is, with epoch and step.
    """
    if not abs(value) < torch.inf:
        raise NonFiniteLossError(f"{what} is {value}.")


def cause_of_a_loss_that_is_not_finite(training: Batches, validation: Batches | None, transform: BatchTransform | None) -> str:
    """What one more pass over the loaders finds, in words. For a run that has failed: to ask each step would cost too much."""
    bad = _not_finite("training", training, transform) | _not_finite("validation", validation)
    if bad:
        return f"The {' and the '.join(sorted(bad))} {NOT_FINITE}"
    return (
        "Usual causes: a learning rate that is too high (try a tenth), inputs that are not normalised, "
        "or a logarithm or division of zero in the loss."
    )


def _not_finite(name: str, loader: Batches | None, transform: BatchTransform | None = None) -> set[str]:
    bad: set[str] = set()
    for x, y in loader if loader is not None and length(loader) is not None else ():
        parts = {f"{name} inputs": x, f"{name} targets": y}
        bad |= {part for part, values in parts.items() if not bool(sum_of(values).isfinite())}
        if transform is not None and not bad and not all(bool(sum_of(values).isfinite()) for values in transform(x, y)):
            bad.add("batches that batch_transform makes")
    return bad
