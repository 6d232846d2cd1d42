"""A submitted file, which may be anything, and the cells of the notebook in it.

`read` opens a file and nothing else; `parse` finds its cells, whatever is broken about the rest.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from course_grade.defusing import writable
from course_grade.errors import IntakeError

FILE_LIMIT = 16 << 20  # bytes of a submitted file
TOKEN_LIMIT = 200_000  # strings, commas and brackets of its JSON: a value takes half a kilobyte of memory, however short it is
CELL_LIMIT = 300  # cells of a submitted notebook
SOURCE_LIMIT = 200_000  # characters of its code and text
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)
# Texts of outputs, which hold a string for each printed line. Within a string of JSON the quotation marks would be escaped, so
# this finds keys only, and never code.
OUTPUT_LINES = re.compile(
    rb'("(?:text(?:/\w+)?|traceback|image/svg\+xml)"\s*+:\s*+)\[(?:\s*+"(?:[^"\\]++|\\.)*+"\s*+,?)*+\s*+\]', re.DOTALL
)


@dataclass(eq=False)
class Cell:
    """What means something in a submitted cell."""

    cell_type: str
    source: str
    id: str
    grade_id: str | None
    outputs: list[dict]
    attachments: dict


class Cells(list[Cell]):
    """Submitted cells in their order, and what was odd about their file, in words."""

    def __init__(self, cells: Iterable[Cell], notes: Iterable[str] = ()) -> None:
        super().__init__(cells)
        self.notes = list(notes)


# --- files -------------------------------------------------------------------------------------------------------------------


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


def _is_file(handle: int) -> bool:
    return stat.S_ISREG(os.fstat(handle).st_mode)


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


# --- cells -------------------------------------------------------------------------------------------------------------------


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
        source=writable(_source(cell)),
        id=writable(metadata.get("id") or cell.get("id", "")),  # Colab moves the id
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
