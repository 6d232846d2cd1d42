"""Kernels in the sandbox of kernels/sandbox, cold or from a warm process."""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import psutil
import zmq.asyncio
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager

import course_utils
from course_grade.errors import SandboxError

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "kernels"
PREFIX = "course-grade-"
INSIDE = ("probe.py", "values.py")  # all that a kernel sees of this package
PACKAGES = "/grading"  # where it finds them
MESSAGE_LIMIT = 4 << 20  # bytes; a kernel that sends a larger message is disconnected, and connects anew
MESSAGES_WAITING = 16  # what is not read yet stays with the kernel, not with the grader


def require() -> None:
    """Raise a `SandboxError` when bubblewrap cannot work here."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        raise SandboxError(
            "Grading needs bubblewrap, which is missing: on Debian or Ubuntu `apt install bubblewrap`; "
            "on other systems use a Linux machine."
        )
    test = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--disable-userns", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(test, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(
            f"bubblewrap is installed and does not work here: {done.stderr.strip()[:300]}\n"
            "It needs version 0.8 or newer and user namespaces, which containers and some systems forbid "
            "(Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)."
        )


def files() -> list[str]:
    """What a kernel may read: the interpreter, installed packages, the course's package and its data; no homework source."""
    course = Path(course_utils.__file__).resolve().parent
    shown = {sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), str(course)}
    if (data := course.parent / "data").is_dir():
        shown.add(str(data))
    outermost = [path for path in shown if path != "/usr" and not any(path.startswith(f"{other}/") for other in shown)]
    return [*sorted(outermost), *(f"{HERE / name}=>{PACKAGES}/course_grade/{name}" for name in INSIDE)]


def folder(label: int) -> Path:
    """A new private folder for sockets: in memory where possible, where what a kernel writes counts as its own."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-{label}-", dir=_memory()))


def _memory() -> Path:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def tidy() -> None:
    """Remove what killed graders of this user have left: half-made sandboxes, folders of sockets, control groups."""
    launch = launcher()
    for path in _memory().glob(f"{PREFIX}*"):
        ours = os.getuid() in (0, path.stat().st_uid)  # a kernel of root's owns its folder
        if ours and not launch.alive(path.name.removeprefix(PREFIX).partition("-")[0]):
            for process in psutil.process_iter():
                # bwrap, when its parent is killed in its first milliseconds, waits for it for ever.
                with contextlib.suppress(psutil.Error):
                    if any(word.startswith(str(path)) for word in process.cmdline()):
                        process.kill()
            shutil.rmtree(path, ignore_errors=True)
    for parent, _ in launch.own_groups():
        launch.sweep(parent, patience=2.0)


def launcher() -> ModuleType:
    """kernels/sandbox/launch.py as a module, for its limits and for tidying up."""
    spec = importlib.util.spec_from_file_location("course_grade_launch", KERNELS / "sandbox" / "launch.py")
    assert spec  # there is such a file
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Warm:
    """A process that has imported some modules, and gives each new kernel a copy of itself (kernels/sandbox/warm.py)."""

    def __init__(self, modules: list[str], label: int) -> None:
        self.folder = folder(label)
        self.address = str(self.folder / "warm")
        # No more of the environment than it takes: kernels are copies of this process.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, str(KERNELS / "sandbox" / "warm.py"), self.address, *modules],
            env=kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        assert self.process.stdout  # it is a pipe
        self.stdout = self.process.stdout
        if self.stdout.readline() != b"ready\n":
            raise SandboxError(f"The warm process ended with status {self.process.wait()}.")

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def manager(folder: Path, *, sandboxed: bool = True) -> AsyncKernelManager:
    """Manager of one kernel whose sockets are files in ``folder``, and whose messages are bounded in size and number."""
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_LIMIT)
    context.setsockopt(zmq.RCVHWM, MESSAGES_WAITING)
    context.setsockopt(zmq.LINGER, 0)
    specs = KernelSpecManager(kernel_dirs=[str(KERNELS)], ensure_native_kernel=not sandboxed)
    return AsyncKernelManager(
        kernel_name="sandbox" if sandboxed else "python3",
        kernel_spec_manager=specs,
        transport="ipc",
        connection_file=str(folder / "kernel.json"),
        context=context,
    )


def variables(*, seed: int, profile: str, limits: dict, warm: Warm | None) -> dict[str, str]:
    """Environment of a kernel's launcher."""
    inside = {"COURSE_GRADE_SEED": str(seed), "COURSE_PROFILE": profile}
    wanted = {"files": files(), "limits": limits, "label": seed, "environment": inside | {"PYTHONPATH": PACKAGES}}
    if warm is not None:
        wanted["warm"] = warm.address
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    # A kernel without sandbox takes its variables from here; the launcher makes a new environment.
    return kept | inside | {"PYTHONPATH": str(HERE.parent), "COURSE_GRADE_SANDBOX": json.dumps(wanted)}
