"""What arguments must be: class indices, numbers, probabilities. One place, so that all take and refuse the same."""

import functools
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

AnyGenerator = TypeVar("AnyGenerator", bound=torch.Generator | None)
ABOVE_0 = math.ulp(0.0)  # the smallest number above 0, for `number`
BELOW_1 = math.nextafter(1.0, 0.0)
_LAST_INT64 = 2**63 - 1


def class_indices(
    labels: Tensor,
    num_classes: int | None = None,
    what: str = "labels",
    shape: str = "(N,)",
    *,
    wait: bool = False,
    hint: str = "",
) -> Tensor:
    """Class indices as int64, which torch's losses and indexing want and in which sums cannot overflow.

    Args:
        labels: integers of any width and sign, or booleans, which name classes 0 and 1; any shape.
        num_classes: number of classes ``K``; with it, values are checked where they lie on the CPU. Reading them back
            would stall a GPU: there torch's own device assertion, or `train.fit` at the end of the epoch, reports them.
        what: word for the labels in messages.
        shape: what the caller wants, in words for messages; as many dimensions as it names are asked for.
        wait: check values on a GPU too; for functions that are called once, and not in every step.
        hint: a further sentence for the message, where the values are not class indices.

    Returns:
        int64 tensor of the same shape; ``labels`` itself if it is one.

    Raises:
        ValueError: floating point or complex numbers, another number of dimensions, or a class outside ``0 .. K - 1``.

    >>> class_indices(torch.tensor([2, 0], dtype=torch.uint8), 3)
    tensor([2, 0])
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex() or labels.ndim != _dimensions(shape):
        raise ValueError(f"{what} are {_found(labels)}; use class indices, integers of shape {shape}.{hint and ' ' + hint}")
    tensors(**{what: labels})
    unsigned = labels.dtype == torch.uint64
    labels = savable(labels.long())
    if unsigned and labels.device.type == "cpu" and bool((labels < 0).any()):
        raise ValueError(f"{what} go up to {int(labels[labels < 0].max()) % 2**64}; class indices lie below 2 ** 63.")
    if num_classes is not None and labels.numel() and (wait or labels.device.type == "cpu"):
        try:
            low, high = (int(value) for value in labels.aminmax())
        except RuntimeError:  # within `torch.func.vmap` no value can be read: who calls it checks them
            return labels
        if low < 0 or high >= num_classes:
            raise ValueError(f"{what} go from {low} to {high}; {num_classes} classes are numbered 0 to {num_classes - 1}.")
    return labels


def savable(values: Tensor) -> Tensor:
    """``values``, or a copy if they were made in inference mode: autograd saves what a loss is made from, and refuses those."""
    return values.clone() if values.is_inference() and not torch.is_inference_mode_enabled() else values


def as_many(inputs: Tensor, targets: Tensor, what: str = "inputs") -> None:
    """Raise unless there are as many targets as inputs: one of them would be broadcast in silence.

    Raises:
        ValueError: unequal lengths, or no dimension to count along; the message has both shapes.
    """
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets):
        raise ValueError(f"{what} are {tuple(inputs.shape)} and targets {tuple(targets.shape)}; give one target for each.")


def whole_number(value: object, name: str, low: int, high: int | None = None) -> int:
    """A whole number as Python's int: NumPy's and 0-dimensional tensors' integers count, 2.0 and True do not.

    Raises:
        ValueError: anything else, or a number outside ``low .. high``; without ``high``, one that int64 cannot hold.

    >>> whole_number(torch.tensor(3), "seed", 0)
    3
    """
    plain = _plain(value)
    is_whole = type(plain) is int or (isinstance(plain, numbers.Integral) and not isinstance(plain, bool))
    if is_whole and low <= plain <= (_LAST_INT64 if high is None else high):
        return int(plain)
    bounds = f"from {low} to {high}" if high is not None else f"at least {low}"
    if is_whole and high is None and plain > _LAST_INT64:
        raise ValueError(f"{name} has {int(plain).bit_length()} bits; it must be below 2 ** 63.")
    kind = "" if is_whole else "a whole number, " if high is None else "a whole number "
    raise ValueError(f"{name} is {value!r}; it must be {kind}{bounds}.")


def whole_numbers(values: Iterable, name: str, low: int, high: int | None = None) -> list[int]:
    """Several whole numbers as Python's; arguments and errors are as for `whole_number`.

    >>> whole_numbers((np.int64(3), 4), "hidden", 1)
    [3, 4]
    """
    try:
        listed = list(values)
    except TypeError:
        raise ValueError(f"{name} is {values!r}; it must be several whole numbers, such as ({values!r},).") from None
    return [whole_number(value, f"{name}[{place}]", low, high) for place, value in enumerate(listed)]


def number(value: object, name: str, rule: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number as Python's float: NumPy's and 0-dimensional tensors' numbers count, booleans and text do not.

    Args:
        value: the number.
        name: of the argument, for the message.
        rule: what the number must be, for the message; a clause.
        low, high: the least and the greatest that are allowed; `ABOVE_0` and `BELOW_1` leave out the ends.

    Raises:
        ValueError: anything else, NaN, infinity, a number outside the range, or a tensor that requires a gradient, which
            would get none.

    >>> number(np.float32(0.5), "alpha", "a share lies between 0 and 1", 0, 1)
    0.5
    """
    plain = _plain(value)
    is_number = type(plain) is float or (isinstance(plain, numbers.Real) and not isinstance(plain, bool))
    if is_number and low <= plain <= high and abs(plain) < math.inf:
        try:
            return float(plain)
        except OverflowError:  # a whole number of more than 308 digits
            pass
    raise ValueError(f"{name} is {value!r}; {rule}.")


