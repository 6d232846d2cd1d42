"""The gradebook in PostgreSQL, and grading on Dask workers, one of which is killed."""

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import psycopg
import pytest
from distributed import Client
from nbgrader.api import Gradebook

from tests.homework import toy
from tests.homework.conftest import Run, eventually, make_class, make_course

SLOW = f"import time\ntime.sleep(2.5)\n{toy.RIGHT}"
ANSWERS = {"a_slow": SLOW, "half": toy.HALF, "right": toy.RIGHT, "wrong": toy.WRONG}
ANSWERS |= {f"student_{n}": toy.RIGHT for n in range(2)}
POINTS = {"a_slow": "6", "half": "4", "right": "6", "wrong": "2", "unreadable": "0", **{f"student_{n}": "6" for n in range(2)}}


@pytest.fixture(scope="module")
def local(tmp_path_factory, bubblewrap) -> Run:
    """A class graded by this machine into SQLite."""
    run = make_class(tmp_path_factory.mktemp("local"), ANSWERS)
    run.grade()
    return run


@pytest.fixture(scope="module", autouse=True)
def calling_nobody(tmp_path_factory, bubblewrap) -> Iterator[Run]:
    """The command with an address where nobody answers: it waits for half a minute, during all other tests."""
    run = make_course(tmp_path_factory.mktemp("calling"), ada=toy.RIGHT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run.process = subprocess.Popen(run.command("--scheduler", "tcp://127.0.0.1:9"), **pipes)
    yield run
    run.process.kill()
    run.process.communicate()


def table_of(run: Run) -> str:
    return (run.out / "grades.csv").read_text(encoding="utf-8")


def rows(url: str) -> dict[str, int]:
    tables = ("student", "submitted_assignment", "submitted_notebook", "grade", "comment")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}


