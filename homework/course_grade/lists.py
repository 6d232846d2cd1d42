"""What an instructor gives as files and words: the class list, times of handing in, the due time.

A row that cannot be used is told and costs only itself. A file that cannot be read, or of which no row can be used, is refused.
"""

import csv
import io
import re
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import dateutil.parser

from course_grade import names

WRITE = "write it as in '2026-12-01 18:00 +0900'"
NO_TIME = ("", "-")  # what an LMS writes for who has not handed in


class UsageError(ValueError):
    """Something about the command is wrong; nothing was graded. The message says what to do."""


# --- tables ------------------------------------------------------------------------------------------------------------------


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
            odd.append(f"row {number}: {name!r} is on the list already")
        elif reason := unusable(name):
            odd.append(f"row {number}: {name!r} is not the name of a student ({reason}); left out")
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
    times = Times()
    for number, (name, text) in rows:
        folded = names.fold(name)
        times.shown.setdefault(folded, name)
        if text in NO_TIME or not folded:
            continue
        try:
            when = moment(text)
        except UsageError as error:
            times.notes[folded] = f"the time in {path.name} is not understood, so lateness is not known: {error}"
            odd.append(f"row {number}: {error}")
            continue
        if times.moments.get(folded, when) != when:
            times.notes[folded] = f"{path.name} has several times for this student: the last one counts"
        times.moments[folded] = max(when, times.moments.get(folded, when))
    if odd and not times.moments:
        raise UsageError(f"{path} holds no time that is understood: {'; '.join(odd[:5])}")
    return times, [f"{path.name}, {line}" for line in odd]


def unusable(name: str) -> str | None:
    """Why a name can be no student's; None if it can. Letters that no folder takes are replaced, see `names.key`."""
    if not names.fold(name):
        return "it is empty"
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
    rows = _table(path, wanted[0])
    if not rows:
        raise UsageError(f"{path} is empty.")
    head = [names.fold(cell) for cell in rows[0][1]]
    if len(wanted) == 1 and wanted[0] not in head and not re.search("[,;\t]", rows[0][1][0]) and len(head) == 1:
        head, rows = [wanted[0]], [(0, []), *rows]
    if missing := [name for name in wanted if name not in head]:
        raise UsageError(f"{path} has no column {missing[0]!r}.")
    columns = [head.index(name) for name in wanted]
    found, odd = [], []
    for number, row in rows[1:]:
        if len(head) == 1:  # a line is a name, with a comma in it or not
            row = [", ".join(map(str.strip, row))]
        if any(cell.strip() for cell in row[len(head) :]):
            odd.append(f"row {number}: {len(row)} columns instead of {len(head)}; left out")
        elif len(row) <= max(columns):
            odd.append(f"row {number}: too few columns; left out")
        else:
            found.append((number, [names.tidy(row[column]) for column in columns]))
    return found, odd


def _table(path: Path, key: str) -> list[tuple[int, list[str]]]:
    """Rows of a CSV file that hold something, with their numbers."""
    text = _text(path)
    for delimiter in (",", ";", "\t"):
        rows = _rows(text, delimiter)
        if rows and len(rows[0][1]) > 1 and key in map(names.fold, rows[0][1]):
            return rows
    return _rows(text, ",")


def _rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:  # a quotation mark that is not closed would take in all lines below
        rows = [next(csv.reader([line], delimiter=delimiter), []) for line in text.splitlines()]
    found = [(number, row) for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)]
    first_line_is_for_excel = bool(found) and found[0][1][0].casefold().startswith("sep=")
    return found[first_line_is_for_excel:]


def _text(path: Path) -> str:
    """Text of a table that Excel or an editor saved.

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
        if "\0" in text:
            break
        return text
    raise UsageError(f"{path} cannot be read: its letters are neither UTF-8 nor UTF-16 nor cp949; {save}.")


# --- times -------------------------------------------------------------------------------------------------------------------

CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
TIME = re.compile(rf"(?P<when>.*?(?<![\d:+−-]){CLOCK}(?:\s*[ap]\.?m\b\.?)?)\s*(?P<zone>.*)", re.IGNORECASE)
OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-−])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
KOREAN = (  # as Korean systems write times: 2026년 12월 1일 화요일, 오후 6:00
    (re.compile(r"(\d+)\s*년\s*(\d+)\s*월\s*(\d+)\s*일"), r"\1-\2-\3"),
    (re.compile(r"\(?[월화수목금토일](?:요일)?\)?(?=[\s,])"), " "),
    (re.compile(rf"오전\s*({CLOCK})"), r"\1 AM"),
    (re.compile(rf"오후\s*({CLOCK})"), r"\1 PM"),
    (re.compile(r"(\d{4})\s*\.\s*(\d{1,2})\s*\.\s*(\d{1,2})\.?"), r"\1-\2-\3"),
)


def moment(text: str) -> datetime:
    """A time as nbgrader keeps it, in UTC; without an offset it is this machine's time.

    A date with its year and a time of day must be there. A zone is an offset, UTC, GMT, Z or a name such as Asia/Seoul. Short
    names are refused, since many mean several zones.

    Raises:
        UsageError: something else, or a date in which day and month could be mistaken for each other.
    """
    plain = names.tidy(text)
    for pattern, words in KOREAN:
        plain = pattern.sub(words, plain)
    found = TIME.fullmatch(re.sub(r"(?<=\d)T(?=\d)", " ", plain))
    if not found:
        raise UsageError(f"{text!r} is not a full date and time: {WRITE}.")
    when, zone = found["when"], _zone(text, found["zone"])
    if re.search(r"\b\d{1,2}\s*[/.-]\s*\d{1,2}\s*[/.-]\s*\d{4}\b", when):
        raise UsageError(f"{text!r} may mean two dates, since day and month can be mistaken for each other: {WRITE}.")
    try:
        # What is missing is filled in from a default: if two defaults differ in the result, something was.
        first, second = (_parsed(when, datetime(year, month, day)) for year, month, day in ((2000, 1, 1), (2004, 2, 2)))
        if first != second or first.tzinfo is not None or not re.search(r"\b\d{4}\b", when):
            raise ValueError("not a full date")
        return first.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{text!r} is not a full date and time: {WRITE}.") from error


def _parsed(when: str, default: datetime) -> datetime:
    def no_zone(name: str | None, _: object) -> None:
        if name is not None:  # one that stands elsewhere than at the end
            raise ValueError(name)

    return dateutil.parser.parse(when, default=default, tzinfos=no_zone)


def _zone(text: str, zone: str) -> tzinfo | None:
    """A zone; None, which is this machine's, only when none is given.

    Raises:
        UsageError: it is not an offset or a full name.
    """
    zone = re.sub(r"\s*\([^()]*\)$", "", zone).strip()
    if not zone:
        return None
    if zone.upper() in ("UTC", "GMT", "Z"):
        return UTC
    if found := OFFSET.fullmatch(zone):
        sign, hours, minutes = found.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if offset <= timedelta(hours=14) and int(minutes or 0) < 60:
            return timezone(offset if sign == "+" else -offset)
    if "/" in zone:
        try:
            return zoneinfo.ZoneInfo(zone)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            pass
    raise UsageError(f"{text!r} ends in {zone!r}, which is not understood as a time zone; give the offset: {WRITE}.")