def share(value: object, name: str, kind: str = "a share or probability") -> float:
    """A number in 0..1 as Python's float; ``kind`` says in the message what it is.

    Raises:
        ValueError: as `number`, or outside 0..1.

    >>> share(1, "alpha")
    1.0
    """
    return number(value, name, f"{kind} lies between 0 and 1", 0, 1)


def tensors(**values: Tensor) -> None:
    """Raise unless all are dense tensors, and not lists or NumPy's arrays.

    Raises:
        ValueError: one is not; the message has its name.
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            cure = "torch.from_numpy" if isinstance(value, np.ndarray) else "torch.tensor"
            raise ValueError(f"{name} is of type {type(value).__name__}; make a tensor of it with {cure}({name}).")
        if value.layout != torch.strided:
            raise ValueError(f"{name} is a sparse tensor ({value.layout}); make it dense with {name}.to_dense().")


def floats(values: Iterable, name: str) -> Tensor:
    """Numbers as a float64 tensor, by value and in their order: of a tensor, a list, an array or a column of a table.

    Torch would make float32 of Python's numbers, and look up the labels of a column.

    Args:
        values: numbers in one list, column or tensor.
        name: word for them in messages, in the plural.

    Returns:
        float64 tensor of the same shape.

    Raises:
        ValueError: a dictionary, text, complex numbers, or anything else that is not a list of numbers.

    >>> floats([1, 1e-50], "weights").tolist()
    [1.0, 1e-50]
    """
    if isinstance(values, Tensor) and not values.is_complex():
        tensors(**{name: values})
        return values.detach().double()
    if isinstance(values, Mapping):
        raise ValueError(
            f"{name} are of type {type(values).__name__}; give a list in the order of the classes, such as "
            f"[{name}[k] for k in range(num_classes)] makes."
        )
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError
        return torch.from_numpy(np.array(array, dtype=np.float64))
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{name} are {values!r}; give a tensor or a list of numbers.") from None


def cpu_generator(generator: AnyGenerator) -> AnyGenerator:
    """A generator on the CPU, so that draws are the same on every device, or ``None``: torch's global one.

    Raises:
        ValueError: something else, such as a seed, or a generator on another device.
    """
    if generator is None:
        return generator
    device = getattr(generator, "device", None)
    if device is None:
        raise ValueError(f"generator is {generator!r}; make one with torch.Generator().manual_seed(seed).")
    if device.type != "cpu":
        raise ValueError(f"generator lives on {device}; make it with torch.Generator(), on the CPU.")
    return generator


def probabilities(p: Tensor, name: str = "probabilities") -> None:
    """Raise unless ``p`` is floating ``(N, K)`` with at least two classes, at least 0, and rows that sum to 1.

    Half precision leaves rows of 1,000 classes a little off 1; logits are off by far more. Waits for a GPU.

    Raises:
        ValueError: another type or shape, NaN, or values that are not probabilities.

    >>> probabilities(torch.tensor([[0.25, 0.75]]))
    """
    float_rows(p, name)
    sums = p.detach().double().sum(1)
    if not bool((p >= 0).all()) or not bool(((sums - 1).abs() < 0.01).all()):
        low, high = (float(value) for value in p.detach().double().aminmax())
        raise ValueError(
            f"{name} go from {low:.3g} to {high:.3g}, with rows that sum to {float(sums.min()):.3g} to "
            f"{float(sums.max()):.3g}; they must be at least 0 and sum to 1. From logits take logits.softmax(1)."
        )


def float_rows(values: Tensor, name: str) -> None:
    """Raise unless ``values`` is floating ``(N, K)`` with ``K`` at least 2.

    Raises:
        ValueError: another type or shape.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"{name} are {_found(values)}; use floats (N, K) of at least two classes.")
    tensors(**{name: values})


