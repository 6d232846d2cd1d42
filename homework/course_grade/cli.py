"""The command `course-grade`."""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from course_grade import intake, job, sandbox
from course_grade.assignment import Assignment, AssignmentError
from course_grade.gradebook import Book, write

HOMEWORK = Path(__file__).resolve().parent.parent
UNSAFE = "--trust-all-notebooks-and-run-them-without-sandbox"
RETRIES = 2


class UsageError(Exception):
    """Something about the command is wrong; nothing was graded. The message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder of notebooks; the exit status is 0 when every student was graded, 1 when some have to be graded again, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    try:
        failed = grade(options)
    except (UsageError, AssignmentError, sandbox.SandboxError) as error:
        print(f"course-grade: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ncourse-grade: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="course-grade", description="Grade a folder of untrusted notebooks, INBOX/<student>.ipynb."
    )
    parser.add_argument("inbox", type=Path, metavar="INBOX", help="folder of <student>.ipynb")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="grades.csv, gradebook.db, feedback/; the same DIR goes on"
    )
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="notebooks at once; the number of cores when not given"
    )
    parser.add_argument(
        "--gradebook", metavar="URL", help="such as postgresql+psycopg://user@host/grades; DIR/gradebook.db when not given"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a Dask scheduler, tcp://host:8786, whose workers grade; this machine when not given",
    )
    parser.add_argument(
        "--roster",
        type=Path,
        metavar="FILE",
        help="one student a line (or a CSV with a column `student`): who is missing gets 0",
    )
    parser.add_argument(
        "--timestamps",
        type=Path,
        metavar="CSV",
        help="columns `student`, `timestamp`: when each was handed in, for late penalties",
    )
    parser.add_argument("--due", metavar="TIME", help="when it was due, such as 2026-12-01 18:00 +0900")
    parser.add_argument(
        "--course", type=Path, default=HOMEWORK, metavar="DIR", help="folder with nbgrader_config.py and source/"
    )
    parser.add_argument("--assignment", metavar="NAME", help="folder below source/; that of nbgrader_config.py when not given")
    parser.add_argument(
        "--release", type=Path, metavar="FILE", help="notebook handed out; ../notebooks/NAME.ipynb when not given"
    )
    parser.add_argument(
        "--profile", choices=("ci", "cpu", "gpu"), default="ci", help="size of the experiments while grading (ci)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="grade everybody again with newly drawn inputs; grades given by hand stay"
    )
    parser.add_argument(UNSAFE, dest="unsafe", action="store_true", help="every notebook can then do all that you can do")
    return parser


def grade(options: argparse.Namespace) -> list[str]:
    """Do what the command says; returns the students that must be graded again."""
    if not options.inbox.is_dir():
        raise UsageError(f"{options.inbox} is no folder. Give the folder that holds <student>.ipynb.")
    if options.jobs < 0:
        raise UsageError(f"--jobs is {options.jobs}; give the number of notebooks to run at once.")
    config = read_config(options.course / "nbgrader_config.py")
    name = options.assignment or config.CourseDirectory.get("assignment_id")
    if not isinstance(name, str) or not name:
        raise UsageError("No assignment: give --assignment, or c.CourseDirectory.assignment_id in nbgrader_config.py.")
    assignment = Assignment.read(
        options.course / "source" / name / f"{name}.ipynb",
        options.release or options.course.parent / "notebooks" / f"{name}.ipynb",
    )
    if options.unsafe:
        print("WITHOUT SANDBOX: every notebook can read, change and send away whatever you can.", file=sys.stderr)
    elif not options.scheduler:
        sandbox.require()
    timestamps = read_columns(options.timestamps, "student", "timestamp") if options.timestamps else {}
    students = find_students(options.inbox, read_columns(options.roster, "student") if options.roster else {})
    if not students:
        raise UsageError(f"{options.inbox} holds no <student>.ipynb.")

    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # nbgrader calls alembic by its name
    )
    try:
        book = Book(options.out, assignment, options.gradebook, config)
    except Exception as error:
        raise UsageError(f"The gradebook {options.gradebook or options.out} cannot be opened: {_first_line(error)}") from error
    try:
        book.prepare(options.due)
        plan = job.Plan(
            assignment,
            seed=seed_of(options.out, assignment, options.fresh),
            settings=dict(config.SandboxExecute) | {"profile": options.profile},
            sandboxed=not options.unsafe,
        )
        return _grade_all(options, plan, book, students, timestamps)
    finally:
        book.close()


def _grade_all(options, plan: job.Plan, book: Book, students: dict[str, Path | None], timestamps: dict) -> list[str]:
    tasks = []
    for student, path in students.items():
        try:
            if path is None:
                raise intake.IntakeError("nothing was handed in")
            content = intake.read(path)
        except intake.IntakeError as error:
            digest = _digest(plan, options, str(error).encode())
            if not book.is_done(student, digest):
                book.save_nothing(student, str(error), digest)
            continue
        digest = _digest(plan, options, content)
        if not book.is_done(student, digest):
            tasks.append((student, path, digest))
    failed = []
    if tasks:
        with workers(options) as run:
            ((_, solved),) = run([("solution", job.solve, plan)])
            if isinstance(solved, Exception):
                raise AssignmentError(str(solved)) from solved
            plan = solved
            bar = tqdm(
                total=len(students), initial=len(students) - len(tasks), unit="notebook", desc="grading", file=sys.stderr
            )
            digests = {student: digest for student, _, digest in tasks}
            for student, result in run((student, job.grade, plan, path) for student, path, _ in tasks):
                if isinstance(result, intake.IntakeError):
                    book.save_nothing(student, str(result), digests[student])
                elif isinstance(result, Exception):
                    failed.append(student)
                    bar.write(f"{student}: not graded, {_first_line(result)}; run the command again", file=sys.stderr)
                else:
                    book.save(student, result, digests[student], timestamps.get(student))
                bar.update()
            bar.close()
    for student in students:
        if student not in failed:
            book.feedback(student)
    table = book.write_table()
    write_formgrader(options, book)
    print(f"{len(students) - len(failed)} of {len(students)} students graded, {len(tasks)} of them now: {table}")
    return failed


# --- what the command is given ----------------------------------------------------------------------------------------------------


def read_config(path: Path) -> Config:
    """Settings; unlike nbgrader's own commands, a broken file stops the command.

    Raises:
        UsageError: the file is missing or raises.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing: run in a clone of the course, or give --course.")
    try:
        return PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    except Exception as error:
        raise UsageError(f"{path} is broken, and nothing is graded without it: {type(error).__name__}: {error}") from error


