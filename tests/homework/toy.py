"""An assignment small enough to be graded in half a second: two functions, a picture, a sentence."""

from copy import deepcopy
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import course
from release import released

CONFIG = """
c = get_config()
c.CourseDirectory.assignment_id = "toy"
c.SandboxExecute.timeout = 4
c.SandboxExecute.notebook_timeout = 14
c.SandboxExecute.limits = {"memory": 1 << 30, "processes": 64, "disk": 64 << 20}
"""
SCALE = '''def scale(numbers, factor):
    """Each number times a factor."""
    ### BEGIN SOLUTION
    return [factor * number for number in numbers]
    ### END SOLUTION
'''
TEST_SCALE = """print("hint: scale([1, 2], 3) is [3, 6]")
### BEGIN HIDDEN TESTS
import random
from course_grade.probe import emit, seed
hidden_draw = random.Random(seed)
hidden_numbers = [hidden_draw.uniform(-9, 9) for _ in range(5)]
emit("five numbers", lambda: scale(hidden_numbers, 3))
emit("a factor below zero", lambda: scale(hidden_numbers, -2))
### END HIDDEN TESTS
"""
TOTAL = """def total(numbers):
    ### BEGIN SOLUTION
    return sum(numbers)
    ### END SOLUTION
"""
TEST_TOTAL = """### BEGIN HIDDEN TESTS
import random
from course_grade.probe import emit, seed
hidden_numbers = [random.Random(seed + 1).uniform(-9, 9) for _ in range(4)]
emit("a sum", lambda: total(hidden_numbers))
### END HIDDEN TESTS
"""
HIDDEN = [line for line in (TEST_SCALE + TEST_TOTAL).splitlines() if "hidden_" in line or "emit(" in line]
RIGHT = "def scale(numbers, factor):\n    return [number * factor for number in numbers]"
HALF = "def scale(numbers, factor):\n    return [number * abs(factor) for number in numbers]"
WRONG = "def scale(numbers, factor):\n    return list(numbers)"
RIGHT_TOTAL = "def total(numbers):\n    return sum(numbers)"
POINTS = {"test-scale": "4", "test-total": "2"}


def source() -> NotebookNode:
    """The instructor's notebook."""
    cells = [
        new_markdown_cell("# Toy", id="title"),
        new_code_cell("given = 1", id="given"),
        _cell(SCALE, "scale", solution=True),
        _cell(TEST_SCALE, "test-scale", grade=True, locked=True, points=4),
        _cell(TOTAL, "total", solution=True),
        _cell(TEST_TOTAL, "test-total", grade=True, locked=True, points=2),
        _cell("print('a picture')", "picture", solution=True, grade=True, points=1),
        _cell("Because it is so.", "why", solution=True, grade=True, points=3, kind=new_markdown_cell),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


def _cell(text, name, *, kind=new_code_cell, points=None, **flags):
    about = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3, "grade_id": name} | flags
    if points is not None:
        about["points"] = points
    return kind(text, id=name, metadata={"nbgrader": about})


def release() -> NotebookNode:
    """What students get."""
    return released(source())


def write(folder: Path) -> Path:
    """The toy course in a folder, as `course-grade --course` wants it."""
    for name, notebook in (("source/toy", source()), ("release", release())):
        (folder / name).mkdir(parents=True)
        (folder / name / "toy.ipynb").write_text(course.text(notebook), encoding="utf-8")
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    return folder


def cell(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(c for c in notebook.cells if c.id == name)


def answered(scale: str = RIGHT, total: str = RIGHT_TOTAL, why: str = "Since I measured it.") -> NotebookNode:
    """The release with answers."""
    notebook = deepcopy(release())
    for name, text in (("scale", scale), ("total", total), ("why", why)):
        cell(notebook, name).source = text
    return notebook
