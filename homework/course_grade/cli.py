"""The command `course-grade`."""

import argparse
import sys
from collections.abc import Iterator

from tqdm import tqdm

from course_grade import class_tables, inbox, job, sandbox
from course_grade.assignment import Assignment
from course_grade.errors import AssignmentError, IntakeError, SandboxError, UsageError, WorkersError, first_line
from course_grade.gradebook import Book, write_table
from course_grade.names import shortened
from course_grade.options import open_book, parser, read_config, read_settings, seed_of
from course_grade.released import resemblance
from course_grade.students import Student
from course_grade.submission import parse
from course_grade.times import moment
from course_grade.workers import Job, Workers
from course_utils import files


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder of notebooks.

    Returns:
        Exit status: 0 when every student was graded, 1 when some have to be graded again, 2 when the command could not begin.
    """
    files.spell_out()  # a name may hold letters that a terminal lacks
    try:
        return 1 if grade(parser().parse_args(arguments)) else 0
    except (UsageError, AssignmentError, SandboxError, WorkersError) as error:
        print(f"course-grade: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ncourse-grade: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


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
    due = moment(options.due) if options.due else None
    roster, odd = class_tables.read_roster(options.roster) if options.roster else ([], [])
    times, odd_times = class_tables.read_times(options.timestamps) if options.timestamps else (class_tables.Times(), [])
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
    tell(inbox.set_times(students, times))
    sandbox.tidy()
    with open_book(options, assignment, config) as book:
        book.prepare(due)
        inbox.adopt_keys(students, book.students())
        seed = seed_of(options.out, assignment, options.fresh)
        plan = job.Plan(assignment, seed=seed, settings=settings, sandboxed=not options.unsafe)
        waiting = [student for student in students if not is_done(book, plan, student)]
        failed = grade_all(options, plan, book, waiting) if waiting else []
        for student in students:  # what has changed since the last run: a time, a grade given by hand
            if student not in waiting:
                book.set_time(student.key, student.handed_in)
                book.feedback(student.key)
        table = write_table(book, {student.key: student for student in students})
        book.write_formgrader_config()
    count = len(students) - len(failed)
    print(f"{count} of {len(students)} students graded, {len(waiting) - len(failed)} of them now: {table}")
    return failed


def grade_all(options: argparse.Namespace, plan: job.Plan, book: Book, waiting: list[Student]) -> list[str]:
    """Grade students and save what comes; returns those for whom grading itself failed."""
    failed: list[str] = []
    digests: dict[str, str] = {}
    students = {student.key: student for student in waiting}

    def save(key: str, result: object) -> None:
        if isinstance(result, job.Result):
            book.save(key, result, digests[key], students[key].handed_in)
        elif isinstance(result, IntakeError):
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
            except IntakeError as error:
                digests[key] = job.digest(plan, str(error).encode())
                save(key, error)
            else:
                digests[key] = job.digest(plan, content)
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


def is_homework(assignment: Assignment, content: bytes) -> bool:
    """Whether a file looks like a notebook of this homework."""
    try:
        return resemblance(assignment, parse(content)) > 0.25
    except IntakeError:
        return False


def tell(lines: list[str]) -> None:
    """Say on the terminal what an instructor should know."""
    for line in lines:
        print(f"course-grade: {line}", file=sys.stderr)


def is_done(book: Book, plan: job.Plan, student: Student) -> bool:
    """Whether this very file has been graded by these very tests."""
    try:
        content = student.read()
    except IntakeError as error:
        content = str(error).encode()
    return book.is_done(student.key, job.digest(plan, content))


if __name__ == "__main__":
    sys.exit(main())
