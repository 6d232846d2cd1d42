"""A kernel, and the line to it: what is said on it arrives, in order, however busy the machine is.

Only two things end the wait for a cell: the limit that it was given, and the kernel's death. Nothing here waits for a shorter
time of its own and then gives up.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import zmq
import zmq.asyncio
from jupyter_client import AsyncKernelClient, AsyncKernelManager

from course_grade import sandbox
from course_grade.errors import SandboxError

START = 300  # seconds until a kernel must answer for the first time; one that ends sooner is noticed at once
PAUSE = 0.5  # seconds between two interrupts
QUIET = 1.0  # seconds of silence after which the kernel is looked after
BATCH = 100  # messages that are read between two looks at the clock
# Said to a kernel before it runs anything. `exit()` ends the cell, as `sys.exit()` does, and not the kernel. Messages wait for
# a reader that is slow: without this ZeroMQ drops them. `watch` keeps the kernel answering.
LINES = (
    "get_ipython().ask_exit = __import__('sys').exit",
    f"get_ipython().kernel.iopub_thread.socket.setsockopt({zmq.XPUB_NODROP:d}, 1)",
    "__import__('course_grade.probe').probe.watch()",
)


class DiedError(Exception):
    """The kernel has ended."""


class StubbornError(Exception):
    """A cell goes on although it was interrupted again and again."""


@asynccontextmanager
async def running(*, seed: int, sandboxed: bool, variables: dict[str, str]) -> AsyncIterator["Kernel"]:
    """A new kernel in a folder of its own, of which nothing is left afterwards.

    Raises:
        SandboxError: it could not be started. The message says what the launcher said.
    """
    folder = sandbox.folder(seed)
    said = folder / "launcher"
    manager = sandbox.manager(folder, sandboxed=sandboxed)
    kernel = Kernel(manager)
    try:
        try:
            with said.open("wb") as log:
                arguments = [f"--IPKernelApp.exec_lines={line}" for line in LINES]
                await manager.start_kernel(env=variables, cwd=str(folder), stdout=log, stderr=log, extra_arguments=arguments)
            kernel.connect()
            async with asyncio.timeout(START):
                await kernel.ready()
        except (DiedError, TimeoutError, RuntimeError, OSError) as error:
            reason = said.read_text(errors="replace")[-300:].strip()
            raise SandboxError(f"The kernel did not start: {reason or repr(error)}") from error
        yield kernel
    finally:
        kernel.hang_up()
        await manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
        shutil.rmtree(folder, ignore_errors=True)


class Kernel:
    """The line to one kernel.

    A message above `sandbox.MESSAGE_LIMIT` ends the connection, which is then made anew. What was under way is lost: the end of
    a cell is then known from the answer to a later question, since a kernel answers in order.
    """

    def __init__(self, manager: AsyncKernelManager) -> None:
        self.manager = manager
        self.connected = False
        self.client: AsyncKernelClient  # from `connect` on
        self.unreadable = 0  # messages that could not be understood
        self.cut = 0  # connections that a message was too large for
        self.interrupts: set[str] = set()  # that the kernel has not confirmed: one that is under way could meet the next cell

    def connect(self) -> None:
        """Make the connection, in place of one that has ended."""
        self.hang_up()
        self.client = self.manager.client(context=self.manager.context)
        self.client.start_channels(stdin=False, hb=False)  # nobody answers `input()`: it raises
        self.poller = zmq.asyncio.Poller()
        self.channels: dict[zmq.Socket, tuple[str, zmq.Socket]] = {}
        self.monitors: list[zmq.Socket] = []
        for name in ("shell", "iopub", "control"):
            channel = getattr(self.client, f"{name}_channel")
            self.channels[channel.socket] = name, zmq.Socket.shadow(channel.socket)
            self.monitors.append(channel.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED))
            self.poller.register(channel.socket, zmq.POLLIN)
            self.poller.register(self.monitors[-1], zmq.POLLIN)
        self.interrupts.clear()
        self.connected = True

    def hang_up(self) -> None:
        if self.connected:
            for socket in self.channels:
                socket.disable_monitor()
            self.client.stop_channels()
            self.connected = False

    async def ready(self) -> None:
        """Wait until the kernel answers.

        Raises:
            DiedError: it has ended.
        """
        await self._hear(_Request(self.client.kernel_info(), asks=True), float("inf"), lambda message: None)

    async def run(self, source: str, limit: float, patience: float, take: Callable[[dict], None]) -> tuple[dict, bool]:
        """Run code until it has ended and all that it sent has come.

        Args:
            source: of a cell.
            limit: seconds after which it is interrupted, and again and again.
            patience: seconds after the first interrupt in which it must have ended.
            take: is called with each message of the cell on the channel for outputs.

        Returns:
            The content of the kernel's reply, nothing when it was lost; and whether the code was interrupted.

        Raises:
            DiedError: the kernel has ended.
            StubbornError: the code has not.
        """
        now = asyncio.get_running_loop().time
        request = _Request(self.client.execute(source, allow_stdin=False, stop_on_error=False))
        interrupt, stop, interrupted = now() + limit, now() + limit + patience, False
        while not await self._hear(request, interrupt, take):
            if now() >= stop:
                raise StubbornError
            request.asks = interrupted = True  # an interrupt may hit the reply
            self._interrupt()
            interrupt = now() + PAUSE
        return request.reply, interrupted

    def _interrupt(self) -> None:
        message = self.client.session.msg("interrupt_request", {})
        self.client.control_channel.send(message)
        self.interrupts.add(message["header"]["msg_id"])

    async def _hear(self, request: "_Request", until: float, take: Callable[[dict], None]) -> bool:
        """Listen until all of a request was heard, or it still runs at a time of the loop's clock; whether all was heard."""
        now = asyncio.get_running_loop().time
        while not (request.ended and request.heard and not self.interrupts):
            if not request.ended and now() >= until:
                return False
            wait = QUIET if request.ended else min(QUIET, until - now())
            sockets = [socket for socket, _ in await self.poller.poll(1000 * wait)]
            if not sockets:
                if not await self.manager.is_alive():
                    self.cut = 0  # it was the kernel's end that ended the connection
                    raise DiedError
                self._ask(request)
            if any(socket in self.monitors for socket in sockets):
                self.cut += 1
                request.asks = True
                self.connect()
                continue
            for socket in sockets:
                name, channel = self.channels[socket]
                self._read(request, name, channel, take)
        return True

    def _read(self, request: "_Request", channel: str, socket: zmq.Socket, take: Callable[[dict], None]) -> None:
        """Take what has come on a channel; many at once, since the kernel waits for us."""
        for _ in range(BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self.client.session.deserialize(self.client.session.feed_identities(frames)[1])
                self._sort(request, channel, message, take)
            except Exception:  # messages are made by a student's code, and may be anything
                self.unreadable += 1

    def _ask(self, request: "_Request") -> None:
        """Ask something, if the answer to the request itself may be lost."""
        if request.asks or request.ended:
            request.asked.add(self.client.kernel_info())

    def _sort(self, request: "_Request", channel: str, message: dict, take: Callable[[dict], None]) -> None:
        parent, content = message["parent_header"].get("msg_id"), message["content"]
        if message["msg_type"] == "iopub_welcome":  # from here on outputs come
            self._ask(request)
        elif channel == "control":
            self.interrupts.discard(parent)
        elif parent in request.asked and channel == "shell":
            request.ended = True
            if parent == request.name and isinstance(content, dict):
                request.reply = content
        elif parent in request.asked and message["msg_type"] == "status":
            request.heard |= content["execution_state"] == "idle"
        elif parent == request.name:
            take(message)


class _Request:
    """What is asked, and what has come of it."""

    def __init__(self, name: str, asks: bool = False) -> None:
        self.name = name
        self.asked = {name}  # and later questions, whose answers tell that this one is over
        self.asks = asks  # whether the answer may be lost, so that it has to be asked
        self.ended = self.heard = False
        self.reply: dict = {}
