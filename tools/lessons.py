"""Execute lessons in parallel and render each to an HTML page with its outputs, and an index of them.

Any notebook is taken, whatever its name and content. One that fails does not stop the others, and does not cost them their
pages; its own shows how far it came. Notebooks are never written back.
Usage: python tools/lessons.py [NOTEBOOK ...] [--profile ci|cpu|gpu] [--jobs N] [--out FOLDER] [--timeout SECONDS]
"""

import asyncio
import contextlib
import html
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import joblib
from jinja2 import Environment, FileSystemLoader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets.config import Config

import course
from course_utils import files

TEMPLATES = Path(__file__).parent / "templates"
FIGURE = "> **Figure:** "
# Where a link leads, in the three ways of writing it in HTML.
LINK = re.compile(r"""(<a\b[^>]*?\shref\s*=\s*)(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)


@dataclass
class Lesson:
    """One notebook and what became of it."""

    path: Path
    name: str = ""  # of its page, and in reports; the notebook's own name where that is not taken
    notebook: NotebookNode | None = None
    question: str = ""
    code_cells: list[NotebookNode] = field(default_factory=list, repr=False)  # those that will be executed
    seconds: float = 0.0
    error: str = ""  # last line of the traceback, empty when the lesson ran to its end
    where: str = ""  # the failing cell: its number among the code cells, as in "In [7]", and its id
    done: int = field(default=0, repr=False)
    has_page: bool = False

    def __post_init__(self) -> None:
        self.name = self.name or self.path.stem

    @property
    def link(self) -> str:
        """Address of its page, relative to the other pages."""
        return _address(self.name)

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
            self.question = course.question(notebook)
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

    def render(self, notebook: NotebookNode, folder: Path, pages: dict[Path, str]) -> None:
        """Write the page; ``pages`` are the addresses of all lessons, for links between them."""
        resources = {"metadata": {"name": self.name, "path": str(self.path.parent)}}
        page, _ = _exporter().from_notebook_node(_for_page(notebook), resources)
        page = LINK.sub(lambda found: _to_page(found, self.path.parent, pages), page)
        _write(folder / f"{self.name}.html", page)
        self.has_page = True

    def report(self) -> str:
        return f"FAILED {self.name}{', ' + self.where if self.where else ''}: {self.error}"


async def run_all(lessons: list[Lesson], *, profile: str, jobs: int, out: Path, timeout: int) -> None:
    """Execute and render lessons, at most ``jobs`` at once, each with its share of the cores (or OMP_NUM_THREADS threads)."""
    _leave_signals_alone()
    runnable = [lesson for lesson in lessons if lesson.notebook]
    jobs = max(1, min(jobs, len(runnable)))
    threads = str(max(1, joblib.cpu_count() // jobs))
    # A claim that does not hold is said to a student; here it is an error of the lesson.
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"COURSE_PROFILE": profile, "COURSE_JUDGE": "1"}
    if data := environment.get("COURSE_DATA"):  # seen from here, not from the folders of the notebooks
        environment["COURSE_DATA"] = str(Path(data).expanduser().absolute())
    os.chdir(TEMPLATES)  # a notebook may delete the folder that this began in
    free = asyncio.Semaphore(jobs)
    # A log file gets a line now and then, a terminal a moving bar.
    interval = 0.2 if sys.stderr.isatty() else 30
    total = sum(len(lesson.code_cells) for lesson in runnable)

    pages = {lesson.path: lesson.link for lesson in lessons}

    async def one(lesson: Lesson) -> None:
        if lesson.notebook:
            async with free:
                with lesson.failing():  # such as a kernel that does not start
                    await lesson.execute(lesson.notebook, environment, timeout, bar)
            bar.update(len(lesson.code_cells) - lesson.done)  # cells that a failed lesson will not reach
            with lesson.failing("the page could not be made: "):  # such as a picture file that is not there, or a full disk
                await asyncio.to_thread(lesson.render, lesson.notebook, out, pages)
        if lesson.error:
            bar.write(lesson.report())

    with tqdm(total=total, unit="cell", desc="lessons", mininterval=interval, maxinterval=interval) as bar:
        await asyncio.gather(*map(one, lessons))
        bar.set_postfix_str("")


def write_index(lessons: list[Lesson], profile: str, out: Path) -> None:
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("index.html.j2")
    failed = sum(bool(lesson.error) for lesson in lessons)
    when = time.strftime("%Y-%m-%d %H:%M")
    _write(out / "index.html", template.render(results=lessons, profile=profile, failed=failed, when=when))


def named(paths: Iterable[Path]) -> list[Lesson]:
    """Lessons with names of their own: where two notebooks are called the same, the later ones get a number."""
    taken = {_comparable("index")}
    lessons = []
    for path in paths:
        names = (f"{path.stem}{f'-{number}' if number > 1 else ''}" for number in count(1))
        name = next(name for name in names if _comparable(name) not in taken)
        taken.add(_comparable(name))
        lessons.append(Lesson(path, name))
    return lessons


def run(paths: list[Path], *, profile: str, jobs: int, out: Path, timeout: int) -> list[Lesson]:
    """Execute and render the notebooks, write the index, report on standard output."""
    out = out.resolve()
    lessons = named(dict.fromkeys(path.resolve() for path in paths))
    for lesson in lessons:
        lesson.read()
    start = time.perf_counter()
    asyncio.run(run_all(lessons, profile=profile, jobs=jobs, out=out, timeout=timeout))
    write_index(lessons, profile, out)
    for lesson in lessons:
        origin = "" if lesson.name == lesson.path.stem else f" ({lesson.path})"
        print(f"{lesson.seconds:7.1f} s  {lesson.name}{origin}{'  FAILED' if lesson.error else ''}")
    failed = sum(bool(lesson.error) for lesson in lessons)
    print(
        f"{time.perf_counter() - start:7.1f} s  in all: {len(lessons)} lessons, {failed} failed, pages in {out / 'index.html'}"
    )
    return lessons


def _leave_signals_alone() -> None:
    """Keep Ctrl-C for the whole run: each nbclient would set a handler that ends its own kernel and lets the others go on."""

    def refuse(*_: object) -> None:
        raise NotImplementedError("as on Windows")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler = refuse  # type: ignore[method-assign, assignment]  # to replace it is what this is for


def _exporter() -> HTMLExporter:
    # Not embed_images: it parses each piece of HTML alone, and so closes a <details> before the answer that it folds.
    return HTMLExporter(template_name="lab", template_file="lesson.html.j2", extra_template_paths=[str(TEMPLATES)])


def _for_page(notebook: NotebookNode) -> NotebookNode:
    """Give figures that have no alternative text in their metadata that of the cell below."""
    for cell, after in pairwise(notebook.cells):
        if cell.cell_type == "code" and after.source.startswith(FIGURE):
            cell.metadata.setdefault("alt", " ".join(after.source.removeprefix(FIGURE).split()))
    return notebook


def _to_page(found: re.Match, folder: Path, pages: dict[Path, str]) -> str:
    """A link to a notebook becomes one to its page; every other link stays as it is."""
    try:
        address = urlsplit(html.unescape(next(filter(None, found.groups()[1:]), "")))
    except ValueError:  # an address that is not one
        return found[0]
    target = Path(unquote(address.path))
    if address.scheme or address.netloc or target.suffix.lower() != ".ipynb":
        return found[0]
    page = pages.get(Path(os.path.normpath(folder / target)), _address(target.stem))
    return f'{found[1]}"{html.escape(page + (f"#{address.fragment}" if address.fragment else ""))}"'


def _address(name: str) -> str:
    return quote(os.fsencode(f"{name}.html"))


def _comparable(name: str) -> str:
    """A name as file systems compare it that take no notice of case, or of how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _write(path: Path, page: str) -> None:
    """Write a page; halves of characters, which a notebook may hold and UTF-8 cannot, are spelled out."""
    files.write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else ""


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all lessons when none is given")
    parser.add_argument("--profile", choices=("ci", "cpu", "gpu"), default="cpu")
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), help="lessons at once; as many as cores when not given")
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the pages")
    parser.add_argument("--timeout", type=int, default=1800, help="longest time of one cell, in seconds")
    options = parser.parse_args()
    paths = options.notebooks or course.lessons()
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no notebook {path}.")
    if not paths:
        parser.error("there are no notebooks in notebooks/.")
    try:
        lessons = run(paths, profile=options.profile, jobs=options.jobs, out=options.out, timeout=options.timeout)
    except KeyboardInterrupt:
        sys.exit("stopped")
    except OSError as error:  # of the index; those of pages are their lessons' errors
        sys.exit(f"the list of the pages could not be written: {error}")
    sys.exit(any(lesson.error for lesson in lessons))


if __name__ == "__main__":
    main()
