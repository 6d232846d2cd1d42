"""What the grader has inside a kernel: hidden tests send values out to be compared, whatever cells before them have set.

Nothing here knows a right answer, so nothing here has to be protected: whoever sends other values than the solution's is wrong.
It needs nothing but IPython, since the sandbox shows a kernel this file and `values`, and no other of the package.
"""

import asyncio
import builtins
import functools
import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from IPython import get_ipython
from IPython.display import display

from course_grade.values import plain

MIME = "application/vnd.course-grade+json"
CHARACTERS = 1 << 19  # of one message; a check that sends too much must leave space for those after it
SHOWN = 100

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
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"  # a page for eyes, not a wall of numbers
    display({MIME: json.loads(text), "text/plain": shown}, raw=True)


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
        stream: Any = getattr(sys, name, None)
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
