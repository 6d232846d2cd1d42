"""Points from the values that hidden tests emitted, compared outside the kernel with those of the solution's run."""

import builtins
import cmath
import json
import math
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

import nbformat
from nbformat import NotebookNode

RELATIVE, ABSOLUTE = 1e-4, 1e-5
ROUNDING = {"float16": 2**-10, "bfloat16": 2**-7}  # of types that round by more than that
ANOTHER, TWICE = "another value", "sent twice"
NUMBER = re.compile(r"nan|-?inf|-?0x[0-9a-f]+")
DTYPE = re.compile(r"(b?float|u?int|complex|bool)\d{0,3}")


def same(expected: object, got: object) -> bool:
    """Whether two emitted values (`probe.plain`) agree: structure and shapes exactly, numbers closely.

    Numbers are the same whatever holds them, a list, an array or a tensor. Two arrays are of the same kind as well: whole
    numbers, other real ones, complex ones or truth values; but an array of whole numbers may stand for real ones. Numbers of
    16 bits agree as closely as these can be.

    >>> same([1, {"a": 0.5}], [1.0, {"a": 0.50001}]), same(1, True), same(float("nan"), float("nan"))
    (True, False, True)
    >>> same({"shape": [2], "dtype": "float32", "values": [0.5, 1]}, [0.5, 1.0])
    True
    """
    return not difference(expected, got)


def difference(expected: object, got: object) -> str:
    """What is other about an emitted value, in words that do not tell the right one; nothing when it is the same.

    >>> difference({"shape": [3], "dtype": "int64", "values": [1, 2, 3]}, {"shape": [1], "dtype": "int64", "values": [6]})
    'shape (1,), expected (3,)'
    """
    if got is None and expected is not None:
        return "returned None: is there a `return`?"
    return _difference(expected, got, RELATIVE)


def _difference(expected: object, got: object, relative: float) -> str:
    if _is_table(expected) and _is_table(got):
        return _difference(expected["columns"], got["columns"], relative) or _difference(
            expected["table"], got["table"], relative
        )
    expected, got = (value["table"] if _is_table(value) else value for value in (expected, got))
    if form := _other_shape(expected, got):
        return form
    relative = max(relative, _rounding(expected), _rounding(got))
    value = _other_value(_read(expected), _read(got), relative)
    return _other_kind(expected, got, same=not value) or value


def _other_value(expected: Any, got: Any, relative: float) -> str:
    wanted, found = _what(expected), _what(got)
    if wanted != found:
        return ANOTHER if wanted == "None" else f"{found}, expected {wanted}"
    if wanted == "a number":
        return _other_number(expected, got, relative)
    if wanted in ("a list", "a set"):
        if len(expected) != len(got):
            return f"{wanted} of {len(got)}, expected {len(expected)}"
        return _most_telling(_difference(one, other, relative) for one, other in zip(expected, got, strict=True))
    if wanted == "a dict":
        if expected.keys() != got.keys():
            return "a dict with other keys"
        return _most_telling(_difference(expected[key], got[key], relative) for key in expected)
    return "" if expected == got else ANOTHER


def _most_telling(differences: Iterable[str]) -> str:
    found = [said for said in differences if said]
    return next((said for said in found if said != ANOTHER), ANOTHER) if found else ""


def _other_number(expected: complex, got: complex, relative: float) -> str:
    if expected == got:
        return ""
    try:
        expected, got = complex(expected), complex(got)
    except OverflowError:
        return ANOTHER
    if cmath.isclose(expected, got, rel_tol=relative, abs_tol=ABSOLUTE) or (cmath.isnan(expected) and cmath.isnan(got)):
        return ""
    if not cmath.isfinite(got) and cmath.isfinite(expected):
        return f"{'nan' if cmath.isnan(got) else 'inf'}, where a number was expected"
    return ANOTHER


# --- forms that `probe.plain` sends; a student's code may send anything that looks like them ---------------------------------


def _is_table(value: object) -> TypeGuard[dict]:
    return isinstance(value, dict) and value.keys() == {"columns", "table"}


def _is_array(value: object) -> TypeGuard[dict]:
    if not (isinstance(value, dict) and value.keys() == {"shape", "dtype", "values"}):
        return False
    shape, values = value["shape"], value["values"]
    sizes = isinstance(shape, list) and len(shape) <= 64 and all(type(size) is int and size >= 0 for size in shape)
    return sizes and isinstance(value["dtype"], str) and isinstance(values, list) and math.prod(shape) == len(values)


def _other_shape(expected: object, got: object) -> str:
    """What is other about an array's shape, or about that of a list or number in its place."""
    if not (_is_array(expected) or _is_array(got)):
        return ""
    wanted, found = _shape(expected), _shape(got)
    if wanted is None or found is None or wanted == found:
        return ""
    return f"shape {found}, expected {wanted or 'a number'}" if found else f"a number, expected shape {wanted}"