def scores(values: Tensor, name: str, hint: str = "") -> Tensor:
    """Finite floats ``(N,)``, one per sample, in which larger means surer; as they are. Waits for a GPU.

    Raises:
        ValueError: another type or shape, NaN or infinity; ``hint`` is a further sentence.
    """
    good = isinstance(values, Tensor) and values.is_floating_point() and values.ndim == 1
    if not good or not bool(values.isfinite().all()):
        raise ValueError(f"{name} are {_found(values)}; use finite floats (N,), one per sample.{hint and ' ' + hint}")
    return values


def yes_or_no(values: Tensor, name: str, words: str) -> Tensor:
    """Booleans, or numbers that are 0 or 1, as bool. Waits for a GPU.

    Raises:
        ValueError: other values; ``words`` say what 1 and 0 mean.

    >>> yes_or_no(torch.tensor([1.0, 0.0]), "targets", "1 for positive and 0 for negative")
    tensor([ True, False])
    """
    if not bool(((values == 0) | (values == 1)).all()):
        low, high = (float(value) for value in values.double().aminmax())
        raise ValueError(f"{name} go from {low:g} to {high:g}; use {words}.")
    return values.bool()


def ratios(weights: Tensor | Iterable[float], count: int | None, rule: str, *, limit: bool = False) -> Tensor:
    """Weights of which only the ratios count, as float64: as they are, or divided by the largest where sums would overflow.

    Args:
        weights: one-dimensional, at least 0, not all 0, finite; a tensor, a list, or anything else that `floats` takes.
        count: how many there must be; any number when ``None``.
        rule: what is wanted, for the message.
        limit: take infinite weights too; beside them finite ones count nothing, as they do in the limit of large weights.

    Raises:
        ValueError: other weights.

    >>> ratios(torch.tensor([1, 3]), 2, "one each"), ratios(torch.tensor([1, torch.inf]), 2, "one each", limit=True)
    (tensor([1., 3.], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """
    given = floats(weights, "weights")
    infinite = given == math.inf
    fits = given.ndim == 1 and (count is None or len(given) == count)
    if not fits or not bool((given >= 0).all()) or not bool((given > 0).any()) or (bool(infinite.any()) and not limit):
        shown = given.tolist() if given.numel() <= 20 else f"of shape {tuple(given.shape)}"
        raise ValueError(f"weights are {shown}; give {rule}, {'' if limit else 'finite, '}at least 0, not all 0.")
    if bool(infinite.any()):
        return infinite.double()
    return given if 1e-250 < float(given.sum()) < 1e250 else given / given.max()


def _plain(value: object) -> Any:
    """A NumPy scalar, or an array or tensor without dimensions, as Python's own number."""
    if type(value) in (int, float):  # nearly always, and in every training step
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, Tensor)):
        return value.item() if value.ndim == 0 and not getattr(value, "requires_grad", False) else value
    return value


def _found(values: object) -> str:
    return f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__


@functools.cache
def _dimensions(shape: str) -> int:
    """Of "(N,)" one, of "(M, N)" two."""
    return len([name for name in shape.strip("()").split(",") if name.strip()])
