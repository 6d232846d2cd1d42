"""A time of handing in, or a due time, in whatever form it was written."""

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import dateutil.parser

from course_grade import names
from course_grade.errors import UsageError

WRITE = "write it as in '2026-12-01 18:00 +0900'"
TIME_LIMIT = 200  # characters of a time

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
