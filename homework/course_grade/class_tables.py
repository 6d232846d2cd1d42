"""Tables that an instructor gives: the class list, and times of handing in.

A row that cannot be used is told and costs only itself. A file that cannot be read, or of which no row can be used, is refused.
"""

import csv
import io
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from course_grade import names
from course_grade.errors import UsageError
from course_grade.times import moment

# What an LMS writes for who has not handed in.
NO_TIME = {"", "-", "--", "n/a", "na", "nan", "none", "null", "not submitted", "no submission", "미제출", "제출 안 함"}
# First lines of a list of one column that are not students.
HEADINGS = {
    "student",
    "students",
    "name",
    "names",
    "student name",
    "full name",
    "id",
    "student id",
    "이름",
    "성명",
    "학번",
    "학생",
}
NAME_LIMIT = 1000  # characters of a name
CELL_LIMIT = 100_000  # characters of a cell; more are told, since a quotation mark may be missing


@dataclass
class Times:
    """When students handed in, and what is odd about it, by the folded name."""

    moments: dict[str, datetime] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)  # how the file spells the names


def read_roster(path: Path) -> tuple[list[str], list[str]]:
    """Students of a class list, each once, in the list's own spelling; and what is odd about rows, in words.

    Raises:
        UsageError: the file cannot be read, has no column ``student``, or no row of it can be used.
    """
    rows, odd = read_columns(path, "student")
    found: dict[str, str] = {}
    for number, (name,) in rows:
        folded = names.fold(name)
        if folded in found:
            odd.append(f"row {number}: {_quoted(name)} is on the list already")
        elif reason := unusable(name):
            odd.append(f"row {number}: {_quoted(name)} is not the name of a student ({reason}); left out")
        else:
            found[folded] = name
    if not found:
        raise UsageError(f"{path} names no student: {'; '.join(odd[:5]) or 'it is empty'}.")
    return list(found.values()), [f"{path.name}, {line}" for line in odd]


def read_times(path: Path) -> tuple[Times, list[str]]:
    """Times of handing in; and what is odd about rows, in words.

    Raises:
        UsageError: the file cannot be read, lacks column ``student`` or ``timestamp``, or no time in it is understood.
    """
    rows, odd = read_columns(path, "student", "timestamp")
    times, refused = Times(), {}
    for number, (name, text) in rows:
        folded = names.fold(name)
        if reason := folded and unusable(name):
            odd.append(f"row {number}: {_quoted(name)} is not the name of a student ({reason}); left out")
            continue
        times.shown.setdefault(folded, name)
        if names.fold(text) in NO_TIME or not folded:
            continue
        try:
            when = moment(text)
        except UsageError as error:
            refused[folded] = error
            odd.append(f"row {number}: {error}")
            continue
        if times.moments.get(folded, when) != when:
            times.notes[folded] = f"{path.name} has several times for this student: the last one counts"
        times.moments[folded] = max(when, times.moments.get(folded, when))
    for folded, fault in refused.items():
        times.notes[folded] = (
            f"one of several times in {path.name} is not understood; the other counts: {fault}"
            if folded in times.moments
            else f"the time in {path.name} is not understood, so lateness is not known: {fault}"
        )
    if odd and not times.moments:
        raise UsageError(f"{path} holds no time that is understood: {'; '.join(odd[:5])}")
    return times, [f"{path.name}, {line}" for line in odd]


def unusable(name: str) -> str | None:
    """Why a name can be no student's; None if it can. Letters that no folder takes are replaced, see `names.key`."""
    if not names.fold(name):
        return "it is empty"
    if len(name) > NAME_LIMIT:
        return f"it has more than {NAME_LIMIT:,} characters; perhaps a quotation mark is missing"
    if names.key(name).startswith("."):
        return "it begins with a full stop"
    if "<" in name or ">" in name:
        return "it looks like HTML"
    return None


