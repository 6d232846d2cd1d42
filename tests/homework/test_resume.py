"""A grading run that was killed goes on where it stopped, and a run after a change grades what changed."""

import contextlib
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import nbformat
import pytest
from nbgrader.api import Gradebook

from tests.homework import toy
from tests.homework.conftest import Run, eventually, hand_in, make_class

ANSWERS = dict(zip("abcdefgh", [toy.RIGHT, toy.HALF, toy.WRONG] * 3, strict=False))
EVERYBODY = len(ANSWERS) + 1  # and one whose file cannot be read
CHANGED_TEST = toy.TEST_TOTAL.replace("seed + 1", "seed + 2")


def table_of(run: Run) -> bytes:
    return (run.out / "grades.csv").read_bytes()


def seed_of(run: Run) -> int:
    return json.loads((run.out / "run.json").read_text())["seed"]


def when_graded(run: Run) -> dict[str, int]:
    """For each student whose graded notebook is there, when it was written."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in run.out.glob("autograded/*/toy/toy.ipynb")}


def pages(run: Run) -> list:
    return list(run.out.glob("feedback/*/toy/toy.html"))


@contextlib.contextmanager
def reading(run: Run) -> Iterator[list[str]]:
    """Read the files of a run all the time, as an impatient spreadsheet might; gives what could not be understood."""
    broken, ended = [], threading.Event()

    def read(path, understand: Callable) -> None:
        try:
            understand(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except Exception as error:
            broken.append(f"{path.relative_to(run.out)}: {error!r}"[:300])

    def is_table(text: str) -> None:
        lengths = {len(row) for row in csv.reader(io.StringIO(text), strict=True)}
        assert text.endswith("\n")
        assert lengths == {8}
        assert text.count("\n") == EVERYBODY + 1

    def is_page(text: str) -> None:
        assert "</html>" in text

    def watch() -> None:
        while not ended.wait(0.01):
            read(run.out / "grades.csv", is_table)
            for path in run.out.glob("autograded/*/toy/toy.ipynb"):
                read(path, lambda text: nbformat.validate(nbformat.reads(text, as_version=4)))
            for path in pages(run):
                read(path, is_page)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield broken
    finally:
        ended.set()
        watching.join()


def kill(run: Run, moment: Callable[[], bool], *, whole_group: bool) -> None:
    """Start the command and kill it at a moment, with all of its process group or alone."""
    command = subprocess.Popen(
        run.command("--jobs", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        eventually(lambda: moment() or command.poll() is not None, 90, pause=0.002)
        assert command.poll() is None, f"ended with {command.returncode} before it could be killed"
    finally:
        if whole_group:
            os.killpg(command.pid, signal.SIGKILL)
        else:
            command.kill()
        command.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, bubblewrap) -> Run:
    """A run that nobody killed, one student after the other."""
    run = make_class(tmp_path_factory.mktemp("whole"), ANSWERS)
    run.grade()
    return run


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, whole, traces) -> Run:
    """A run with the same hidden inputs that was killed again and again, and at last was not."""
    run = make_class(tmp_path_factory.mktemp("resumed"), ANSWERS, seed_of=whole)
    start, early, late = random.uniform(0.2, 4), random.randint(2, 4), random.randint(5, 7)
    print(f"killed {start:.2f} s after the start, with {early} and {late} graded, and with a page of feedback")
    begin = time.monotonic()
    moments = [
        (lambda: time.monotonic() > begin + start, True),
        (lambda: len(when_graded(run)) >= early, False),
        (lambda: len(when_graded(run)) >= late, True),
        (lambda: len(pages(run)) >= 1, False),
    ]
    run.times = []
    with reading(run) as run.broken:
        for moment, whole_group in moments:
            kill(run, moment, whole_group=whole_group)
            run.times.append(when_graded(run))
        run.pages_when_killed = len(pages(run))
        run.grade("--jobs", "2")
        run.times.append(when_graded(run))
    return run


def test_the_table_is_that_of_a_run_that_was_not_killed(whole, resumed):
    assert table_of(resumed) == table_of(whole)
    assert len(whole.table) == EVERYBODY
    assert whole.table["total"].to_dict() == {
        **{student: {toy.RIGHT: "6", toy.HALF: "4", toy.WRONG: "2"}[answer] for student, answer in ANSWERS.items()},
        "unreadable": "0",
    }


def test_it_was_killed_in_the_middle(resumed):
    counts = [len(times) for times in resumed.times]
    assert counts == sorted(counts)
    assert 0 < counts[1] < EVERYBODY
    assert counts[1] < counts[2]
    assert 0 < resumed.pages_when_killed < EVERYBODY


def test_nobody_is_graded_twice(resumed):
    for before, after in zip(resumed.times, resumed.times[1:], strict=False):
        assert {student: after[student] for student in before} == before


def test_the_gradebook_and_feedback_are_those_of_a_run_that_was_not_killed(whole, resumed):
    def book(run: Run) -> dict:
        with Gradebook(f"sqlite:///{run.out / 'gradebook.db'}") as book:
            return {
                submission.student.id: sorted((grade.name, grade.score) for grade in submission.notebooks[0].grades)
                for submission in book.assignment_submissions("toy")
            }

    assert book(resumed) == book(whole)
    assert {path.parts[-3] for path in pages(resumed)} == set(whole.table.index)
    for student in whole.table.index:
        shown, expected = (run.feedback(student).rpartition("<!--")[0] for run in (resumed, whole))  # without its fingerprint
        assert shown == expected


def test_no_file_was_seen_half_written(resumed):
    assert resumed.broken == []


def test_nothing_is_left_of_the_killed_runs(resumed, traces):
    assert traces.left() == []


# --- after a change ----------------------------------------------------------------------------------------------------------


def grade_by_hand(run: Run, student: str, points: float, comment: str) -> None:
    with Gradebook(f"sqlite:///{run.out / 'gradebook.db'}") as book:
        grade = book.find_grade("why", "toy", "toy", student)
        grade.manual_score, grade.needs_manual_grade = points, False
        book.find_comment("why", "toy", "toy", student).manual_comment = comment
        book.db.commit()


@pytest.fixture(scope="module")
def changed(whole) -> Run:
    """One class, changed and graded again three times; what was seen after each time."""
    run = make_like(whole)
    grade_by_hand(run, "a", 2.5, "A good reason.")
    grade_by_hand(run, "c", 3, "The best reason.")
    run.seen = [Seen(run)]
    hand_in(run, "b", toy.answered(toy.RIGHT))
    hand_in(run, "c", toy.answered(toy.WRONG, why="Another reason."))
    hand_in(run, "newcomer", toy.answered(toy.RIGHT))
    run.grade()
    run.seen.append(Seen(run))

    source = run.course / "source" / "toy" / "toy.ipynb"
    notebook = nbformat.read(source, as_version=4)
    toy.cell(notebook, "test-total").source = CHANGED_TEST
    nbformat.write(notebook, source)
    run.grade()
    run.seen.append(Seen(run))

    run.grade("--fresh")
    run.seen.append(Seen(run))
    return run


def make_like(run: Run) -> Run:
    """A copy of a run."""
    folder = run.out.parent.with_name("changed")
    shutil.copytree(run.out.parent, folder)
    return Run(folder / "course", folder / "inbox", folder / "out")


class Seen:
    """What was there at one time."""

    def __init__(self, run: Run) -> None:
        self.said = run.done.stdout if run.done else ""
        self.table, self.seed, self.times = run.table, seed_of(run), when_graded(run)
        self.page = run.feedback("a")

    def graded_since(self, before: "Seen") -> set[str]:
        return {student for student, time in self.times.items() if before.times.get(student) != time}


def test_only_a_changed_submission_and_a_new_one_are_graded(changed):
    before, after = changed.seen[:2]
    assert after.graded_since(before) == {"b", "c", "newcomer"}
    assert f"{EVERYBODY + 1} of {EVERYBODY + 1} students graded, 3 of them now" in after.said
    assert after.seed == before.seed
    assert after.table["total"].loc[["b", "newcomer"]].to_list() == ["6", "6"]


def test_after_a_changed_test_everybody_is_graded_again_by_new_inputs(changed):
    before, after = changed.seen[1:3]
    assert after.graded_since(before) == set(after.table.index)
    assert after.seed != before.seed
    assert after.table["total"].to_list() == before.table["total"].to_list()


def test_fresh_grades_everybody_again_by_new_inputs(changed):
    before, after = changed.seen[2:]
    assert after.graded_since(before) == set(after.table.index)
    assert after.seed != before.seed


def test_a_grade_given_by_hand_stays(changed):
    for seen in changed.seen[1:]:
        assert seen.table.loc["a", ["total", "why"]].to_list() == ["8.5", "2.5"]
        assert seen.table.loc["c", ["total", "why"]].to_list() == ["5", "3"]
        assert "A good reason." in seen.page


def test_an_answer_that_changed_after_it_was_graded_by_hand_waits_again(changed):
    assert changed.seen[1].table.loc["c", "to_grade_by_hand"] == "why"


@pytest.mark.parametrize("time", [1, 2, 3])
def test_an_answer_that_did_not_change_does_not_wait_again(changed, time):
    assert changed.seen[time].table.loc["a", "to_grade_by_hand"] == ""
