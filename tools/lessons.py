"""Execute lessons in parallel, keep them with their outputs, and make the course's site from them.

Any notebook is taken, whatever its name and content; those that are not the course's get a small site of their own. One that
fails does not stop the others, and does not cost them their pages; its own shows how far it came. Notebooks are never
written back.
Usage: python tools/lessons.py [NOTEBOOK ...] [--profile ci|cpu|gpu] [--jobs N] [--out FOLDER] [--timeout SECONDS] [--strict]
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets.config import Config

import course
import pages


@dataclass
class Lesson:
    """One notebook and what became of it."""

    path: Path
    name: str = ""  # of its page, and in reports; the notebook's own name where that is not taken
    notebook: NotebookNode | None = None
    code_cells: list[NotebookNode] = field(default_factory=list, repr=False)  # those that will be executed
    seconds: float = 0.0
    error: str = ""  # last line of the traceback, empty when the lesson ran to its end
    where: str = ""  # the failing cell: its number among the code cells, as in "In [7]", and its id
    done: int = field(default=0, repr=False)
    kept: Path | None = None  # where it stands with its outputs

    def __post_init__(self) -> None:
        self.name = self.name or self.path.stem

    @contextlib.contextmanager
    def failing(self, what: str = "") -> Iterator[None]:
        """Keep any error as this lesson's own: whatever is wrong with one notebook must not stop the others."""
        try:
            yield
        except Exception as error:
            self.error = self.error or f"{what}{type(error).__name__}: {_last_line(error)}"

    def read(self) -> None:
        with self.failing("not a readable notebook: "):
            notebook = course.read(self.path)
            self.code_cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
            self.notebook = notebook

    async def execute(self, notebook: NotebookNode, environment: dict[str, str], timeout: int, bar: tqdm) -> None:
        """Run all cells in a kernel of its own, whose folder is the notebook's, as in JupyterLab."""
        for cell in self.code_cells:
            cell.outputs, cell.execution_count = [], None

        def started(cell: NotebookNode, cell_index: int) -> None:
            label = f" [{cell.id}]" if "id" in cell else ""  # notebooks before nbformat 4.5 have none
            self.where = f"cell {self.done + 1}{label}"
            bar.set_postfix_str(f"{self.name}{label}")

        def finished(**_: object) -> None:
            self.done += 1
            bar.update()

        client = NotebookClient(
            notebook,
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
            task = asyncio.current_task()
            if task and task.cancelling():  # Ctrl-C, which nbclient takes for a dead kernel
                raise asyncio.CancelledError from None
            self.error = "the kernel died (out of memory, or the process was ended)"
        else:
            self.where = ""
        finally:
            self.seconds = time.perf_counter() - start

    def keep(self, notebook: NotebookNode, folder: Path, profile: str) -> None:
        """Write the notebook with its outputs, and what became of it."""
        error = f"{self.where}: {self.error}" if self.where else self.error
        notebook.metadata["course"] = {"profile": profile, "seconds": self.seconds, "error": error}
        path = folder / f"{self.name}.ipynb"
        pages.write(path, course.text(notebook))
        self.kept = path

    def report(self) -> str:
        return f"FAILED {self.name}{', ' + self.where if self.where else ''}: {self.error}"


async def run_all(lessons: list[Lesson], *, profile: str, jobs: int, keep: Path, timeout: int) -> None:
    """Execute lessons and keep them, at most ``jobs`` at once, each with its share of the cores, or OMP_NUM_THREADS."""
    _leave_signals_alone()
    runnable = [lesson for lesson in lessons if lesson.notebook]
    jobs = max(1, min(jobs, len(runnable)))
    threads = str(max(1, joblib.cpu_count() // jobs))
    # A claim that does not hold is said to a student; here it is an error of the lesson.
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"COURSE_PROFILE": profile, "COURSE_JUDGE": "1"}
    if data := environment.get("COURSE_DATA"):  # seen from here, not from the folders of the notebooks
        environment["COURSE_DATA"] = str(Path(data).expanduser().absolute())
    os.chdir(course.ROOT)  # a notebook may delete the folder that this began in
    free = asyncio.Semaphore(jobs)
    # A log file gets a line now and then, a terminal a moving bar.
    interval = 0.2 if sys.stderr.isatty() else 30
    total = sum(len(lesson.code_cells) for lesson in runnable)

    async def one(lesson: Lesson) -> None:
        if lesson.notebook:
            async with free:
                with lesson.failing():  # such as a kernel that does not start
                    await lesson.execute(lesson.notebook, environment, timeout, bar)
            bar.update(len(lesson.code_cells) - lesson.done)  # cells that a failed lesson will not reach
            with lesson.failing("it could not be kept: "):  # such as a full disk
                await asyncio.to_thread(lesson.keep, lesson.notebook, keep, profile)
        if lesson.error:
            bar.write(lesson.report())

    with tqdm(total=total, unit="cell", desc="lessons", mininterval=interval, maxinterval=interval) as bar:
        await asyncio.gather(*map(one, lessons))
        bar.set_postfix_str("")


def run(paths: list[Path], *, profile: str, jobs: int, keep: Path, timeout: int) -> list[Lesson]:
    """Execute the notebooks and keep them with their outputs, report on standard output."""
    taken = {"index"}
    lessons = [Lesson(path, pages.page_name(path.stem, taken)) for path in paths]
    for lesson in lessons:
        lesson.read()
    start = time.perf_counter()
    asyncio.run(run_all(lessons, profile=profile, jobs=jobs, keep=keep, timeout=timeout))
    for lesson in lessons:
        origin = "" if lesson.name == lesson.path.stem else f" ({lesson.path})"
        print(f"{lesson.seconds:7.1f} s  {lesson.name}{origin}{'  FAILED' if lesson.error else ''}")
    failed = sum(bool(lesson.error) for lesson in lessons)
    print(f"{time.perf_counter() - start:7.1f} s  in all: {len(lessons)} lessons, {failed} failed")
    return lessons


def shown(lessons: list[Lesson], keep: Path, whole: bool) -> dict[str, list[pages.Run]]:
    """What the site shows: all lessons of the course in all languages, or only these notebooks."""
    if whole:
        return {language: pages.kept(keep, language) for language in pages.LANGUAGES}
    return {"en": [pages.Run(lesson.path, lesson.name, course.read(lesson.kept)) for lesson in lessons if lesson.kept]}


def _leave_signals_alone() -> None:
    """Keep Ctrl-C for the whole run: each nbclient would set a handler that ends its own kernel and lets the others go on."""

    def refuse(*_: object) -> None:
        raise NotImplementedError("as on Windows")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler = refuse  # type: ignore[method-assign, assignment]  # to replace it is what this is for


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else ""


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all lessons when none is given")
    parser.add_argument("--profile", choices=("ci", "cpu", "gpu"), default="cpu")
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), help="lessons at once; as many as cores when not given")
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the site")
    parser.add_argument("--executed", type=Path, default=pages.EXECUTED, help="folder in which the course's lessons are kept")
    parser.add_argument("--timeout", type=int, default=1800, help="longest time of one cell, in seconds")
    parser.add_argument("--no-site", action="store_true", help="execute and report, and write nothing")
    parser.add_argument("--strict", action="store_true", help="a warning while the site is made is an error")
    options = parser.parse_args()
    for path in options.notebooks:
        if not path.is_file():
            parser.error(f"there is no notebook {path}.")
    paths = list(dict.fromkeys(path.resolve() for path in options.notebooks or course.lessons()))
    if not paths:
        parser.error("there are no notebooks in notebooks/.")
    whole = set(paths) <= set(course.lessons())
    out = options.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        # The course's own lessons stay, so that the next site has those that are not executed then.
        keep = options.executed.resolve() if whole and not options.no_site else Path(folder)
        try:
            lessons = run(paths, profile=options.profile, jobs=options.jobs, keep=keep, timeout=options.timeout)
            fine = options.no_site or pages.build(shown(lessons, keep, whole), out, whole=whole, strict=options.strict)
        except KeyboardInterrupt:
            sys.exit("stopped")
        except OSError as error:  # those of a notebook are its own error
            sys.exit(f"the site could not be written: {error}")
    if not options.no_site and (out / "en").exists():
        print(f"the site: {out / 'index.html'}")
    sys.exit(not fine or any(lesson.error for lesson in lessons))


if __name__ == "__main__":
    main()
