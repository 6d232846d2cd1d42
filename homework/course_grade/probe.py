"""What the grader has inside a kernel: hidden tests send values out to be compared, whatever cells before them have set.

Nothing here knows a right answer, so nothing here has to be protected: whoever sends other values than the solution's is wrong.
It needs nothing but IPython, since the sandbox shows a kernel this one file of the package.
"""

import asyncio
import builtins
import functools
import json
import math
import numbers
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, MappingView, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum

from IPython import get_ipython
from IPython.display import display

MIME = "application/vnd.course-grade+json"
NUMBERS = 1 << 17  # that one array may have
CHARACTERS = 1 << 19  # of one message; a check that sends too much must not take the room of those after it
NARROW = ("float16", "bfloat16")  # types that round by more than what is right may differ

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
        text = json.dumps({"name": name, "value": plain(_computed(compute))})
        if len(text) > CHARACTERS:
            raise ValueError("the value is too large to be compared")
    except KeyboardInterrupt as error:
        _send(json.dumps({"name": name, "error": _told(error)}))
        raise
    except BaseException as error:  # SystemExit too
        text = json.dumps({"name": name, "error": _told(error)})
    _send(text)


def _send(text: str) -> None:
    _mend_streams()  # IPython flushes them first
    display({MIME: json.loads(text), "text/plain": text}, raw=True)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:  # an exception of a student's may raise when it is printed
        return f"{type(error).__name__}: "


# --- what a student's cells may have set -------------------------------------------------------------------------------------

_streams: dict[str, object] = {}  # the kernel's own
_shadows: dict[str, object] = {}  # globals that hide a builtin, put aside while a graded cell runs
_afterwards = ExitStack()  # gives a student's settings back after a graded cell


def watch() -> None:
    """Keep this kernel working whatever a cell leaves behind; called once, before any cell.

    A kernel flushes `sys.stdout` and `sys.stderr` after each cell, and never answers again when that fails. Nor does it while
    a task that a cell has left to the event loop computes or sleeps: such tasks end with their cell.
    """
    kernel = get_ipython().kernel
    for name in ("stdout", "stderr"):
        _streams[name] = stream = getattr(sys, name)
        stream.close = stream.flush  # nothing could be printed afterwards
    execute = kernel.do_execute

    @functools.wraps(execute)
    async def watched(*arguments: object, **options: object) -> object:
        try:
            return await execute(*arguments, **options)
        finally:
            for part in (_afterwards.close, _cancel_tasks, _mend_streams):
                with suppress(BaseException):  # whatever is raised here would keep the kernel from answering
                    part()

    kernel.do_execute = watched


def _cancel_tasks() -> None:
    space = get_ipython().user_global_ns
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_globals is space:
            task.cancel()


def _mend_streams() -> None:
    """Put the kernel's own streams in the place of any that do not work."""
    for name, own in _streams.items():
        stream = getattr(sys, name, None)
        if stream is not own:
            try:
                stream.write("")
                stream.flush()
            except BaseException:  # an interrupt too: it waits
                setattr(sys, name, own)


def usual() -> None:
    """Give the rest of this cell the settings of a fresh kernel, and those of the student's back to the cells after it.

    Random numbers start from `seed`. Globals that hide a builtin, such as ``list = [1, 2]``, are put aside.
    """
    for part in (_usual_python, _usual_numpy, _usual_torch):
        with suppress(Exception):  # a student's code may have put anything in the place of a module
            part()


def _usual_python() -> None:
    space = get_ipython().user_ns
    _shadows.update({name: space.pop(name) for name in _hidden_builtins(space)})
    _afterwards.callback(_shadows.clear)
    _afterwards.callback(space.update, dict(_shadows))
    random.seed(seed)
    _afterwards.enter_context(warnings.catch_warnings())
    warnings.resetwarnings()
    warnings.simplefilter("ignore")


def _usual_numpy() -> None:
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % (1 << 32))
        before = numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
        _afterwards.callback(numpy.seterr, **before)


def _usual_torch() -> None:
    if torch := sys.modules.get("torch"):
        for get, put, value in (
            (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
            (torch.get_default_device, torch.set_default_device, None),
            (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False),
            (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
            (lambda: torch.is_autocast_enabled("cpu"), functools.partial(torch.set_autocast_enabled, "cpu"), False),
        ):
            before = get()
            put(value)
            if get() != before:
                _afterwards.callback(put, before)
        _afterwards.enter_context(torch.inference_mode(False))
        _afterwards.enter_context(torch.enable_grad())
        torch.manual_seed(seed)


def _hidden_builtins(space: Mapping[str, object]) -> list[str]:
    """Names of builtin functions and types for which there is a global that cannot be called."""
    return [name for name in vars(builtins) if name[0] != "_" and name in space and not callable(space[name])]


@contextmanager
def _students_names() -> Iterator[None]:
    """Names that were put aside are back, for the functions that a student wrote with them."""
    space = get_ipython().user_ns if _shadows else {}
    space.update(_shadows)
    try:
        yield
    finally:
        for name in _shadows:
            space.pop(name, None)


def _computed(compute: Callable[[], object]) -> object:
    """What a check gives with the student's own globals, or else with the builtins that some of these hide."""
    try:
        with _students_names():
            return compute()
    except TypeError:
        if not _shadows:
            raise
    return compute()


# --- one form for each value, whatever its kind ------------------------------------------------------------------------------


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
        kind = type(value).__name__
        value = float(value)
        if not math.isfinite(value):
            return {"number": str(value)}
        return {"shape": [], "dtype": kind, "values": [value]} if kind in NARROW else value
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
    kind = kind or str(array.dtype)
    if not array.ndim and not (kind in NARROW and isinstance(values[0], float)):
        return values[0]
    return {"shape": list(array.shape), "dtype": kind, "values": values}


def _key(key: object) -> str:
    """The name of a dict's entry in JSON: 1, 1.0 and ``np.int64(1)`` are one key."""
    key = float(key) if type(key).__name__ in NARROW else plain(key)
    if isinstance(key, float) and math.isfinite(key):
        key = int(key) if key.is_integer() else float(f"{key:.6g}")  # as much as a float32 holds
    return key if isinstance(key, str) else json.dumps(key)
