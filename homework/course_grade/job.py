"""Grade one student: a pure function of the plan and the bytes that were handed in, so that it can run anywhere and again."""

import atexit
import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, field, replace

import nbformat
from nbformat import NotebookNode
from nbgrader import utils

from course_grade import sandbox, score
from course_grade.assignment import Assignment, grade_id
from course_grade.errors import AssignmentError
from course_grade.execute import SandboxExecute, shown_name
from course_grade.intake import graft
from course_grade.submission import parse


@dataclass(frozen=True)
class Plan:
    """What is the same for all students of one grading run."""

    assignment: Assignment
    seed: int  # of the inputs of hidden tests, drawn afresh for every run
    expected: dict[str, dict] = field(default_factory=dict)  # by grade_id and check: what the solution emits
    modules: tuple[str, ...] = ()  # what the solution's run imported; with any, kernels start warm
    settings: dict = field(default_factory=dict)  # traits of SandboxExecute
    sandboxed: bool = True


@dataclass(frozen=True)
class Result:
    """A graded notebook: answers, outputs as handed in, and in each autograded cell its points; no hidden test."""

    notebook: str
    notes: tuple[str, ...]


_warm: sandbox.Warm | None = None


def warmed(plan: Plan) -> sandbox.Warm | None:
    """This process's warm process: started with the first job, anew when it died."""
    global _warm
    if not plan.sandboxed or not plan.modules:
        return None
    if _warm is None or not _warm.alive():
        sandbox.tidy()  # this may be a machine on which nothing but workers run
        atexit.register(cool)
        _warm = sandbox.Warm(list(plan.modules), plan.seed)
    return _warm


def cool() -> None:
    """End this process's warm process."""
    global _warm
    if _warm is not None:
        _warm.close()
        _warm = None


def run(plan: Plan, notebook: NotebookNode) -> SandboxExecute:
    """Execute a notebook whose autograded cells hold their hidden tests."""
    executor = SandboxExecute(seed=plan.seed, sandboxed=plan.sandboxed, warm=warmed(plan), **plan.settings)
    executor.execute(notebook)
    return executor


LOADED = """
import sys
from course_grade.probe import emit
emit("modules", lambda: [name for name in sys.modules if not name.startswith(("__", "course_grade"))])
"""


def solve(plan: Plan) -> Plan:
    """The plan with what the solution's hidden tests emit, and the modules that its run imported.

    Raises:
        AssignmentError: the solution fails, so nothing could be graded by it.
    """
    notebook = deepcopy(plan.assignment.source)
    notebook.cells.append(nbformat.v4.new_code_cell(LOADED, metadata={"nbgrader": {"grade": True, "grade_id": "modules"}}))
    executor = run(plan, notebook)
    if executor.lost:
        raise AssignmentError(f"Output or values are too large in {', '.join(executor.lost)}: let hidden tests emit less.")
    expected = {}
    for index, cell in enumerate(notebook.cells[:-1]):
        name = grade_id(cell)
        if name not in plan.assignment.tests:
            continue
        found = score.checks(executor.emitted.get(index, []))
        wrong = [f"{check}: {message['error']}" for check, message in found.items() if "error" in message]
        if not found or wrong or index in executor.errors:
            reason = "; ".join([*wrong, *executor.notes]) or executor.errors.get(index, "it emits nothing")
            raise AssignmentError(
                f"The solution fails in {name}: {reason}. Correct {plan.assignment.name} before grading by it."
            )
        expected[name] = found
    loaded = executor.emitted.get(len(notebook.cells) - 1)
    if not loaded:
        raise AssignmentError(f"The solution does not come to its end: {'; '.join(executor.notes)}.")
    return replace(plan, expected=expected, modules=tuple(loaded[0]["value"]))


def grade(plan: Plan, content: bytes) -> Result:
    """Grade a submitted file.

    Raises:
        IntakeError: the file is no notebook; the reason is the student's.
        SandboxError: no kernel could be started; try again.
    """
    assignment = plan.assignment
    notebook, notes = graft(assignment, parse(content))
    shown = [deepcopy(cell.get("outputs", [])) for cell in notebook.cells]
    executor = run(plan, notebook)
    notes += executor.notes
    broken = []
    released = {cell.id: cell.source for cell in assignment.release.cells}
    for index, (cell, handed_in) in enumerate(zip(notebook.cells, shown, strict=True)):
        name = grade_id(cell)
        if name in assignment.tests:
            emitted, points, secret = executor.emitted.get(index, []), assignment.graded[name], assignment.tests[name]
            result = score.score(plan.expected[name], emitted, points, secret, _end(executor, index))
            score.show(cell, *result)
            cell.source = Assignment.cells(assignment.release)[name].source
            cell.metadata.nbgrader["checksum"] = utils.compute_checksum(cell)  # of the test as released
        elif cell.cell_type == "code":
            # The reader sees what the student saw. What this run printed, a student's code may have made of hidden tests.
            cell.metadata.setdefault("course_grade", {})["outputs"] = "handed in" if handed_in else "this run"
            cell.outputs = handed_in or cell.outputs
            cell.execution_count = None
        theirs = index in executor.stopped or cell.source != released.get(cell.id)
        if index in executor.errors and name in assignment.tests and index not in executor.stopped:
            notes.append(f"{name} ended with an error ({executor.errors[index]})")
        elif index in executor.errors and name not in assignment.tests and theirs:
            broken.append(f"{shown_name(cell)} ({executor.errors[index]})")
    if broken:
        notes.append(f"ends with an error: {', '.join(broken[:5])}{', …' if len(broken) > 5 else ''}")
    return Result(nbformat.writes(notebook), tuple(_plain(note) for note in notes))


def _end(executor: SandboxExecute, index: int) -> str:
    """Why a test did not come to its end; nothing when it did."""
    if index in executor.errors and index not in executor.stopped:
        return f"the test ended with an error ({executor.errors[index]})"
    return executor.errors.get(index, executor.end)


def _plain(note: str) -> str:
    """A note for a spreadsheet: one line, and no formula."""
    return " ".join("".join(c if c.isprintable() else " " for c in note).split())[:500].lstrip("=+-@")


def digest(plan: Plan, content: bytes) -> str:
    """Changes when a submission, a test, a hidden input or the size of the experiments changes."""
    about = [plan.assignment.digest, plan.seed, plan.settings.get("profile")]
    return hashlib.sha256(json.dumps(about).encode() + b"\n" + content).hexdigest()
