"""The command `course-grade`."""

import argparse
import json
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tqdm import tqdm
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from course_grade import inbox, intake, job, lists, match, names, sandbox
from course_grade.assignment import Assignment, AssignmentError
from course_grade.execute import SandboxExecute
from course_grade.gradebook import Book, write
from course_grade.inbox import Student
from course_grade.lists import UsageError
from course_grade.workers import Job, Workers, WorkersError, cores
from course_utils import files

HOMEWORK = Path(__file__).resolve().parent.parent
T = TypeVar("T")
UNSAFE = "--trust-all-notebooks-and-run-them-without-sandbox"


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder of notebooks.

    Returns:
        Exit status: 0 when every student was graded, 1 when some have to be graded again, 2 when the command could not begin.
    """
    files.spell_out()  # a name may hold letters that a terminal lacks
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
    add("inbox", type=Path, metavar="INBOX", help="folder of <student>.ipynb, or of a folder or a zip per student")
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
        raise UsageError(f"{options.inbox} is no folder. Give the folder that holds <student>.ipynb; a zip goes into a folder.")
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
    due = lists.moment(options.due) if options.due else None
    roster, odd = lists.read_roster(options.roster) if options.roster else ([], [])
    times, odd_times = lists.read_times(options.timestamps) if options.timestamps else (lists.Times(), [])
    students, nobodys = inbox.find(options.inbox, roster, lambda content: is_homework(assignment, content), name)
    if not students:
        raise UsageError(f"{options.inbox} holds no <student>.ipynb{f', but {shortened(nobodys)}' if nobodys else ''}.")
    tell([*odd, *odd_times])
    if nobodys:
        tell([f"not graded, since nobody's notebook: {shortened(nobodys)}"])
    if unknown := [student.shown for student in students if roster and not student.known]:
        tell([f"not on the roster, graded all the same: {', '.join(unknown)}"])
    if several := [student.shown for student in students if student.several and not roster]:
        tell([f"several notebooks, of which one counts: {shortened(several)}; if they are several students', give --roster"])
    tell(set_times(students, times))
    sandbox.tidy()
    with open_book(options, assignment, config) as book:
        book.prepare(due)
        adopt_keys(students, book.students())
        seed = seed_of(options.out, assignment, options.fresh)
        plan = job.Plan(assignment, seed=seed, settings=settings, sandboxed=not options.unsafe)
        waiting = [student for student in students if not is_done(book, plan, student)]
        failed = grade_all(options, plan, book, waiting) if waiting else []
        for student in students:  # what has changed since the last run: a time, a grade given by hand
            if student not in waiting:
                book.set_time(student.key, student.handed_in)
                book.feedback(student.key)
        table = book.write_table({student.key: student for student in students})
        book.write_formgrader_config()
    count = len(students) - len(failed)
    print(f"{count} of {len(students)} students graded, {len(waiting) - len(failed)} of them now: {table}")
    return failed


def grade_all(options: argparse.Namespace, plan: job.Plan, book: Book, waiting: list[Student]) -> list[str]:
    """Grade students and save what comes; returns those for whom grading itself failed."""
    failed, digests = [], {}
    students = {student.key: student for student in waiting}

    def save(key: str, result: object) -> None:
        if isinstance(result, job.Result):
            book.save(key, result, digests[key], students[key].handed_in)
        elif isinstance(result, intake.IntakeError):
            book.save_nothing(key, str(result), digests[key])
        else:
            failed.append(key)
            book.save_nothing(key, f"not graded, run the command again: {first_line(result)}", "")
        book.feedback(key)
        bar.update()

    def jobs() -> Iterator[Job]:
        for key, student in students.items():
            try:
                content = student.read()
            except intake.IntakeError as error:
                digests[key] = digest_of(plan, str(error).encode())
                save(key, error)
            else:
                digests[key] = digest_of(plan, content)
                yield key, job.grade, (solved, content)

    with Workers(options.jobs, options.scheduler) as workers:
        ((_, solved),) = workers.run([("solution", job.solve, (plan,))])
        if isinstance(solved, Exception):
            raise solved
        with tqdm(total=len(waiting), unit="notebook", desc="grading", file=sys.stderr) as bar:
            for key, result in workers.run(jobs()):
                save(key, result)
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


def is_homework(assignment: Assignment, content: bytes) -> bool:
    """Whether a file looks like a notebook of this homework."""
    try:
        return match.resemblance(assignment, intake.parse(content)) > 0.25
    except intake.IntakeError:
        return False


def set_times(students: list[Student], times: lists.Times) -> list[str]:
    """Note when students handed in; returns what is odd, in words.

    A name is found in other spellings, and with its words in another order if that is one student's only.
    """
    rows = {}
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
        odd.append(f"times of students who are not found: {shortened(unknown)}")
    timed = set(map(id, rows.values()))
    without = [student.name for student in students if student.file is not None and id(student) not in timed]
    if without and times.shown:
        odd.append(f"no time, so lateness is not known: {shortened(without)}")
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


def tell(lines: list[str]) -> None:
    """Say on the terminal what an instructor should know."""
    for line in lines:
        print(f"course-grade: {line}", file=sys.stderr)


def shortened(labels: list[str]) -> str:
    """Up to ten names, and how many more there are."""
    more = [f"and {len(labels) - 10} more"] if len(labels) > 10 else []
    return ", ".join([*labels[:10], *more])


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


def is_done(book: Book, plan: job.Plan, student: Student) -> bool:
    """Whether this very file has been graded by these very tests."""
    try:
        content = student.read()
    except intake.IntakeError as error:
        content = str(error).encode()
    return book.is_done(student.key, digest_of(plan, content))


def digest_of(plan: job.Plan, content: bytes) -> str:
    """Changes when a submission, a test, a hidden input or the size of the experiments changes."""
    return job.digest([plan.assignment.digest, plan.seed, plan.settings.get("profile")], content)


def first_line(error: object) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


if __name__ == "__main__":
    sys.exit(main())
