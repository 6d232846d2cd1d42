"""The command `course-grade`."""

import argparse
import csv
import json
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dateutil.parser
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tqdm import tqdm
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from course_grade import intake, job, sandbox
from course_grade.assignment import Assignment, AssignmentError
from course_grade.execute import SandboxExecute
from course_grade.gradebook import Book, write
from course_grade.workers import Job, Workers, WorkersError, cores

HOMEWORK = Path(__file__).resolve().parent.parent
NAME_LIMIT = 120  # nbgrader keeps 128 characters
UNSAFE = "--trust-all-notebooks-and-run-them-without-sandbox"


class UsageError(ValueError):
    """Something about the command is wrong; nothing was graded. The message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder of notebooks.

    Returns:
        Exit status: 0 when every student was graded, 1 when some have to be graded again, 2 when the command could not begin.
    """
    try:
        return 1 if grade(parser().parse_args(arguments)) else 0
    except (UsageError, AssignmentError, sandbox.SandboxError, WorkersError) as error:
        print(f"course-grade: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ncourse-grade: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    about = "Grade a folder of untrusted notebooks, INBOX/<student>.ipynb. The same command goes on after an interruption."
    made = argparse.ArgumentParser(prog="course-grade", description=about)
    add = made.add_argument
    add("inbox", type=Path, metavar="INBOX", help="folder of <student>.ipynb")
    add("--out", type=Path, required=True, metavar="DIR", help="where grades.csv, gradebook.db and feedback/ go")
    add("--jobs", type=int, default=cores(), metavar="N", help="notebooks at once (default: %(default)s, the cores)")
    add("--gradebook", metavar="URL", help="such as postgresql+psycopg://user@host/grades (default: DIR/gradebook.db)")
    add("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers grade, tcp://host:8786 (default: this machine)")
    add("--roster", type=Path, metavar="FILE", help="a student a line, or a CSV with a column `student`: who is missing gets 0")
    add("--timestamps", type=Path, metavar="CSV", help="columns `student`, `timestamp` of handing in, for late penalties")
    add("--due", metavar="TIME", help="when it was due, such as '2026-12-01 18:00 +0900'")
    add("--course", type=Path, default=HOMEWORK, metavar="DIR", help="folder of nbgrader_config.py and source/")
    add("--assignment", metavar="NAME", help="folder in source/ (default: that of nbgrader_config.py)")
    add("--release", type=Path, metavar="FILE", help="notebook that was handed out (default: ../notebooks/NAME.ipynb)")
    add("--profile", choices=("ci", "cpu", "gpu"), default="ci", help="size of experiments (default: %(default)s)")
    add("--fresh", action="store_true", help="grade everybody again, with newly drawn inputs; grades given by hand stay")
    add(UNSAFE, dest="unsafe", action="store_true", help="every notebook can then do whatever you can do")
    return made


def grade(options: argparse.Namespace) -> list[str]:
    """Do what the command says; returns the students that must be graded again.

    Raises:
        UsageError, AssignmentError, SandboxError, WorkersError: nothing was graded, for the reason in the message.
    """
    if not options.inbox.is_dir():
        raise UsageError(f"{options.inbox} is no folder. Give the folder that holds <student>.ipynb.")
    if options.jobs < 1:
        raise UsageError(f"--jobs is {options.jobs}; give how many notebooks to run at once, 1 or more.")
    config = read_config(options.course / "nbgrader_config.py")
    name = options.assignment or config.CourseDirectory.get("assignment_id")
    if not isinstance(name, str) or not name:
        raise UsageError("No assignment: give --assignment, or c.CourseDirectory.assignment_id in nbgrader_config.py.")
    release = options.release or options.course.parent / "notebooks" / f"{name}.ipynb"
    assignment = Assignment.read(options.course / "source" / name / f"{name}.ipynb", release)
    if options.unsafe:
        print("WITHOUT SANDBOX: every notebook can read, change and send away whatever you can.", file=sys.stderr)
    elif options.scheduler is None:
        sandbox.require()
    settings = read_settings(config, options.profile)
    timestamps = read_columns(options.timestamps, "student", "timestamp") if options.timestamps else {}
    due = moment(options.due) if options.due else None
    handed_in = {student: moment(when) for student, when in timestamps.items()}
    students = find_students(options.inbox, read_columns(options.roster, "student") if options.roster else {})
    if not students:
        raise UsageError(f"{options.inbox} holds no <student>.ipynb.")
    sandbox.tidy()
    with open_book(options, assignment, config) as book:
        book.prepare(due)
        seed = seed_of(options.out, assignment, options.fresh)
        plan = job.Plan(assignment, seed=seed, settings=settings, sandboxed=not options.unsafe)
        waiting = {student: path for student, path in students.items() if not is_done(book, plan, student, path)}
        failed = grade_all(options, plan, book, waiting, handed_in) if waiting else []
        for student in students.keys() - waiting.keys():  # what has changed since the last run: a time, a grade given by hand
            book.set_time(student, handed_in.get(student))
            book.feedback(student)
        table = book.write_table()
        book.write_formgrader_config()
    count = len(students) - len(failed)
    print(f"{count} of {len(students)} students graded, {len(waiting) - len(failed)} of them now: {table}")
    return failed


def grade_all(
    options: argparse.Namespace, plan: job.Plan, book: Book, waiting: dict[str, Path | None], handed_in: dict[str, datetime]
) -> list[str]:
    """Grade students and save what comes; returns those for whom grading itself failed."""
    failed, digests = [], {}

    def save(student: str, result: object) -> None:
        if isinstance(result, job.Result):
            book.save(student, result, digests[student], handed_in.get(student))
        elif isinstance(result, intake.IntakeError):
            book.save_nothing(student, str(result), digests[student])
        else:
            failed.append(student)
            book.save_nothing(student, f"not graded, run the command again: {first_line(result)}", "")
        book.feedback(student)
        bar.update()

    def jobs() -> Iterator[Job]:
        for student, path in waiting.items():
            try:
                content = read(path)
            except intake.IntakeError as error:
                digests[student] = digest_of(plan, str(error).encode())
                save(student, error)
            else:
                digests[student] = digest_of(plan, content)
                yield student, job.grade, (solved, content)

    with Workers(options.jobs, options.scheduler) as workers:
        ((_, solved),) = workers.run([("solution", job.solve, (plan,))])
        if isinstance(solved, Exception):
            raise solved
        with tqdm(total=len(waiting), unit="notebook", desc="grading", file=sys.stderr) as bar:
            for student, result in workers.run(jobs()):
                save(student, result)
    sandbox.tidy()
    return failed


# --- what the command is given -----------------------------------------------------------------------------------------------


def read_config(path: Path) -> Config:
    """Settings; unlike nbgrader's own commands, this one stops at a broken file.

    Raises:
        UsageError: the file is missing or raises.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing: run in a clone of the course, or give --course.")
    try:
        return PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    except Exception as error:
        raise UsageError(f"{path} is broken, and nothing is graded without it: {first_line(error)}") from error


def read_settings(config: Config, profile: str) -> dict:
    """Settings of the executor and limits of the sandbox, from the configuration.

    Raises:
        UsageError: a name or a value that would have no effect, or another one than meant.
    """
    settings = dict(config.SandboxExecute) | {"profile": profile}
    known = sorted(SandboxExecute.class_trait_names(config=True))
    limits = sandbox.launcher().LIMITS
    if unknown := sorted(settings.keys() - set(known)):
        raise UsageError(f"c.SandboxExecute.{unknown[0]} is no setting. Known: {', '.join(known)}.")
    for name, value in settings.get("limits", {}).items():
        if name not in limits or type(value) is not int or value <= 0:
            raise UsageError(
                f"c.SandboxExecute.limits[{name!r}] = {value!r}: limits are whole numbers for {', '.join(limits)}."
            )
    try:
        SandboxExecute(**settings)
    except TraitError as error:
        raise UsageError(f"c.SandboxExecute: {error}") from error
    return settings


def read_columns(path: Path, key: str, value: str | None = None) -> dict[str, str]:
    """A column, or two, of a CSV file; a list of one column needs no heading.

    Raises:
        UsageError: the file or a column is missing, or what stands in column ``key`` can be no student.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error
    rows = [row for row in rows if any(row)]
    head = rows[0] if rows else []
    if value is None and key not in head and len(head) == 1:
        rows.insert(0, [key])
    elif missing := [name for name in (key, value) if name is not None and name not in head]:
        raise UsageError(f"{path} has no column {missing[0]!r}.")
    columns = [rows[0].index(name) for name in (key, value or key)]
    found = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise UsageError(f"{path}, row {number}: {len(row)} columns instead of {len(rows[0])}.")
        name, content = (row[column].strip() for column in columns)
        if name != student_name(name) or name.startswith(".") or not name:
            raise UsageError(f"{path}, row {number}: {name!r} is no name of a student.")
        found[name] = content
    return found


def student_name(name: str) -> str:
    """A name that can be a folder and a key of the gradebook, and is text in pages: formgrader takes it for HTML."""
    return "".join(letter if letter.isprintable() and letter not in '/\\<>"&' else "_" for letter in name)[:NAME_LIMIT]


def moment(text: str) -> datetime:
    """A time as nbgrader keeps it, in UTC; without an offset it is this machine's time.

    nbgrader's own parser reads +0900 as 900 seconds.

    Raises:
        UsageError: no time.
    """
    try:
        return dateutil.parser.parse(text).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time: write it as in '2026-12-01 18:00 +0900'.") from error


def find_students(inbox: Path, roster: dict[str, str]) -> dict[str, Path | None]:
    """Students by name, with their files; those of the roster that handed in nothing have none. Hidden files are left out."""
    found: dict[str, Path | None] = {}
    for path in sorted(inbox.glob("*.ipynb")):
        if not path.name.startswith("."):
            # A file name is a student's too: it must not stop the others.
            name = student_name(path.stem)
            while name in found:
                name += "_"
            found[name] = path
    if unknown := sorted(found.keys() - roster.keys()) if roster else []:
        print(f"course-grade: not on the roster, graded all the same: {', '.join(unknown)}", file=sys.stderr)
    return dict(sorted({**dict.fromkeys(roster), **found}.items()))


def open_book(options: argparse.Namespace, assignment: Assignment, config: Config) -> Book:
    """The gradebook.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        url = make_url(options.gradebook) if options.gradebook else None
    except ArgumentError as error:
        raise UsageError(f"--gradebook is no URL; write it as in postgresql+psycopg://user@host/grades. ({error})") from error
    try:
        return Book(options.out, assignment, url, config)
    except Exception as error:
        shown = url.render_as_string() if url else options.out
        reason = first_line(error).replace(url.password or "\0" if url else "\0", "***")
        raise UsageError(f"The gradebook {shown} cannot be opened: {reason}") from error


def seed_of(out: Path, assignment: Assignment, fresh: bool) -> int:
    """Seed of hidden inputs: drawn anew for a new run and for changed tests, kept for a run that goes on."""
    path = out / "run.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {}
    if fresh or kept.get("assignment") != assignment.digest:
        kept = {"assignment": assignment.digest, "seed": secrets.randbelow(2**31)}
        write(path, json.dumps(kept).encode())
    return kept["seed"]


def read(path: Path | None) -> bytes:
    """What a student handed in.

    Raises:
        IntakeError: nothing, or nothing that can be read.
    """
    if path is None:
        raise intake.IntakeError("nothing was handed in")
    return intake.read(path)


def is_done(book: Book, plan: job.Plan, student: str, path: Path | None) -> bool:
    """Whether this very file has been graded by these very tests."""
    try:
        content = read(path)
    except intake.IntakeError as error:
        content = str(error).encode()
    return book.is_done(student, digest_of(plan, content))


def digest_of(plan: job.Plan, content: bytes) -> str:
    """Changes when a submission, a test, a hidden input or the size of the experiments changes."""
    return job.digest([plan.assignment.digest, plan.seed, plan.settings.get("profile")], content)


def first_line(error: object) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


if __name__ == "__main__":
    sys.exit(main())
