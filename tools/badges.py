"""Rewrite what all lessons share: the badges cell (Colab, previous, next), the set-up cell, and the link to the next lesson.

The first two name a release of the course: the address is Repository in pyproject.toml, and the tag is the version's. The
set-up cell is tools/setup_cell.py. The link ends the recap. The instructor's version of a homework gets the same.
Usage: python tools/badges.py [--check]
"""

from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

import course

FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # in JupyterLab, and in Colab


def badges(root: Path, path: Path) -> str:
    """Source of a lesson's badges cell."""
    order, place = _order(root, path)
    links = [course.colab(root, order[place])]
    if place > 0:
        links.append(f"[← {_label(order[place - 1])}]({order[place - 1].name})")
    if place + 1 < len(order):
        links.append(f"[{_label(order[place + 1])} →]({order[place + 1].name})")
    return "\n&nbsp;".join(links)


def setup(root: Path) -> str:
    """Source of the set-up cell, the same in every lesson."""
    template = Path(__file__).with_name("setup_cell.py").read_text(encoding="utf-8")
    return template.replace("@REPOSITORY@", course.repository(root)).replace("@TAG@", course.TAG).strip()


def recap(root: Path, path: Path, source: str) -> str:
    """Source of the recap cell, which ends with a link to the next lesson; that of the last lesson has none."""
    order, place = _order(root, path)
    source = source.split("\n\n**Next:**")[0].rstrip()
    for following in order[place + 1 :][:1]:
        question = course.question(course.read(following))
        source += f"\n\n**Next:** [{course.number(following)} · {question}]({following.name})"
    return source


def refreshed(root: Path, path: Path, notebook: NotebookNode | None = None) -> str:
    """Text of a lesson whose shared parts are as they should be; of the one at ``path``, unless another is given."""
    notebook = notebook or course.read(path)
    wanted = {
        "badges": new_markdown_cell(badges(root, path), id="badges", metadata={"tags": ["badges"]}),
        "setup": new_code_cell(setup(root), id="setup", metadata={**FOLDED, "tags": ["setup"]}),
    }
    for name, cell in wanted.items():
        places = [place for place, old in enumerate(notebook.cells) if course.section(old) == name]
        if len(places) != 1:
            raise SystemExit(f"{path.name} has {len(places)} cells whose first tag is {name!r}; it must have exactly one.")
        notebook.cells[places[0]] = cell
    for cell in course.cells(notebook, "recap")[-1:]:
        cell.source = recap(root, path, cell.source)
    return course.text(notebook)


def _order(root: Path, path: Path) -> tuple[list[Path], int]:
    """The lessons, and the place among them of the one at ``path`` or made from it."""
    lesson = root / "notebooks" / path.name
    order = sorted({*course.lessons(root), lesson})
    return order, order.index(lesson)


def _label(path: Path) -> str:
    return path.stem.replace("_", " ")


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail when a lesson is out of step")
    parser.add_argument("--root", type=Path, default=course.ROOT, help="folder with pyproject.toml and notebooks/")
    options = parser.parse_args()
    paths = [*course.lessons(options.root), *course.homework_sources(options.root)]
    course.keep_in_step({path: refreshed(options.root, path) for path in paths}, "make badges", options.check)


if __name__ == "__main__":
    main()
