"""Files of the inbox, those in folders and zips included."""

import io
import stat
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from course_grade import names, submission, zips
from course_grade.errors import IntakeError
from course_grade.handed_in_file import DEEP, EMPTY, LITTER, TOO_MANY, File, is_zip

FILES_LIMIT = 20_000  # files of the inbox, those in zips included
DEPTH_LIMIT = 6  # folders and zips in each other
ZIP_DEPTH_LIMIT = 2  # zips in each other


def walk(inbox: Path) -> Iterator[File]:
    """Files of the inbox, without hidden ones and what operating systems leave, and never through a link."""
    for number, file in enumerate(_files(inbox, ())):
        if number >= FILES_LIMIT:
            yield File(("…",), 0, _refusing(TOO_MANY), TOO_MANY)
            return
        yield file


def _files(folder: Path, way: tuple[str, ...]) -> Iterator[File]:
    for path in sorted(folder.iterdir()):
        if LITTER.fullmatch(names.tidy(path.name)):
            continue
        here = (*way, path.name)
        about = path.lstat()
        if stat.S_ISDIR(about.st_mode) and not path.name.lower().endswith(".ipynb"):
            inside = _files(path, here) if len(here) < DEPTH_LIMIT else iter(())
            yield from _or_fault(inside, here, EMPTY if len(here) < DEPTH_LIMIT else DEEP)
        elif stat.S_ISREG(about.st_mode) and is_zip(path.name):
            yield from _or_fault(_members(partial(submission.opened, path), here, 1), here, "is an empty zip")
        else:
            fault = "" if stat.S_ISREG(about.st_mode) else "is a link" if path.is_symlink() else "is not a file"
            file = File(here, about.st_mtime, partial(submission.read, path), fault)
            yield from _zip_called_notebook(file, partial(submission.opened, path), 1) or [file]


def _zip_called_notebook(file: File, source: Callable, depth: int) -> list[File]:
    """Files in a zip that has the name of a notebook; none if it is something else, such as a document of Office."""
    if file.fault or not file.is_notebook:
        return []
    try:
        with source() as raw:
            if raw.read(4) != zips.ZIP:
                return []
        inside = list(islice(_members(source, file.way, depth), FILES_LIMIT))
    except (IntakeError, OSError):
        return []
    return inside if any(member.is_notebook for member in inside) else []


def _or_fault(files: Iterator[File], way: tuple[str, ...], empty: str) -> Iterator[File]:
    """Files of a folder or a zip, or one that says why there are none."""
    fault = empty
    try:
        for file in files:
            fault = ""
            yield file
    except IntakeError as error:
        fault = str(error)
    except OSError as error:
        fault = f"cannot be opened: {error.strerror}"
    if fault:
        yield File(way, 0, _refusing(f"{names.key(way[-1])} {fault}"), fault)


def _refusing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise IntakeError(reason)

    return read


def _members(source: Callable, way: tuple[str, ...], depth: int) -> Iterator[File]:
    """Files in a zip, which ``source`` opens.

    Raises:
        IntakeError: it cannot be read.
    """
    with source() as raw:
        archive = zips.directory(raw)
        members = archive.infolist()
        archives = {member.filename for member in members if is_zip(member.filename) or zips.is_zip_inside(archive, member)}
    for member in members:
        parts = tuple(part for part in zips.name_of(member).replace("\\", "/").split("/") if part not in ("", ".", ".."))
        if member.is_dir() or not parts or any(LITTER.fullmatch(names.tidy(part)) for part in parts):
            continue
        here = (*way, *parts)
        read = zips.reader_of(source, member)
        fault = zips.fault_of(member) or (DEEP if len(here) > DEPTH_LIMIT else "")
        if not fault and member.filename in archives and not is_zip(parts[-1]) and depth < ZIP_DEPTH_LIMIT:
            file = File(here, zips.time_of(member), read)
            yield from _zip_called_notebook(file, lambda read=read: io.BytesIO(read()), depth + 1) or [file]
            continue
        if not fault and is_zip(parts[-1]):
            if depth < ZIP_DEPTH_LIMIT:
                inner = _members(lambda read=read: io.BytesIO(read()), here, depth + 1)
                yield from _or_fault(inner, here, "is an empty zip")
                continue
            fault = DEEP
        yield File(here, zips.time_of(member), _refusing(f"the file {fault}") if fault else read, fault)
