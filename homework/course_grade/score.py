"""Points from the values that hidden tests emitted, compared outside the kernel with those of the solution's run."""

import builtins
import math

import nbformat
from nbformat import NotebookNode

RELATIVE, ABSOLUTE = 1e-4, 1e-5


def same(expected: object, got: object) -> bool:
    """Whether two emitted values agree: structure, shapes and kinds exactly, numbers closely.

    >>> same([1, {"a": 0.5}], [1.0, {"a": 0.50001}]), same(1, True), same(float("nan"), float("nan"))
    (True, False, True)
    """
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        try:
            expected, got = float(expected), float(got)
        except OverflowError:
            return False
        return math.isclose(expected, got, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (math.isnan(expected) and math.isnan(got))
    if type(expected) is not type(got):
        return False
    if isinstance(expected, dict):
        if "dtype" in expected and "dtype" in got:  # float32 or float64: both are right
            expected, got = ({**array, "dtype": str(array["dtype"]).rstrip("0123456789")} for array in (expected, got))
        return expected.keys() == got.keys() and all(same(expected[key], got[key]) for key in expected)
    if isinstance(expected, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    return expected == got


def checks(emitted: list) -> dict[str, dict]:
    """Emitted values by name. A name that was sent twice counts as sent with another value."""
    found: dict[str, dict] = {}
    for message in emitted:
        if isinstance(message, dict) and isinstance(name := message.get("name"), str):
            found[name] = {"error": "sent twice"} if name in found else message
    return found


def score(expected: dict[str, dict], emitted: list, points: float, secret: str) -> tuple[float, list[str]]:
    """Points and a line per check.

    Args:
        expected: the solution's `checks`.
        emitted: what the student's kernel sent in the same cell.
        points: of the cell, the same for each check.
        secret: hidden tests; a message that quotes a line of them is not shown.
    """
    got = checks(emitted)
    right, lines = 0, []
    for name, wanted in expected.items():
        found = got.get(name)
        try:
            good = found is not None and "value" in found and same(wanted["value"], found["value"])
        except RecursionError:
            good = False
        right += good
        lines.append(f"✓ {name}" if good else f"✗ {name}: {_reason(found, secret)}")
    return round(points * right / len(expected), 4), lines


def _reason(found: dict | None, secret: str) -> str:
    if found is None:
        return "not reached"
    if "error" not in found:
        return "another value"
    text = " ".join(str(found["error"]).encode("utf-8", "replace").decode().split())[:200]
    name = text.partition(":")[0]
    known = isinstance(getattr(builtins, name, None), type) and issubclass(getattr(builtins, name), BaseException)
    quotes = any(len(line.strip()) > 12 and line.strip() in text for line in secret.splitlines())
    return text if known and not quotes else "an error"


def show(cell: NotebookNode, points: float, lines: list[str]) -> None:
    """Make these the outputs of a graded cell. The last one is nbgrader's own form of partial credit."""
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="\n".join(lines) + "\n"),
        nbformat.v4.new_output("execute_result", data={"text/plain": f"{points:g}"}, execution_count=1),
    ]
