"""Start a Python kernel that sees no network, no other process and no file but those listed, and has no more than its share.

Called by the kernelspec beside it: `launch.py CONNECTION_FILE [ARGUMENT OF THE KERNEL ...]`. Namespaces and mounts are made by
bubblewrap (`bwrap`), limits are the system's own (rlimits, and control groups where they can be made). What may differ from
kernel to kernel comes as JSON in COURSE_GRADE_SANDBOX: `limits` (see LIMITS), `files` (paths shown read-only), `environment`,
a `label` for names, and `warm`, the socket of warm.py.

Cold, the launcher becomes bwrap, and the kernel starts inside. Warm, bwrap makes the same sandbox with nothing in it but `cat`,
and a copy (fork) of a process that has imported torch already enters it: the same walls, seconds sooner.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LIMITS = {
    "memory": 3 << 30,  # bytes, of each process and, with a control group, of all together
    "processes": 128,
    "disk": 256 << 20,  # bytes in /tmp, in the home folder and in one file
    "seconds": 900,  # of processor time in one process; the executor's own limits are shorter
}
HOME = "/home/student"
USER = 1000
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
NO_SANDBOX = 97  # exit status: no sandbox could be made, so no kernel was started


def main() -> None:
    die_with_parent()
    connection = Path(sys.argv[1]).resolve()
    wanted = json.loads(os.environ.get("COURSE_GRADE_SANDBOX", "{}"))
    limits = LIMITS | wanted.get("limits", {})
    groups = control_groups(limits, wanted.get("label", 0))
    files = wanted.get("files", default_files())
    kernel = {
        "connection": str(connection),
        "arguments": sys.argv[2:],
        "limits": limits,
        "environment": environment() | wanted.get("environment", {}),
        "groups": [str(group / "cgroup.procs") for group in groups],
    }
    join(kernel["groups"])
    walls = bwrap(connection.parent, limits, kernel["environment"], files)
    if os.geteuid() == 0:
        walls = [*as_somebody(connection, files), *walls]
    try:
        if wanted.get("warm"):
            sys.exit(enter_warm(walls, wanted["warm"], kernel))
        limit(limits)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(connection), *kernel["arguments"]]
        os.execvp("bwrap", [*walls, "--", *command])
    except FileNotFoundError:
        refuse("bwrap is missing: install the package bubblewrap.")


def refuse(reason: str) -> None:
    print(f"sandbox: {reason}", file=sys.stderr)
    sys.exit(NO_SANDBOX)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def bwrap(sockets: Path, limits: dict, variables: dict, files: list[str]) -> list[str]:
    """Command line of bwrap up to, and without, the command that is to run inside."""
    size = str(limits["disk"])
    # Each namespace by name: --unshare-all would be content with fewer.
    command = ["bwrap", *(f"--unshare-{name}" for name in ("user", "ipc", "pid", "net", "uts", "cgroup")), "--disable-userns"]
    command += ["--uid", str(USER), "--gid", str(USER), "--hostname", "sandbox", "--cap-drop", "ALL", "--clearenv"]
    command += ["--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
    command += ["--size", size, "--tmpfs", "/dev/shm", "--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", HOME]
    command += [*read_only(files), *show("--bind", str(sockets), str(sockets)), "--chdir", HOME]
    for name, value in variables.items():
        command += ["--setenv", name, value]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]


def read_only(files: list[str]) -> list[str]:
    """Options that show the system's programs and libraries, and the listed paths (`path`, or `path=>where it is shown`)."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            options += ["--ro-bind", str(path), str(path)]
    wanted = [path.partition("=>")[::2] for path in files]
    pairs = [(source, target or source) for source, target in wanted]
    pairs += [(path, path) for path in ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts") if Path(path).exists()]
    for source, target in pairs:
        options += show("--ro-bind", source, target)
    return options


def show(how: str, source: str, target: str) -> list[str]:
    """Options that mount a path, in folders that all users may enter: those that bwrap makes by itself are its own user's."""
    folders = [part for folder in reversed(Path(target).parents[:-1]) for part in ("--dir", str(folder))]
    return [*folders, how, source, target]


def as_somebody(connection: Path, files: list[str]) -> list[str]:
    """Before the sandbox is made, leave root for a user id that nobody else has.

    A process of root's without capabilities still owns /proc/sys, and no limit on processes binds it. The first bwrap shows the
    new user the files that only root can reach.
    """
    user = str(1_000_000_000 + os.getpid())
    for path in (connection.parent, connection):
        os.chown(path, int(user), int(user))
    sockets = str(connection.parent)
    view = [
        "bwrap",
        *read_only([path.partition("=>")[0] for path in files]),
        "--bind",
        "/proc",
        "/proc",
        "--dev",
        "/dev",
        "--dir",
        "/tmp",
    ]
    view += [*show("--bind", sockets, sockets), "--die-with-parent", "--"]
    return [*view, "setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--bounding-set=-all", "--no-new-privs"]


def default_files() -> list[str]:
    """The interpreter and its packages, and no folder that a package is developed in."""
    return sorted({sys.prefix, sys.base_prefix} - {"/usr"})


def environment() -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "student",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": "1",
        # There is no network: installers and downloads fail at once, rather than try again until the cell's time is over.
        "PIP_NO_INDEX": "1",
        "PIP_RETRIES": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "UV_OFFLINE": "1",
        "CONDA_OFFLINE": "true",
        "HF_HUB_OFFLINE": "1",
    }


