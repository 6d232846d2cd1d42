"""As in Colab: no clone, only the built wheel, and a notebook in an empty folder. And the grader, a wheel of its own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

import course
from tests.homework import toy
from tests.homework.conftest import bubblewrap, make_course  # noqa: F401 - a fixture
from tests.lessons.running import complaints, execute

ROOT = course.ROOT
ORIGIN = """
import course_utils
from course_utils.data import BUNDLED_DIR
print(course_utils.__file__)
print(BUNDLED_DIR)
""".strip()


KERNEL = """
import sys
from pathlib import Path
import course_utils
from course_grade import sandbox
print(course_utils.__file__)
print(sandbox.__file__)
spec = sandbox.manager(Path(sys.argv[1])).kernel_spec
print(spec.argv[2].format(resource_dir=spec.resource_dir))
for shown in sandbox.files():
    if "=>" in shown:
        print(shown.partition("=>")[0])
""".strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The students' wheel."""
    return built(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    """The instructors' wheel."""
    return built(ROOT / "homework", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def both(wheel, grader, tmp_path_factory):
    """A folder with both wheels, as an instructor without a clone has them."""
    site = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel, grader)
    return site


def built(project, folder):
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project)
    (path,) = folder.iterdir()
    assert path.suffix == ".whl"
    return path


def python(*arguments, **environment):
    return run(sys.executable, *arguments, **environment)


def run(*command, **environment):
    """Run a command that must end well; what it printed."""
    variables = os.environ | environment
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def members_of(wheel):
    """Sizes of a wheel's files by name, without what describes the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist() if ".dist-info/" not in info.filename}


def test_the_wheel_holds_the_package_and_the_data_and_is_small(wheel):
    assert wheel.stat().st_size < 7_000_000
    members = members_of(wheel)
    modules = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in (ROOT / "course_utils").rglob("*.py")}
    assert modules.keys() >= {"course_utils/__init__.py", "course_utils/train.py"}
    assert modules.items() <= members.items()
    data = [*(ROOT / "data").glob("*.npz"), ROOT / "data" / "manifest.json"]
    assert len(data) >= 4
    assert {f"course_utils/_data/{path.name}": path.stat().st_size for path in data}.items() <= members.items()
    assert {name.split("/")[0] for name in members} == {"course_utils"}
    assert not [name for name in members if name.endswith(".ipynb")]


def test_the_graders_wheel_holds_its_package_and_no_homework(grader):
    folder = ROOT / "homework"
    package = [*(folder / "course_grade").rglob("*.py"), *(folder / "course_grade").rglob("*.json")]
    expected = {path.relative_to(folder).as_posix(): path.stat().st_size for path in package}
    assert {f"course_grade/kernels/sandbox/{name}" for name in ("kernel.json", "launch.py", "warm.py")} <= expected.keys()
    assert members_of(grader) == expected


def test_the_grader_finds_all_it_needs_in_the_two_wheels(both, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(both / "bin" / "course-grade", "--help", PYTHONPATH=str(both)).startswith("usage: course-grade")
    places = python("-c", KERNEL, tmp_path, PYTHONPATH=str(both)).splitlines()
    names = ("course_utils/__init__.py", "course_grade/sandbox.py", "course_grade/kernels/sandbox/launch.py")
    shown = ("course_grade/probe.py", "course_grade/values.py")  # all that a kernel sees of the grader
    assert places == [str(both / name) for name in (*names, *shown)]
    assert all(Path(place).is_file() for place in places)


def test_a_class_is_graded_by_the_two_wheels_alone(both, tmp_path, monkeypatch, bubblewrap):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    pair = make_course(tmp_path / "class", ada=toy.RIGHT, bob=toy.HALF)
    pair.grade(PYTHONPATH=str(both))
    assert pair.table["total"].to_dict() == {"ada": "6", "bob": "4"}


def test_lesson_00_runs_in_an_empty_folder_with_nothing_but_the_wheel(wheel, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    lesson = course.read(course.lessons()[0])
    lesson.cells.append(new_code_cell(ORIGIN, id="origin", metadata={"tags": ["recap"]}))
    executed = execute(lesson, folder, PYTHONPATH=str(site))
    # A kernel may send two lines in two messages.
    package, data = "".join(output.get("text", "") for output in executed.cells[-1].outputs).split()
    assert package == str(site / "course_utils" / "__init__.py")
    assert data == str(site / "course_utils" / "_data")
    assert list(folder.iterdir()) == []
    assert complaints(executed) == []
