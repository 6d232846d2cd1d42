"""A student, all that was handed in, and which file of it counts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from course_grade import names
from course_grade.errors import IntakeError
from course_grade.handed_in_file import MOODLE, File, is_zip

COPIES_LIMIT = 20  # notebooks of one student that are looked into
NOTHING = "nothing was handed in"


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

    @property
    def is_somebody(self) -> bool:
        """Whether what was handed in is a student's: by the class list, or by the looks of the files where there is none."""
        return self.known or self.file is not None or any(file.is_a_students for file, _ in self.files)

    def read(self) -> bytes:
        """What counts of what was handed in.

        Raises:
            IntakeError: nothing, or nothing that can be read.
        """
        if self.file is None:
            raise IntakeError(self.reason)
        return self.file.read()


def choose(student: Student, fits: Callable[[bytes], bool]) -> None:
    """Of a student's files one counts: a notebook of this homework before another one, and the one that was changed last."""
    notebooks: list[tuple[File, str]] = []
    others: list[tuple[File, str]] = []
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
    student.several = _are_several([*(file for file in files if fits(file.content())), *(file for file, _ in others)])
    student.file = files[0] if len(files) == 1 else _newest(files, fits)
    if said := _handed_in_as(student.file, files):
        student.notes.append(said)
    _note(student, [pair for pair in notebooks if pair[0] is student.file])
    if others:
        student.notes.append(f"also handed in, not graded: {_listing(others)}")


def _newest(files: list[File], fits: Callable[[bytes], bool]) -> File:
    """A notebook of this homework before another one, then the one that was changed last."""

    def worth(file: File) -> tuple:
        content = file.content()
        return bool(content) and fits(content), bool(content), file.is_notebook, file.changed, file.way

    return max(files, key=worth)


def _are_several(files: list[File]) -> bool:
    """Whether notebooks and broken zips beside each other may be several students', going by their names."""
    files = [file for file in files if file.is_notebook or is_zip(file.way[-1])]
    names_in = {(file.way[:-1], names.fold(names.original(file.stem) or file.stem)) for file in files}
    one_holder = len({way for way, _ in names_in}) == 1
    return one_holder and len(names_in) > 1 and not any(MOODLE.fullmatch(part) for part in files[0].parts)


def _handed_in_as(counts: File, files: list[File]) -> str:
    """What is to be said of how a notebook was handed in; nothing of one file, alone or in a folder."""
    zips = {tuple(file.zips) for file in files}
    if len(files) > 1 and len({file.content() for file in files}) > 1:
        holder = (
            f"handed in as {names.key(files[0].zips[-1])}, which holds" if len(zips) == 1 and files[0].zips else "handed in:"
        )
        return f"{holder} {len(files)} notebooks: {_listing([(file, '') for file in files])}; {counts.label} counts"
    plain = names.tidy(counts.way[-1]).lower().endswith(".ipynb") and not counts.zips
    return "" if plain else f"handed in as {counts.label}"


def _listing(pairs: list[tuple[File, str]]) -> str:
    """Some files by name, and why they could not be read if that is not plain."""
    said = [f"{file.label} ({file.fault})" if file.fault else file.label for file, _ in pairs[:5]]
    return ", ".join([*said, "…"] if len(pairs) > 5 else said)


def _note(student: Student, pairs: Iterable[tuple[File, str]]) -> None:
    student.notes += dict.fromkeys(note for _, note in pairs if note)