def _other_kind(expected: object, got: object, same: bool) -> str:
    """What is other about an array's kind. Whole numbers for the ``same`` real ones are right, as in a list."""
    if not (_is_array(expected) and _is_array(got)):
        return ""
    (wanted, kind), (found, other) = _dtype(expected), _dtype(got)
    return "" if kind == other or (same and (kind, other) == ("float", "int")) else f"dtype {found}, expected {wanted}"


def _rounding(value: object) -> float:
    return ROUNDING.get(value["dtype"], 0.0) if _is_array(value) else 0.0


def _shape(value: object) -> tuple[int, ...] | None:
    """Shape of an array, of a number, and of lists that could be an array."""
    if _is_array(value):
        return tuple(value["shape"])
    if isinstance(value, list):
        shapes = {_shape(item) for item in value} or {()}
        inner = shapes.pop()
        return None if inner is None or shapes else (len(value), *inner)
    return () if _what(_read(value)) in ("a number", "True or False") else None


def _dtype(array: dict) -> tuple[str, str]:
    """Name of an array's type, and its kind: float32, float64 and bfloat16 are one kind, int64 and uint8 another."""
    found = DTYPE.match(array["dtype"])
    if not found:
        return "unknown", "unknown"
    return found[0], {"bfloat": "float", "uint": "int"}.get(found[1], found[1])


def _read(value: object) -> Any:
    """A number or a list in place of the form that stands for it; a set becomes a tuple, in an order of its own."""
    if not isinstance(value, dict):
        return value
    if _is_array(value):
        values = value["values"]
        for size in reversed(value["shape"][1:] if values else ()):
            values = [values[start : start + size] for start in range(0, len(values), size)]
        return values if value["shape"] else values[0]
    if len(value) != 1:
        return value
    ((kind, held),) = value.items()
    if kind == "number" and isinstance(held, str) and NUMBER.fullmatch(held):
        return int(held, 16) if "x" in held else float(held)
    if kind == "complex" and isinstance(held, list) and [_what(_read(part)) for part in held] == ["a number"] * 2:
        return complex(*map(_read, held))
    if kind == "set" and isinstance(held, list):
        return tuple(sorted(held, key=_order))
    return value


def _order(item: object) -> tuple:
    number = _read(item)
    real = isinstance(number, (int, float)) and abs(number) < 1e300
    return (0, number, "") if real else (1, 0, json.dumps(item, sort_keys=True))


def _what(value: object) -> str:
    """Kind of a value that was read, in words."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, (int, float, complex)):
        return "a number"
    for kind, name in ((str, "a string"), (list, "a list"), (tuple, "a set"), (dict, "a dict")):
        if isinstance(value, kind):
            return name
    return "None" if value is None else "something else"


# --- points ------------------------------------------------------------------------------------------------------------------


def checks(emitted: list) -> dict[str, dict]:
    """Emitted values by name. A name that was sent twice counts as sent with another value."""
    found: dict[str, dict] = {}
    for message in emitted:
        if isinstance(message, dict) and isinstance(name := message.get("name"), str):
            found[name] = {"error": TWICE} if name in found else message
    return found


def score(expected: dict[str, dict], emitted: list, points: float, secret: str, end: str = "") -> tuple[float, list[str]]:
    """Points and a line per check.

    Args:
        expected: the solution's `checks`.
        emitted: what the student's kernel sent in the same cell.
        points: of the cell, the same for each check.
        secret: hidden tests; a message that quotes a line of them is not shown.
        end: why the cell did not come to its end, if so.
    """
    got = checks(emitted)
    wrong = {name: said for name, wanted in expected.items() if (said := _reason(wanted, got.get(name), secret, end))}
    lines = [f"✗ {name}: {wrong[name]}" if name in wrong else f"✓ {name}" for name in expected]
    return round(points * (len(expected) - len(wrong)) / len(expected), 4), lines


def _reason(wanted: dict, found: dict | None, secret: str, end: str) -> str:
    """Why a check gives no point; nothing when it does."""
    if found is None:
        return f"not reached: {end}" if end else "not reached"
    if "error" in found:
        return _error(found["error"], secret)
    try:
        return difference(wanted["value"], found["value"]) if "value" in found else ANOTHER
    except RecursionError:
        return ANOTHER


def _error(error: object, secret: str) -> str:
    text = " ".join(str(error).encode("utf-8", "replace").decode().split())[:200]
    name, _, message = text.partition(":")
    kind = getattr(builtins, name, None)
    if text == TWICE:
        return text
    if name == "NotImplementedError" and message.strip() in ("", "your code"):
        return "not answered yet"
    if name == "KeyboardInterrupt":
        return "stopped: it takes too long"
    if name == "StdinNotImplementedError":
        return "`input()` cannot be answered while grading"
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return "an error"
    if any(len(line.strip()) > 12 and line.strip() in text for line in secret.splitlines()):
        return "an error"
    return f"{text} (is there a `return`?)" if "NoneType" in text else text


def show(cell: NotebookNode, points: float, lines: list[str]) -> None:
    """Make these the outputs of a graded cell. The last one is nbgrader's own form of partial credit."""
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="\n".join(lines) + "\n"),
        nbformat.v4.new_output("execute_result", data={"text/plain": f"{points:g}"}, execution_count=1),
    ]
