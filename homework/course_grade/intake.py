"""A file from a student becomes our notebook with the student's answers: nothing else of the file has any effect.

`read` opens a file that may be anything; `parse` finds its cells. `graft` starts from the released notebook and takes over
the answers that `match` finds. Cells that the student added are kept where they stood. `prose` and `defuse` leave what can be
shown without danger.
"""

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import nbformat
from nbformat import NotebookNode

from course_grade.assignment import Assignment
from course_grade.match import Cell, Match, match, plain

FILE_LIMIT = 16 << 20  # bytes of a submitted file
TOKEN_LIMIT = 200_000  # strings, commas and brackets of its JSON: a value takes half a kilobyte of memory, however short it is
CELL_LIMIT = 300  # cells of a submitted notebook
SOURCE_LIMIT = 200_000  # characters of its code and text
PROSE_LIMIT = 20_000  # characters of one cell of text; to render some texts takes the square of their length
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)
# Texts of outputs, which hold a string for each printed line. Within a string of JSON the quotation marks would be escaped, so
# this finds keys only, and never code.
OUTPUT_LINES = re.compile(
    rb'("(?:text(?:/\w+)?|traceback|image/svg\+xml)"\s*+:\s*+)\[(?:\s*+"(?:[^"\\]++|\\.)*+"\s*+,?)*+\s*+\]', re.DOTALL
)
PICTURE_TYPES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class Cells(list[Cell]):
    """Submitted cells in their order, and what was odd about their file, in words."""

    def __init__(self, cells: Iterable[Cell], notes: Iterable[str] = ()) -> None:
        super().__init__(cells)
        self.notes = list(notes)


