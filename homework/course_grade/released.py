"""The cells that were handed out, and what each can be known by, whatever an editor has lost."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode
from nbgrader import utils

from course_grade.assignment import Assignment, grade_id, plain
from course_grade.submission import Cell

# What a line at the margin defines. Not Python's own parser: a cell may hold magics, or be broken.
DEFINES = re.compile(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)", re.MULTILINE)
ASSIGNS = re.compile(r"^([^\W\d]\w*(?:[ \t]*,[ \t]*\w+)*)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
# Lines of which the block below runs at once, so that what it defines is there as at the margin.
BLOCK = re.compile(r"(?:if|elif|else|try|except|finally|with|for|while)\b")


@dataclass(eq=False)
class Place:
    """A released cell, and what it can be known by."""

    number: int
    cell_type: str
    text: str
    id: str
    name: str | None  # its grade_id
    answer: bool
    by_hand: bool  # an answer that a person grades
    names: frozenset[str]  # what its code defines or assigns
    defined: frozenset[str]  # what an answer has to define

    @classmethod
    def of(cls, number: int, cell: NotebookNode, answers: Iterable[str]) -> "Place":
        """The place of a released cell; ``answers`` are the names of those that students fill in."""
        name = grade_id(cell)
        answer = name is not None and name in answers
        return cls(
            number,
            cell.cell_type,
            plain(cell.source),
            cell.id,
            name,
            answer,
            by_hand=answer and utils.is_grade(cell),
            names=names_in(cell.source),
            defined=_wanted(cell.source) if answer and cell.cell_type == "code" else frozenset(),
        )


def places_of(assignment: Assignment) -> list[Place]:
    """Places of all released cells, in their order."""
    answers = assignment.answers
    return [Place.of(number, cell, answers) for number, cell in enumerate(assignment.release.cells)]


def resemblance(assignment: Assignment, submitted: list[Cell]) -> float:
    """Share of the released cells, 0 to 1, that have one of their name, id or text: whether this is the homework at all."""
    places = places_of(assignment)
    known = {cell.id for cell in submitted} | {cell.grade_id for cell in submitted} | {plain(cell.source) for cell in submitted}
    return sum(bool(known & {place.id, place.name or place.id, place.text or place.id}) for place in places) / len(places)


def _wanted(stub: str) -> frozenset[str]:
    """Functions and classes of a stub, or where it has none, the names that it assigns."""
    return frozenset(DEFINES.findall(stub)) or names_in(stub)


def names_in(source: str) -> frozenset[str]:
    """Names that code defines or assigns, at the margin or in blocks such as those of `if` and `try`."""
    found: list[str] = []
    around: list[tuple[int, bool]] = []  # how far the lines around are indented, and whether what is below them runs at once
    for line in source.splitlines():
        code = line.lstrip(" \t")
        if not code:
            continue
        indent = len(line) - len(code)
        while around and around[-1][0] >= indent:
            around.pop()
        runs = around[-1][1] if around else indent == 0
        if runs:
            assigned = ASSIGNS.match(code)
            found += DEFINES.findall(code)
            found += [name.strip() for name in assigned[1].split(",")] if assigned else []
        around.append((indent, runs and bool(BLOCK.match(code))))
    return frozenset(found)
