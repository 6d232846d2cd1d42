"""One file that was handed in, and what its name says: a notebook, a zip, a student's document, litter."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from course_grade import names
from course_grade.errors import IntakeError
from course_grade.submission import parse

# Why nothing can be read, said of a file in its row.
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

    def content(self) -> bytes:
        """What it holds; nothing where it cannot be read."""
        try:
            return self.read()
        except IntakeError:
            return b""

    def holds_notebook(self) -> bool:
        """Whether a file of another name is a notebook, by what it holds."""
        name = names.tidy(self.way[-1])
        if self.fault or not (LIKE.fullmatch(name) or re.search(r"\.json$|\.txt$|^[^.]+$", name, re.IGNORECASE)):
            return False
        try:
            return bool(parse(self.read()))
        except IntakeError:
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


def is_zip(name: str) -> bool:
    return names.tidy(name).lower().endswith(".zip")


def _is_holder(name: str) -> bool:
    """Whether a part of a way that others follow is a zip: also one that is called a notebook."""
    return is_zip(name) or bool(NOTEBOOK.fullmatch(names.tidy(name)))
