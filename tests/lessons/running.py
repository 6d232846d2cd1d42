"""Execute a notebook as JupyterLab would, and judge what a reader then sees."""

import os
import re
from pathlib import Path

from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from course_utils.check import NOT_YET

FIGURE = "> **Figure:** "
CHECKS = re.compile(r"\bcheck\.\w+\(")  # a cell that asks for an answer


def execute(notebook: NotebookNode, folder: Path, **environment: str) -> NotebookNode:
    """Run all cells at profile ``ci`` with ``folder`` as the working folder; an error in a cell is raised."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COURSE_")}
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        shutdown_kernel="immediate",
    )
    client.execute(cwd=str(folder), env=kept | {"COURSE_PROFILE": "ci"} | environment)
    return notebook


def complaints(notebook: NotebookNode) -> list[str]:
    """What is wrong with the outputs of an executed lesson; nothing, when nothing is."""
    found = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type != "code":
            continue
        words = "\n".join(text(output) for output in cell.outputs)
        if any(output.get("name") == "stderr" for output in cell.outputs):
            found.append(f"{cell.id}: writes to stderr: {words[:200]}")
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"{cell.id}: ends with an error")
        if "Warning" in words:
            found.append(f"{cell.id}: warns: {words[:200]}")
        if cell.execution_count is None:
            found.append(f"{cell.id}: was not executed")
        described = "alt" in cell.metadata or (after is not None and after.source.startswith(FIGURE))
        pictures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
        if pictures != described:
            found.append(f"{cell.id}: {pictures} pictures, and {'a' if described else 'no'} description")
        solved = "solution" in cell.metadata.tags
        if solved and ("✓" not in words or "✗" in words):
            found.append(f"{cell.id}: the solution is not accepted: {words[:200]}")
        asks = "exercise" in cell.metadata.tags and CHECKS.search(cell.source)
        if asks and not solved and words.strip().split("\n")[-1] != NOT_YET:
            found.append(f"{cell.id}: the untouched stub ends with: {words[-200:]!r}")
    return found


def text(output: NotebookNode) -> str:
    """All that an output says in words; a picture, whose words are only its size, says nothing."""
    data = output.get("data", {})
    if "image/png" in data:
        return ""
    spoken = [output.get("text", ""), *(data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown"))]
    return "\n".join([*spoken, *output.get("traceback", [])])
