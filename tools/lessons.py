"""Execute lessons in parallel and render each to an HTML page with its outputs, and an index of them.

A lesson that fails does not stop the others; its page shows how far it came. Notebooks are never written back.
Usage: python tools/lessons.py [NOTEBOOK ...] [--profile ci|cpu|gpu] [--jobs N] [--out FOLDER] [--timeout SECONDS]
"""

import argparse
import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import joblib
from jinja2 import Environment, FileSystemLoader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets.config import Config

import notebooks

TEMPLATES = Path(__file__).parent / "templates"
FIGURE = "> **Figure:** "


@dataclass
class Lesson:
    """One notebook and what became of it."""

    path: Path
    notebook: NotebookNode | None = None
    seconds: float = 0.0
    error: str = ""  # last line of the traceback, empty when the lesson ran to its end
    where: str = ""  # the failing cell: its number among the code cells, as in "In [7]", and its id
    done: int = field(default=0, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def question(self) -> str:
        return notebooks.question(self.notebook) if self.notebook else ""

    @property
    def code_cells(self) -> list[NotebookNode]:
        """Cells that will be executed."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code" and cell.source.strip()]

    def read(self) -> None:
        try:
            self.notebook = notebooks.read(self.path)
        except Exception as error:  # whatever is wrong with one file must not stop the other lessons
            self.error = f"not a readable notebook: {type(error).__name__}: {_last_line(error)}"

    async def execute(self, environment: dict[str, str], timeout: int, bar: tqdm) -> None:
        """Run all cells in a kernel of its own, whose folder is the notebook's, as in JupyterLab."""
        for cell in self.code_cells:
            cell.outputs, cell.execution_count = [], None

        def started(cell: NotebookNode, cell_index: int) -> None:
            self.where = f"cell {self.done + 1} [{cell.id}]"
            bar.set_postfix_str(f"{self.name} [{cell.id}]")

        def finished(**_: object) -> None:
            self.done += 1
            bar.update()

        client = NotebookClient(
            self.notebook,
            timeout=timeout,
            kernel_name="python3",
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # or each kernel warns that it is plain
            coalesce_streams=True,  # a page shows the last state of a progress bar
            record_timing=False,
            shutdown_kernel="immediate",
            on_cell_execute=started,
            on_cell_executed=finished,
        )
        start = time.perf_counter()
        try:
            await client.async_execute(cwd=str(self.path.parent), env=environment)
        except CellExecutionError as error:
            self.error = f"{error.ename}: {_last_line(error.evalue)}"
        except CellTimeoutError:
            self.error = f"stopped because it ran longer than {timeout} s (--timeout sets another limit)"
        except DeadKernelError:
            if asyncio.current_task().cancelling():  # Ctrl-C, which nbclient takes for a dead kernel
                raise asyncio.CancelledError from None
            self.error = "the kernel died (out of memory, or the process was ended)"
        except Exception as error:  # such as a kernel that does not start: again, the other lessons go on
            self.error = f"{type(error).__name__}: {_last_line(error)}"
        else:
            self.where = ""
        finally:
            self.seconds = time.perf_counter() - start

    def render(self, folder: Path) -> None:
        resources = {"metadata": {"name": self.name, "path": str(self.path.parent)}}
        try:
            page, _ = _exporter().from_notebook_node(_for_page(self.notebook), resources)
        except Exception as error:  # such as a picture file that is not there
            self.error = self.error or f"the page could not be made: {type(error).__name__}: {_last_line(error)}"
        else:
            notebooks.write(folder / f"{self.name}.html", page)

    def report(self) -> str:
        return f"FAILED {self.name}{', ' + self.where if self.where else ''}: {self.error}"


async def run_all(lessons: list[Lesson], *, profile: str, jobs: int, out: Path, timeout: int) -> None:
    """Execute and render lessons, at most ``jobs`` at once, each with its share of the cores (or OMP_NUM_THREADS threads)."""
    _leave_signals_alone()
    runnable = [lesson for lesson in lessons if lesson.notebook]
    jobs = max(1, min(jobs, len(runnable)))
    threads = str(max(1, joblib.cpu_count() // jobs))
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"COURSE_PROFILE": profile}
    free = asyncio.Semaphore(jobs)
    # A log file gets a line now and then, a terminal a moving bar.
    interval = 0.2 if sys.stderr.isatty() else 30
    total = sum(len(lesson.code_cells) for lesson in runnable)

    async def one(lesson: Lesson) -> None:
        if lesson.notebook:
            async with free:
                await lesson.execute(environment, timeout, bar)
            bar.update(len(lesson.code_cells) - lesson.done)  # cells that a failed lesson will not reach
            await asyncio.to_thread(lesson.render, out)
        if lesson.error:
            bar.write(lesson.report())

    with tqdm(total=total, unit="cell", desc="lessons", mininterval=interval, maxinterval=interval) as bar:
        await asyncio.gather(*map(one, lessons))
        bar.set_postfix_str("")


def write_index(lessons: list[Lesson], profile: str, out: Path) -> None:
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("index.html.j2")
    failed = sum(bool(lesson.error) for lesson in lessons)
    when = time.strftime("%Y-%m-%d %H:%M")
    notebooks.write(out / "index.html", template.render(results=lessons, profile=profile, failed=failed, when=when))


def run(paths: list[Path], *, profile: str, jobs: int, out: Path, timeout: int) -> list[Lesson]:
    """Execute and render the notebooks, write the index, report on standard output."""
    lessons = [Lesson(path.resolve()) for path in paths]
    for lesson in lessons:
        lesson.read()
    start = time.perf_counter()
    asyncio.run(run_all(lessons, profile=profile, jobs=jobs, out=out, timeout=timeout))
    write_index(lessons, profile, out)
    for lesson in lessons:
        print(f"{lesson.seconds:7.1f} s  {lesson.name}{'  FAILED' if lesson.error else ''}")
    failed = sum(bool(lesson.error) for lesson in lessons)
    print(
        f"{time.perf_counter() - start:7.1f} s  in all: {len(lessons)} lessons, {failed} failed, pages in {out / 'index.html'}"
    )
    return lessons


def _leave_signals_alone() -> None:
    """Keep Ctrl-C for the whole run: each nbclient would set a handler that ends its own kernel and lets the others go on."""

    def refuse(*_: object) -> None:
        raise NotImplementedError("as on Windows")

    asyncio.get_running_loop().add_signal_handler = refuse


def _exporter() -> HTMLExporter:
    # Not embed_images: it parses each piece of HTML alone, and so closes a <details> before the answer that it folds.
    return HTMLExporter(template_name="lab", template_file="lesson.html.j2", extra_template_paths=[str(TEMPLATES)])


def _for_page(notebook: NotebookNode) -> NotebookNode:
    """Give figures their alternative text from the cell below, and point links between lessons at pages."""
    for cell, after in pairwise(notebook.cells):
        if cell.cell_type == "code" and after.source.startswith(FIGURE):
            cell.metadata["figure"] = " ".join(after.source.removeprefix(FIGURE).split())
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((\w+)\.ipynb\b", r"](\1.html", cell.source)
    return notebook


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all lessons when none is given")
    parser.add_argument("--profile", choices=("ci", "cpu", "gpu"), default="cpu")
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), help="lessons at once; as many as cores when not given")
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the pages")
    parser.add_argument("--timeout", type=int, default=1800, help="longest time of one cell, in seconds")
    options = parser.parse_args()
    paths = options.notebooks or notebooks.lessons()
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no notebook {path}.")
    if not paths:
        parser.error("there are no notebooks in notebooks/.")
    try:
        lessons = run(paths, profile=options.profile, jobs=options.jobs, out=options.out, timeout=options.timeout)
    except KeyboardInterrupt:
        sys.exit("stopped")
    sys.exit(any(lesson.error for lesson in lessons))


if __name__ == "__main__":
    main()
