"""Instant hints for exercises: a sentence that says what is right or what to look at next. Nothing is graded here.

Works the same in JupyterLab, Colab and a plain script. Whatever an answer is or does, a check does not stop the notebook: it
returns ``True`` when the answer is right, ``False`` when it is not, and ``None`` while the stub is untouched. Ctrl-C stops it.
A lesson's data stay as they are: answers work on copies, and draw from copies of the random states.
"""

import cmath
import contextlib
import copy
import dataclasses
import dis
import functools
import inspect
import itertools
import numbers
import operator
import random
import types
import unicodedata
from collections.abc import Callable, Collection, ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from pathlib import Path

import numpy as np
import torch

from course_utils.files import say

NOT_YET = "… not answered yet: replace the stub, run its cell, then run this one again."
# As many values are taken from an iterator that does not end.
MOST = 1000


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
    if _same(answer, expected, tolerance):
        say("✓ right.")
        return True
    for wrong, hint in (hints or {}).items():
        if _same(answer, wrong, tolerance):
            say(f"✗ not yet: {hint}")
            return False
    shown = repr(answer[:MOST]) if type(answer) is str else answer
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
    if not _same(got, expected, tolerance):
        return f"got {_short(got)}, expected {_short(expected)}.{_not_a_number(got, expected)}"
    for place, states in enumerate(zip(for_answer, for_reference, arguments, strict=True), 1):
        mine, theirs, before = states
        if _alike(mine, before):
            continue
        if _is_generator(before):
            if not _alike(mine, theirs):
                return f"the result is right, but generator {place} is drawn from more or less often than asked."
        elif _alike(theirs, before):
            return f"the result is right, but argument {place} was changed in place. Work on a copy of it."
    return ""


# --- what is done with answers; nothing here raises what an answer's code raises, but for Ctrl-C -------------------------


def _guarded(otherwise: object) -> Callable:
    """Let a function give ``otherwise`` where it raises: code of an answer runs in it, such as ``__eq__`` or ``__repr__``."""

    def wrap(plain: Callable) -> Callable:
        @functools.wraps(plain)
        def safe(*arguments: object) -> object:
            try:
                return plain(*arguments)
            except KeyboardInterrupt:
                raise
            except BaseException:
                return otherwise

        return safe

    return wrap


def _copied(thing: object) -> object:
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


def _rereadable(thing: object) -> object:
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


def _listed(thing: object, like: Collection | None = None) -> object:
    """The values of an iterator, of which no more are taken than show whether there are as many as expected."""
    if not isinstance(thing, Iterator):
        return thing
    return list(itertools.islice(thing, MOST if like is None or len(like) == MOST else len(like) + 1))


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


@_guarded("")
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


@_guarded(False)
def _is_untouched(answer: object, seen: frozenset = frozenset()) -> bool:
    """Whether a function does no more than ``return None`` or ``...``, or one of the same notebook whose result it uses."""
    if isinstance(answer, functools.partial):
        return any(_is_untouched(part) for part in (answer.func, *answer.args, *answer.keywords.values()))
    plain = inspect.unwrap(answer.forward if isinstance(answer, torch.nn.Module) else answer)
    if not isinstance(plain, (type, types.FunctionType, types.MethodType)):
        plain = inspect.unwrap(type(plain).__call__)
    plain = getattr(plain, "__func__", plain)
    if not isinstance(plain, types.FunctionType) or plain in seen:
        return False
    steps, parameters = list(dis.get_instructions(plain)), set(inspect.signature(plain).parameters)
    if not any(_does_something(step, parameters) for step in steps):
        return True
    known = plain.__globals__ | inspect.getclosurevars(plain).nonlocals
    ours = [known[name] for name in _used(steps) if getattr(known.get(name), "__globals__", None) is plain.__globals__]
    return any(_is_untouched(part, seen | {plain}) for part in ours)


