"""Who handed in what: files, folders and zips of the inbox, sorted by student.

Nothing is unpacked: a zip's members are read where they are, within bounds on their number and size. What cannot be graded is
named in words, so that nobody who handed in something reads that nothing was handed in.
"""

import io
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from course_grade import intake, names

FILES_LIMIT = 20_000  # files of the inbox, those in zips included
DEPTH_LIMIT = 6  # folders and zips in each other
ZIP_DEPTH_LIMIT = 2  # zips in each other
DIRECTORY_LIMIT = 4 << 20  # bytes of a zip's table of contents, which is read as a whole
COPIES_LIMIT = 20  # notebooks of one student that are looked into
ZIP = b"PK\x03\x04"  # how a zip begins
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, OSError, EOFError, RuntimeError)
CLASS = 5  # students whose homework a folder or a zip holds, for which it is taken for a class and not for one student
NOTHING = "nothing was handed in"
TOO_MANY = "too many files"
EMPTY = "is an empty folder"
DEEP = "lies too deep"

LITTER = re.compile(r"\..*|~\$.*|__macosx|thumbs\.db|desktop\.ini|__pycache__|icon\r", re.IGNORECASE)
# Browsers add endings, and numbers for copies: kim.ipynb.json, kim.ipynb.txt, kim.ipynb (1).json.
NOTEBOOK = re.compile(r"(.+?)\.ipynb( ?\(\d+\)|의 사본)?(?:\.(?:ipynb|json|txt|download))*", re.IGNORECASE)
# What browsers and editors leave of a notebook (kim.ipynb.crdownload, kim.ipynb~), and endings that are mistyped.
LIKE = re.compile(r"(.+?)\.(?:ipynb|ipnyb|ipybn|iypnb|ipyb|ipyn|jpynb|pynb)(?:\W.*|_+)?", re.IGNORECASE)
ENDING = re.compile(r"(?:\.tar)?\.\w{1,8}$")
# What people hand in instead of a notebook. Of other kinds, such as scripts, an inbox may hold some that are nobody's.
DOCUMENT = re.compile(
    r".+\.(pdf|m?html?|xhtml|webarchive|docx?|hwpx?|odt|rtf|pages|md|rar|7z|alz|egg|tar|gz|tgz|bz2|xz|zipx?|url|webloc|lnk|gdoc"
    r"|png|jpe?g|heic)",
    re.IGNORECASE,
)
MOODLE = re.compile(r"(.+?)_(\d+)_assignsubmission_.*", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """One file of the inbox, or of a zip in it."""

    way: tuple[str, ...]  # names of folders, of zips and of the file, from the inbox on
    changed: float  # when, in seconds since 1970
    read: Callable[[], bytes] = field(compare=False)  # raises IntakeError
    fault: str = ""  # why it cannot be read

    @property
    def label(self) -> str:
        """Where it is, for notes and pages: plain text, of bounded length."""
        return names.key("/".join(self.way).replace("/", "\u2215")).replace("\u2215", "/")

    @property
    def stem(self) -> str:
        """Name without the ending."""
        return _stem(self.way[-1])

    @property
    def parts(self) -> list[str]:
        """Names of folders, of zips and of the file, without endings."""
        return [*(_stem(part) if _is_holder(part) else names.tidy(part) for part in self.way[:-1]), self.stem]

    @property
    def is_notebook(self) -> bool:
        """Whether its name says so."""
        return bool(NOTEBOOK.fullmatch(names.tidy(self.way[-1])))

    @property
    def is_a_students(self) -> bool:
        """Whether it plainly is what a student handed in, going by its name and place."""
        name = names.tidy(self.way[-1])
        return len(self.way) > 1 or bool(DOCUMENT.fullmatch(name) or LIKE.fullmatch(name)) or self.fault not in ("", TOO_MANY)

    @property
    def zips(self) -> list[str]:
        """Names of the zips around it."""
        return [part for part in self.way[:-1] if _is_holder(part)]

    def holds_notebook(self) -> bool:
        """Whether a file of another name is a notebook, by what it holds."""
        name = names.tidy(self.way[-1])
        if self.fault or not (LIKE.fullmatch(name) or re.search(r"\.json$|\.txt$|^[^.]+$", name, re.IGNORECASE)):
            return False
        try:
            return bool(intake.parse(self.read()))
        except intake.IntakeError:
            return False


def _stem(name: str) -> str:
    shown = names.tidy(name)
    whole = NOTEBOOK.fullmatch(shown)
    if not whole:
        shown = ENDING.sub("", shown) or shown
        whole = NOTEBOOK.fullmatch(shown)  # kim.ipynb.zip
    if whole:
        return whole[1] + (whole[2] or "")
    like = LIKE.fullmatch(names.tidy(name))
    return like[1] if like else shown


def _is_zip(name: str) -> bool:
    return names.tidy(name).lower().endswith(".zip")


def _is_holder(name: str) -> bool:
    """Whether a part of a way that others follow is a zip: also one that is called a notebook."""
    return _is_zip(name) or bool(NOTEBOOK.fullmatch(names.tidy(name)))


@dataclass
class Student:
    """A student, what is graded of what was handed in, and what is odd about it."""

    name: str  # as the class list has it, else as the file
    known: bool = False  # on the class list
    key: str = ""  # in the gradebook and as a folder
    file: File | None = None
    reason: str = NOTHING  # why there is no file
    notes: list[str] = field(default_factory=list)
    handed_in: datetime | None = None  # in UTC, as nbgrader keeps it
    several: bool = False  # perhaps several students, whom no class list tells apart
    files: list[tuple[File, str]] = field(default_factory=list)  # all that were handed in, and how they were recognised

    @property
    def shown(self) -> str:
        """The name in the table of grades."""
        return self.name if self.known else self.key

    def read(self) -> bytes:
        """What counts of what was handed in.

        Raises:
            IntakeError: nothing, or nothing that can be read.
        """
        if self.file is None:
            raise intake.IntakeError(self.reason)
        return self.file.read()


def find(inbox: Path, roster: list[str], fits: Callable[[bytes], bool], release: str = "") -> tuple[list[Student], list[str]]:
    """Students of a class list and of an inbox, sorted; and labels of files that are nobody's.

    Args:
        inbox: folder of files, of a folder or a zip for each student, or of a zip of the class.
        roster: names of the class list; empty without one.
        fits: whether a notebook looks like the homework, to choose among several.
        release: name of the notebook that was handed out: words of it in a file's name say nothing about whose it is.
    """
    files = list(_walk(inbox))
    students = {names.fold(name): Student(name, known=True) for name in roster}
    for file, owner in _owners(files, _Listed(roster, set(names.words(release))), fits):
        student = students.setdefault(names.fold(owner.name), Student(owner.name))
        student.files.append((file, owner.note))
    nobodys = []
    for folded, student in list(students.items()):
        _choose(student, fits)
        if student.several and not roster:
            student.notes.append("if these are several students', grade with a class list (--roster)")
        if student.file is None and not student.known and not _handed_in(student):
            nobodys += [file.label for file, _ in student.files]
            del students[folded]
    _name_keys(students.values())
    return sorted(students.values(), key=lambda student: student.key), nobodys


# --- whose a file is ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """Whose a file is, at which part of its way that stands, and how it was recognised if that is odd."""

    name: str
    level: int
    note: str = ""
    sure: bool = True


def _owners(files: list[File], listed: "_Listed", fits: Callable[[bytes], bool]) -> Iterator[tuple[File, Owner]]:
    """Each file with its owner: somebody on the class list, or whom its name or its folder's name calls."""
    found = {file: listed.owner(file) for file in files}
    named = {owner.name for owner in found.values() if owner and owner.sure}
    depth = _common_depth(files)
    classes = {file.way[:level] for file, owner in found.items() if owner for level in range(1, owner.level + 1)}
    classes |= _classes([file for file, owner in found.items() if not owner], depth, fits)
    numbers = _moodle_numbers(files)
    for file, owner in found.items():
        if owner and (owner.sure or owner.name not in named):
            several = len(numbers.get(names.fold(owner.name), ()))
            yield file, replace(owner, note=f"Moodle has {several} students of this name") if several > 1 else owner
            continue
        level = depth
        while level < len(file.way) - 1 and file.way[: level + 1] in classes:
            level += 1
        name = _own_name(file, level, numbers)
        yield file, Owner(name, level, "this name is not on the roster" if listed.names else _copy_note(name))


class _Listed:
    """The class list, and how files are found in it."""

    def __init__(self, roster: list[str], common: set[str]) -> None:
        self.names = {names.fold(name): name for name in roster}
        self.keys = {names.fold(names.key(name)): name for name in roster}
        self.words = {name: words for name in roster if (words := names.words(name)) and not set(words) <= common}

    def owner(self, file: File) -> Owner | None:
        """Whose a file is: by exactly that name, by that of a copy, or by words of the name; None if nobody's.

        Outer folders come first: in a student's folder files may have any name.
        """
        for find in (self._exact, self._copy, self._turned, self._within):
            for level, part in enumerate(file.parts):
                if owner := find(part, level, file):
                    return owner
        return None

    def _exact(self, part: str, level: int, _: File) -> Owner | None:
        found = MOODLE.fullmatch(part)
        for form in (part, found[1] if found else part):
            name = self.names.get(names.fold(form)) or self.keys.get(names.fold(names.key(form)))
            if name:
                return Owner(name, level)
        return None

    def _copy(self, part: str, level: int, file: File) -> Owner | None:
        original = names.original(part)
        owner = self._exact(original, level, file) if original else None
        return owner and Owner(owner.name, level, f"{file.label} has the name of a copy")

    def _turned(self, part: str, level: int, file: File) -> Owner | None:
        """A name whose words stand in another order: `Minji Kim` for `Kim, Minji`."""
        found = MOODLE.fullmatch(part)
        turned = names.turned(found[1] if found else part)
        same = [name for name in self.names.values() if turned and names.turned(name) == turned]
        return Owner(same[0], level, f"{file.label} is recognised by the words of the name", False) if len(same) == 1 else None

    def _within(self, part: str, level: int, file: File) -> Owner | None:
        """A name whose words stand in a file's name, together and in order, if that is so for one student only."""
        text = f" {' '.join(names.words(part))} "
        found = []
        for name, words in self.words.items():
            joined = "".join(words)  # Canvas leaves out blanks
            if len(joined) > 1 and (f" {' '.join(words)} " in text or f" {joined} " in text):
                found.append(name)
        longest = max(found, key=len, default=None)
        if longest is None or any(names.fold(name) not in names.fold(longest) for name in found):
            return None
        return Owner(longest, level, f"{file.label} is recognised by the name in it", sure=False)


def _own_name(file: File, level: int, numbers: dict[str, set[str]]) -> str:
    """What a file that is nobody's calls its student. Moodle's number tells two students of one name apart."""
    for part in file.parts:
        if found := MOODLE.fullmatch(part):
            name = names.tidy(found[1])
            return f"{name}_{found[2]}" if len(numbers[names.fold(name)]) > 1 else name
    return file.parts[min(level, len(file.parts) - 1)]


def _moodle_numbers(files: list[File]) -> dict[str, set[str]]:
    """Numbers that Moodle gave to those who have a name."""
    numbers: dict[str, set[str]] = {}
    for part in {part for file in files for part in file.parts}:
        if found := MOODLE.fullmatch(part):
            numbers.setdefault(names.fold(found[1]), set()).add(found[2])
    return numbers


def _copy_note(name: str) -> str:
    original = names.original(name)
    return f"the name looks like that of a copy of {names.key(original)}" if original else ""


def _common_depth(files: list[File]) -> int:
    """How many folders and zips stand around the whole class: those that all files have in common, if students are below."""
    files = [file for file in files if file.is_a_students or file.is_notebook or _is_zip(file.way[-1])]
    depth = 0
    while files and all(len(file.way) > depth + 1 and file.way[depth] == files[0].way[depth] for file in files):
        # A single notebook with a report or pictures beside it is one student's.
        notebooks = {file.way for file in files if file.is_notebook}
        zips = {file.way[: depth + 2] for file in files if _is_zip(file.way[depth + 1])}
        folders = {file.way[depth + 1] for file in files if len(file.way) > depth + 2 or file.fault == EMPTY}
        if len(notebooks | zips) < 2 and (len(folders) < 2 or len(folders) < len({file.way[depth + 1] for file in files})):
            break
        depth += 1
    return depth


def _classes(files: list[File], depth: int, fits: Callable[[bytes], bool]) -> set[tuple[str, ...]]:
    """Folders and zips below a depth that hold the homework of so many, under different names, that they are a class."""
    holders: dict[tuple[str, ...], dict[str, File]] = {}
    for file in files:
        if file.is_notebook and not file.fault:
            for level in range(depth + 1, len(file.way)):
                inside = file.way[level] if level < len(file.way) - 1 else file.stem
                name = names.fold(names.original(inside) or inside)
                holders.setdefault(file.way[:level], {}).setdefault(name, file)
    found = set()
    for way, inside in holders.items():
        looked_at = islice(inside.values(), 4 * COPIES_LIMIT)
        if len(inside) >= CLASS and len(list(islice((file for file in looked_at if fits(_content(file))), CLASS))) == CLASS:
            found |= {way[:level] for level in range(depth + 1, len(way) + 1)}
    return found


# --- which file counts -------------------------------------------------------------------------------------------------------


def _choose(student: Student, fits: Callable[[bytes], bool]) -> None:
    """Of a student's files one counts: a notebook of this homework before another one, and the one that was changed last."""
    notebooks, others = [], []
    for file, note in student.files:
        # A text beside the notebooks is nobody's, unless a class list or a folder says whose.
        by_content = student.known or len(file.way) > 1 or not file.way[-1].lower().endswith(".txt")
        wanted = file.is_notebook or (by_content and file.holds_notebook())
        (notebooks if wanted else others).append((file, note))
    if not notebooks or len(notebooks) > COPIES_LIMIT:
        if notebooks:
            student.several = _are_several([file for file, _ in notebooks])
            student.reason = f"handed in: {len(notebooks)} notebooks, of which none is read; hand in one"
        elif others:
            student.reason = f"handed in, but not a notebook: {_listing(others)}"
        _note(student, student.files)
        return
    files = [file for file, _ in notebooks]
    student.several = _are_several([*(file for file in files if fits(_content(file))), *(file for file, _ in others)])
    student.file = files[0] if len(files) == 1 else _newest(files, fits)
    if said := _handed_in_as(student.file, files):
        student.notes.append(said)
    _note(student, [pair for pair in notebooks if pair[0] is student.file])
    if others:
        student.notes.append(f"also handed in, not graded: {_listing(others)}")


def _newest(files: list[File], fits: Callable[[bytes], bool]) -> File:
    """A notebook of this homework before another one, then the one that was changed last."""

    def worth(file: File) -> tuple:
        content = _content(file)
        return bool(content) and fits(content), bool(content), file.is_notebook, file.changed, file.way

    return max(files, key=worth)


def _are_several(files: list[File]) -> bool:
    """Whether notebooks and broken zips beside each other may be several students', going by their names."""
    files = [file for file in files if file.is_notebook or _is_zip(file.way[-1])]
    names_in = {(file.way[:-1], names.fold(names.original(file.stem) or file.stem)) for file in files}
    one_holder = len({way for way, _ in names_in}) == 1
    return one_holder and len(names_in) > 1 and not any(MOODLE.fullmatch(part) for part in files[0].parts)


def _handed_in_as(counts: File, files: list[File]) -> str:
    """What is to be said of how a notebook was handed in; nothing of one file, alone or in a folder."""
    zips = {tuple(file.zips) for file in files}
    if len(files) > 1 and len({_content(file) for file in files}) > 1:
        holder = (
            f"handed in as {names.key(files[0].zips[-1])}, which holds" if len(zips) == 1 and files[0].zips else "handed in:"
        )
        return f"{holder} {len(files)} notebooks: {_listing([(file, '') for file in files])}; {counts.label} counts"
    plain = names.tidy(counts.way[-1]).lower().endswith(".ipynb") and not counts.zips
    return "" if plain else f"handed in as {counts.label}"


def _content(file: File) -> bytes:
    try:
        return file.read()
    except intake.IntakeError:
        return b""


def _listing(pairs: list[tuple[File, str]]) -> str:
    """Some files by name, and why they could not be read if that is not plain."""
    said = [f"{file.label} ({file.fault})" if file.fault else file.label for file, _ in pairs[:5]]
    return ", ".join([*said, "…"] if len(pairs) > 5 else said)


def _note(student: Student, pairs: Iterable[tuple[File, str]]) -> None:
    student.notes += dict.fromkeys(note for _, note in pairs if note)


def _handed_in(student: Student) -> bool:
    """Whether files that are not notebooks look like a student's, where no class list says so."""
    return any(file.is_a_students for file, _ in student.files)


def _name_keys(students: Iterable[Student]) -> None:
    """Give students keys, different ones to those whose names differ only in what a folder cannot hold."""
    used: set[str] = set()
    for student in students:
        student.key = names.key(student.name)
        while names.fold(student.key) in used:
            student.key += "_"
        used.add(names.fold(student.key))


# --- files of the inbox ------------------------------------------------------------------------------------------------------


def _walk(inbox: Path) -> Iterator[File]:
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
        elif stat.S_ISREG(about.st_mode) and _is_zip(path.name):
            yield from _or_fault(_members(lambda path=path: intake.opened(path), here, 1), here, "is an empty zip")
        else:
            fault = "" if stat.S_ISREG(about.st_mode) else "is a link" if path.is_symlink() else "is not a file"
            file = File(here, about.st_mtime, lambda path=path: intake.read(path), fault)
            yield from _zip_called_notebook(file, lambda path=path: intake.opened(path), 1) or [file]


def _zip_called_notebook(file: File, source: Callable, depth: int) -> list[File]:
    """Files in a zip that has the name of a notebook; none if it is something else, such as a document of Office."""
    if file.fault or not file.is_notebook:
        return []
    try:
        with source() as raw:
            if raw.read(4) != ZIP:
                return []
        inside = list(islice(_members(source, file.way, depth), FILES_LIMIT))
    except (intake.IntakeError, OSError):
        return []
    return inside if any(member.is_notebook for member in inside) else []


def _or_fault(files: Iterator[File], way: tuple[str, ...], empty: str) -> Iterator[File]:
    """Files of a folder or a zip, or one that says why there are none."""
    fault = empty
    try:
        for file in files:
            fault = ""
            yield file
    except intake.IntakeError as error:
        fault = str(error)
    except OSError as error:
        fault = f"cannot be opened: {error.strerror}"
    if fault:
        yield File(way, 0, _refusing(f"{names.key(way[-1])} {fault}"), fault)


def _refusing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise intake.IntakeError(reason)

    return read


# --- zips --------------------------------------------------------------------------------------------------------------------


def _members(source: Callable, way: tuple[str, ...], depth: int) -> Iterator[File]:
    """Files in a zip, which ``source`` opens.

    Raises:
        IntakeError: it cannot be read.
    """
    with source() as raw:
        archive = _directory(raw)
        members = archive.infolist()
        zips = {member.filename for member in members if _is_zip(member.filename) or _is_zip_inside(archive, member)}
    for member in members:
        parts = tuple(part for part in _member_name(member).replace("\\", "/").split("/") if part not in ("", ".", ".."))
        if member.is_dir() or not parts or any(LITTER.fullmatch(names.tidy(part)) for part in parts):
            continue
        here = (*way, *parts)
        read = _member_reader(source, member)
        fault = _member_fault(member) or (DEEP if len(here) > DEPTH_LIMIT else "")
        if not fault and member.filename in zips and not _is_zip(parts[-1]) and depth < ZIP_DEPTH_LIMIT:
            file = File(here, _member_time(member), read)
            yield from _zip_called_notebook(file, lambda read=read: io.BytesIO(read()), depth + 1) or [file]
            continue
        if not fault and _is_zip(parts[-1]):
            if depth < ZIP_DEPTH_LIMIT:
                inner = _members(lambda read=read: io.BytesIO(read()), here, depth + 1)
                yield from _or_fault(inner, here, "is an empty zip")
                continue
            fault = DEEP
        yield File(here, _member_time(member), _refusing(f"the file {fault}") if fault else read, fault)


def _is_zip_inside(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a member that is called a notebook is a zip."""
    if not NOTEBOOK.fullmatch(names.tidy(member.filename)) or _member_fault(member):
        return False
    try:
        with archive.open(member) as file:
            return file.read(4) == ZIP
    except UNREADABLE:
        return False


def _directory(raw: BinaryIO) -> zipfile.ZipFile:
    """A zip, after a look at how long its table of contents is.

    Raises:
        IntakeError: too long, or not a zip.
    """
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - (1 << 16) - 42))  # a comment may stand behind the last record
    end = raw.read()
    last = end.rfind(b"PK\x05\x06")
    if last < 0 or len(end) < last + 16:
        raise intake.IntakeError("the zip is broken or not complete")
    too_large_for_this = end[max(0, last - 20) : last].startswith(b"PK\x06\x07")  # a table in the format for large zips
    if too_large_for_this or int.from_bytes(end[last + 12 : last + 16], "little") > DIRECTORY_LIMIT:
        raise intake.IntakeError("the zip is too large")
    try:
        return zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise intake.IntakeError("the zip is broken or not complete") from None


def _member_name(member: zipfile.ZipInfo) -> str:
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


def _member_fault(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & 1:
        return "is locked by a password"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    return ""


def _member_time(member: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0


def _member_reader(source: Callable, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with source() as raw:
            try:
                with _directory(raw).open(member) as file:
                    content = file.read(intake.FILE_LIMIT + 1)
            except UNREADABLE:
                raise intake.IntakeError("the zip is broken or not complete") from None
        return intake.checked(content)

    return read
