"""The grader's modules stand on each other in the order that the package's docstring tells."""

import ast
import re
from pathlib import Path

import pytest

import course_grade
from course_grade import sandbox

PACKAGE = Path(course_grade.__file__).parent
# From the ground up: a module imports only modules before it.
FLOORS = re.findall(r"^- ``(\w+)``: \S.*\.$", course_grade.__doc__, re.MULTILINE)
FILES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
MODULES = [name for name in FILES if name != "__init__"]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imported_by(name):
    """Full names of what a module imports from this package, also within functions."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the module"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            continue
        yield from (full for full in found if full.split(".")[0] == "course_grade")


def test_the_docstring_has_a_sentence_for_each_module():
    assert sorted(FLOORS) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_modules_below_it(name):
    below = FLOORS[: FLOORS.index(name)]
    assert {full.split(".")[1] for full in imported_by(name)} <= set(below)


def test_a_kernel_is_shown_all_that_it_imports_of_the_package():
    shown = [name.removesuffix(".py") for name in sandbox.INSIDE]
    assert "probe" in shown
    assert {full.split(".")[1] for name in shown for full in imported_by(name)} <= set(shown)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_private_is_used_from_outside(name):
    assert not [full for full in imported_by(name) if full.rpartition(".")[2].startswith("_")]
    taken = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr)]
    assert not [ast.unparse(node) for node in taken if ast.unparse(node.value) not in ("self", "cls")]


def test_only_patches_changes_other_packages():
    """`nbgrader.api.x = y`, `exporter._x`, `sys.modules[…]`: an attribute of something imported is set in one module only."""
    setters = set()
    for name, tree in TREES.items():
        imported = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in imported:
                    setters.add(name)
    assert setters == {"patches"}
