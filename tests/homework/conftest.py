"""A toy course of one assignment, the command run on it, and the services that it works with."""

import contextlib
import ctypes
import getpass
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nbformat
import pandas as pd
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))

from course_grade import cli, sandbox
from course_grade.errors import SandboxError
from tests.homework import toy

IN_CI = bool(os.environ.get("CI")) or bool(os.environ.get("COURSE_CI"))


@pytest.fixture(scope="session")
def bubblewrap():
    """Without a sandbox nothing here can be tested: loud on a laptop, an error in CI."""
    try:
        sandbox.require()
    except SandboxError as error:
        if IN_CI:
            raise
        pytest.skip(f"NOT TESTED, and grading untrusted notebooks is not safe to change here: {error}")


def not_installed(what: str) -> None:
    """Loud on a laptop, an error in CI."""
    if IN_CI:
        raise FileNotFoundError(what)
    pytest.skip(f"NOT TESTED: {what}")


@dataclass
class Run:
    """One run of the command: what it was given, and what it left."""

    course: Path
    inbox: Path
    out: Path
    done: subprocess.CompletedProcess | None = None

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "grades.csv", index_col="student", dtype=str, keep_default_na=False)

    def graded(self, student: str) -> nbformat.NotebookNode:
        return nbformat.read(self.out / "autograded" / student / "toy" / "toy.ipynb", as_version=4)

    def feedback(self, student: str) -> str:
        return (self.out / "feedback" / student / "toy" / "toy.html").read_text(encoding="utf-8")

    def command(self, *more: str) -> list[str]:
        """The command, with one job: each further one is a process that imports all that grading needs, which costs seconds."""
        base = [sys.executable, "-m", "course_grade.cli", self.inbox, "--out", self.out, "--course", self.course]
        return [*map(str, base), "--release", str(self.course / "release" / "toy.ipynb"), "--jobs", "1", *more]

    def grade(self, *more: str, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess:
        variables = os.environ | environment
        self.done = subprocess.run(self.command(*more), capture_output=True, text=True, check=False, timeout=500, env=variables)
        if status is not None:
            assert self.done.returncode == status, self.done.stdout + self.done.stderr
        return self.done

    def main(self, *more: str) -> int:
        """The command within this process, which starts sooner: for what is refused before anything is graded."""
        with mock.patch.dict(os.environ):
            return cli.main(self.command(*more)[3:])


@pytest.fixture
def course(tmp_path, bubblewrap):
    return make_course(tmp_path)


def make_course(folder: Path, **answers: str) -> Run:
    """A fresh toy course, and an inbox with one notebook a keyword: student -> source of the answer `scale`."""
    run = Run(toy.write(folder / "course"), folder / "inbox", folder / "out")
    run.inbox.mkdir()
    for student, source in answers.items():
        hand_in(run, student, toy.answered(source))
    return run


def make_class(folder: Path, answers: dict[str, str], seed_of: Run | None = None) -> Run:
    """A course with a whole class, one file unreadable, and with ``seed_of`` the hidden inputs of another run."""
    run = make_course(folder, **answers)
    (run.inbox / "unreadable.ipynb").write_text("[]")
    if seed_of:
        run.out.mkdir()
        shutil.copy(seed_of.out / "run.json", run.out)
    return run


def hand_in(run: Run, student: str, notebook: nbformat.NotebookNode) -> None:
    (run.inbox / f"{student}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """Content of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def left_behind(run: Run) -> list[str]:
    """Processes, folders of sockets and control groups of a run that has ended; other graders may be at work meanwhile."""
    label = str(json.loads((run.out / "run.json").read_text(encoding="utf-8"))["seed"])
    ours = re.compile(rf"COURSE_GRADE_SEED={label}\b|/course-grade-\d+-{label}-")
    left = [str(path) for path in Path("/dev/shm").glob(f"course-grade-*-{label}-*")]
    left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/course-grade-*-{label}")]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())]
            if ours.search("\n".join(words)):
                left.append(f"process {process.pid}: {' '.join(words[:3])}")
    return left


def eventually(condition: Callable, seconds: float = 30, pause: float = 0.02):
    """What a condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still not after {seconds} s"
        time.sleep(pause)
    return found


# --- what a command leaves behind --------------------------------------------------------------------------------------------


class Traces:
    """What the processes of this test have started, and what of it is still there.

    This process adopts orphans, so that whatever a killed command leaves is found below it, and nothing of other tests' is.
    """

    def __init__(self) -> None:
        self.before = psutil.Process().children()  # a browser that other tests use goes on and starts processes of its own
        self.known = set(psutil.Process().children(recursive=True))
        self.seen: set[int] = set()
        self.ended = threading.Event()
        self.watching = threading.Thread(target=self._watch, daemon=True)
        self.watching.start()

    def _watch(self) -> None:
        while not self.ended.wait(0.1):
            self.seen |= {process.pid for process in self.processes()}

    def close(self) -> None:
        self.ended.set()
        self.watching.join()

    def processes(self) -> list[psutil.Process]:
        """Processes that were started since; those that ended and wait for this process to ask are none."""
        found, others = [], set(self.known)
        for process in self.before:
            with contextlib.suppress(psutil.NoSuchProcess):
                others |= set(process.children(recursive=True))
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process not in others and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def files(self) -> list[Path]:
        """Folders of sockets and control groups made by a process that was seen here."""
        found = [*Path("/dev/shm").glob("course-grade-*"), *Path("/sys/fs/cgroup").glob("**/course-grade-*")]
        return [path for path in found if int(path.name.split("-")[2]) in self.seen]

    def left(self) -> list:
        """Everything that is left, for a person to read; what is just ending gets a moment to do so."""
        end = time.monotonic() + 5
        while (left := [*self.processes(), *self.files()]) and time.monotonic() < end:
            for orphan in psutil.Process().children():  # asked how they ended, as the system's first process asks orphans
                with contextlib.suppress(ChildProcessError, psutil.NoSuchProcess):
                    if orphan.status() == psutil.STATUS_ZOMBIE:
                        os.waitpid(orphan.pid, os.WNOHANG)
            time.sleep(0.1)
        return [str(path) if isinstance(path, Path) else _told(path) for path in left]


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid}, {process.status()}, {process.name()} of {process.ppid()}: {' '.join(process.cmdline())[:200]}"
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return f"{process.pid}, ended by now"


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    adopt = ctypes.CDLL(None, use_errno=True).prctl
    assert adopt(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    found = Traces()
    yield found
    found.close()
    adopt(36, 0, 0, 0, 0)


# --- services ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of an empty database on a server of its own, without TCP."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        not_installed("no PostgreSQL here: apt install postgresql")
    programs = Path(initdb).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 bytes at most
    somebody = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        names = {user.pw_name: user for user in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        os.chown(folder, user.pw_uid, user.pw_gid)
        somebody = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    where = {"cwd": folder, "stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, **somebody}
    data, name = str(folder / "data"), getpass.getuser()
    make = [programs / "initdb", "-D", data, "-U", name, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run(make, check=True, **where)
    serve = [programs / "postgres", "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(serve, stderr=log, **where)
    try:
        url = f"postgresql+psycopg://{name}@/grades?host={folder}"
        eventually(lambda: _create_database(url, server))
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # ends its sessions and stops
        server.wait(30)
        shutil.rmtree(folder)


def _create_database(url: str, server: subprocess.Popen) -> bool:
    import psycopg

    assert server.poll() is None, "the server ended"
    try:
        with psycopg.connect(url.replace("+psycopg", "").replace("/grades", "/postgres"), autocommit=True) as connection:
            connection.execute("create database grades")
    except psycopg.OperationalError:
        return False  # not ready yet
    return True


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A headless browser with an empty profile.

    It is closed with its module: a second Playwright in one process, as other tests start it, finds an event loop running.
    """
    program = shutil.which("chromium")
    if program is None:
        not_installed("no browser here: apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        not_installed("Playwright, which steers the browser, is not installed: pip install playwright")
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=program,
            headless=True,
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
            viewport={"width": 1200, "height": 900},
        )
        yield browser
        browser.close()
