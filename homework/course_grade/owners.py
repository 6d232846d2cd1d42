"""Whose a file is: somebody on the class list, or whom its name or its folder's name calls."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from course_grade import names
from course_grade.handed_in_file import EMPTY, MOODLE, File, is_zip

LOOKED_AT = 80  # notebooks of a folder that are looked into
CLASS = 5  # students whose homework a folder or a zip holds, for which it is taken for a class and not for one student


@dataclass(frozen=True)
class Owner:
    """Whose a file is, at which part of its way that stands, and how it was recognised if that is odd."""

    name: str
    level: int
    note: str = ""
    sure: bool = True


def owners(files: list[File], listed: "ClassList", fits: Callable[[bytes], bool]) -> Iterator[tuple[File, Owner]]:
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


class ClassList:
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
    files = [file for file in files if file.is_a_students or file.is_notebook or is_zip(file.way[-1])]
    depth = 0
    while files and all(len(file.way) > depth + 1 and file.way[depth] == files[0].way[depth] for file in files):
        # A single notebook with a report or pictures beside it is one student's.
        notebooks = {file.way for file in files if file.is_notebook}
        zips = {file.way[: depth + 2] for file in files if is_zip(file.way[depth + 1])}
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
    for way, held in holders.items():
        looked_at = islice(held.values(), LOOKED_AT)
        if len(held) >= CLASS and len(list(islice((file for file in looked_at if fits(file.content())), CLASS))) == CLASS:
            found |= {way[:level] for level in range(depth + 1, len(way) + 1)}
    return found
