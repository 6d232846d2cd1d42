import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import course_utils

PACKAGE = Path(course_utils.__file__).parent
# From the ground up: a room imports only rooms before it.
FLOORS = [
    "files",
    "valid",
    "runtime",
    "parallel",
    "modes",
    "data",
    "audit",
    "augment",
    "models",
    "techniques",
    "metrics",
    "calibration",
    "detection",
    "precision",
    "batches",
    "history",
    "schedules",
    "checkpoint",
    "train",
    "practical",
    "experiment",
    "plots",
    "equality",
    "check",
    "record",
]
FILES = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in FILES if path.name != "__init__.py"]


def rooms_imported_by(path):
    """Rooms named in any import of a file, also in those inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("course_utils.")}
    return found


def test_every_file_belongs_to_a_room():
    assert set(FILES.values()) - {"__init__"} <= set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path):
    room = FILES[path]
    below = FLOORS[: FLOORS.index(room)] if room in FLOORS else []
    own = [room] if path.parent != PACKAGE else []  # files of a folder may use each other
    assert rooms_imported_by(path) <= {*below, *own}


def private_uses(text):
    """Where a file uses a name with an underscore that belongs to another file of ours: ``line: name``."""
    ours, found = {}, []
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN:
            found += [f"{node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name)]
            ours |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Import):
            ours |= {
                (alias.asname or alias.name).split(".")[0]: node for alias in node.names if alias.name.split(".")[0] in OWN
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            while isinstance(owner, (ast.Attribute, ast.Call)):
                owner = owner.func if isinstance(owner, ast.Call) else owner.value
            if isinstance(owner, ast.Name) and owner.id in ours:
                found.append(f"{node.lineno}: {node.attr}")
    return found


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


# Top names of modules of ours: the packages, and what stands in folders of programs, which import each other by file name.
ROOT = PACKAGE.parent
PROGRAMS = [path for folder in ("tools", "benchmarks", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
OWN = {"course_utils", "course_grade", "tools", "benchmarks", *(path.stem for path in PROGRAMS)}
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", [*FILES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_private_is_used_from_outside_its_file(path):
    assert private_uses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_lesson_uses_what_is_private(path):
    cells = nbformat.read(path, as_version=4).cells
    assert private_uses("\n".join(cell.source for cell in cells if cell.cell_type == "code")) == []


@pytest.mark.parametrize(
    "text",
    [
        "from course_utils.data import _read",
        "from course_utils import data as d\nd._read()",
        "import course_utils.data\ncourse_utils.data._read()",
        "from course_utils.train import Run\nRun(1)._load()",
        "import claims\nclaims.main._x",
    ],
)
def test_private_uses_are_found(text):
    assert len(private_uses(text)) == 1


def test_private_names_of_other_libraries_and_of_the_file_itself_are_its_own_business():
    assert private_uses("import torch\nfrom course_utils import data\ntorch._C\ndata.__doc__\nself._x\n_y = data.read()") == []


def test_the_package_docstring_names_the_rooms_in_their_order():
    named = [room for room in FLOORS if f"``{room}``" in course_utils.__doc__]
    assert set(named) == set(FILES.values()) - {"__init__"}
    assert sorted(named, key=lambda room: course_utils.__doc__.index(f"``{room}``")) == named


IMPORT = """
import sys

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"network at import: {{event}} {{arguments}}")

sys.addaudithook(no_network)
import course_utils
print(*sorted(name for name in sys.modules if name.startswith("course_utils.")), file=sys.stderr)
import {rooms}
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""


def test_a_fresh_import_is_light_and_offline():
    rooms = [name for name in MODULES if name != "plots"]
    script = IMPORT.format(rooms=", ".join(f"course_utils.{room}" for room in rooms))
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == ""  # the package alone imports no room
    loaded = set(done.stdout.split())
    assert {"course_utils", "torch", "numpy"} <= loaded
    assert not loaded & {"matplotlib", "seaborn", "pandas", "sklearn", "scipy", "torchvision", "IPython"}


def public_members():
    """Every public class, function, method and property that the package itself defines, and what makes its objects."""
    for name in MODULES:
        module = importlib.import_module(f"course_utils.{name}")
        for label, thing in vars(module).items():
            if label.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield f"{name}.{label}", thing
            for part, method in vars(thing).items() if inspect.isclass(thing) else ():
                method = getattr(method, "fget", getattr(method, "func", method))  # of a property, of a cached one
                if inspect.isfunction(method) and (not part.startswith("_") or part == "__init__"):
                    yield f"{name}.{label}.{part}", method


PUBLIC = dict(public_members())


def test_the_public_members_are_found():
    expected = {
        "train.fit",
        "history.History.frame",
        "data.Dataset.mean",
        "data.TensorLoader.__init__",
        "models.ResNet18.forward",
    }
    assert expected <= set(PUBLIC)


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.endswith("__init__")])
def test_public_members_have_a_docstring(name):
    doc = inspect.getdoc(PUBLIC[name])  # an overridden method may have its parent's
    assert doc
    assert not doc.startswith(f"{PUBLIC[name].__name__}("), "that is the signature which dataclasses write by themselves"


@pytest.mark.parametrize("name", [name for name, member in PUBLIC.items() if inspect.isfunction(member)])
def test_public_functions_are_annotated(name):
    signature = inspect.signature(PUBLIC[name])
    bare = [label for label, it in signature.parameters.items() if it.annotation is it.empty and label not in ("self", "cls")]
    assert bare == []
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "cpu")  # as a reader runs them
    module = importlib.import_module(f"course_utils.{name}")
    assert doctest.testmod(module).failed == 0
