"""Run a notebook that wants harm, or only has a bad cell: every limit ends that cell, and the rest is run."""

import asyncio
import json
from io import StringIO

from nbformat import NotebookNode
from nbgrader import utils
from traitlets import Bool, Dict, Instance, Integer, Unicode
from traitlets.config import Configurable

from course_grade import sandbox
from course_grade.assignment import grade_id
from course_grade.defusing import Allowance, defuse
from course_grade.errors import SandboxError
from course_grade.kernel import DiedError, Kernel, StubbornError, running
from course_grade.probe import MIME

# Before a test, on a line of its own: what a student's cells have set must not change what it draws and computes.
USUAL = "__import__('course_grade.probe').probe.usual()\n"
EMITTED_LIMIT = 1 << 20  # characters of the values that one graded cell emits


class SandboxExecute(Configurable):
    """Executes a notebook in the sandbox, with bounds on time and outputs.

    A cell that takes too long is interrupted until it ends. One that does not end is killed with its kernel. A new kernel then
    runs all other cells again, in what is left of the notebook's time, as it does when a cell takes the kernel with it. What
    cells emitted and printed when they ran first counts.

    Outputs are text (standard error too, in the same stream) and pictures. Values that graded cells emit go to ``emitted``, by
    cell, and never into the notebook. ``notes`` say what was odd.
    """

    timeout = Integer(60, help="seconds for one cell").tag(config=True)
    notebook_timeout = Integer(240, help="seconds for one notebook").tag(config=True)
    limits = Dict(help="limits of the sandbox, as LIMITS in kernels/sandbox/launch.py").tag(config=True)
    profile = Unicode("ci", help="COURSE_PROFILE of the kernel").tag(config=True)
    seed = Integer(0)
    sandboxed = Bool(True)
    warm = Instance(sandbox.Warm, allow_none=True)

    def execute(self, notebook: NotebookNode) -> None:
        """Execute all cells.

        Raises:
            SandboxError: no kernel could be started; nothing of the notebook was run.
        """
        self.emitted: dict[int, list] = {}
        self.errors: dict[int, str] = {}  # by cell, what ended it: the name of an error, or of what was done to it
        self.stopped: set[int] = set()  # cells that were ended from outside, or ended their kernel
        self.end = ""  # why no more cells were run, if so
        self.lost: list[str] = []  # cells whose output was too large
        self.notes: list[str] = []
        self.outputs = Allowance.of_notebook()
        self.told: set[int] = set()  # cells that ran once: what they tell then counts, and not what they tell again
        asyncio.run(self._execute(notebook))
        if self.lost:
            self.notes.append(f"too much output: {', '.join(self.lost)}")

    async def _execute(self, notebook: NotebookNode) -> None:
        variables = sandbox.variables(seed=self.seed, profile=self.profile, limits=dict(self.limits), warm=self.warm)
        cells = {index: cell for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()}
        clock = asyncio.timeout(None)  # runs from the first kernel's start
        try:
            async with clock:
                while cells:
                    async with running(seed=self.seed, sandboxed=self.sandboxed, variables=variables) as kernel:
                        if clock.when() is None:
                            clock.reschedule(asyncio.get_running_loop().time() + self.notebook_timeout)
                        fatal = await self._cells(kernel, cells)
                    if fatal is None:
                        return
                    del cells[fatal]
        except TimeoutError:
            self.end = f"the notebook takes longer than {self.notebook_timeout} s"
        except SandboxError:
            if clock.when() is None:
                raise
            self.end = "no new kernel could be started"
        if self.end:
            self.notes.append(f"stopped: {self.end}")

    async def _cells(self, kernel: Kernel, cells: dict[int, NotebookNode]) -> int | None:
        """Run cells; gives the one, if any, that cost the kernel."""
        for index, cell in cells.items():
            name = shown_name(cell)
            try:
                await self._cell(kernel, index, cell)
            except DiedError:
                self._end(index, cell, "the kernel died")
                self.notes.append(f"the kernel died in {name}, which was left out then")
                return index
            except StubbornError:
                self._end(index, cell, f"stopped after {self.timeout} s")
                self.notes.append(f"{name} could not be interrupted, and was left out then")
                return index
            finally:
                if kernel.unreadable:
                    self.notes.append(f"unreadable messages in {name}")
                if kernel.cut and name not in self.lost:
                    self.lost.append(name)
                kernel.unreadable = kernel.cut = 0
        return None

    async def _cell(self, kernel: Kernel, index: int, cell: NotebookNode) -> None:
        test = utils.is_grade(cell) and not utils.is_solution(cell) and not cell.source.lstrip().startswith("%%")
        source = USUAL + cell.source if test else cell.source
        if index in self.told:
            await kernel.run(source, self.timeout, self._patience, lambda message: None)
            return
        self.told.add(index)
        cell.outputs, self.printed = [], StringIO()
        self.left, self.left_to_emit = self.outputs.of_cell(), EMITTED_LIMIT if utils.is_grade(cell) else 0
        try:
            reply, interrupted = await kernel.run(
                source, self.timeout, self._patience, lambda message: self._take(message, cell, index)
            )
        finally:
            self._show(cell)
        if interrupted:
            self._end(index, cell, f"stopped after {self.timeout} s")
        elif reply.get("status") == "error":
            name = str(reply.get("ename"))[:60]
            self.errors[index] = name if name.isidentifier() else "an error"

    @property
    def _patience(self) -> float:
        """Seconds in which interrupts must have ended a cell: eight of them end eight lines of shell commands."""
        return max(5.0, self.timeout / 2)

    def _end(self, index: int, cell: NotebookNode, said: str) -> None:
        self.errors[index] = said
        self.stopped.add(index)
        self.left = Allowance(100, 0)
        self._show(cell, {"output_type": "error", "traceback": [said]})

    def _take(self, message: dict, cell: NotebookNode, index: int) -> None:
        """Take from a message of the kernel what is safe, and count it."""
        kind, content = message["msg_type"], message["content"]
        if kind == "display_data" and MIME in content["data"]:
            value = content["data"][MIME]
            self.left_to_emit -= len(json.dumps(value))
            if self.left_to_emit >= 0:
                self.emitted.setdefault(index, []).append(value)
            elif utils.is_grade(cell) and (name := shown_name(cell)) not in self.lost:
                self.lost.append(name)
        elif kind == "clear_output":
            self.printed, cell.outputs = StringIO(), []
        elif kind == "stream":
            if self.printed.tell() <= self.left.text:
                self.printed.write(str(content["text"]))
        else:
            self._show(cell, {**content, "output_type": kind})

    def _show(self, cell: NotebookNode, *outputs: dict) -> None:
        """Add what was printed since, in a thousand pieces maybe, and these to a cell's outputs."""
        text, self.printed = self.printed.getvalue(), StringIO()
        for output in defuse([{"output_type": "stream", "text": text}, *outputs], self.left):
            if output.output_type == "stream" and cell.outputs and cell.outputs[-1].output_type == "stream":
                cell.outputs[-1].text += output.text
            else:
                cell.outputs.append(output)


def shown_name(cell: NotebookNode) -> str:
    """What notes call a cell."""
    return grade_id(cell) or cell.metadata.get("course_grade", {}).get("name", cell.id)
