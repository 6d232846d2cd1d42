"""One form for each value, whatever its kind: as JSON, it leaves the kernel and is compared outside.

Shown to kernels with `probe`, so it needs nothing but Python; NumPy is imported when a value needs it.
"""

import json
import math
import numbers
from collections.abc import ItemsView, KeysView, Mapping, MappingView, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

NUMBERS = 1 << 17  # that one array may have
NARROW = ("float16", "bfloat16")  # types that round by more than what is right may differ


def plain(value: object) -> object:
    """A value as JSON: the same number has the same form, whether Python, NumPy, torch or pandas holds it.

    Numbers are JSON's own, where it has them: ``{"number": "nan"}`` and ``{"number": "0x1…"}`` stand for others, and
    ``{"complex": [1, 2]}``. A tensor or an array of one dimension or more is ``{"shape": …, "dtype": …, "values": […]}``, and
    so is a number in 16 bits, which is rounded by more. A table is ``{"columns": […], "table": …}``, a set ``{"set": […]}``.
    Every other sequence is a list, and a dataclass is a dict.

    Raises:
        TypeError: it can hold no value of these kinds.
        ValueError: an array of more than `NUMBERS` numbers.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (numbers.Number, Decimal)):
        return _number(value)
    if not isinstance(value, type):
        if hasattr(value, "detach"):
            return _tensor(value)
        if hasattr(value, "__array__") or hasattr(value, "toarray"):
            return _table(value)
        if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, Mapping):
            return {_key(key): plain(item) for key, item in value.items()}
        if isinstance(value, Set) and not isinstance(value, MappingView):
            return {"set": [plain(item) for item in value]}
        if isinstance(value, (Sequence, KeysView, ItemsView, ValuesView)):
            return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be compared; give tensors, numbers, strings, or lists and dicts of them")


def _number(value: Any) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        value = int(value)
        return value if abs(value) < 1 << 63 else {"number": hex(value)}
    if isinstance(value, (numbers.Real, Decimal)):
        kind = type(value).__name__
        value = float(value)
        if not math.isfinite(value):
            return {"number": str(value)}
        return {"shape": [], "dtype": kind, "values": [value]} if kind in NARROW else value
    return {"complex": [_number(value.real), _number(value.imag)]}


def _tensor(value: Any) -> object:
    value = value.detach()
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        value = value.dequantize()
    value = value.to_dense().cpu().resolve_conj().resolve_neg()
    if value.is_floating_point():
        value = value.double()  # NumPy has no bfloat16
    return _array(value.numpy(), kind)


def _table(value: Any) -> object:
    import numpy as np

    if hasattr(value, "toarray"):
        value = value.toarray()  # SciPy's sparse ones
    array = np.asarray(value)
    # Whether pandas holds a column as whole numbers is an accident, so there it is a list.
    form = _array(array if isinstance(value, np.ndarray) else array.astype(object))
    if hasattr(value, "columns"):
        return {"columns": [plain(name) for name in value.columns], "table": form}
    return form


def _array(array: Any, kind: str | None = None) -> object:
    if array.size > NUMBERS:
        raise ValueError(f"{array.size:,} numbers are too many to be compared")
    if array.dtype.kind not in "biufc":
        return plain(array.tolist())  # strings, or whatever objects
    values = [_number(item) for item in array.reshape(-1).tolist()]
    kind = kind or str(array.dtype)
    if not array.ndim and not (kind in NARROW and isinstance(values[0], float)):
        return values[0]
    return {"shape": list(array.shape), "dtype": kind, "values": values}


def _key(key: Any) -> str:
    """The name of a dict's entry in JSON: 1, 1.0 and ``np.int64(1)`` are one key."""
    key = float(key) if type(key).__name__ in NARROW else plain(key)
    if isinstance(key, float) and math.isfinite(key):
        key = int(key) if key.is_integer() else float(f"{key:.6g}")  # as much as a float32 holds
    return key if isinstance(key, str) else json.dumps(key)
