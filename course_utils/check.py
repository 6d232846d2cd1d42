"""Instant hints for exercises: a sentence that says what is right or what to look at next. Nothing is graded here.

Works the same in JupyterLab, Colab and a plain script. Whatever an answer is or does, a check does not stop the notebook: it
returns ``True`` when the answer is right, ``False`` when it is not, and ``None`` while the stub is untouched. Ctrl-C stops it.
A lesson's data stay as they are: answers work on copies, and draw from copies of the random states.
"""

import contextlib
import copy
import dis
import functools
import inspect
import itertools
import numbers
import operator
import random
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_utils.equality import guarded, is_generator, is_sequence, plain, same, same_state
from course_utils.files import say

NOT_YET = "… not answered yet: replace the stub, run its cell, then run this one again."
# As many values are taken from an iterator that does not end.
_MOST = 1000


def value(
    answer: object, expected: object, *, hints: Mapping[object, str] | None = None, tolerance: float = 1e-6
) -> bool | None:
    """Compare an answer with the expected value.

    Values are compared, not what holds them: 0.5 is right as a float, as NumPy's number, and as a tensor without dimensions.

    Args:
        answer: the student's; ``None`` or ``...`` counts as not answered.
        expected: a number, a text, or a sequence, array, tensor, set or dictionary of them.
        hints: what to say to a particular wrong answer, such as ``{200: "that counts samples, not steps"}``.
        tolerance: largest difference allowed for numbers, absolute and relative; 16 and 8 bits may be off by their rounding.

    >>> value(None, 5)
    … not answered yet: replace the stub, run its cell, then run this one again.
    >>> value(100, 200, hints={100: "that is one epoch"})
    ✗ not yet: that is one epoch
    False
    """
    if answer is None or answer is ...:
        say(NOT_YET)
        return None
    if same(answer, expected, tolerance):
        say("✓ right.")
        return True
    for wrong, hint in (hints or {}).items():
        if same(answer, wrong, tolerance):
            say(f"✗ not yet: {hint}")
            return False
    shown = repr(answer[:_MOST]) if type(answer) is str else answer
    say(f"✗ not yet: {_short(shown)} is not it.{_remark(answer, expected)}")
    return False


def function(
    answer: Callable,
    reference: Callable,
    cases: Sequence[tuple],
    *,
    hints: Mapping[int, str] | None = None,
    tolerance: float = 1e-6,
) -> bool | None:
    """Run a student's function and a reference on equal arguments and report the first case that differs.

    Both get copies of their own, so that neither sees what the other changes. To change an argument in place is a mistake,
    unless the reference does so, too; from a random generator the answer must draw as often as the reference does.

    Args:
        answer: the student's function; it counts as not answered while it, or a function of the same notebook whose result it
            uses, does nothing but return ``None`` or ``...``, or raises ``NotImplementedError`` in the first case.
        reference: a function that gives the right result.
        cases: argument tuples, the plain one first. What cannot be copied, such as an open file, is given as it is.
        hints: what to say when the case with this position (from 0) is the first that differs.
        tolerance: as in `value`.

    Raises:
        ValueError: no cases, which is a mistake of the lesson and not of the student.

    >>> function(lambda a: a + a, lambda a: a * a, [(2,), (3,)], hints={1: "try it with 3 on paper"})
    ✗ case 1, function(3): got 6, expected 9. Hint: try it with 3 on paper
    False
    """
    if not cases:
        raise ValueError("give at least one case: without any, every answer would be right.")
    if answer is None or answer is ...:
        say(NOT_YET)
        return None
    for position, arguments in enumerate(cases):
        fault = _fault(answer, reference, arguments, position, tolerance)
        if fault == NOT_YET:
            say(NOT_YET)
            return None
        if fault:
            call = f"case {position}, {_name(answer)}({', '.join(map(_short, arguments))})"
            hint = f" Hint: {hints[position]}" if hints and position in hints else ""
            say(f"✗ {call}: {fault}{hint}")
            return False
    say(f"✓ right in all {len(cases)} cases.")
    return True


def attempt(answer: Callable, *arguments: object) -> object:
    """Run a student's function, and go on with the notebook while it is a stub that raises ``NotImplementedError``.

    Nothing is judged: it is for answers that a person reads. Any other error is the student's to see, and is raised;
    ``exit()`` is told and ends nothing.

    Returns:
        What the function returns; ``None`` while the stub is untouched.

    >>> attempt(max, 2, 3)
    3
    """
    try:
        return answer(*arguments)
    except NotImplementedError as error:
        if not _is_stub(error):
            raise
        say(NOT_YET)
    except SystemExit as error:
        say(f"✗ {_raised(error)}")
    return None


