"""Is an answer the same value as another, whatever holds it: a float, NumPy's number, a tensor, a list, a table?

Nothing here raises what the code of an answer raises, but for Ctrl-C.
"""

import cmath
import contextlib
import dataclasses
import functools
import numbers
import random
import types
import unicodedata
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence, Set, ValuesView
from typing import Any

import numpy as np
import torch


def guarded(otherwise: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function give ``otherwise`` where it raises: code of an answer runs in it, such as ``__eq__`` or ``__repr__``."""

    def wrap(careless: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(careless)
        def safe(*arguments: object, **options: object) -> Any:
            try:
                return careless(*arguments, **options)
            except KeyboardInterrupt:
                raise
            except BaseException:
                return otherwise

        return safe

    return wrap


@guarded(False)
def same(left: Any, right: Any, tolerance: float) -> bool:
    """Whether two values are equal, whatever holds them. What cannot be compared is not equal.

    Args:
        left, right: anything; an answer, and what it should be.
        tolerance: largest difference allowed for numbers, absolute and relative; 16 and 8 bits may be off by their rounding.

    >>> same([0.5, np.float32(1)], torch.tensor([0.5, 1]), 0), same(0.1 + 0.2, 0.3, 0), same("Adam ", "adam", 0)
    (True, False, True)
    """
    return _equal(left, right, tolerance)


def _equal(left: Any, right: Any, tolerance: float) -> bool:
    if hasattr(left, "axes") and hasattr(right, "axes") and hasattr(left, "to_numpy") and hasattr(right, "to_numpy"):
        axes, other_axes = (list(map(list, table.axes)) for table in (left, right))  # names of rows and columns, of pandas
        return _equal(axes, other_axes, tolerance) and _equal(left.to_numpy(), right.to_numpy(), tolerance)
    left, right = _rounded_alike(_content(left), _content(right))
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.shape == right.shape and _close_tensors(left, right, tolerance)
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        tensor, other = (left, right) if isinstance(left, torch.Tensor) else (right, left)
        return is_sequence(other) and len(other) == len(tensor) and _equal_in_order(left, right, tolerance)
    if isinstance(left, numbers.Number) and isinstance(right, numbers.Number):
        return _close(left, right, tolerance)
    if isinstance(left, str) and isinstance(right, str):
        return _word(left) == _word(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key], tolerance) for key in right)
    if isinstance(left, Set) and isinstance(right, Set):
        return _equal_sets(left, right, tolerance)
    if is_sequence(left) and is_sequence(right):
        return len(left) == len(right) and _equal_in_order(left, right, tolerance)
    # An object that calls itself equal to everything is not an answer.
    related = isinstance(left, type(right)) or isinstance(right, type(left))
    return left is right or (related and bool(left == right))


def _equal_in_order(left: Any, right: Any, tolerance: float) -> bool:
    return all(_equal(one, other, tolerance) for one, other in zip(left, right, strict=True))


def _equal_sets(left: Set[Any], right: Set[Any], tolerance: float) -> bool:
    """Pair the values that only one of them holds. Sorting makes it fast; what cannot be sorted is paired as well."""
    if len(left) != len(right):
        return False
    ones, others = list(left - right), list(right - left)
    with contextlib.suppress(TypeError):
        ones, others = sorted(ones), sorted(others)
    for one in ones:
        partner = next((place for place, other in enumerate(others) if same(one, other, tolerance)), None)
        if partner is None:
            return False
        del others[partner]
    return True


def plain(thing: Any) -> Any:
    """A value without what holds it: Python's number, a tensor with dimensions in memory, a sequence; else as it is."""
    return _number_or_tensor(_content(thing))


def _number_or_tensor(thing: Any) -> Any:
    return thing.item() if isinstance(thing, torch.Tensor) and thing.ndim == 0 else thing


def _content(thing: Any) -> Any:
    """As `plain`, but a number that came in a tensor is one still: it has a type, and so a rounding."""
    if hasattr(thing, "to_numpy"):
        thing = thing.to_numpy()
    if isinstance(thing, np.ndarray) and thing.dtype.kind not in "biufc":  # objects, texts, times
        thing = thing.tolist()
    if isinstance(thing, (np.ndarray, np.number)) and thing.dtype.char in "gG":  # long doubles, which torch lacks
        with np.errstate(over="ignore"):
            rounded = thing.astype(np.complex128 if thing.dtype.char == "G" else np.float64)
        if (np.isinf(rounded) & ~np.isinf(thing)).any():  # too large for float64
            return thing.tolist()
        thing = rounded
    if isinstance(thing, (np.ndarray, np.bool_, np.number)):
        thing = torch.from_numpy(np.array(thing, dtype=thing.dtype.newbyteorder("=")))
    if isinstance(thing, torch.Tensor):
        if thing.is_nested:
            return list(thing.unbind())
        thing = thing.detach()
        thing = thing.dequantize() if thing.is_quantized else thing if thing.layout == torch.strided else thing.to_dense()
        thing = thing.cpu().resolve_conj().resolve_neg()
    if isinstance(thing, numbers.Number) and not isinstance(thing, (int, float)):  # fractions, decimals, 3 + 0j
        number: Any = thing
        if number.imag != 0:
            return complex(number)
        with contextlib.suppress(OverflowError):
            double = float(number.real)
            return number if cmath.isinf(double) and number != double else double
    return list(thing) if isinstance(thing, (KeysView, ValuesView, ItemsView)) else thing


def _rounded_alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Round both to 16 or 8 bits where one of them has no more, then make numbers of tensors without dimensions."""
    for one in (left, right):
        if isinstance(one, torch.Tensor) and one.is_floating_point() and one.dtype.itemsize < 4:
            with contextlib.suppress(Exception):  # what is not made of real numbers is not rounded
                both = [torch.as_tensor(each, dtype=getattr(each, "dtype", torch.float64)) for each in (left, right)]
                if not any(each.is_complex() for each in both):
                    left, right = (_rounded(each.double(), one.dtype) for each in both)
    return _number_or_tensor(left), _number_or_tensor(right)


def _rounded(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Round to few bits what does not overflow; what overflows is not the same as infinity, nor as the largest number."""
    limits, rounded = torch.finfo(dtype), numbers.to(dtype).double()
    fits = rounded.isfinite() & (numbers.abs() <= limits.max * (1 + limits.eps / 4))  # half a step above the largest number
    return torch.where(fits, rounded, numbers)


def _close_tensors(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    if left.dtype == right.dtype and torch.equal(left, right):
        return True
    if tolerance == 0 and not (left.is_floating_point() or left.is_complex()) and left.dtype == right.dtype:
        return False  # whole numbers above 2**53 are more than float64 tells apart
    kind = torch.complex128 if left.is_complex() or right.is_complex() else torch.float64
    return torch.allclose(left.to(kind), right.to(kind), rtol=tolerance, atol=tolerance, equal_nan=True)


def _close(left: Any, right: Any, tolerance: float) -> bool:
    if left == right:
        return True
    if cmath.isnan(left) or cmath.isnan(right):
        return cmath.isnan(left) and cmath.isnan(right)
    if cmath.isinf(left) or cmath.isinf(right):
        return False
    return abs(left - right) <= tolerance * (1 + abs(right))


def _word(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().lower()


def is_sequence(thing: object) -> bool:
    """Whether it is a list, a tuple or the like, and no text."""
    return isinstance(thing, Sequence) and not isinstance(thing, (str, bytes, bytearray))


@guarded(False)
def same_state(left: Any, right: Any) -> bool:
    """Whether two copies of an argument are in the same state, also where ``==`` does not tell."""
    return _equal(_state(left), _state(right), 0)


def _state(thing: Any) -> Any:
    """What can change in an argument: numbers of random generators, attributes of objects."""
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    for name in ("get_state", "getstate", "state_dict"):  # of random generators; of modules, optimizers, schedulers
        if callable(getattr(thing, name, None)) and not isinstance(thing, type):
            return _state(getattr(thing, name)())
    if type(thing) in (list, tuple):
        return list(map(_state, thing))
    bare = type(thing).__eq__ is object.__eq__ or dataclasses.is_dataclass(thing)
    if bare and hasattr(thing, "__dict__") and not isinstance(thing, (type, types.ModuleType, types.FunctionType)):
        thing = vars(thing)
    return {key: _state(item) for key, item in thing.items()} if type(thing) is dict else thing


def is_generator(thing: object) -> bool:
    """Whether it is a random generator of torch, NumPy or Python."""
    return isinstance(thing, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))
