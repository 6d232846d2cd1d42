"""How easily the code of lessons reads, in numbers: a mirror, no gate. A cell may be long where its idea is.

Counted is what a reader meets open: code cells that are neither folded nor the set-up.
"""

import ast
import statistics

from nbformat import NotebookNode

from lint_anatomy import is_folded
from lint_style import COMPREHENSIONS, tree, written

HEADS = ("cells", "lines", "median", ">12", ">19", "comments", "width", "compr", "**")
LEGEND = """Open code, blank lines not counted. Median: lines a cell. >12, >19: share of cells with more lines. Comments: share
of lines that have one. Width: mean length of a line. Compr, **: comprehensions and calls with **arguments in 100 lines."""
GOALS = ("", "", "≤ 8", "≤ 15%", "0%", "≥ 10%", "≤ 48", "≤ 3", "≤ 0.5")


def of(notebook: NotebookNode) -> tuple[str, ...]:
    """The figures of one lesson, as the table shows them."""
    cells = [cell.source for cell in written(notebook) if not is_folded(cell)]
    blocks = [[line for line in source.splitlines() if line.strip()] for source in cells]
    lines = [line for block in blocks for line in block]
    if not lines:
        return ("0", "0", *["–"] * (len(HEADS) - 2))
    found = [node for source in cells for node in ast.walk(tree(source) or ast.Module([], []))]
    comprehensions = sum(isinstance(node, COMPREHENSIONS) for node in found)
    starred = sum(isinstance(node, ast.Call) and any(word.arg is None for word in node.keywords) for node in found)
    commented = sum(line.lstrip().startswith("#") or "  # " in line for line in lines)
    return (
        str(len(blocks)),
        str(len(lines)),
        f"{statistics.median(map(len, blocks)):.0f}",
        f"{sum(len(block) > 12 for block in blocks) / len(blocks):.0%}",
        f"{sum(len(block) > 19 for block in blocks) / len(blocks):.0%}",
        f"{commented / len(lines):.0%}",
        f"{statistics.mean(map(len, lines)):.0f}",
        f"{100 * comprehensions / len(lines):.1f}",
        f"{100 * starred / len(lines):.1f}",
    )


def table(notebooks: dict[str, NotebookNode]) -> str:
    """The figures of all lessons, and the goals in the last row."""
    rows = [("", HEADS), *((name, of(notebook)) for name, notebook in notebooks.items()), ("goal", GOALS)]
    shown = [f"{name:22}" + "".join(f"{value:>9}" for value in values) for name, values in rows]
    return "\n".join([*shown, LEGEND])
