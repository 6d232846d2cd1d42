"""What the command refuses, and how it says so; names of all kinds; who hands in late, and who not at all."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.homework import toy
from tests.homework.conftest import Run, hand_in, make_course


@pytest.fixture
def refused(course, capsys):
    """Run the command on a course that something is wrong with; what it says."""
    hand_in(course, "ada", toy.answered())

    def refuse(*more: str) -> str:
        assert course.main(*more) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("course-grade: ")
        assert "Traceback" not in said.err
        assert not (course.out / "autograded").exists()
        assert not (course.out / "grades.csv").exists()
        return said.err

    return refuse


def edit(path: Path, name: str, source: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    toy.cell(notebook, name).source = source
    nbformat.write(notebook, path)


# --- refused -------------------------------------------------------------------------------------------------------------


def test_an_inbox_that_is_missing(course, refused):
    course.inbox = course.inbox.with_name("nowhere")
    assert f"{course.inbox} is no folder" in refused()


def test_an_inbox_that_is_empty(course, refused):
    (course.inbox / "ada.ipynb").rename(course.inbox / "ada.txt")
    assert f"{course.inbox} holds no <student>.ipynb" in refused()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("c = get_config(\n", "SyntaxError"),
        (toy.CONFIG + "raise RuntimeError('not today')", "not today"),
        (toy.CONFIG + "c.SandboxExecute.timeout = 'soon'", "timeout"),
        (toy.CONFIG + "c.SandboxExecute.limit = {}", "limit"),
        (toy.CONFIG.replace('"toy"', "7"), "assignment"),
        (toy.CONFIG.replace('"toy"', '"tow"'), "tow.ipynb is missing"),
    ],
)
def test_settings_that_are_broken(course, refused, config, words):
    (course.course / "nbgrader_config.py").write_text(config)
    assert words in refused()


def test_settings_that_are_missing(course, refused):
    (course.course / "nbgrader_config.py").unlink()
    assert "nbgrader_config.py is missing" in refused()


@pytest.mark.parametrize("which", ["source/toy", "release"])
@pytest.mark.parametrize(("content", "words"), [(None, "is missing"), ("{", "is no notebook"), ("[]", "is no notebook")])
def test_a_notebook_of_ours_that_is_missing_or_broken(course, refused, which, content, words):
    path = course.course / which / "toy.ipynb"
    path.unlink() if content is None else path.write_text(content)
    said = refused()
    assert str(path) in said
    assert words in said


def test_source_and_release_that_are_out_of_step(course, refused):
    path = course.course / "source" / "toy" / "toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    toy.cell(notebook, "test-total").metadata.nbgrader.grade_id = "test-sum"
    nbformat.write(notebook, path)
    assert "run `make release`" in refused()


def test_points_that_differ_between_source_and_release(course, refused):
    path = course.course / "source" / "toy" / "toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    toy.cell(notebook, "test-total").metadata.nbgrader.points = 20
    nbformat.write(notebook, path)
    assert "run `make release`" in refused()


def test_a_given_cell_that_differs_between_source_and_release(course, refused):
    edit(course.course / "source" / "toy" / "toy.ipynb", "given", "given = 3")
    assert "run `make release`" in refused()


@pytest.mark.parametrize(
    ("cell", "source", "words"),
    [
        ("total", "def total(numbers):\n    return 1 / 0", "ZeroDivisionError"),
        ("test-total", "from course_grade.probe import emit\nemit('x', lambda: 1)\nassert False", "AssertionError"),
        ("test-total", "print('nothing')", "it emits nothing"),
    ],
)
def test_a_solution_that_fails_its_own_tests(course, refused, cell, source, words):
    if cell == "test-total":
        source = f"### BEGIN HIDDEN TESTS\n{source}\n### END HIDDEN TESTS"
    edit(course.course / "source" / "toy" / "toy.ipynb", cell, source)
    said = refused()
    assert "test-total" in said
    assert words in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("--roster", None, "cannot be read"),
        ("--roster", "name,mail\nada,x\n", "student"),
        ("--timestamps", "student\nada\n", "timestamp"),
        ("--timestamps", "student,timestamp\nada,yesterday noon\n", "yesterday"),
        ("--roster", "student\n../ada\n", "../ada"),
        ("--roster", "student\n<b>ada\n", "<b>ada"),
    ],
)
def test_lists_that_cannot_be_used(course, refused, tmp_path, name, content, words):
    path = tmp_path / "list.csv"
    if content:
        path.write_text(content)
    assert words in refused(name, str(path))


def test_a_due_time_that_is_none(refused):
    assert "some day" in refused("--due", "some day")


def test_a_number_of_jobs_below_zero(refused):
    assert "--jobs" in refused("--jobs", "-1")


def test_unknown_words_show_the_usage(course, capsys):
    with pytest.raises(SystemExit) as ended:
        course.main("--sandboxless")
    assert ended.value.code == 2
    assert "usage: course-grade" in capsys.readouterr().err


# --- without bubblewrap --------------------------------------------------------------------------------------------------


def without_bubblewrap() -> str:
    return str(Path(sys.executable).parent)


def test_without_bubblewrap_nothing_is_graded(course):
    hand_in(course, "ada", toy.answered())
    done = course.grade(status=2, PATH=without_bubblewrap())
    assert "apt install bubblewrap" in done.stderr
    assert "Traceback" not in done.stderr
    assert not course.out.exists()


def test_trusted_notebooks_are_graded_without_bubblewrap_when_told_so_in_so_many_words(course):
    hand_in(course, "ada", toy.answered("import getpass\n" + toy.RIGHT))
    flag = "--trust-all-notebooks-and-run-them-without-sandbox"
    done = course.grade(flag, PATH=without_bubblewrap())
    assert "WITHOUT SANDBOX" in done.stderr
    assert course.table.loc["ada", list(toy.POINTS)].to_dict() == toy.POINTS


# --- a class with odd names, late and absent students ------------------------------------------------------------------------

LATE = """
from datetime import timedelta
from nbgrader.plugins import BasePlugin

