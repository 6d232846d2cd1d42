"""What was handed out, and what is asked: the released notebook, and the instructor's with solutions and hidden tests."""

import glob
import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.preprocessors import ClearHiddenTests

from course_grade.errors import AssignmentError


@dataclass(frozen=True)
class Assignment:
    """An assignment of one notebook."""

    name: str
    source: NotebookNode  # with solutions and hidden tests
    release: NotebookNode
    translations: tuple[NotebookNode, ...] = ()  # of the release: the same cells, with other prose

    @classmethod
    def read(cls, source: Path, release: Path) -> "Assignment":
        """Read both notebooks and check that they belong together.

        Translations of the release are those of the same name in folders beside it, such as ``ko/``.

        Raises:
            AssignmentError: one is missing or no notebook, or their graded cells are not the same.
        """
        notebooks = []
        for path in (source, release):
            try:
                notebooks.append(nbformat.read(path, as_version=4))
            except FileNotFoundError:
                raise AssignmentError(f"{path} is missing.") from None
            except Exception as error:
                raise AssignmentError(f"{path} is no notebook: {error}") from error
        beside = sorted(release.parent.glob(f"*/{glob.escape(release.name)}"))
        ours, released = notebooks
        translations = tuple(notebook for path in beside if (notebook := _readable(path)) is not None)
        made = cls(source.stem, ours, released, translations)
        if differ := _out_of_step(made.source, made.release):
            raise AssignmentError(f"{release} is not what {source} releases ({', '.join(differ)}): run `make release`.")
        if not made.tests:
            raise AssignmentError(f"{source.name} has no autograded cell (grade, not solution).")
        return made

    @staticmethod
    def cells(notebook: NotebookNode) -> dict[str, NotebookNode]:
        """Cells with a grade_id, in their order."""
        found = {}
        for cell in notebook.cells:
            name = grade_id(cell)
            if name is not None:
                if name in found:
                    raise AssignmentError(f"two cells have the grade_id {name}.")
                found[name] = cell
        return found

    @property
    def graded(self) -> dict[str, float]:
        """Points of each graded cell."""
        cells = self.cells(self.release).items()
        return {
            name: float(cell.metadata.nbgrader.points) for name, cell in cells if utils.is_grade(cell) or utils.is_task(cell)
        }

    @property
    def tests(self) -> dict[str, str]:
        """Source of each autograded cell, hidden tests included."""
        return {
            name: cell.source
            for name, cell in self.cells(self.source).items()
            if cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell)
        }

    @property
    def answers(self) -> dict[str, NotebookNode]:
        """Released cells that students fill in."""
        cells = self.cells(self.release).items()
        return {name: cell for name, cell in cells if utils.is_solution(cell) or utils.is_task(cell)}

    @property
    def translated(self) -> dict[str, str]:
        """Prose of the release by its translations; where two cells share one, it is left out."""
        ours = {cell.id: cell.source for cell in self.release.cells if cell.cell_type == "markdown"}
        found: dict[str, set[str]] = {}
        for notebook in self.translations:
            for cell in notebook.cells:
                if cell.cell_type == "markdown" and cell.id in ours:
                    found.setdefault(plain(cell.source), set()).add(ours[cell.id])
        return {text: sources.pop() for text, sources in found.items() if len(sources) == 1}

    @property
    def digest(self) -> str:
        """Changes when the release, a solution or a test changes."""
        text = json.dumps([self.source, self.release], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _readable(path: Path) -> NotebookNode | None:
    """A notebook; ``None`` where there is none, for a folder beside the release may hold anything."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception:
        return None


def plain(source: str) -> str:
    """A source without what editors change unasked: ends of lines, blanks before them, empty lines around."""
    return "\n".join(line.rstrip() for line in source.splitlines()).strip("\n")


def grade_id(cell: NotebookNode) -> str | None:
    """The name that nbgrader knows a cell by; None if it has none."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _out_of_step(source: NotebookNode, release: NotebookNode) -> list[str]:
    """Cells that were not released as they are now; what stands for a solution is not compared."""
    stripped, _ = ClearHiddenTests()(deepcopy(source), {})
    ours, theirs = (
        {cell.id: (cell.metadata.get("nbgrader", {}), cell) for cell in notebook.cells} for notebook in (stripped, release)
    )
    differ = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        (about, cell), (about_then, cell_then) = ours[name], theirs[name]
        keys = ("grade_id", "grade", "solution", "task", "points")
        same = all(about.get(key) == about_then.get(key) for key in keys) and cell.cell_type == cell_then.cell_type
        if not same or not (utils.is_solution(cell) or cell.source.strip() == cell_then.source.strip()):
            differ.append(about.get("grade_id") or name)
    return differ