def read_columns(path: Path, key: str, value: str | None = None) -> dict[str, str]:
    """A column, or two, of a CSV file; a file with one column needs no heading.

    Raises:
        UsageError: the file or a column is missing.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        if value is None and key not in table.columns and len(table.columns) == 1:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", names=[key])
        return dict(zip(table[key], table[value or key], strict=True))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {_first_line(error)}") from error
    except KeyError as error:
        raise UsageError(f"{path} has no column {error}.") from error


def find_students(inbox: Path, roster: dict[str, str]) -> dict[str, Path | None]:
    """Students by name, with their file; those of the roster that handed in nothing have none. Hidden files are no submissions."""
    found = {path.stem: path for path in inbox.iterdir() if path.suffix == ".ipynb" and not path.name.startswith(".")}
    unknown = sorted(set(found) - set(roster)) if roster else []
    if unknown:
        print(f"not on the roster, graded all the same: {', '.join(unknown)}", file=sys.stderr)
    everybody = {**dict.fromkeys(roster), **found}
    bad = [name for name in everybody if not name.strip() or "/" in name or name in (".", "..") or not name.isprintable()]
    if bad:
        raise UsageError(f"no names of students: {', '.join(map(repr, bad))}")
    return dict(sorted(everybody.items()))


def seed_of(out: Path, assignment: Assignment, fresh: bool) -> int:
    """Seed of hidden inputs: drawn for a new run, kept for one that goes on."""
    path = out / "run.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {}
    if fresh or kept.get("assignment") != assignment.digest:
        kept = {"assignment": assignment.digest, "seed": secrets.randbelow(2**31)}
        write(path, json.dumps(kept).encode())
        path.chmod(0o600)
    return kept["seed"]


def _digest(plan: job.Plan, options: argparse.Namespace, content: bytes) -> str:
    return job.digest(json.dumps([plan.assignment.digest, plan.seed, options.profile]).encode() + content)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


# --- many at once -----------------------------------------------------------------------------------------------------------------


@contextmanager
def workers(options: argparse.Namespace) -> Iterator:
    """A function that runs jobs on Dask workers, a few ahead of what is finished, and gives each job's result or error as it comes.

    A job that raises, or whose worker dies, is tried again; an unreadable submission is not.
    """
    import dask
    from distributed import Client, LocalCluster, as_completed

    dask.config.set({"distributed.scheduler.allowed-failures": RETRIES, "distributed.admin.log-format": "%(message)s"})
    jobs = options.jobs or len(os.sched_getaffinity(0))
    cluster = None
    if options.scheduler is None:
        cluster = LocalCluster(
            n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50, memory_limit=0
        )
    try:
        try:
            client = Client(cluster or options.scheduler, timeout=30)
        except OSError as error:
            raise UsageError(f"No Dask scheduler answers at {options.scheduler}: {_first_line(error)}") from error
        with client:
            ahead = 2 * max(jobs, sum(client.nthreads().values()))

            def submit(student, function, plan, path=None):
                arguments = (plan,) if path is None else (plan, intake.read(path))
                return client.submit(
                    attempt, function, *arguments, key=f"{function.__name__}-{student}-{secrets.token_hex(4)}", retries=RETRIES
                )

            def run(jobs_wanted):
                queue = iter(jobs_wanted)
                waiting, names = as_completed(), {}
                for wanted in queue:
                    future = submit(*wanted)
                    names[future.key] = wanted[0]
                    waiting.add(future)
                    if len(names) >= ahead:
                        break
                for future in waiting:
                    yield names.pop(future.key), _outcome(future)
                    future.release()
                    for wanted in queue:
                        new = submit(*wanted)
                        names[new.key] = wanted[0]
                        waiting.add(new)
                        break

            yield run
    finally:
        if cluster is not None:
            cluster.close()
            sandbox.tidy()


def attempt(function, *arguments):
    """Run a job on a worker; an error that trying again would not change is a result."""
    try:
        return function(*arguments)
    except (intake.IntakeError, AssignmentError, ValueError) as error:
        return error


def _outcome(future):
    error = future.exception()
    return future.result() if error is None else error


def write_formgrader(options: argparse.Namespace, book: Book) -> None:
    """Settings with which formgrader, started in DIR, shows this gradebook."""
    text = (
        "c = get_config()\n"
        f"c.CourseDirectory.root = {str(options.out.resolve())!r}\n"
        f"c.CourseDirectory.db_url = {book.url!r}\n"
        f"c.CourseDirectory.assignment_id = {book.assignment.name!r}\n"
    )
    write(options.out / "nbgrader_config.py", text.encode())


if __name__ == "__main__":
    sys.exit(main())
