"""A file from a student becomes our notebook with the student's answers: nothing else of the file has any effect.

`read` opens a file that may be anything; `parse` finds its cells. `graft` starts from the released notebook and takes over
answers: by grade_id, by cell id, and where an editor has lost both, by their place. Cells that the student added are kept
where they stood. `prose` and `defuse` leave what can be shown without danger.
"""

import base64
import os
import re
import stat
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_grade.assignment import Assignment

FILE_LIMIT = 16 << 20  # bytes of a submitted file
TOKEN_LIMIT = 200_000  # strings, commas and brackets of its JSON: a value takes half a kilobyte of memory, however short it is
CELL_LIMIT = 300  # cells of a submitted notebook
SOURCE_LIMIT = 200_000  # characters of its code and text
PROSE_LIMIT = 20_000  # characters of one cell of text; to render some texts takes the square of their length
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)
PICTURE_TYPES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


@dataclass(eq=False)
class Cell:
    """What means something in a submitted cell."""

    cell_type: str
    source: str
    id: str
    grade_id: str | None
    outputs: list[dict]
    attachments: dict


class IntakeError(ValueError):
    """A submission that cannot be read. The message is the reason that its author is told."""


def read(path: Path) -> bytes:
    """Bytes of a submitted file.

    Raises:
        IntakeError: missing, a link, a folder or a device, empty, or larger than `FILE_LIMIT`.
    """
    try:
        # Not blocking: opening a named pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise IntakeError("nothing was handed in") from None
    except OSError as error:
        raise IntakeError(
            "the file is a link" if path.is_symlink() else f"the file cannot be opened: {error.strerror}"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IntakeError("not a file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(FILE_LIMIT + 1)
    finally:
        os.close(handle)
    if len(content) > FILE_LIMIT:
        raise IntakeError(f"the file is larger than {FILE_LIMIT >> 20} MB: clear large outputs and hand in again")
    if not content.strip():
        raise IntakeError("the file is empty")
    return content


def parse(content: bytes) -> list[Cell]:
    """Cells of the notebook in a submitted file.

    Raises:
        IntakeError: not JSON, no notebook, or one above `TOKEN_LIMIT`, `CELL_LIMIT` or `SOURCE_LIMIT`.
    """
    if any(islice(TOKEN.finditer(content), TOKEN_LIMIT, None)):
        raise IntakeError("the file holds too many values: clear large outputs and hand in again")
    try:
        notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        cells = [_cell(cell) for cell in notebook.cells]
    except (Exception, RecursionError) as error:
        raise IntakeError(f"not a readable notebook ({type(error).__name__})") from None
    if len(cells) > CELL_LIMIT:
        raise IntakeError(f"the notebook has more than {CELL_LIMIT} cells")
    if sum(len(cell.source) for cell in cells) > SOURCE_LIMIT:
        raise IntakeError(f"the notebook has more than {SOURCE_LIMIT:,} characters of code and text")
    return cells


def _cell(cell: NotebookNode) -> Cell:
    source = cell.get("source", "")
    metadata = cell.get("metadata", {})
    own = metadata.get("nbgrader")
    name = own.get("grade_id") if isinstance(own, dict) else None
    attachments = cell.get("attachments")
    made = Cell(
        cell_type=cell["cell_type"] if cell["cell_type"] in ("code", "markdown") else "raw",
        source=_text(source),
        id=str(metadata.get("id") or cell.get("id", "")),  # Colab moves the id
        grade_id=name if isinstance(name, str) else None,
        outputs=[output for output in cell.get("outputs", ()) if isinstance(output, dict)],
        attachments=attachments if isinstance(attachments, dict) else {},
    )
    if "\0" in made.source:
        raise ValueError("a null character")
    return made


def graft(assignment: Assignment, submitted: list[Cell]) -> tuple[NotebookNode, list[str]]:
    """Our notebook with the student's answers and further cells, defused, and notes on what was odd.

    Every cell's metadata is ours. Autograded cells hold their hidden tests; each answer keeps the outputs that were handed in.
    """
    places, notes = _match(assignment, submitted)
    ours, room = deepcopy(assignment.release), Room.of_notebook()
    ours.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    taken = {place: cell for cell, place in places.items()}
    following: dict[int, list[Cell]] = {}
    last = -1
    for cell in submitted:
        last = places.get(cell, last)
        if cell not in places and cell.source.strip():
            following.setdefault(last, []).append(cell)
    cells = [_extra(cell, room) for cell in following.get(-1, ())]
    changed, cut = [], [cell for cell in submitted if cell.cell_type != "code" and len(cell.source) > PROSE_LIMIT]
    for place, cell in enumerate(ours.cells):
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        theirs = taken.get(place)
        if name in assignment.answers and theirs is not None:
            if theirs.source != cell.source:
                cell.source = prose(theirs.source) if cell.cell_type == "markdown" else theirs.source
            _take_shown(cell, theirs, room)
        elif name in assignment.answers:
            notes.append(f"{name} is missing")
        elif theirs is not None:
            if theirs.source.strip() != cell.source.strip():
                changed.append(name or cell.id)
            if name not in assignment.tests:
                _take_shown(cell, theirs, room)
        if name in assignment.tests:
            cell.source = assignment.tests[name]
        cells.append(cell)
        cells += [_extra(cell, room) for cell in following.get(place, ())]
    if cut:
        notes.append(f"text is cut after {PROSE_LIMIT:,} characters in {len(cut)} cell{'s' if len(cut) > 1 else ''}")
    if room.overflowed:
        notes.append("outputs are too large: not all that were handed in are shown")
    if changed:
        notes.append(f"given cells were edited and put back: {', '.join(changed)}")
    ours.cells = cells
    return ours, notes


def _match(assignment: Assignment, submitted: list[Cell]) -> tuple[dict[Cell, int], list[str]]:
    """For each submitted cell that stands for a released one, the place of that in the release."""
    release, notes = assignment.release.cells, []
    names = {name: place for place, cell in enumerate(release) if (name := _name(cell))}
    ids = {cell.id: place for place, cell in enumerate(release)}
    claims = {cell: names[cell.grade_id] for cell in submitted if cell.grade_id in names}
    for cell in submitted:
        if cell not in claims and cell.id in ids and ids[cell.id] not in claims.values():
            claims[cell] = ids[cell.id]
    # Of several copies the last one counts, as it does when a notebook runs from top to bottom.
    places = {cell: place for place, cell in {place: cell for cell, place in claims.items()}.items()}
    if copies := len(claims) - len(places):
        notes.append(f"{copies} more copies of given cells: the last of each counts")
    lost = [place for place, cell in enumerate(release) if _name(cell) in assignment.answers and place not in places.values()]
    found = _by_place(release, submitted, lost, claims)
    if found:
        notes.append(f"metadata was lost, found by place: {', '.join(_name(release[place]) for place in found.values())}")
    return places | found, notes


def _name(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _by_place(release: list[NotebookNode], theirs: list[Cell], lost: list[int], taken: dict[Cell, int]) -> dict[Cell, int]:
    """Answers whose names are lost: cells that stand between the same unchanged cells, in their order."""
    before, after = ([cell.source.strip() for cell in cells] for cells in (release, theirs))
    found = {}
    for _, first, end, their_first, their_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        offered = [cell for cell in theirs[their_first:their_end] if cell not in taken]
        for place in range(first, end):
            fitting = [cell for cell in offered if cell.cell_type == release[place].cell_type]
            if place in lost and fitting:
                found[fitting[0]] = place
                offered = offered[offered.index(fitting[0]) + 1 :]
    return found


def _extra(theirs: Cell, room: "Room") -> NotebookNode:
    if theirs.cell_type == "code":
        cell = nbformat.v4.new_code_cell(theirs.source, metadata={"course_grade": {"name": "an added cell"}})
    else:
        cell = nbformat.v4.new_markdown_cell(prose(theirs.source))
    _take_shown(cell, theirs, room)
    return cell


def _take_shown(cell: NotebookNode, theirs: Cell, room: "Room") -> None:
    """Take over outputs of code and pictures of prose, and say how code is shown."""
    room = room.of_cell()
    if cell.cell_type == "code":
        cell.outputs = list(defuse(theirs.outputs, room))
        if SLOW_CODE.search(cell.source):
            cell.metadata["magics_language"] = "text"  # nbconvert's name for the language in which a cell is coloured
    elif theirs.attachments:
        cell.attachments = {
            str(name): kept
            for name, bundle in theirs.attachments.items()
            if isinstance(bundle, dict) and (kept := _pictures(bundle, room))
        }


# --- what is shown -----------------------------------------------------------------------------------------------------------

# TeX commands that make links, styles, HTML or other commands in MathJax.
TEX = re.compile(
    r"\\(href|url|style|class|cssId|unicode|require|html\w*|data|bbox|mmlToken|enclose|[bx]?cancel(to)?"
    r"|(g|re)?(def|let)|(re)?new(command|environment)|csname)\b",
    re.IGNORECASE,
)
# Whatever stands between the word and its colon, Markdown may take away.
SCRIPT = re.compile(r"(java|vb)(?=script)", re.IGNORECASE)
ENTITY = re.compile(r"&(?=#|\w+[;#])")
TAG = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
PICTURE_ELSEWHERE = re.compile(r"!\[(?![^\[\]]*\]\(attachment:)")
FENCE = re.compile(r"^([ \t>*+\-.)0-9]*)(`{3,}|~{3,})[^`\n]*$", re.MULTILINE)
# Pygments takes the square or the cube of the length of such runs: minutes for a page of tabs, or of `a.a.a.a`.
SLOW_CODE = re.compile(r"\S{200}|\s{200}")
CONTROL = re.compile(r"\x1b(\[[0-9;?]{0,20}[@-~])?")


def prose(source: str) -> str:
    """Markdown that looks the same, without HTML, links to scripts, TeX that makes either, and pictures from elsewhere.

    It is cut after `PROSE_LIMIT` characters, and code in it loses its colours: a language named here would choose among
    hundreds of parsers, some of which some text keeps busy for hours. A character of no width keeps tags and entities
    from being any, in code as in text. A picture from elsewhere would tell its host who is grading when; it becomes a link.
    """
    if len(source) > PROSE_LIMIT:
        source = source[:PROSE_LIMIT] + "\n\n… cut here: too long"
    source = FENCE.sub(r"\1\2", source)
    source = TAG.sub("<\u200b", source)
    source = SCRIPT.sub("\\1\u200b", source)
    source = ENTITY.sub("&\u200b", source)
    return PICTURE_ELSEWHERE.sub("[", TEX.sub(r"＼\1", source))


@dataclass
class Room:
    """How many characters outputs may still take, in one cell and in the whole notebook, and whether some did not fit."""

    text: int
    pictures: int
    whole: "Room | None" = None
    overflowed: bool = False

    @classmethod
    def of_notebook(cls) -> "Room":
        return cls(text=2 << 20, pictures=8 << 20)

    def of_cell(self) -> "Room":
        """Room for the next cell."""
        return Room(min(1 << 20, self.text), min(4 << 20, self.pictures), self)

    def take(self, text: int = 0, pictures: int = 0) -> None:
        self.text -= text
        self.pictures -= pictures
        if self.whole:
            self.whole.take(text, pictures)

    def overflow(self) -> None:
        self.overflowed = True
        if self.whole:
            self.whole.overflow()


def defuse(outputs: Iterable[dict], room: Room) -> Iterator[NotebookNode]:
    """Text and pictures of a cell's outputs, as far as there is room; no HTML, no script, no vector graphics, no colours."""
    for output in outputs:
        kind = output.get("output_type")
        pictures = {}
        if kind == "stream":
            text = _text(output.get("text", ""))
        elif kind == "error":
            lines = output.get("traceback")
            text = "\n".join(map(_text, lines)) if lines and isinstance(lines, list) else _text(output.get("evalue", ""))
        elif kind in ("display_data", "execute_result") and isinstance(output.get("data"), dict):
            pictures = _pictures(output["data"], room)
            text = _text(output["data"].get("text/plain", ""))
        else:
            continue
        if len(text) > room.text:
            room.overflow()
            text = text[: room.text] + "\n… cut here: too much output" if room.text > 0 else ""
        room.take(text=len(text))
        text = CONTROL.sub("", text)
        if pictures:
            yield nbformat.v4.new_output("display_data", data={**pictures, "text/plain": text[:200]})
        elif text:
            yield nbformat.v4.new_output("stream", name="stdout", text=text if text.endswith("\n") else text + "\n")


def _text(value: object) -> str:
    """Text that can be written to a file: JSON may hold halves of characters."""
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.encode("utf-8", "replace").decode("utf-8")


def _pictures(bundle: dict, room: Room) -> dict[str, str]:
    """Pictures of a MIME bundle whose bytes are what they claim to be, as far as there is room."""
    kept = {}
    for kind, start in PICTURE_TYPES.items():
        text = re.sub(r"\s", "", _text(bundle.get(kind, "")))
        try:
            if len(text) > room.pictures:
                room.overflow()
            elif text and base64.b64decode(text, validate=True).startswith(start):
                kept[kind] = text
                room.take(pictures=max(1000, len(text)))  # many small ones take room as well
        except ValueError:
            pass  # not base64
    return kept
