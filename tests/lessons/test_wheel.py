"""As in Colab: no clone, only the built wheel, and a notebook in an empty folder."""

import subprocess
import sys
import zipfile

import pytest
from nbformat.v4 import new_code_cell

import course
from tests.lessons.running import complaints, execute, text

ROOT = course.ROOT
ORIGIN = """
import course_utils
from course_utils.data import BUNDLED_DIR
print(course_utils.__file__)
print(BUNDLED_DIR)
""".strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


def python(*arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_the_data_and_is_small(wheel):
    assert wheel.suffix == ".whl"
    assert wheel.stat().st_size < 7_000_000
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.getinfo(name).file_size for name in archive.namelist()}
    modules = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in (ROOT / "course_utils").rglob("*.py")}
    assert modules.keys() >= {"course_utils/__init__.py", "course_utils/train.py"}
    assert modules.items() <= members.items()
    data = [*(ROOT / "data").glob("*.npz"), ROOT / "data" / "manifest.json"]
    assert len(data) >= 4
    assert {f"course_utils/_data/{path.name}": path.stat().st_size for path in data}.items() <= members.items()
    folders = {name.split("/")[0] for name in members}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"course_utils", "course_grade"}
    grading = {name for name in members if name.startswith("course_grade/")}
    kernel = {f"course_grade/kernels/sandbox/{name}" for name in ("kernel.json", "launch.py", "warm.py")}
    assert grading >= {"course_grade/cli.py", *kernel}
    assert not [name for name in members if name.endswith(".ipynb")]


def test_lesson_00_runs_in_an_empty_folder_with_nothing_but_the_wheel(wheel, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    lesson = course.read(course.lessons()[0])
    lesson.cells.append(new_code_cell(ORIGIN, id="origin", metadata={"tags": ["recap"]}))
    executed = execute(lesson, folder, PYTHONPATH=str(site))
    package, data = text(executed.cells[-1].outputs[0]).split()
    assert package == str(site / "course_utils" / "__init__.py")
    assert data == str(site / "course_utils" / "_data")
    assert list(folder.iterdir()) == []
    assert complaints(executed) == []
