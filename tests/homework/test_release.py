"""The students' homework is made from the instructor's, tells nothing of it, and its hidden checks see what they are for."""

import json
import re
import subprocess
import sys
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell

import course
import release
from course_grade import score
from course_utils.check import NOT_YET
from tests.homework.answers import POINTS, RIGHT, WRONG
from tests.lessons.running import execute, text

ROOT = course.ROOT
PROBE = ROOT / "homework"
MIME = "application/vnd.course-grade+json"
SOURCES = course.homework_sources()
(SOURCE,) = SOURCES
RELEASE = ROOT / "notebooks" / SOURCE.name
REGION = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)\n\s*### END \1", re.DOTALL)


def by_grade_id(notebook):
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def run(*arguments, tool="release"):
    command = [sys.executable, ROOT / "tools" / f"{tool}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- the release -------------------------------------------------------------------------------------------------------


def test_the_release_is_in_step_byte_for_byte():
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "in step" in done.stdout


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of the course's notebooks and of the instructor's."""
    for path in (SOURCE, *course.lessons(), ROOT / "pyproject.toml"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


def test_a_changed_source_is_noticed_and_released_again(elsewhere):
    source, target = (elsewhere / path.relative_to(ROOT) for path in (SOURCE, RELEASE))
    changed = source.read_text(encoding="utf-8").replace("so that a result can be repeated", "for a reason")
    source.write_text(changed, encoding="utf-8")
    done = run("--check", "--root", elsewhere)
    assert done.returncode == 1
    assert f"{RELEASE.name}: out of step, run `make release`" in done.stdout
    assert target.read_bytes() == RELEASE.read_bytes()
    target.unlink()
    assert run("--root", elsewhere).returncode == 0
    first = target.read_bytes()
    assert b"for a reason" in first
    assert run("--root", elsewhere).returncode == 0
    assert target.read_bytes() == first


def test_badges_and_release_agree_after_the_course_has_moved(elsewhere):
    project = elsewhere / "pyproject.toml"
    text = project.read_text(encoding="utf-8").replace(course.repository(), "https://github.com/a-school/a-course")
    project.write_text(text, encoding="utf-8")
    assert run("--check", "--root", elsewhere).returncode == 1
    assert run("--root", elsewhere, tool="badges").returncode == 0
    assert run("--check", "--root", elsewhere).returncode == 0
    assert run("--check", "--root", elsewhere, tool="badges").returncode == 0
    for path in (SOURCE, RELEASE):
        moved = (elsewhere / path.relative_to(ROOT)).read_text(encoding="utf-8")
        assert "git+https://github.com/a-school/a-course" in moved
        assert course.repository() not in moved


def secrets():
    """Lines of solutions and hidden tests, by `grade_id`, without those that the release shows on purpose."""
    for name, cell in by_grade_id(course.read(SOURCE)).items():
        regions = [found[2] for found in REGION.finditer(cell.source)]
        if cell.metadata.nbgrader.solution and not regions:
            regions = [cell.source]
        shown = found[1] if (found := release.RELEASE.search(cell.source)) else ""
        public = {line.removeprefix("#").strip() for line in shown.splitlines()}
        lines = {line.strip() for region in regions for line in region.splitlines()} - public
        if regions:
            yield name, {line for line in lines if len(line) > 3}


SECRETS = dict(secrets())
# Imports and other words of one line that any notebook may hold.
COMMON = {"import numpy as np", "import torch", "from torch import nn", "rows = {}"}


def test_the_source_has_secrets():
    assert set(POINTS) <= set(SECRETS)
    assert {"mixup-data", "mixup-criterion", "label-smoothing", "training-loop"} <= set(SECRETS)
    assert {"learning-curves", "reliability-diagram", "explanation", "bonus"} <= set(SECRETS)
    assert {"optimizer.zero_grad()", "model.eval()"} <= SECRETS["training-loop"]
    assert all(lines - COMMON for lines in SECRETS.values())


@pytest.mark.parametrize("name", SECRETS)
def test_the_release_holds_no_line_of_a_solution_or_a_hidden_test(name):
    lines = {line.strip() for cell in course.read(RELEASE).cells for line in cell.source.splitlines()}
    assert SECRETS[name] & lines <= COMMON
    assert "BEGIN" not in RELEASE.read_text(encoding="utf-8")
    assert "course_grade" not in RELEASE.read_text(encoding="utf-8")


def test_nothing_else_that_students_get_holds_a_solution_or_a_hidden_test(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        words = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith((".py", ".json", "METADATA"))]
    for path in course.lessons():
        words += [cell.source for cell in course.read(path).cells]
    lines = {line.strip() for word in words for line in word.splitlines()}
    assert len(lines) > 5000
    # Shorter ones, such as `model.eval()`, any training code has.
    secret = {line for lines in SECRETS.values() for line in lines if len(line) > 40}
    assert len(secret) > 50
    assert secret & lines == set()


def test_the_release_differs_from_the_source_in_answers_and_tests_alone():
    source, students = course.read(SOURCE), course.read(RELEASE)
    assert [cell.id for cell in source.cells] == [cell.id for cell in students.cells]
    for old, new in zip(source.cells, students.cells, strict=True):
        facts = new.metadata.get("nbgrader", {})
        if old.source != new.source:
            assert facts["solution"] or facts["grade"], new.id
        if facts.get("solution"):
            assert (new.metadata.deletable, new.metadata.get("editable", True)) == (False, True)
        elif facts:
            assert (new.metadata.deletable, new.metadata.editable) == (False, False)
        assert {key: value for key, value in facts.items() if key not in ("checksum", "cell_type")} == old.metadata.get(
            "nbgrader", {}
        )


def test_points_in_the_text_are_those_of_the_grader():
    students = course.read(RELEASE)
    overview = next(cell.source for cell in students.cells if "| part |" in cell.source)
    listed = re.findall(r"^\| \d\w? \| .+? \| (\w+) \|", overview, re.MULTILINE)
    total = int(re.search(r"\*\*together\*\* \| \*\*(\d+)\*\*", overview)[1])
    stated, graded = [], []
    for cell in students.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"\*\*[^*]+\((\d+) points\b.*?\)", cell.source)):
            stated.append(int(found[1]))
            rubric = [int(points) for points in re.findall(r"^\| (\d) \|", cell.source, re.MULTILINE)]
            assert sum(rubric) in (0, stated[-1]), cell.id
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.metadata.nbgrader.grade_id != "bonus":
            graded.append(cell.metadata.nbgrader.points)
            assert len(stated) == len(graded), cell.id  # each graded cell stands below its own points
    assert stated == graded == [int(points) for points in listed if points != "extra"]
    assert sum(graded) == total
    cells = by_grade_id(students)
    assert {name: cells[name].metadata.nbgrader.points for name in POINTS} == POINTS
    # What goes beyond the total is given as nbgrader's extra credit.
    assert cells["bonus"].metadata.nbgrader.points == 0


def test_an_answer_released_as_code_to_repair_is_that_code():
    cell = nbformat.v4.new_code_cell(
        "### BEGIN SOLUTION\nright = 1\n### END SOLUTION\n### BEGIN RELEASE\n# wrong = 2\n#\n#     # why\n### END RELEASE",
        metadata={"nbgrader": by_grade_id(course.read(SOURCE))["training-loop"].metadata.nbgrader},
    )
    (found,) = release.released(nbformat.v4.new_notebook(cells=[cell])).cells
    assert found.source == "wrong = 2\n\n    # why"


def test_the_course_lists_the_homework():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"](notebooks/{RELEASE.name})" in readme
    before = course.read(course.lessons()[-2])
    assert f"]({RELEASE.name})" in course.cells(before, "recap")[-1].source


# --- the hidden checks -------------------------------------------------------------------------------------------------


def test_the_solution_runs_and_every_hint_accepts_it():
    executed = execute(course.read(SOURCE), RELEASE.parent, PYTHONPATH=str(PROBE))
    cells = by_grade_id(executed)
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", (cell.id, output.text)
            assert NOT_YET not in text(output), cell.id
    for name in POINTS:
        assert "✓" in text(cells[name].outputs[0]), name
    for name in ("learning-curves", "reliability-diagram"):
        assert any("image/png" in output.get("data", {}) for output in cells[name].outputs)


@pytest.fixture(scope="module")
def emitted():
    """What the hidden tests send for each answer: {answer: {test: {check: message}}}, all from one kernel."""
    source, students = (by_grade_id(course.read(path)) for path in (SOURCE, RELEASE))
    answers = {"the solution": {}, "the untouched release": {name: students[name].source for name in source}}
    answers |= {f"right: {name}": changed for name, changed in RIGHT.items()}
    answers |= {f"wrong: {name}": changed for name, (changed, _) in WRONG.items()}
    notebook = course.read(SOURCE)
    kept = {"setup", "budget", source["world"].id, source["draw"].id}
    notebook.cells = [cell for cell in notebook.cells if cell.id in kept]
    places = {}
    for number, (answer, changed) in enumerate(answers.items()):
        for test in POINTS:
            name = test.removeprefix("test-")
            cells = [changed.get(name, source[name].source), source[test].source]
            for kind, code in zip(("answer", "test"), cells, strict=True):
                notebook.cells.append(new_code_cell(code, id=f"{kind}-{number}-{name}"))
            places[answer, test] = notebook.cells[-1]
    execute(notebook, RELEASE.parent, PYTHONPATH=str(PROBE), COURSE_GRADE_SEED="20261121")
    found = {}
    for (answer, test), cell in places.items():
        messages = [output.data[MIME] for output in cell.outputs if MIME in output.get("data", {})]
        found.setdefault(answer, {})[test] = {message["name"]: message for message in messages}
    return found


def points(emitted, answer):
    """Points in each test, by the comparison that grades."""
    solution = emitted["the solution"]
    return {
        test: score.score(solution[test], list(messages.values()), POINTS[test], secret="")[0]
        for test, messages in emitted[answer].items()
    }


def test_the_solution_earns_all_points_and_the_untouched_release_none(emitted):
    assert points(emitted, "the solution") == POINTS
    assert points(emitted, "the untouched release") == dict.fromkeys(POINTS, 0)
    assert not [message for checks in emitted["the solution"].values() for message in checks.values() if "error" in message]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_earns_all_points_in_whatever_words(emitted, name):
    assert points(emitted, f"right: {name}") == POINTS


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_earns_what_is_right_in_it(emitted, name):
    assert points(emitted, f"wrong: {name}") == WRONG[name][1]


def test_checks_have_names_of_their_own_and_few_values(emitted):
    for test, messages in emitted["the solution"].items():
        assert len(messages) == POINTS[test]
        assert all(len(json.dumps(message)) < 10_000 for message in messages.values())


def test_every_value_changes_with_the_seed(emitted):
    source = by_grade_id(course.read(SOURCE))
    notebook = course.read(SOURCE)
    answers = {name for test in POINTS for name in (test, test.removeprefix("test-"))}
    kept = {"setup", "budget", *(source[name].id for name in ("world", "draw", *answers))}
    notebook.cells = [cell for cell in notebook.cells if cell.id in kept]
    execute(notebook, RELEASE.parent, PYTHONPATH=str(PROBE), COURSE_GRADE_SEED="20261122")
    cells = by_grade_id(notebook)
    for test, messages in emitted["the solution"].items():
        again = [output.data[MIME] for output in cells[test].outputs if MIME in output.get("data", {})]
        assert [message["name"] for message in again] == list(messages)
        assert not [message["name"] for message in again if score.same(message, messages[message["name"]])]
