"""Run a notebook that wants harm: every limit ends it with what it has earned so far."""

import asyncio
import contextlib
import json
import shutil
from typing import Any

from jupyter_client import AsyncKernelManager
from nbclient.exceptions import CellExecutionComplete, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.preprocessors import Execute
from traitlets import Bool, Dict, Instance, Integer, Unicode

from course_grade import intake, sandbox
from course_grade.probe import MIME

EMITTED_LIMIT = 1 << 20  # characters of the values that one graded cell emits


class SandboxExecute(Execute):
    """nbgrader's `Execute` with a kernel in the sandbox, a bound on outputs and a time limit for the notebook.

    Outputs are text (standard error too, in the same stream) and pictures. Values that graded cells emit go to ``emitted``, by
    cell, and never into the notebook. Cells with the tag `skip-execution` are executed. Whatever goes wrong after the
    first cell has started is the notebook's fault: it ends, and ``ended`` says why.
    """

    timeout = Integer(60, help="seconds for one cell").tag(config=True)
    notebook_timeout = Integer(240, help="seconds for one notebook").tag(config=True)
    limits = Dict(help="limits of the sandbox, as LIMITS in kernels/sandbox/launch.py").tag(config=True)
    profile = Unicode("ci", help="COURSE_PROFILE of the kernel").tag(config=True)
    seed = Integer(0)
    sandboxed = Bool(True)
    warm = Instance(sandbox.Warm, allow_none=True)
    skip_cells_with_tag = Unicode("")
    store_widget_state = Bool(False)

    def preprocess(
        self, nb: NotebookNode, resources: Any = None, km: AsyncKernelManager | None = None
    ) -> tuple[NotebookNode, Any]:
        """Execute all cells.

        Raises:
            SandboxError: no kernel could be started; nothing of the notebook was run.
        """
        self.nb, self.ended = nb, ""
        self.emitted: dict[int, list] = {}
        self.errors: dict[int, str] = {}
        self.lost: list[str] = []  # cells whose output was too large
        self.reset_execution_trackers()
        asyncio.run(self._execute_all())
        return nb, resources

    async def _execute_all(self) -> None:
        room = sandbox.folder(self.seed)
        said = room / "launcher"  # what the launcher says when it cannot start a kernel
        self.km = sandbox.manager(room, sandboxed=self.sandboxed)
        variables = sandbox.variables(seed=self.seed, profile=self.profile, limits=dict(self.limits), warm=self.warm)
        try:
            try:
                with said.open("wb") as log:
                    await self.km.start_kernel(env=variables, cwd=str(room), stdout=log, stderr=log)
                await self._connect(timeout=60)
            except RuntimeError as error:
                reason = said.read_text(errors="replace")[-300:].strip()
                raise sandbox.SandboxError(f"The kernel did not start: {reason or error}") from error
            self.deadline = asyncio.get_running_loop().time() + self.notebook_timeout
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cells(), self.notebook_timeout)
            if asyncio.get_running_loop().time() >= self.deadline:  # nbclient takes the cancelling for the kernel's death
                self.ended = f"stopped: the notebook takes longer than {self.notebook_timeout} s"
        finally:
            await self.km.shutdown_kernel(now=True)
            if self.kc is not None:
                self.kc.stop_channels()
            self.km.context.destroy(linger=0)
            self.kc = self.km = None
            shutil.rmtree(room, ignore_errors=True)

    async def _cells(self) -> None:
        whole = intake.Room.of_notebook()
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type != "code":
                continue
            self.room, self.emitted_room = whole.of_cell(), EMITTED_LIMIT if utils.is_grade(cell) else 0
            try:
                await self.async_execute_cell(cell, index)
            except DeadKernelError:
                self.ended = f"stopped: the kernel died in {self._name(cell)}"
                return
            except CellTimeoutError:
                if not await self._connected_again():
                    self.ended = f"stopped: {self._name(cell)} could not be interrupted"
                    return
                self.lost.append(self._name(cell))
            except Exception as error:  # messages are made by a student's code, and may be anything
                self.ended = f"stopped: unreadable messages in {self._name(cell)} ({type(error).__name__})"
                return

    @staticmethod
    def _name(cell: NotebookNode) -> str:
        return cell.metadata.get("nbgrader", {}).get("grade_id") or cell.metadata.get("course_grade", {}).get("name", cell.id)

    async def _connect(self, timeout: float) -> None:
        """Talk to the kernel, within the bounds of the manager's context.

        Raises:
            RuntimeError: it does not answer.
        """
        if self.kc is not None:
            self.kc.stop_channels()
        self.kc = self.km.client(context=self.km.context)
        self.kc.start_channels()
        await self.kc.wait_for_ready(timeout=timeout)
        self.kc.allow_stdin = False

    async def _connected_again(self) -> bool:
        """Whether the kernel still listens after a cell whose end was not heard; too large a message ends the connection."""
        try:
            await self._connect(timeout=self.iopub_timeout)
        except (RuntimeError, DeadKernelError):
            return False
        return True

    def on_cell_executed(self, cell: NotebookNode, cell_index: int, execute_reply: dict, **_: object) -> None:
        """Keep the error that ended a cell, from the reply, which comes even when outputs were lost."""
        content = execute_reply["content"]
        if content.get("status") == "error":
            self.errors[cell_index] = str(content.get("ename"))[:60]
            if content.get("ename") == "CellTimeoutError":
                said = {"output_type": "error", "traceback": [f"stopped after {self.timeout} s"]}
                cell.outputs += intake.defuse([said], intake.Room(100, 0))

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> None:
        """Take from a message of the kernel what is safe, and count it."""
        kind, content = msg["msg_type"], msg["content"]
        if kind == "status":
            if content["execution_state"] == "idle":
                raise CellExecutionComplete
        elif kind == "display_data" and MIME in content["data"]:
            value = content["data"][MIME]
            self.emitted_room -= len(json.dumps(value))
            if self.emitted_room >= 0:
                self.emitted.setdefault(cell_index, []).append(value)
            elif utils.is_grade(cell) and (name := self._name(cell)) not in self.lost:
                self.lost.append(name)
        elif kind == "clear_output":
            cell.outputs = []
        else:
            for output in intake.defuse([{**content, "output_type": kind}], self.room):
                if output.output_type == "stream" and cell.outputs and cell.outputs[-1].output_type == "stream":
                    cell.outputs[-1].text += output.text
                else:
                    cell.outputs.append(output)
