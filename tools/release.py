"""Make the students' homework in notebooks/ from the instructor's in homework/source/: no solutions, no hidden tests.

nbgrader's own preprocessors do it, without its database. One step is ours, for code that students repair rather than write: a
solution cell may hold, below its solution, what is released in its place, as comments between `### BEGIN RELEASE` and
`### END RELEASE`. Badges and set-up cell are those of tools/badges.py.
Usage: python tools/release.py [--check]
"""

import re
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
    NbGraderPreprocessor,
)

import badges
import course

# `course_utils.check` takes an answer that raises this for one that was not given yet.
CODE_STUB = 'raise NotImplementedError("your code")'
TEXT_STUB = "*Your answer here, in words.*"
RELEASE = re.compile(r"^### BEGIN RELEASE\n(.*?)\n### END RELEASE$", re.DOTALL | re.MULTILINE)


class ReleaseInstead(NbGraderPreprocessor):
    """Replace a solution cell by the code that it holds as comments, and end each cell where its text ends."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict, cell_index: int) -> tuple[NotebookNode, dict]:
        if found := RELEASE.search(cell.source):
            cell.source = re.sub(r"^# ?", "", found[1], flags=re.MULTILINE)
        cell.source = cell.source.strip()
        return cell, resources


def released(notebook: NotebookNode) -> NotebookNode:
    """What students get of an instructor's notebook."""
    steps = (
        LockCells(),
        ClearSolutions(code_stub={"python": CODE_STUB}, text_stub=TEXT_STUB),
        ClearHiddenTests(),
        ReleaseInstead(),
        ClearOutput(),
        ComputeChecksums(),  # of what students get: an answer with the same checksum was not touched
        CheckCellMetadata(),
    )
    resources: dict = {}
    for step in steps:
        notebook, resources = step(notebook, resources)
    return notebook


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail when a homework is out of step")
    parser.add_argument("--root", type=Path, default=course.ROOT, help="folder with homework/source/ and notebooks/")
    options = parser.parse_args()
    texts = {}
    for source in course.homework_sources(options.root):
        target = options.root / "notebooks" / source.name
        texts[target] = badges.refreshed(options.root, target, released(course.read(source)))
    course.keep_in_step(texts, "make release", options.check)


if __name__ == "__main__":
    main()