def _used(steps: list[dis.Instruction]) -> set[str]:
    """Names from outside of a function, but for those in a line that calls them and drops what they return."""
    dropped = [call for call, step in itertools.pairwise(steps) if "CALL" in call.opname and step.opname == "POP_TOP"]
    starts = {call.positions[::2] for call in dropped}  # of line and column: a call starts where the name does
    return {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF") and step.positions[::2] not in starts}


def _does_something(step: dis.Instruction, parameters: set[str]) -> bool:
    if step.opname.endswith("_CONST"):
        return step.argval is not None and step.argval is not ...
    if "_FAST" in step.opname:  # `result = None`, then `return result`, does nothing
        return not parameters.isdisjoint(step.argval if isinstance(step.argval, tuple) else (step.argval,))
    return step.opname not in _IDLE


# --- comparing ---------------------------------------------------------------------------------------------------------


@_guarded(False)
def _same(left: object, right: object, tolerance: float) -> bool:
    """Whether two values are equal, whatever holds them. What cannot be compared is not equal."""
    return _equal(left, right, tolerance)


def _equal(left: object, right: object, tolerance: float) -> bool:
    if hasattr(left, "axes") and hasattr(right, "axes") and hasattr(left, "to_numpy") and hasattr(right, "to_numpy"):
        labels = (list(map(list, table.axes)) for table in (left, right))  # of rows and columns, of pandas
        return _equal(*labels, tolerance) and _equal(left.to_numpy(), right.to_numpy(), tolerance)
    left, right = _rounded_alike(_plain(left), _plain(right))
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.shape == right.shape and _close_tensors(left, right, tolerance)
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        tensor, other = (left, right) if isinstance(left, torch.Tensor) else (right, left)
        if not _is_sequence(other) or len(other) != len(tensor):
            return False
        return all(_equal(*pair, tolerance) for pair in zip(left, right, strict=True))
    if isinstance(left, numbers.Number) and isinstance(right, numbers.Number):
        return _close(left, right, tolerance)
    if isinstance(left, str) and isinstance(right, str):
        return _word(left) == _word(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key], tolerance) for key in right)
    if isinstance(left, Set) and isinstance(right, Set):
        return _equal_sets(left, right, tolerance)
    if _is_sequence(left) and _is_sequence(right):
        return len(left) == len(right) and all(_equal(*pair, tolerance) for pair in zip(left, right, strict=True))
    # An object that calls itself equal to everything is not an answer.
    related = isinstance(left, type(right)) or isinstance(right, type(left))
    return left is right or (related and bool(left == right))


def _equal_sets(left: Set, right: Set, tolerance: float) -> bool:
    """Pair the values that only one of them holds. Sorting makes it fast; what cannot be sorted is paired as well."""
    if len(left) != len(right):
        return False
    left, right = list(left - right), list(right - left)
    with contextlib.suppress(TypeError):
        left, right = sorted(left), sorted(right)
    for one in left:
        partner = next((place for place, other in enumerate(right) if _same(one, other, tolerance)), None)
        if partner is None:
            return False
        del right[partner]
    return True


def _plain(thing: object) -> object:
    """A value without what holds it: Python's number, a tensor with dimensions in memory, a sequence; else as it is."""
    if hasattr(thing, "to_numpy"):
        thing = thing.to_numpy()
    if isinstance(thing, np.ndarray) and thing.dtype.kind not in "biufc":  # objects, texts, times
        thing = thing.tolist()
    if isinstance(thing, (np.ndarray, np.number)) and thing.dtype.char in "gG":  # long doubles, which torch lacks
        with np.errstate(over="ignore"):
            double = thing.astype(np.complex128 if thing.dtype.char == "G" else np.float64)
        if (np.isinf(double) & ~np.isinf(thing)).any():  # too large for float64
            return thing.tolist()
        thing = double
    if isinstance(thing, (np.ndarray, np.bool_, np.number)):
        thing = torch.from_numpy(np.array(thing, dtype=thing.dtype.newbyteorder("=")))
    if isinstance(thing, torch.Tensor):
        if thing.is_nested:
            return list(thing.unbind())
        thing = thing.detach()
        thing = thing.dequantize() if thing.is_quantized else thing if thing.layout == torch.strided else thing.to_dense()
        thing = thing.cpu().resolve_conj().resolve_neg()
    if isinstance(thing, numbers.Number) and not isinstance(thing, (int, float)):  # fractions, decimals, 3 + 0j
        if thing.imag != 0:
            return complex(thing)
        with contextlib.suppress(OverflowError):
            double = float(thing.real)
            return thing if cmath.isinf(double) and thing != double else double
    return list(thing) if isinstance(thing, (KeysView, ValuesView, ItemsView)) else thing


