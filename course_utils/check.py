"""Instant hints for exercises: a sentence that says what is right or what to look at next. Nothing is graded here.

Works the same in JupyterLab, Colab and a plain script, and does not stop a notebook: checks return ``True`` when the
answer is right, ``False`` when it is not, and ``None`` while the stub is untouched.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

NOT_YET = "… not answered yet: replace the stub, run its cell, then run this one again."


def value(
    answer: object, expected: object, *, hints: Mapping[object, str] | None = None, tolerance: float = 1e-6
) -> bool | None:
    """Compare an answer with the expected value.

    Args:
        answer: the student's; ``None`` or ``...`` counts as not answered.
        expected: a number, a string, or a sequence of numbers.
        hints: what to say to a particular wrong answer, such as ``{200: "that counts samples, not steps"}``.
        tolerance: largest difference allowed for numbers, absolute and relative.

    >>> value(None, 5)
    … not answered yet: replace the stub, run its cell, then run this one again.
    >>> value(100, 200, hints={100: "that is one epoch"})
    ✗ not yet: that is one epoch
    False
    """
    if answer is None or answer is ...:
        print(NOT_YET)
        return None
    if _same(answer, expected, tolerance):
        print("✓ right.")
        return True
    for wrong, hint in (hints or {}).items():
        if _same(answer, wrong, tolerance):
            print(f"✗ not yet: {hint}")
            return False
    print(f"✗ not yet: {answer!r} is not it." + _compare(answer, expected))
    return False


def function(
    answer: Callable,
    reference: Callable,
    cases: Sequence[tuple],
    *,
    hints: Mapping[int, str] | None = None,
    tolerance: float = 1e-6,
) -> bool | None:
    """Run a student's function and a reference on the same arguments and report the first case that differs.

    Args:
        answer: the student's function; it counts as not answered while it returns ``None`` for the first case, or raises
            ``NotImplementedError`` there.
        reference: a function that gives the right result.
        cases: argument tuples, the plain one first.
        hints: what to say when the case with this position (from 0) is the first that differs.
        tolerance: largest difference allowed, absolute and relative.

    Raises:
        ValueError: no cases, which is a mistake of the lesson and not of the student.

    >>> function(lambda a: a + a, lambda a: a * a, [(2,), (3,)], hints={1: "try it with 3 on paper"})
    ✗ case 1, function(3): got 6, expected 9. Hint: try it with 3 on paper
    False
    """
    if not cases:
        raise ValueError("give at least one case: without any, every answer would be right.")
    for position, arguments in enumerate(cases):
        name = getattr(answer, "__name__", "function").replace("<lambda>", "function")
        call = f"case {position}, {name}({', '.join(_short(argument) for argument in arguments)})"
        hint = f" Hint: {hints[position]}" if hints and position in hints else ""
        expected = reference(*arguments)
        try:
            got = answer(*arguments)
        except Exception as error:  # whatever a student's code raises is something to tell, not to stop at
            if isinstance(error, NotImplementedError) and position == 0:
                print(NOT_YET)
                return None
            print(f"✗ {call}: it raised {type(error).__name__}: {error}.{hint}")
            return False
        if got is None and position == 0 and expected is not None:
            print(NOT_YET)
            return None
        if not _same(got, expected, tolerance):
            print(f"✗ {call}: got {_short(got)}, expected {_short(expected)}.{hint}")
            return False
    print(f"✓ right in all {len(cases)} cases.")
    return True


def attempt(answer: Callable, *arguments: object) -> object:
    """Run a student's function, and go on with the notebook while it is a stub that raises ``NotImplementedError``.

    Nothing is judged: it is for answers that a person reads. Any other error is the student's to see, and is raised.

    Returns:
        What the function returns; ``None`` while the stub is untouched.

    >>> attempt(max, 2, 3)
    3
    """
    try:
        return answer(*arguments)
    except NotImplementedError:
        print(NOT_YET)
        return None


def _same(left: object, right: object, tolerance: float) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str) and left.strip().lower() == right.strip().lower()
    if isinstance(left, (tuple, list)) and isinstance(right, (tuple, list)):
        return len(left) == len(right) and all(_same(*pair, tolerance) for pair in zip(left, right, strict=True))
    try:
        left, right = (torch.as_tensor(v, dtype=torch.float64).detach().cpu() for v in (left, right))
    except (TypeError, ValueError, RuntimeError):
        return left == right
    return left.shape == right.shape and torch.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def _compare(answer: object, expected: object) -> str:
    numbers = (int, float)
    if isinstance(answer, numbers) and isinstance(expected, numbers) and not isinstance(answer, bool):
        return " It is too large." if answer > expected else " It is too small."
    return ""


def _short(thing: object) -> str:
    if isinstance(thing, torch.Tensor):
        thing = thing.tolist() if thing.numel() <= 8 else f"tensor{tuple(thing.shape)}"
    text = str(thing)
    return text if len(text) <= 60 else text[:57] + "…"