class IntakeError(ValueError):
    """A submission that cannot be read. The message is the reason that its author is told."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A submitted file, open for reading bytes, as long as it is a file.

    Raises:
        IntakeError: missing, a link, a folder or a device.
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
    with os.fdopen(handle, "rb", closefd=False) if _is_file(handle) else contextlib.nullcontext() as file:
        try:
            if file is None:
                raise IntakeError("this is a folder or a device, not a file")
            yield file
        finally:
            os.close(handle)


def read(path: Path) -> bytes:
    """Bytes of a submitted file.

    Raises:
        IntakeError: missing, a link, a folder or a device, empty, or larger than `FILE_LIMIT`.
    """
    with opened(path) as file:
        return checked(file.read(FILE_LIMIT + 1))


def checked(content: bytes) -> bytes:
    """Content of a file of which at most one byte more than `FILE_LIMIT` was read.

    Raises:
        IntakeError: empty, or larger.
    """
    if len(content) > FILE_LIMIT:
        raise IntakeError(f"the file is larger than {FILE_LIMIT >> 20} MB: clear large outputs and hand in again")
    if not content.strip():
        raise IntakeError("the file is empty")
    return content


def parse(content: bytes) -> Cells:
    """Cells of the notebook in a submitted file, of any version of the format. What is broken in one cell costs only that.

    Raises:
        IntakeError: not JSON, not a notebook, or one above `TOKEN_LIMIT`, `CELL_LIMIT` or `SOURCE_LIMIT`.
    """
    text, notes = _decoded(content)
    found = _found_cells(_loaded(text))
    if len(found) > CELL_LIMIT:
        raise IntakeError(f"the notebook has more than {CELL_LIMIT} cells")
    usable = [cell for cell in found if isinstance(cell, dict) and isinstance(cell.get("cell_type"), str)]
    if found and not usable:
        raise _unreadable("it has no cells that Jupyter would show")
    if broken := len(found) - len(usable):
        notes.append(f"{broken} of {len(found)} cells are broken and left out")
    cells = [_cell(cell) for cell in usable]
    if any(_holds_null(cell) for cell in usable):
        notes.append("null characters were taken out")
    if sum(len(cell.source) for cell in cells) > SOURCE_LIMIT:
        raise IntakeError(f"the notebook has more than {SOURCE_LIMIT:,} characters of code and text")
    return Cells(cells, notes)


# What a file looks like that was handed in as a notebook and is none.
LOOKS = {
    b"%PDF": "it is a PDF",
    b"PK\x03\x04": "it is a zip or an Office document",
    b"PK\x05\x06": "it is an empty zip",
    b"\x1f\x8b": "it is compressed by gzip",
    b"Rar!": "it is a RAR archive",
    b"7z\xbc\xaf": "it is a 7z archive",
    b"\xd0\xcf\x11\xe0": "it is an Office document",
    b"\x89PNG": "it is a picture",
    b"\xff\xd8\xff": "it is a picture",
    b"{\\rtf": "it is a text document (RTF)",
    b"version https://git-lfs": "it is a pointer of Git LFS; hand in the file itself",
    b"[InternetShortcut]": "it is a link; hand in the file itself",
    b"http": "it is a link; hand in the file itself",
    b"<<<<<<<": "it holds marks of a merge conflict of Git",
    b"<": "it is a web page, perhaps of a login; download the notebook and hand in that file",
}


def _unreadable(reason: str) -> IntakeError:
    return IntakeError(f"not a readable notebook: {reason}")


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """Text of a file, in UTF-8 as notebooks are; others only if an editor saved it so."""
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:100]
    for mark, words in LOOKS.items():
        if start.lower().startswith(mark.lower()):
            raise _unreadable(words)
    notes = []
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        try:
            text = content.decode("cp949")
        except UnicodeDecodeError:
            text = content.decode(encoding, "replace")
        notes.append("the file is not saved as UTF-8: some characters may be wrong")
    if text.endswith("\0"):  # a disk or an upload that was cut off fills files up
        text = text.rstrip("\0 \t\r\n")
        notes.append("null characters at the end of the file were taken out")
    if _has_too_many_values(content := text.encode("utf-8", "surrogatepass")):
        content = OUTPUT_LINES.sub(rb"\1[]", content)
        if _has_too_many_values(content):
            raise IntakeError("the file holds too many values: clear all outputs and hand in again")
        text = content.decode("utf-8", "surrogatepass")
        notes.append("printed outputs have too many lines and are not shown")
    return text, notes


def _has_too_many_values(content: bytes) -> bool:
    return any(islice(TOKEN.finditer(content), TOKEN_LIMIT, None))


def _loaded(text: str) -> object:
    """The JSON of a file."""
    try:
        # Not strict: a raw control character in a text costs nothing. A number too long to be one counts for nothing.
        return json.loads(text, strict=False, parse_int=lambda digits: int(digits) if len(digits) < 300 else 0)
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        if any(line.startswith("<<<<<<< ") for line in text.splitlines()):
            raise _unreadable(LOOKS[b"<<<<<<<"]) from None
        if text.lstrip()[:1] not in "{[":
            raise _unreadable("it holds other text than a notebook's JSON") from None
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise _unreadable("it breaks off in the middle, so the upload was not complete; hand in again") from None
        raise _unreadable(f"its JSON is broken in line {error.lineno}") from None


def _found_cells(notebook: object) -> list:
    """Cells as they stand in a file: since version 4 of the format in one list, before that in worksheets."""
    if not isinstance(notebook, dict):
        raise _unreadable("it is JSON of another kind")
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    sheets = notebook.get("worksheets")
    if not isinstance(sheets, list):
        raise _unreadable("it is JSON of another kind, without cells")
    found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    return [cell for cells in found if isinstance(cells, list) for cell in cells]


def _cell(cell: dict) -> Cell:
    metadata, outputs, attachments = cell.get("metadata"), cell.get("outputs"), cell.get("attachments")
    metadata = metadata if isinstance(metadata, dict) else {}
    own = metadata.get("nbgrader")
    name = own.get("grade_id") if isinstance(own, dict) else None
    return Cell(
        cell_type=cell["cell_type"] if cell["cell_type"] in ("code", "markdown") else "raw",
        source=_text(_source(cell)),
        id=_text(metadata.get("id") or cell.get("id", "")),  # Colab moves the id
        grade_id=name if isinstance(name, str) else None,
        outputs=[output for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else [],
        attachments=attachments if isinstance(attachments, dict) else {},
    )


def _source(cell: dict) -> object:
    """Code or text of a cell; code was called input before version 4 of the format."""
    source = cell.get("source", cell.get("input"))
    return "" if source is None else source


def _holds_null(cell: dict) -> bool:
    return "\0" in "".join(map(str, source) if isinstance(source := _source(cell), list) else str(source))


def _is_file(handle: int) -> bool:
    return stat.S_ISREG(os.fstat(handle).st_mode)


def graft(assignment: Assignment, submitted: list[Cell]) -> tuple[NotebookNode, list[str]]:
    """Our notebook with the student's answers and further cells, defused, and notes on what was odd.

    Every cell's metadata is ours. Autograded cells hold their hidden tests; each answer keeps the outputs that were handed in.
    """
    found = match(assignment, submitted)
    notes = [*getattr(submitted, "notes", ()), *found.notes]
    ours, room = deepcopy(assignment.release), Room.of_notebook()
    ours.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    following = _following(found, submitted)
    cells = [_extra(cell, found, room) for cell in following.get(-1, ())]
    changed, cut = [], [cell for cell in submitted if cell.cell_type != "code" and len(cell.source) > PROSE_LIMIT]
    for place, cell in enumerate(ours.cells):
        name = _name(cell)
        theirs = found.cells.get(place)
        if name in assignment.answers and theirs is not None:
            if theirs.source != cell.source:
                cell.source = prose(theirs.source) if cell.cell_type == "markdown" else found.sources.get(theirs, theirs.source)
            _take_shown(cell, theirs, room)
        elif place in found.together:
            cell.source = f"# This answer stands in the cell of {_name(ours.cells[found.together[place]])}."
            notes.append(f"{name} stands in the cell of {_name(ours.cells[found.together[place]])}")
        elif name in assignment.answers:
            notes.append(f"{name} is missing")
        elif theirs is not None:
            if plain(theirs.source).strip() != plain(cell.source).strip():
                changed.append(name or cell.id)
            if name not in assignment.tests:
                _take_shown(cell, theirs, room)
        if name in assignment.tests:
            cell.source = assignment.tests[name]
        cells.append(cell)
        cells += [_extra(cell, found, room) for cell in following.get(place, ())]
    if cut:
        notes.append(f"text is cut after {PROSE_LIMIT:,} characters in {len(cut)} cell{'s' if len(cut) > 1 else ''}")
    if room.overflowed:
        notes.append("outputs are too large: not all that were handed in are shown")
    if changed:
        notes.append(f"given cells were edited and put back: {', '.join(changed)}")
    ours.cells = cells
    return ours, notes


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


def _name(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _extra(theirs: Cell, found: Match, room: "Room") -> NotebookNode:
    source = found.sources.get(theirs, theirs.source)
    if theirs.cell_type == "code":
        cell = nbformat.v4.new_code_cell(source, metadata={"course_grade": {"name": "an added cell"}})
    else:
        cell = nbformat.v4.new_markdown_cell(prose(source))
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
    """Text that can be written anywhere: JSON may hold halves of characters, and null characters."""
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


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
