"""A submission becomes our notebook with the student's answers: nothing else of the file has any effect.

`graft` starts from the released notebook and takes over the answers that `match` finds. Cells that the student added are kept
where they stood.
"""

from copy import deepcopy
from dataclasses import replace

import nbformat
from nbformat import NotebookNode

from course_grade import patches
from course_grade.assignment import Assignment, grade_id, plain
from course_grade.defusing import PROSE_LIMIT, Allowance, defuse, pictures_of, prose
from course_grade.match import Match, match
from course_grade.submission import Cell


def graft(assignment: Assignment, submitted: list[Cell]) -> tuple[NotebookNode, list[str]]:
    """Our notebook with the student's answers and further cells, defused, and notes on what was odd.

    Every cell's metadata is ours. Autograded cells hold their hidden tests; each answer keeps the outputs that were handed in.
    """
    notes = list(getattr(submitted, "notes", ()))
    submitted = _in_our_words(assignment, submitted)
    found = match(assignment, submitted)
    notes += found.notes
    ours, allowance = deepcopy(assignment.release), Allowance.of_notebook()
    ours.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    following = _following(found, submitted)
    cells = [_extra(cell, found, allowance) for cell in following.get(-1, ())]
    changed, cut = [], [cell for cell in submitted if cell.cell_type != "code" and len(cell.source) > PROSE_LIMIT]
    for place, cell in enumerate(ours.cells):
        name = grade_id(cell)
        theirs = found.cells.get(place)
        if name in assignment.answers and theirs is not None:
            if theirs.source != cell.source:
                cell.source = prose(theirs.source) if cell.cell_type == "markdown" else found.sources.get(theirs, theirs.source)
            _take_shown(cell, theirs, allowance)
        elif place in found.together:
            cell.source = f"# This answer stands in the cell of {grade_id(ours.cells[found.together[place]])}."
            notes.append(f"{name} stands in the cell of {grade_id(ours.cells[found.together[place]])}")
        elif name in assignment.answers:
            notes.append(f"{name} is missing")
        elif theirs is not None:
            if plain(theirs.source).strip() != plain(cell.source).strip():
                changed.append(name or cell.id)
            if name not in assignment.tests:
                _take_shown(cell, theirs, allowance)
        if name in assignment.tests:
            cell.source = assignment.tests[name]
        cells.append(cell)
        cells += [_extra(cell, found, allowance) for cell in following.get(place, ())]
    if cut:
        notes.append(f"text is cut after {PROSE_LIMIT:,} characters in {len(cut)} cell{'s' if len(cut) > 1 else ''}")
    if allowance.overflowed:
        notes.append("outputs are too large: not all that were handed in are shown")
    if changed:
        notes.append(f"given cells were edited and put back: {', '.join(changed)}")
    ours.cells = cells
    return ours, notes


def _in_our_words(assignment: Assignment, submitted: list[Cell]) -> list[Cell]:
    """A homework that was handed out in another language: its given prose becomes ours, and nothing was edited."""
    ours = assignment.translated
    return [
        replace(cell, source=ours[plain(cell.source)]) if cell.cell_type == "markdown" and plain(cell.source) in ours else cell
        for cell in submitted
    ]


def _following(found: Match, submitted: list[Cell]) -> dict[int, list[Cell]]:
    """Cells that the student added, by the place below which they go; -1 is the top.

    They follow the cell that they followed. Where cells were moved they stand above the one that they stood above, so that a
    helper still comes before the answer that calls it.
    """
    places = {cell: place for place, cell in found.cells.items()}
    following: dict[int, list[Cell]] = {}
    waiting: list[Cell] = []
    last = -1
    for cell in submitted:
        if cell in places:
            following.setdefault(min(last, places[cell] - 1), []).extend(waiting)
            waiting, last = [], places[cell]
        elif cell not in found.dropped and found.sources.get(cell, cell.source).strip():
            waiting.append(cell)
    following.setdefault(last, []).extend(waiting)
    return following


def _extra(theirs: Cell, found: Match, allowance: Allowance) -> NotebookNode:
    source = found.sources.get(theirs, theirs.source)
    if theirs.cell_type == "code":
        cell = nbformat.v4.new_code_cell(source, metadata={"course_grade": {"name": "an added cell"}})
    else:
        cell = nbformat.v4.new_markdown_cell(prose(source))
    _take_shown(cell, theirs, allowance)
    return cell


def _take_shown(cell: NotebookNode, theirs: Cell, allowance: Allowance) -> None:
    """Take over outputs of code and pictures of prose, and say how code is shown."""
    allowance = allowance.of_cell()
    if cell.cell_type == "code":
        cell.outputs = list(defuse(theirs.outputs, allowance))
        patches.colour_if_fast(cell)
    elif theirs.attachments:
        cell.attachments = {
            str(name): kept
            for name, bundle in theirs.attachments.items()
            if isinstance(bundle, dict) and (kept := pictures_of(bundle, allowance))
        }
