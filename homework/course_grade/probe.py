"""What hidden tests call inside a kernel: compute a value for inputs drawn afresh, and send it out to be compared.

Nothing here knows a right answer, so nothing here has to be protected: whoever sends other values than the solution's is wrong.
It needs nothing but IPython, since the sandbox shows a kernel this one file of the package.
"""

import json
import math
import numbers
import os
from collections.abc import Callable, Mapping, MappingView, Sequence, Set
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum

from IPython.display import display

MIME = "application/vnd.course-grade+json"
NUMBERS = 1 << 17  # that one array may have
CHARACTERS = 1 << 19  # of one message; a check that sends too much must not take the room of those after it

seed = int(os.environ.get("COURSE_GRADE_SEED", "0"))


def emit(name: str, compute: Callable[[], object]) -> None:
    """Send the value of ``compute()`` under a name, or the error that it raised.

    Each call is one check: a check that raises does not stop the ones after it. An interrupt does: the cell's time is over.

    Args:
        name: says what is checked; students read it in their feedback. Different from the other names of the same cell.
        compute: gives numbers of any kind, strings, booleans, ``None``, tensors, arrays or tables, or lists, tuples, sets,
            dicts and dataclasses of them.

    >>> emit("sum", lambda: 1 + 1)
    {"name": "sum", "value": 2}
    """
    try:
        text = json.dumps({"name": name, "value": plain(compute())})
        if len(text) > CHARACTERS:
            raise ValueError("the value is too large to be compared")
    except KeyboardInterrupt as error:
        _send(json.dumps({"name": name, "error": _told(error)}))
        raise
    except BaseException as error:  # SystemExit too
        text = json.dumps({"name": name, "error": _told(error)})
    _send(text)


def _send(text: str) -> None:
    display({MIME: json.loads(text), "text/plain": text}, raw=True)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:  # an exception of a student's may raise when it is printed
        return f"{type(error).__name__}: "


# --- one form for each value, whatever its kind ------------------------------------------------------------------------------


def plain(value: object) -> object:
    """A value as JSON: the same number has the same form, whether Python, NumPy, torch or pandas holds it.

    Numbers are JSON's own, where it has them: ``{"number": "nan"}`` and ``{"number": "0x1…"}`` stand for others, and
    ``{"complex": [1, 2]}``. A tensor or an array of one dimension or more is ``{"shape": …, "dtype": …, "values": […]}``,
    a table ``{"columns": […], "table": …}``, a set ``{"set": […]}``. Every other sequence is a list, and a dataclass is a dict.

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
        if isinstance(value, (Sequence, MappingView)):
            return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be compared; give tensors, numbers, strings, or lists and dicts of them")


def _number(value: numbers.Number) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        value = int(value)
        return value if abs(value) < 1 << 63 else {"number": hex(value)}
    if isinstance(value, (numbers.Real, Decimal)):
        value = float(value)
        return value if math.isfinite(value) else {"number": str(value)}
    return {"complex": [_number(value.real), _number(value.imag)]}


def _tensor(value: object) -> object:
    value = value.detach()
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        value = value.dequantize()
    value = value.to_dense().cpu().resolve_conj().resolve_neg()
    if value.is_floating_point():
        value = value.double()  # NumPy has no bfloat16
    return _array(value.numpy(), kind)


def _table(value: object) -> object:
    import numpy as np

    if hasattr(value, "toarray"):
        value = value.toarray()  # SciPy's sparse ones
    array = np.asarray(value)
    # Whether pandas holds a column as whole numbers is an accident, so there it is a list.
    form = _array(array if isinstance(value, np.ndarray) else array.astype(object))
    if hasattr(value, "columns"):
        return {"columns": [plain(name) for name in value.columns], "table": form}
    return form


def _array(array: object, kind: str | None = None) -> object:
    if array.size > NUMBERS:
        raise ValueError(f"{array.size:,} numbers are too many to be compared")
    if array.dtype.kind not in "biufc":
        return plain(array.tolist())  # strings, or whatever objects
    values = [_number(item) for item in array.reshape(-1).tolist()]
    return {"shape": list(array.shape), "dtype": kind or str(array.dtype), "values": values} if array.ndim else values[0]


def _key(key: object) -> str:
    """The name of a dict's entry in JSON: 1, 1.0 and ``np.int64(1)`` are one key."""
    key = plain(key)
    if isinstance(key, float):
        key = int(key) if key.is_integer() else float(f"{key:.6g}")  # as much as a float32 holds
    return key if isinstance(key, str) else json.dumps(key)