def read_columns(path: Path, *wanted: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Row numbers and contents of some columns of a CSV file, tidied; and what is odd about rows, in words.

    Commas, semicolons or tabs are between columns. A list of one column needs no heading.

    Raises:
        UsageError: the file or a column is missing.
    """
    text, odd = _text(path)
    rows = _table(text, wanted[0])
    if not rows:
        raise UsageError(f"{path} is empty.")
    head = [names.fold(cell) for cell in rows[0][1]]
    if len(wanted) == 1 and wanted[0] not in head and _a_name_a_line(rows):
        rows = rows if head[0].replace("_", " ") in HEADINGS else [(0, []), *rows]
        head = [wanted[0]]
    if missing := [name for name in wanted if name not in head]:
        shown = ", ".join(map(_quoted, rows[0][1][:5]))
        raise UsageError(f"{path} has no column {missing[0]!r}: its first line is {shown}; name a column there {missing[0]!r}.")
    columns = [head.index(name) for name in wanted]
    found = []
    for number, row in rows[1:]:
        if longest := max((len(cell) for cell in row if len(cell) > CELL_LIMIT), default=0):
            odd.append(f"row {number}: a cell has {longest:,} characters; perhaps a quotation mark is missing")
        if len(head) == 1:  # a line is a name, with a comma in it or not
            row = [", ".join(filter(None, map(str.strip, row)))]
        if any(cell.strip() for cell in row[len(head) :]):
            odd.append(f"row {number}: {len(row)} columns instead of {len(head)}; left out")
        elif len(row) <= max(columns):
            odd.append(f"row {number}: too few columns; left out")
        else:
            found.append((number, [names.tidy(row[column]) for column in columns]))
    return found, odd


# --- CSV, as people and spreadsheets write it -----------------------------------------------------------------------------


def _a_name_a_line(rows: list[tuple[int, list[str]]]) -> bool:
    """Whether a table without the wanted heading is a list of names: one column, or `Kim, Minji` in every line."""
    first = rows[0][1]
    if re.search("[;\t]", "".join(first)):
        return False
    if len(first) == 1:
        return True
    headings = {names.fold(cell).replace("_", " ") for cell in first}
    return not headings & HEADINGS and all(len(row) == 1 or _is_turned(row) for _, row in rows)


def _is_turned(row: list[str]) -> bool:
    """Whether a row is a surname and a first name, with a blank behind the comma as people write them."""
    return len(row) == 2 and row[0].strip() != "" and bool(re.fullmatch(r" +[^\W\d_][^@\d]*", row[1]))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _table(text: str, key: str) -> list[tuple[int, list[str]]]:
    """Rows of a CSV file that hold something, with their numbers."""
    for delimiter in (",", ";", "\t"):
        rows = _rows(text, delimiter)
        if rows and len(rows[0][1]) > 1 and key in map(names.fold, rows[0][1]):
            return rows
    return _rows(text, ",")


def _rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    before = csv.field_size_limit(len(text) + 1)  # the text is in memory already; no cell is too long for that
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:  # a quotation mark that is not closed would take in all lines below
        rows = [next(csv.reader([line], delimiter=delimiter), []) for line in text.splitlines()]
    finally:
        csv.field_size_limit(before)
    found = [(number, row) for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)]
    first_line_is_for_excel = bool(found) and found[0][1][0].casefold().startswith("sep=")
    found = found[first_line_is_for_excel:]
    # A column that is empty in all rows, as of a separator at the end of each line, is none.
    width = max((place for _, row in found for place, cell in enumerate(row, start=1) if cell.strip()), default=0)
    return [(number, row[:width]) for number, row in found]


def _text(path: Path) -> tuple[str, list[str]]:
    """Text of a table that Excel or an editor saved; and what is odd about it, in words.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    save = "save it as CSV UTF-8"
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UsageError(f"{path} cannot be read: it is an Excel workbook; {save}.")
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ["utf-16"] if marked else ["utf-8-sig", "cp949"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        nulls = text.count("\0")
        if 5 * nulls >= 2 * len(text) > 0:  # every second one: UTF-16 without its mark
            break
        return text.replace("\0", ""), ["null characters were taken out"] if nulls else []
    raise UsageError(f"{path} cannot be read: its letters are neither UTF-8 nor UTF-16 nor cp949; {save}.")