def _rounded_alike(left: object, right: object) -> tuple[object, object]:
    """Round both to 16 or 8 bits where one of them has no more, then make numbers of tensors without dimensions."""
    for one in (left, right):
        if isinstance(one, torch.Tensor) and one.is_floating_point() and one.dtype.itemsize < 4:
            with contextlib.suppress(Exception):  # what is not made of real numbers is not rounded
                both = [torch.as_tensor(each, dtype=getattr(each, "dtype", torch.float64)) for each in (left, right)]
                if not any(each.is_complex() for each in both):
                    left, right = (_rounded(each.double(), one.dtype) for each in both)
    return tuple(each.item() if isinstance(each, torch.Tensor) and each.ndim == 0 else each for each in (left, right))


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


def _close(left: numbers.Number, right: numbers.Number, tolerance: float) -> bool:
    if left == right:
        return True
    if cmath.isnan(left) or cmath.isnan(right):
        return cmath.isnan(left) and cmath.isnan(right)
    if cmath.isinf(left) or cmath.isinf(right):
        return False
    return abs(left - right) <= tolerance * (1 + abs(right))


def _word(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().lower()


def _is_sequence(thing: object) -> bool:
    return isinstance(thing, Sequence) and not isinstance(thing, (str, bytes, bytearray))


@_guarded(False)
def _alike(left: object, right: object) -> bool:
    """Whether two copies of an argument are in the same state."""
    return _equal(_state(left), _state(right), 0)


def _state(thing: object) -> object:
    """What can change in an argument, also where ``==`` does not tell."""
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    for name in ("get_state", "getstate", "state_dict"):  # of random generators; of modules, optimizers, schedulers
        if callable(getattr(thing, name, None)) and not isinstance(thing, type):
            return _state(getattr(thing, name)())
    if type(thing) in (list, tuple):
        return list(map(_state, thing))
    plain = type(thing).__eq__ is object.__eq__ or dataclasses.is_dataclass(thing)
    if plain and hasattr(thing, "__dict__") and not isinstance(thing, (type, types.ModuleType, types.FunctionType)):
        thing = vars(thing)
    return {key: _state(item) for key, item in thing.items()} if type(thing) is dict else thing


def _is_generator(thing: object) -> bool:
    return isinstance(thing, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))


# --- telling -----------------------------------------------------------------------------------------------------------


def _remark(answer: object, expected: object) -> str:
    """What else helps: where to look for a number that is wrong."""
    if isinstance(answer, Iterator):
        return " Its values must be taken out, as in list(…)."
    return _not_a_number(answer, expected) or _direction(answer, expected)


@_guarded("")
def _direction(answer: object, expected: object) -> str:
    answer, expected = _rounded_alike(_plain(answer), _plain(expected))
    if isinstance(answer, bool) or not all(isinstance(each, numbers.Real) for each in (answer, expected)):
        return ""
    return " It is too large." if answer > expected else " It is too small."


@_guarded("")
def _not_a_number(answer: object, expected: object) -> str:
    found, allowed = _nans(answer), _nans(expected)
    if found <= allowed:
        return ""
    _, plain = _rounded_alike(None, _plain(answer))
    if isinstance(plain, numbers.Number):
        return " nan means that it is not a number: look for 0/0, the root or the logarithm of a negative number, ∞ − ∞."
    return f" {found} of its values are nan, not a number."


def _nans(thing: object) -> int:
    _, plain = _rounded_alike(None, _plain(thing))
    if isinstance(plain, torch.Tensor):
        return int(plain.isnan().sum())
    if isinstance(plain, Mapping):
        plain = list(plain.values())
    if _is_sequence(plain):
        return sum(map(_nans, itertools.islice(plain, MOST)))
    return int(isinstance(plain, numbers.Number) and plain != plain)


@_guarded("it raised an error.")
def _raised(error: BaseException) -> str:
    words = _short(error, limit=300) if error.args and error.args[0] is not None else ""
    return f"it raised {type(error).__name__}{': ' if words else ''}{words}."


@_guarded("function")
def _name(answer: Callable) -> str:
    name = answer.__name__
    return name if name.isidentifier() else "function"


def _short(thing: object, limit: int = 60) -> str:
    """A value in a line; what is long is cut, and what cannot be shown is named by its type."""
    text = _spelled(thing) or f"a value of type {type(thing).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "…"


@_guarded("")
def _spelled(thing: object) -> str:
    if isinstance(thing, torch.Tensor):
        return str(_plain(thing).tolist()) if thing.numel() <= 8 else f"tensor{tuple(thing.shape)}"
    if isinstance(thing, (list, tuple, set, frozenset, dict)) and len(thing) > MOST:
        return f"{type(thing).__name__} of {len(thing)}"
    return " ".join(str(thing[:MOST] if type(thing) is str else thing).split())
