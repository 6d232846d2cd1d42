"""Who handed in what: files, folders and zips of the inbox, sorted by student.

Nothing is unpacked: a zip's members are read where they are, within bounds on their number and size. What cannot be graded is
named in words, so that nobody who handed in something reads that nothing was handed in.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from course_grade import names
from course_grade.class_tables import Times
from course_grade.inbox_files import walk
from course_grade.owners import ClassList, owners
from course_grade.students import Student, choose

T = TypeVar("T")


def find(inbox: Path, roster: list[str], fits: Callable[[bytes], bool], release: str = "") -> tuple[list[Student], list[str]]:
    """Students of a class list and of an inbox, sorted; and labels of files that are nobody's.

    Args:
        inbox: folder of files, of a folder or a zip for each student, or of a zip of the class.
        roster: names of the class list; empty without one.
        fits: whether a notebook looks like the homework, to choose among several.
        release: name of the notebook that was handed out: words of it in a file's name say nothing about whose it is.
    """
    files = list(walk(inbox))
    students = {names.fold(name): Student(name, known=True) for name in roster}
    for file, owner in owners(files, ClassList(roster, set(names.words(release))), fits):
        student = students.setdefault(names.fold(owner.name), Student(owner.name))
        student.files.append((file, owner.note))
    nobodys = []
    for folded, student in list(students.items()):
        choose(student, fits)
        if student.several and not roster:
            student.notes.append("if these are several students', grade with a class list (--roster)")
        if not student.is_somebody:
            nobodys += [file.label for file, _ in student.files]
            del students[folded]
    _name_keys(students.values())
    return sorted(students.values(), key=lambda student: student.key), nobodys


def _name_keys(students: Iterable[Student]) -> None:
    """Give students keys, different ones to those whose names differ only in what a folder cannot hold."""
    used: set[str] = set()
    for student in students:
        student.key = names.key(student.name)
        while names.fold(student.key) in used:
            student.key += "_"
        used.add(names.fold(student.key))


def set_times(students: list[Student], times: Times) -> list[str]:
    """Note when students handed in; returns what is odd, in words.

    A name is found in other spellings, and with its words in another order if that is one student's only.
    """
    rows: dict[str, Student] = {}
    for student in students:
        spelled = (names.fold(student.name), names.fold(student.key))
        rows |= {folded: student for folded in spelled if folded in times.shown and folded not in rows}
    unknown = [folded for folded in times.shown if folded and folded not in rows]
    found = set(map(id, rows.values()))
    turned = _single((names.turned(student.name), student) for student in students if id(student) not in found)
    for words, folded in _single((names.turned(folded), folded) for folded in unknown).items():
        if words in turned:
            rows[folded] = turned[words]
    for folded, student in rows.items():
        student.handed_in = times.moments.get(folded, student.handed_in)
        if folded in times.notes:
            student.notes.append(times.notes[folded])
    odd = []
    if unknown := [times.shown[folded] for folded in unknown if folded not in rows]:
        odd.append(f"times of students who are not found: {names.shortened(unknown)}")
    timed = set(map(id, rows.values()))
    without = [student.name for student in students if student.file is not None and id(student) not in timed]
    if without and times.shown:
        odd.append(f"no time, so lateness is not known: {names.shortened(without)}")
    return odd


def _single(pairs: Iterable[tuple[tuple[str, ...], T]]) -> dict[tuple[str, ...], T]:
    """What has words that nothing else has."""
    held: dict[tuple[str, ...], list[T]] = {}
    for words, value in pairs:
        held.setdefault(words, []).append(value)
    return {words: values[0] for words, values in held.items() if words and len(values) == 1}


def adopt_keys(students: list[Student], kept: list[str]) -> None:
    """Let students keep the keys under which an earlier run has graded them, though their names are spelled otherwise now."""
    earlier = {names.fold(key): key for key in kept}
    for student in students:
        if student.key not in kept:
            student.key = earlier.get(names.fold(student.key), student.key)
