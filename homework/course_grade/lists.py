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
TIME_LIMIT = 200  # characters of a time
CELL_LIMIT = 100_000  # characters of a cell; more are told, since a quotation mark may be missing


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
    for folded, error in refused.items():
        times.notes[folded] = (
            f"one of several times in {path.name} is not understood; the other counts: {error}"
            if folded in times.moments
            else f"the time in {path.name} is not understood, so lateness is not known: {error}"
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


# --- times -------------------------------------------------------------------------------------------------------------------

CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
TIME = re.compile(rf"(?P<when>.*?(?<![\d:+−-]){CLOCK}(?:\s*[ap]\.?m\b\.?)?)\s*(?P<zone>.*)", re.IGNORECASE)
OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-−])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
OTHER_ORDER = (
    (re.compile(r"^(\d{4})(\d\d)(\d\d)[T ](\d\d)(\d\d)(?!\d)"), r"\1-\2-\3 \4:\5"),  # 20261201T180000Z
    (re.compile(r"^(\d{4})(\d\d)(\d\d)[T ](\d\d)(\d\d)(\d\d)(?!\d)"), r"\1-\2-\3 \4:\5:\6"),
    (re.compile(rf"^(\D.*\s)({CLOCK})\s+((?:19|20)\d\d)(?!\S)"), r"\1\3 \2"),  # Tue Dec  1 18:00:00 2026
    # As Korean systems write times: 2026년 12월 1일 화요일, 오후 6시 30분.
    (re.compile(r"(\d{1,2})\s*시\s*(\d{1,2})\s*분\s*(\d{1,2})\s*초"), r"\1:\2:\3"),
    (re.compile(r"(\d{1,2})\s*시\s*(\d{1,2})\s*분"), r"\1:\2"),
    (re.compile(r"(\d{1,2})\s*시(?!\S)"), r"\1:00"),
    (re.compile(r"(\d+)\s*년\s*(\d+)\s*월\s*(\d+)\s*일"), r"\1-\2-\3"),
    (re.compile(r"\(?[월화수목금토일](?:요일)?\)?(?=[\s,]|$)"), " "),
    (re.compile(rf"오전\s*({CLOCK})"), r"\1 AM"),
    (re.compile(rf"오후\s*({CLOCK})"), r"\1 PM"),
    (re.compile(r"(\d{4})\s*\.\s*(\d{1,2})\s*\.\s*(\d{1,2})\.?"), r"\1-\2-\3"),
)


def moment(text: str) -> datetime:
    """A time as nbgrader keeps it, in UTC; without an offset it is this machine's time.

    A date with its year and a time of day must be there. A zone is an offset, UTC, GMT, Z or a name such as Asia/Seoul. Short
    names are refused, since many mean several zones.

    Raises:
        UsageError: something else, a date in which day and month could be mistaken for each other, or an hour that clocks skip
            or show twice where summer time begins or ends.
    """
    text = text if len(text) <= TIME_LIMIT else f"{text[:60]}…"
    plain = names.tidy(text)
    for pattern, words in OTHER_ORDER:
        plain = pattern.sub(words, plain)
    found = TIME.fullmatch(re.sub(r"(?<=\d)T(?=\d)", " ", plain))
    if not found:
        raise UsageError(f"{text!r} is not a full date and time: {WRITE}.")
    when, zone = found["when"], _zone(text, found["zone"])
    if re.search(r"\b\d{1,2}\s*[/.-]\s*\d{1,2}\s*[/.-]\s*\d{4}\b", when):
        raise UsageError(f"{text!r} does not begin with its year, so day and month can be mistaken for each other: {WRITE}.")
    try:
        # What is missing is filled in from a default: if two defaults differ in the result, something was.
        first, second = (_parsed(when, datetime(year, month, day)) for year, month, day in ((2000, 1, 1), (2004, 2, 2)))
        if first != second or first.tzinfo is not None or not re.search(r"\b\d{4}\b", when):
            raise ValueError("not a full date")
        ways = {first.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None) for fold in (0, 1)}
    except (ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{text!r} is not a full date and time: {WRITE}.") from error
    if len(ways) > 1:
        raise UsageError(f"{text!r} is while clocks change, so it is not one time; give the offset: {WRITE}.")
    return ways.pop()


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
    # Words in brackets are a comment, but only behind a zone: +0900 (KST), +09:00[Asia/Seoul].
    zone = re.sub(r"(?<=\S)\s*(?:\([^()]*\)|\[[^\[\]]*\])$", "", zone).strip()
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