class HalfAfterTheDueTime(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return score / 2 if total_seconds_late > 0 else None

c.AssignLatePenalties.plugin_class = HalfAfterTheDueTime
"""
NAMES = [
    "김민준",
    "=cmd()",
    "kim, min jun",
    "kim min",
    "-1+1",
    "@sum",
    "O'Brien",
    '<b>"bold" & \\',
    "50% off",
    "a.b",
    "이서연 (재수강)",
]
ABSENT = ["박지호", "nobody"]
NOT_LISTED = "this name is not on the roster"


@pytest.fixture(scope="module")
def class_run(tmp_path_factory, bubblewrap) -> Run:
    folder = tmp_path_factory.mktemp("names")
    run = make_course(folder, **dict.fromkeys(NAMES, toy.RIGHT), late=toy.RIGHT, in_time=toy.RIGHT, hidden=toy.RIGHT)
    (run.inbox / "hidden.ipynb").rename(run.inbox / ".hidden.ipynb")
    (run.course / "nbgrader_config.py").write_text(toy.CONFIG + LATE)
    (folder / "roster.csv").write_text(
        "\n".join(["student", *map(kept, NAMES[3:]), *ABSENT, "late", '"kim, min jun"']), encoding="utf-8-sig"
    )
    (folder / "times.csv").write_text(
        "student,timestamp\nlate,2026-12-01 18:00:01 +0900\nin_time,2026-12-01 08:59:00 UTC\nnobody,2026-12-01 20:00 UTC\n"
    )
    lists = ["--roster", str(folder / "roster.csv"), "--timestamps", str(folder / "times.csv")]
    run.options = [*lists, "--due", "2026-12-01 18:00 +0900"]
    run.grade(*run.options)
    return run


def kept(name: str) -> str:
    """A name as a folder and as pages have it: never HTML."""
    return re.sub(r'[<>"&\\]', "_", name)


def spreadsheet(name: str) -> str:
    """A name as the table shows it: never a formula."""
    return f"'{name}" if name[0] in "=+-@" else kept(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_kind(class_run, name):
    row = class_run.table.loc[spreadsheet(name)]
    assert row["total"] == "6"
    assert row["notes"] == (NOT_LISTED if name in NAMES[:2] else "")
    assert (class_run.out / "feedback" / kept(name) / "toy" / "toy.html").is_file()


def test_feedback_lists_graded_cells_by_name(class_run):
    page = class_run.feedback(NAMES[0])
    contents = page[: page.index("</ol>")]
    assert re.findall(r'<a href="#(?!comment)[^"]+">([^<]+)</a>', contents) == ["scale", "total", "picture", "why"]


def test_everybody_has_one_row(class_run):
    everybody = [*map(spreadsheet, NAMES), *ABSENT, "late", "in_time"]
    assert sorted(class_run.table.index) == sorted(everybody)


@pytest.mark.parametrize("name", ABSENT)
def test_who_hands_in_nothing_gets_no_points(class_run, name):
    row = class_run.table.loc[name]
    assert (row["total"], row["to_grade_by_hand"], row["notes"]) == ("0", "", "nothing was handed in")
    assert "nothing was handed in" in class_run.feedback(name)


def test_who_is_not_on_the_roster_is_named(class_run):
    said = next(line for line in class_run.done.stderr.splitlines() if "not on the roster" in line)
    assert said.endswith(": =cmd(), in_time, 김민준")


def test_who_is_late_loses_what_the_plugin_says(class_run):
    late, in_time = (class_run.table.loc[name] for name in ("late", "in_time"))
    assert (late["total"], late["notes"]) == ("3", "late: minus 3")
    assert late[list(toy.POINTS)].to_dict() == toy.POINTS
    assert (in_time["total"], in_time["notes"]) == ("6", NOT_LISTED)


def test_a_time_corrected_later_counts(class_run):
    times = class_run.inbox.parent / "times.csv"
    times.write_text(times.read_text().replace("18:00:01 +0900", "17:59:59 +0900"))
    class_run.grade(*class_run.options)
    assert class_run.table.loc["late", ["total", "notes"]].to_list() == ["6", ""]


def test_a_student_who_hands_in_after_all_is_graded(class_run):
    hand_in(class_run, "nobody", toy.answered())
    class_run.grade(*class_run.options)
    row = class_run.table.loc["nobody"]
    assert (row["total"], row["to_grade_by_hand"]) == ("3", "why")
    assert row["notes"] == "late: minus 3"


def test_help_names_every_option(course, capsys):
    with pytest.raises(SystemExit) as ended:
        course.main("--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for option in ("INBOX", "--out", "--jobs", "--gradebook", "--scheduler", "--roster", "--timestamps", "--due", "--fresh"):
        assert option in said


def test_the_command_is_installed(tmp_path):
    script = Path(sys.executable).with_name("course-grade")
    done = subprocess.run(
        [script, tmp_path / "nowhere", "--out", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nowhere is no folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_notebooks_without_a_roster_are_told(course):
    """On the terminal and in the row, since they may be several students'."""
    (course.inbox / "group").mkdir()
    hand_in(course, "group/bob", toy.answered(toy.WRONG))
    hand_in(course, "group/cho", toy.answered())
    hand_in(course, "late", toy.answered())
    done = course.grade()
    assert "several notebooks, of which one counts: group; if they are several students', give --roster" in done.stderr
    assert "--roster" in course.table.loc["group", "notes"]
    assert course.table.loc["late", "notes"] == ""