# --- limits ------------------------------------------------------------------------------------------------------------------


def limit(limits: dict) -> None:
    """Limit this process and its children; there is no way back."""
    most = {
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_CPU: limits["seconds"],
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in most.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def control_groups(limits: dict, label: int, root: Path = CGROUPS) -> list[Path]:
    """New control groups, version 2 or 1, that bound memory, number of processes and, where possible, cores.

    An empty list where this user may not make them.
    """
    settings = {
        "memory": {"memory.max": limits["memory"], "memory.swap.max": 0, "memory.limit_in_bytes": limits["memory"]},
        "pids": {"pids.max": limits["processes"]},
        "cpu": {
            "cpu.max": "100000 100000",
            "cpu.cfs_quota_us": 100_000,
        },  # one core: many processes must not starve a peer's one
    }
    made, bounded = [], set()
    for parent, controllers in own_groups(root):
        try:
            sweep(parent)
            group = parent / f"course-grade-{os.getpid()}-{label}"
            group.mkdir()
            made.append(group)
            for controller in controllers:
                for name, value in settings[controller].items():
                    if (group / name).exists():
                        (group / name).write_text(str(value))
                bounded.add(controller)
        except OSError:
            continue
    return made if {"memory", "pids"} <= bounded else remove(made)


def own_groups(root: Path = CGROUPS) -> list[tuple[Path, list[str]]]:
    """Folders below which this process may try to make groups, each with the controllers that it has."""
    folders = []
    for line in OWN_GROUP.read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names:
            folders += [
                (root / name / path.lstrip("/"), [name]) for name in names.split(",") if name in ("memory", "pids", "cpu")
            ]
            continue
        # Version 2 gives controllers to the children of a group that holds no process: to our siblings, not to our children.
        folder = (root / path.lstrip("/")).parent
        with contextlib.suppress(OSError):
            controllers = (folder / "cgroup.subtree_control").read_text().split()
            folders.append((folder, [name for name in controllers if name in ("memory", "pids", "cpu")]))
    return [(folder, controllers) for folder, controllers in folders if controllers]


def sweep(parent: Path, patience: float = 0.0) -> None:
    """Remove groups whose launcher is gone, waiting so many seconds for each until its last process has left."""
    for group in parent.glob("course-grade-*"):
        if not alive(group.name.split("-")[2]):
            remove([group], patience)


def alive(process: str) -> bool:
    """Whether a process is there; one that has ended, and that nobody has asked yet how, is not."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def remove(groups: list[Path], patience: float = 0.0) -> list[Path]:
    for group in groups:
        deadline = time.monotonic() + patience
        while True:
            try:
                group.rmdir()
                break
            except OSError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.01)
    return []


def join(groups: list[str]) -> None:
    for path in groups:
        Path(path).write_text("0")


# --- warm start --------------------------------------------------------------------------------------------------------------


def enter_warm(walls: list[str], address: str, kernel: dict) -> int:
    """Build the sandbox around `cat`, have a copy of the warm process enter it, and stay until one of the two ends."""
    reading, writing = os.pipe()
    holder = subprocess.Popen(
        [*walls, "--info-fd", str(writing), "--", "cat"], pass_fds=[writing], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.close(writing)
    assert holder.stdin  # both are pipes
    assert holder.stdout
    holder.stdin.write(b"ready\n")
    holder.stdin.flush()
    if holder.stdout.readline() != b"ready\n":
        holder.kill()
        refuse(f"bwrap ended with status {holder.wait()}.")
    with os.fdopen(reading) as info:
        inside = json.load(info)["child-pid"]
    with socket.socket(socket.AF_UNIX) as warm:
        warm.connect(address)
        warm.sendall(json.dumps(kernel | {"inside": inside}).encode() + b"\n")
        status = warm.recv(16)  # comes when the kernel ends, and not at all when the warm process is killed
    holder.kill()
    holder.wait()
    remove([Path(path).parent for path in kernel["groups"]])
    return int(status or b"1")


if __name__ == "__main__":
    main()