def everything(url: str) -> dict[str, list]:
    """All rows of the database, in an order that does not depend on when they were changed."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        names = connection.execute("select table_name from information_schema.tables where table_schema = 'public'").fetchall()
        return {name: sorted(map(str, connection.execute(f'select * from "{name}"').fetchall())) for (name,) in names}


def test_points_of_the_class(local):
    assert local.table["total"].to_dict() == POINTS


# --- PostgreSQL --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_postgres(tmp_path_factory, local, postgres):
    """The same class, graded into PostgreSQL with the same hidden inputs."""
    run = make_class(tmp_path_factory.mktemp("postgres"), ANSWERS, seed_of=local)
    run.grade("--gradebook", postgres)
    return run


def test_the_table_is_the_same_from_postgresql_as_from_sqlite(local, in_postgres):
    assert table_of(in_postgres) == table_of(local)
    assert not (in_postgres.out / "gradebook.db").exists()


def test_postgresql_holds_each_student_and_grade_once(in_postgres, postgres):
    students, cells, answers = len(POINTS), 4, 4
    assert rows(postgres) == {
        "student": students,
        "submitted_assignment": students,
        "submitted_notebook": students,
        "grade": students * cells,
        "comment": students * answers,
    }
    with Gradebook(postgres) as book:
        assert book.find_submission("toy", "half").score == 4


def test_run_again_changes_nothing_in_postgresql(in_postgres, postgres):
    before = everything(postgres), table_of(in_postgres)
    done = in_postgres.grade("--gradebook", postgres)
    assert f"{len(POINTS)} of {len(POINTS)} students graded, 0 of them now" in done.stdout
    assert (everything(postgres), table_of(in_postgres)) == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://nobody@/grades?host=/nowhere", "/nowhere"),
        ("postgresql+psycopg://{user}@/unknown?host={host}", '"unknown" does not exist'),
        ("oracle://somebody@localhost/grades", "oracle"),
        ("grades", "grades"),
    ],
)
def test_a_wrong_url_is_refused_in_one_line(tmp_path, postgres, capsys, url, words):
    host, user = postgres.partition("host=")[2], postgres.partition("//")[2].partition("@")[0]
    run = make_course(tmp_path, ada=toy.RIGHT)
    assert run.main("--gradebook", url.format(host=host, user=user)) == 2
    said = capsys.readouterr().err
    assert said.startswith("course-grade: ")
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (run.out / "autograded").exists()


def test_a_password_is_not_told(tmp_path, bubblewrap, capsys):
    run = make_course(tmp_path, ada=toy.RIGHT)
    assert run.main("--gradebook", "postgresql+psycopg://me:verysecret@/grades?host=/nowhere") == 2
    assert "verysecret" not in capsys.readouterr().err


# --- Dask --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask(tmp_path_factory, traces):
    """A scheduler and two workers, as processes of their own: its address, and the workers by name."""
    folder = tmp_path_factory.mktemp("dask")
    where, dask = ["--scheduler-file", str(folder / "scheduler.json")], [sys.executable, "-m", "dask"]
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    processes = {"scheduler": subprocess.Popen([*dask, "scheduler", *where, *options, "--port", "0"], cwd=folder)}
    for name in ("one", "two"):
        command = [*dask, "worker", *where, *options, "--nthreads", "1", "--no-nanny", "--name", name]
        processes[name] = subprocess.Popen([*command, "--local-directory", str(folder)], cwd=folder)
    try:
        with Client(scheduler_file=where[1], timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield client, processes
    finally:
        stop(processes)


def stop(processes: dict[str, subprocess.Popen]) -> None:
    """Workers first: one that is told to stop while its scheduler goes may wait for it forever."""
    for process in reversed(processes.values()):
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, local, dask, traces):
    """The same class on two workers, of which the one that runs the slow notebook is killed while it does."""
    client, processes = dask
    run = make_class(tmp_path_factory.mktemp("dask_class"), ANSWERS, seed_of=local)
    command = run.command("--scheduler", client.scheduler.address)
    grading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def running() -> list[psutil.Process]:
        """Processes of the worker that runs the slow notebook: other kernels end sooner."""
        if not list(run.out.glob("autograded/*/toy/toy.ipynb")):
            return []
        for process in (processes["one"], processes["two"]):
            children = psutil.Process(process.pid).children(recursive=True)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "launch.py" in " ".join(child.cmdline()) and time.time() - child.create_time() > 1.5:
                        run.worker = process
                        return children
        return []

    try:
        run.orphans = eventually(running, 60, pause=0.1)
        run.worker.send_signal(signal.SIGKILL)
        out, err = grading.communicate(timeout=200)
    finally:
        grading.kill()
    run.done = subprocess.CompletedProcess(command, grading.returncode, out, err)
    return run


def test_a_worker_is_killed_and_the_command_ends_well(killed):
    assert killed.worker.wait() == -signal.SIGKILL
    assert killed.done.returncode == 0, killed.done.stdout + killed.done.stderr
    assert f"{len(POINTS)} of {len(POINTS)} students graded" in killed.done.stdout
    assert "Traceback" not in killed.done.stderr


def test_points_are_those_of_this_machine(killed, local):
    assert table_of(killed) == table_of(local)


def test_nobody_is_lost_or_there_twice(killed):
    students = [line.partition(",")[0] for line in table_of(killed).splitlines()[1:]]
    assert Counter(students) == dict.fromkeys(POINTS, 1)
    with Gradebook(f"sqlite:///{killed.out / 'gradebook.db'}") as book:
        submissions = book.assignment_submissions("toy")
        assert Counter(submission.student.id for submission in submissions) == dict.fromkeys(POINTS, 1)
        assert {len(submission.notebooks[0].grades) for submission in submissions} == {4}


def test_nothing_is_left_of_the_killed_worker(killed, traces):
    _, alive = psutil.wait_procs(killed.orphans, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    left = [path for path in traces.files() if path.name.split("-")[2] == str(killed.worker.pid)]
    assert left == []


def test_workers_that_stop_leave_nothing(killed, dask, traces, calling_nobody):
    client, processes = dask
    calling_nobody.process.wait(100)
    client.close()
    stop(processes)
    assert traces.left() == []


def test_no_scheduler_at_the_address(calling_nobody):
    out, said = calling_nobody.process.communicate(timeout=100)
    assert calling_nobody.process.returncode == 2, out + said
    assert "No Dask scheduler" in said
    assert "tcp://127.0.0.1:9" in said
    assert "Traceback" not in said
    assert not (calling_nobody.out / "grades.csv").exists()


def test_an_address_that_is_none(tmp_path, bubblewrap, capsys):
    run = make_course(tmp_path, ada=toy.RIGHT)
    assert run.main("--scheduler", "nonsense") == 2
    assert "nonsense" in capsys.readouterr().err