def _fault(answer: Callable, reference: Callable, arguments: tuple, position: int, tolerance: float) -> str:
    """What is wrong with an answer in one case, in a sentence; nothing when it is right."""
    if not callable(answer):
        return f"{_short(answer)} is not a function."
    if parameters := _misfit(answer, arguments):
        return f"the check calls it with {len(arguments)} arguments, and it takes {parameters}."
    with contextlib.suppress(RecursionError):
        arguments = tuple(map(_rereadable, arguments))
    for_reference, for_answer = _copied(arguments), _copied(arguments)
    try:
        with _random_states_kept():
            expected = _copied(_listed(reference(*for_reference)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"the check itself failed, not your function: {_raised(error)} Restart the kernel and run the cells above."
    try:
        with _random_states_kept():
            got = answer(*for_answer)
            got = _listed(got, expected) if isinstance(expected, Collection) else got
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a student's code raises is something to tell, not to stop at
        return NOT_YET if position == 0 and _is_stub(error) else _raised(error)
    if (got is None or got is ...) and expected is not got and _is_untouched(answer):
        return NOT_YET
    if got is None and expected is not None:
        return f"got None, expected {_short(expected)}. Is there a `return` line?"
    if not same(got, expected, tolerance):
        return f"got {_short(got)}, expected {_short(expected)}.{_not_a_number(got, expected)}"
    for place, states in enumerate(zip(for_answer, for_reference, arguments, strict=True), 1):
        mine, theirs, before = states
        if same_state(mine, before):
            continue
        if is_generator(before):
            if not same_state(mine, theirs):
                return f"the result is right, but generator {place} is drawn from more or less often than asked."
        elif same_state(theirs, before):
            return f"the result is right, but argument {place} was changed in place. Work on a copy of it."
    return ""


# --- what is done with answers; nothing here raises what an answer's code raises, but for Ctrl-C -------------------------


def _copied(thing: Any) -> Any:
    """A deep copy; what cannot be copied stays the same object, and a tensor keeps no history."""
    try:
        return copy.copy(thing) if _runs_once(thing) else copy.deepcopy(thing)
    except KeyboardInterrupt:
        raise
    except RecursionError:
        return thing
    except BaseException:
        if isinstance(thing, torch.Tensor):
            return thing.detach().clone().requires_grad_(thing.requires_grad)
        if type(thing) in (list, tuple):
            return type(thing)(map(_copied, thing))
        return {key: _copied(item) for key, item in thing.items()} if type(thing) is dict else thing


def _rereadable(thing: Any) -> Any:
    """The same values; an iterator that cannot be copied, also one in a list, tuple or dictionary, becomes one that can."""
    if _runs_once(thing):
        return itertools.tee(thing, 1)[0]
    if type(thing) not in (list, tuple, dict):
        return thing
    old = list(thing.values() if type(thing) is dict else thing)
    new = list(map(_rereadable, old))
    if all(map(operator.is_, old, new)):
        return thing
    return dict(zip(thing, new, strict=True)) if type(thing) is dict else type(thing)(new)


def _runs_once(thing: object) -> bool:
    """Whether it is an iterator that cannot be copied; by `itertools.tee` it becomes one that can."""
    return isinstance(thing, (types.GeneratorType, map, filter, zip, type(itertools.tee(())[0])))


def _listed(thing: Any, like: Collection | None = None) -> Any:
    """The values of an iterator, of which no more are taken than show whether there are as many as expected."""
    if not isinstance(thing, Iterator):
        return thing
    return list(itertools.islice(thing, _MOST if like is None or len(like) == _MOST else len(like) + 1))


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Put the global random states back, so that reference and answer draw the same, and the lesson's next draws stay."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - answers may use the global state
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


@guarded("")
def _misfit(answer: Callable, arguments: tuple) -> str:
    """Which parameters a function takes, when these arguments do not fit them."""
    signature = inspect.signature(answer)  # raises for some built-in functions, which then speak for themselves
    try:
        signature.bind(*arguments)
    except TypeError:
        names = ", ".join(signature.parameters)
        by_name = [name for name, each in signature.parameters.items() if each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
        note = f", {', '.join(by_name)} by name only" if by_name else ""
        return f"{len(signature.parameters)} ({names}){note}" if names else "none"
    return ""


# --- stubs -------------------------------------------------------------------------------------------------------------

# Steps of a function that do nothing, whatever version of Python compiled it.
_IDLE = {"CACHE", "COPY", "COPY_FREE_VARS", "MAKE_CELL", "NOP", "NOT_TAKEN", "POP_TOP", "RESUME", "RETURN_VALUE"}


def _is_stub(error: BaseException) -> bool:
    """Whether an error comes from the ``raise`` line of a stub, and not from a library that lacks an operation."""
    trace = error.__traceback__
    if not isinstance(error, NotImplementedError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    installed = {"site-packages", "dist-packages"} & set(Path(code.co_filename).parts)
    return dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS" and not installed


@guarded(False)
def _is_untouched(answer: Any, seen: frozenset = frozenset()) -> bool:
    """Whether a function does no more than ``return None`` or ``...``, or one of the same notebook whose result it uses."""
    if isinstance(answer, functools.partial):
        return any(_is_untouched(part) for part in (answer.func, *answer.args, *answer.keywords.values()))
    body = inspect.unwrap(answer.forward if isinstance(answer, torch.nn.Module) else answer)
    if not isinstance(body, (type, types.FunctionType, types.MethodType)):
        body = inspect.unwrap(type(body).__call__)
    body = getattr(body, "__func__", body)
    if not isinstance(body, types.FunctionType) or body in seen:
        return False
    steps, parameters = list(dis.get_instructions(body)), set(inspect.signature(body).parameters)
    if not any(_does_something(step, parameters) for step in steps):
        return True
    known = {**body.__globals__, **inspect.getclosurevars(body).nonlocals}
    ours = [known[name] for name in _used(steps) if getattr(known.get(name), "__globals__", None) is body.__globals__]
    return any(_is_untouched(part, seen | {body}) for part in ours)


def _used(steps: list[dis.Instruction]) -> set[str]:
    """Names from outside of a function, but for those in a line that calls them and drops what they return."""
    dropped = [call for call, step in itertools.pairwise(steps) if "CALL" in call.opname and step.opname == "POP_TOP"]
    starts = set(map(_start, dropped))  # a call starts where the name does
    return {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF") and _start(step) not in starts}


def _start(step: dis.Instruction) -> tuple[int | None, int | None] | None:
    """Line and column."""
    return step.positions and (step.positions.lineno, step.positions.col_offset)


def _does_something(step: dis.Instruction, parameters: set[str]) -> bool:
    if step.opname.endswith("_CONST"):
        return step.argval is not None and step.argval is not ...
    if "_FAST" in step.opname:  # `result = None`, then `return result`, does nothing
        return not parameters.isdisjoint(step.argval if isinstance(step.argval, tuple) else (step.argval,))
    return step.opname not in _IDLE


# --- telling -----------------------------------------------------------------------------------------------------------


def _remark(answer: object, expected: object) -> str:
    """What else helps: where to look for a number that is wrong."""
    if isinstance(answer, Iterator):
        return " Its values must be taken out, as in list(…)."
    return _not_a_number(answer, expected) or _direction(answer, expected)


@guarded("")
def _direction(answer: Any, expected: Any) -> str:
    answer, expected = plain(answer), plain(expected)
    if isinstance(answer, bool) or not all(isinstance(each, numbers.Real) for each in (answer, expected)):
        return ""
    return " It is too large." if answer > expected else " It is too small."


@guarded("")
def _not_a_number(answer: object, expected: object) -> str:
    found, allowed = _nans(answer), _nans(expected)
    if found <= allowed:
        return ""
    if isinstance(plain(answer), numbers.Number):
        return " nan means that it is not a number: look for 0/0, the root or the logarithm of a negative number, ∞ − ∞."
    return f" {found} of its values are nan, not a number."


def _nans(thing: Any) -> int:
    thing = plain(thing)
    if isinstance(thing, torch.Tensor):
        return int(thing.isnan().sum())
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if is_sequence(thing):
        return sum(map(_nans, itertools.islice(thing, _MOST)))
    return int(isinstance(thing, numbers.Number) and thing != thing)


@guarded("it raised an error.")
def _raised(error: BaseException) -> str:
    words = _short(error, limit=300) if error.args and error.args[0] is not None else ""
    return f"it raised {type(error).__name__}{': ' if words else ''}{words}."


@guarded("function")
def _name(answer: Callable) -> str:
    name = answer.__name__
    return name if name.isidentifier() else "function"


def _short(thing: object, limit: int = 60) -> str:
    """A value in a line; what is long is cut, and what cannot be shown is named by its type."""
    text = _spelled(thing) or f"a value of type {type(thing).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "…"


@guarded("")
def _spelled(thing: Any) -> str:
    if isinstance(thing, torch.Tensor):
        held = plain(thing) if thing.numel() <= 8 else f"tensor{tuple(thing.shape)}"
        return str(held.tolist() if isinstance(held, torch.Tensor) else held)
    if isinstance(thing, (list, tuple, set, frozenset, dict)) and len(thing) > _MOST:
        return f"{type(thing).__name__} of {len(thing)}"
    return " ".join(str(thing[:_MOST] if type(thing) is str else thing).split())
