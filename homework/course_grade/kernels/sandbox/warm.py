"""Import what every kernel needs once, and give each new sandbox a copy (fork) of this process as its kernel.

Usage: warm.py SOCKET MODULE ...; it ends with its parent. It runs outside the sandbox, so it holds nothing that a student
must not see: libraries, no gradebook, no hidden test, no environment. A copy runs no line of a student's before it has

1. joined the control groups, and all namespaces that bubblewrap made (`setns`): files, processes, network, users and the rest;
2. set its limits, given up every capability for good, and closed all files but the sandbox's /dev/null.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import threading

import launch  # type: ignore[import-not-found]  # the script beside this one

LIBC = ctypes.CDLL(None, use_errno=True)
NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
#            user         mount        process      network      ipc          uts          cgroup


def main() -> None:
    launch.die_with_parent()
    address, *modules = sys.argv[1:]
    for name in modules:
        with contextlib.suppress(ImportError):  # `from x import y`: y need not be a module
            importlib.import_module(name)
    importlib.import_module("ipykernel.kernelapp")
    importlib.import_module("ipykernel.ipkernel")
    if threading.active_count() > 1:
        sys.exit("warm: an import started a thread, and a process with threads must not be copied")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                serve(client)
                os._exit(0)
            client.close()


def serve(client: socket.socket) -> None:
    """In the first copy: enter the sandbox, leave the second copy there as the kernel, and tell when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client.makefile("rb") as lines:
        kernel = json.loads(lines.readline())
    launch.join(kernel["groups"])
    if os.geteuid() == 0:
        os.setgroups([])  # here, since within the namespace nobody may
    walls = os.pidfd_open(kernel["inside"])
    check(LIBC.setns(walls, NAMESPACES))
    os.close(walls)
    child = os.fork()  # only children enter a process namespace
    if child == 0:
        try:
            become_kernel(kernel)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # a launcher that was killed does not ask
        client.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def become_kernel(kernel: dict) -> None:
    os.setsid()
    launch.limit(kernel["limits"])
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, 1 << 16)
    give_up_capabilities()
    os.chdir(launch.HOME)
    os.environ.clear()
    os.environ.update(kernel["environment"])
    sys.path[:0] = [path for path in kernel["environment"].get("PYTHONPATH", "").split(":") if path]
    sys.argv = ["kernel", "-f", kernel["connection"], *kernel["arguments"]]

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=sys.argv[1:])


def give_up_capabilities() -> None:
    """Entering a user namespace gives all capabilities within it; a kernel needs none, and must never get one again."""
    os.setresgid(launch.USER, launch.USER, launch.USER)
    os.setresuid(launch.USER, launch.USER, launch.USER)  # whom the namespace shows as root is still root outside
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    none = (ctypes.c_uint32 * 6)()
    check(LIBC.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    for capability in range(64):
        if LIBC.prctl(24, capability, 0, 0, 0) != 0:  # PR_CAPBSET_DROP; fails after the last one that the system knows
            break
    check(LIBC.capset(header, none))


def check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    main()
