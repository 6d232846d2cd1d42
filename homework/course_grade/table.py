"""The table of grades, `grades.csv`: a row a student."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbgrader.api import MissingEntry

from course_grade.gradebook import Book
from course_grade.students import Student
from course_utils import files

FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # how a spreadsheet knows one


def table(book: Book, students: Mapping[str, Student]) -> str:
    """The table of grades as CSV: `student`, `total`, a column per graded cell, `to_grade_by_hand`, `notes`.

    ``students`` by key are those of this run: the table has their names, and what was odd about what they handed in.
    """
    graded = book.assignment.graded
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["student", "total", *graded, "to_grade_by_hand", "notes"])
    try:
        submissions = book.gradebook.assignment_submissions(book.assignment.name)
    except MissingEntry:
        submissions = []
    for submission in sorted(submissions, key=lambda s: s.student_id):
        points, waiting = {}, []
        for grade in (g for notebook in submission.notebooks for g in notebook.grades):
            by_hand = grade.manual_score is None and grade.auto_score is None
            points[grade.name] = "" if by_hand else _number(grade.score)
            if grade.needs_manual_grade:
                waiting.append(grade.name)
        late = sum(n.late_submission_penalty or 0 for n in submission.notebooks)
        total = _number(submission.score - late)
        waiting = [name for name in graded if name in waiting]
        student = students.get(submission.student_id)
        notes = _notes(book, submission.student_id, student) + ([f"late: minus {_number(late)}"] if late else [])
        scores = [points.get(name, "") for name in graded]
        name = student.shown if student else submission.student_id
        rows.writerow([_text(name), total, *scores, " ".join(waiting), _text("; ".join(notes))])
    return text.getvalue()


def _notes(book: Book, key: str, student: Student | None) -> list[str]:
    try:
        metadata = nbformat.read(book.path(key), as_version=4).metadata
    except (FileNotFoundError, ValueError):
        return ["not graded yet: run the command again"]
    return [*metadata.get("course_grade", {}).get("notes", ()), *(student.notes if student else ())]


def write_table(book: Book, students: Mapping[str, Student]) -> Path:
    """Write `table` to `grades.csv`, with the mark by which Excel knows UTF-8."""
    path = book.folder / "grades.csv"
    files.write_text(path, f"\ufeff{table(book, students)}", private=True)
    return path


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _text(value: str) -> str:
    """A name for a spreadsheet, which takes what begins so for a formula."""
    return f"'{value}" if value.startswith(FORMULA) else value
