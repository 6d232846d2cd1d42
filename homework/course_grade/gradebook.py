"""The gradebook, which is nbgrader's, and what belongs to it: graded notebooks, feedback, the table `grades.csv`.

Only the command's own process writes, so no two processes ever meet in the gradebook, and workers need neither files nor the
gradebook. The order makes a run that was killed go on: first the gradebook, then, renamed into place, the graded notebook,
which holds the digest of what it was made from. A notebook with the right digest is done; all else is done again, with the
same result.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Grade, Gradebook, MissingEntry
from nbgrader.preprocessors import AssignLatePenalties, SaveAutoGrades, SaveCells
from sqlalchemy import URL
from traitlets.config import Config

from course_grade.assignment import Assignment
from course_grade.defusing import prose
from course_grade.errors import AssignmentError
from course_grade.job import Result
from course_grade.patches import QUIET, feedback_exporter
from course_grade.students import Student
from course_utils import files

FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # how a spreadsheet knows one
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#!|~$])")


class Book:
    """The gradebook of one assignment, and the folder with what belongs to it. Files in it are readable by this user only."""

    def __init__(self, folder: Path, assignment: Assignment, url: URL | None = None, config: Config | None = None) -> None:
        self.folder = folder
        self.assignment = assignment
        database = str((folder / "gradebook.db").resolve())
        url = url or URL.create("sqlite", database=database, query={"timeout": "60"})
        self.url = url.render_as_string(hide_password=False)
        self.config = config or Config()
        folder.mkdir(parents=True, exist_ok=True)
        self.gradebook = Gradebook(self.url)
        self._exporter: HTMLExporter | None = None

    def __enter__(self) -> "Book":
        return self

    def __exit__(self, *_: object) -> None:
        self.gradebook.close()

    # --- before grading ------------------------------------------------------------------------------------------------------

    def prepare(self, due: datetime | None = None) -> None:
        """Make the gradebook know the assignment and its cells.

        Raises:
            AssignmentError: cells were added or removed after students had been graded.
        """
        name = self.assignment.name
        self.gradebook.update_or_create_assignment(name, **({"duedate": due} if due else {}))
        notebook = deepcopy(self.assignment.release)
        for test, source in self.assignment.tests.items():
            cell = Assignment.cells(notebook)[test]
            cell.source = source
            cell.metadata.nbgrader["checksum"] = utils.compute_checksum(cell)
        try:
            SaveCells(parent=None, log=QUIET).preprocess(notebook, self._resources("."))
        except RuntimeError as error:
            raise AssignmentError(
                f"Graded cells were added or removed, and students have been graded already ({error}). Take a new --out folder."
            ) from error
        self.gradebook.db.expire_all()

    def _resources(self, student: str) -> dict:
        name = self.assignment.name
        return {
            "unique_key": name,
            "nbgrader": {"student": student, "assignment": name, "notebook": name, "db_url": self.url},
        }

    def students(self) -> list[str]:
        """Keys of all students in the gradebook."""
        return [student.id for student in self.gradebook.students]

    # --- one student ---------------------------------------------------------------------------------------------------------

    def path(self, student: str) -> Path:
        """Where nbgrader looks for a graded notebook."""
        return self.folder / "autograded" / student / self.assignment.name / f"{self.assignment.name}.ipynb"

    def is_done(self, student: str, digest: str) -> bool:
        """Whether this very submission has been graded by these very tests."""
        try:
            notebook = nbformat.read(self.path(student), as_version=4)
        except (FileNotFoundError, ValueError):
            return False
        return notebook.metadata.get("course_grade", {}).get("digest") == digest

    def save(self, student: str, result: Result, digest: str, timestamp: datetime | None = None) -> None:
        """Write a student's points into the gradebook, then the graded notebook. Grades given by hand stay."""
        notebook = nbformat.reads(result.notebook, as_version=4)
        notebook.metadata["course_grade"] = {"digest": digest, "notes": list(result.notes)}
        self._enter(student)
        judged = self._judged(student, notebook)
        SaveAutoGrades(log=QUIET).preprocess(notebook, self._resources(student))
        self.gradebook.db.expire_all()
        for grade in self._grades(student):
            if grade.name in judged:  # nbgrader would have a person look again
                grade.needs_manual_grade = False
        self.gradebook.db.commit()
        self.set_time(student, timestamp)
        files.write_text(self.path(student), nbformat.writes(notebook), private=True)

    def _judged(self, student: str, notebook: NotebookNode) -> set[str]:
        """Graded cells that a person has judged, and that look as they did then."""
        done = {
            grade.name for grade in self._grades(student) if grade.manual_score is not None and not grade.needs_manual_grade
        }
        if not done or not self.path(student).exists():
            return set()
        then, now = (Assignment.cells(n) for n in (nbformat.read(self.path(student), as_version=4), notebook))
        looks = ("cell_type", "source", "outputs", "attachments")
        return {name for name in done if all(then[name].get(key) == now[name].get(key) for key in looks)}

    def set_time(self, student: str, timestamp: datetime | None) -> None:
        """Note when a student handed in, if that is known, and what being late costs."""
        if timestamp is not None:
            self.gradebook.update_or_create_submission(self.assignment.name, student, timestamp=timestamp)
            self.gradebook.db.commit()
        nothing = nbformat.v4.new_notebook()
        AssignLatePenalties(parent=None, log=QUIET, config=self.config).preprocess(nothing, self._resources(student))
        self.gradebook.db.expire_all()

    def save_nothing(self, student: str, reason: str, digest: str) -> None:
        """A student whose submission could not be read gets 0 points and the reason."""
        notebook = deepcopy(self.assignment.release)
        plain = MARKDOWN.sub(r"\\\1", prose(reason))  # it may hold the name of a file
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Nothing could be graded:** {plain}."))
        notebook.metadata["course_grade"] = {"digest": digest, "notes": [reason]}
        self._enter(student)
        for grade in self._grades(student):
            grade.auto_score, grade.needs_manual_grade = 0, False
        self.gradebook.db.commit()
        files.write_text(self.path(student), nbformat.writes(notebook), private=True)

    def _enter(self, student: str) -> None:
        self.gradebook.update_or_create_student(student)
        self.gradebook.update_or_create_submission(self.assignment.name, student)
        self.gradebook.db.commit()

    def _grades(self, student: str) -> list[Grade]:
        return list(self.gradebook.find_submission(self.assignment.name, student).notebooks[0].grades)

    # --- feedback ------------------------------------------------------------------------------------------------------------

    def feedback(self, student: str) -> None:
        """Write a student's feedback page, unless it says already what the gradebook says."""
        content = self.path(student).read_bytes()
        notebook = nbformat.reads(content.decode(), as_version=4)
        path = self.folder / "feedback" / student / self.assignment.name / f"{self.assignment.name}.html"
        mark = f"<!-- {self._fingerprint(student, content)} -->"
        if path.exists() and mark in path.read_text(encoding="utf-8")[-200:]:
            return
        for cell in notebook.cells:
            if cell.metadata.pop("course_grade", {}).get("outputs") == "this run":
                cell.outputs = []
        self._exporter = self._exporter or feedback_exporter(self.folder, self.url)
        page, _ = self._exporter.from_notebook_node(notebook, self._resources(student))
        files.write_text(path, f"{_with_names(page)}\n{mark}\n", private=True)

    def _fingerprint(self, student: str, content: bytes) -> str:
        submission = self.gradebook.find_submission(self.assignment.name, student)
        book = [[g.name, g.score, g.extra_credit, g.needs_manual_grade] for n in submission.notebooks for g in n.grades]
        book += [[c.name, c.comment] for n in submission.notebooks for c in n.comments]
        book += [n.late_submission_penalty for n in submission.notebooks]
        return hashlib.sha256(content + json.dumps(book, default=str).encode()).hexdigest()

    # --- formgrader ----------------------------------------------------------------------------------------------------------

    def write_formgrader_config(self) -> None:
        """Settings with which formgrader, in a JupyterLab started in the folder, shows this gradebook."""
        settings = {"root": str(self.folder.resolve()), "db_url": self.url, "assignment_id": self.assignment.name}
        lines = ["c = get_config()", *(f"c.CourseDirectory.{name} = {value!r}" for name, value in settings.items())]
        files.write_text(self.folder / "nbgrader_config.py", "\n".join([*lines, ""]), private=True)


_LISTED = re.compile(r'(<a href="#(?:test-)?([^"]+)">)(?:Test cell|Coding free-response|Written response|Task)</a>')


def _with_names(page: str) -> str:
    """The page with its list of graded cells by name: nbgrader calls each of them "Test cell", or what else its kind is."""
    contents, end, rest = page.partition("</ol>")
    return _LISTED.sub(r"\1\2</a>", contents) + end + rest


# --- the table of grades ------------------------------------------------------------------------------------------------------


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
