"""One zip, read where it is, without unpacking and within bounds."""

import io
import stat
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO

from course_grade import names
from course_grade.errors import IntakeError
from course_grade.handed_in_file import NOTEBOOK
from course_grade.submission import FILE_LIMIT, checked

DIRECTORY_LIMIT = 4 << 20  # bytes of a zip's table of contents, which is read as a whole
ZIP = b"PK\x03\x04"  # how a zip begins
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, OSError, EOFError, RuntimeError)


def directory(raw: BinaryIO) -> zipfile.ZipFile:
    """A zip, after a look at how long its table of contents is.

    Raises:
        IntakeError: too long, or not a zip.
    """
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - (1 << 16) - 42))  # a comment may stand behind the last record
    end = raw.read()
    last = end.rfind(b"PK\x05\x06")
    if last < 0 or len(end) < last + 16:
        raise IntakeError("the zip is broken or not complete")
    too_large_for_this = end[max(0, last - 20) : last].startswith(b"PK\x06\x07")  # a table in the format for large zips
    if too_large_for_this or int.from_bytes(end[last + 12 : last + 16], "little") > DIRECTORY_LIMIT:
        raise IntakeError("the zip is too large")
    try:
        return zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise IntakeError("the zip is broken or not complete") from None


def is_zip_inside(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a member that is called a notebook is a zip."""
    if not NOTEBOOK.fullmatch(names.tidy(member.filename)) or fault_of(member):
        return False
    try:
        with archive.open(member) as file:
            return file.read(4) == ZIP
    except UNREADABLE:
        return False


def name_of(member: zipfile.ZipInfo) -> str:
    """A member's name: without a mark for UTF-8, Macs write it all the same, and Korean Windows writes cp949."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        content = member.filename.encode("cp437")
    except UnicodeEncodeError:
        return member.filename
    for encoding in ("utf-8", "cp949"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return member.filename


def fault_of(member: zipfile.ZipInfo) -> str:
    """Why a member is not read; nothing when it may be."""
    if member.flag_bits & 1:
        return "is locked by a password"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    return ""


def time_of(member: zipfile.ZipInfo) -> float:
    """When a member was changed, in seconds since 1970; 0 when that is not a time."""
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0


def reader_of(source: Callable, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    """What reads a member of the zip that ``source`` opens; it raises an `IntakeError` when that cannot be read."""

    def read() -> bytes:
        with source() as raw:
            try:
                with directory(raw).open(member) as file:
                    content = file.read(FILE_LIMIT + 1)
            except UNREADABLE:
                raise IntakeError("the zip is broken or not complete") from None
        return checked(content)

    return read
