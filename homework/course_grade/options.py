"""What the command is given: its options, the course's configuration, and what an earlier run has left."""

import argparse
import json
import secrets
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from course_grade import sandbox
from course_grade.assignment import Assignment
from course_grade.errors import UsageError, first_line
from course_grade.execute import SandboxExecute
from course_grade.gradebook import Book
from course_grade.workers import cores
from course_utils import files

HOMEWORK = Path(__file__).resolve().parent.parent
UNSAFE = "--trust-all-notebooks-and-run-them-without-sandbox"


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


def read_config(path: Path) -> Config:
    """Settings; unlike nbgrader's own commands, this one stops at a broken file.

    Raises:
        UsageError: the file is missing or raises.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing: give --course, the folder that holds it (homework/ in a clone of the course).")
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
        files.write_text(path, json.dumps(kept), private=True)
    return kept["seed"]
