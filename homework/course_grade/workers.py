"""Many jobs at once, on this machine or on others, with Dask."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from course_grade.errors import AssignmentError, IntakeError, WorkersError
from course_grade.job import cool

RETRIES = 2
Job = tuple[str, Callable, tuple]  # name, function, arguments

dask.config.set(
    {
        "distributed.scheduler.allowed-failures": RETRIES,  # how many workers may die of one job
        "distributed.deploy.lost-worker-timeout": "1 day",  # a worker that died starts again, and is not given up meanwhile
        "distributed.admin.low-level-log-length": 0,  # or the last messages, submissions and all, stay in memory
        "distributed.admin.large-graph-warning-threshold": "1GB",  # submissions travel with their jobs
    }
)


class Workers:
    """Worker processes: one for each of ``jobs`` on this machine, or those of a Dask scheduler at ``address``."""

    def __init__(self, jobs: int, address: str | None = None) -> None:
        self.jobs = jobs
        self.address = address

    def __enter__(self) -> "Workers":
        with ExitStack() as stack:
            stack.callback(cool)
            where = self.address
            if where is None:
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="course-grade-dask-"))
                where = stack.enter_context(
                    LocalCluster(
                        n_workers=self.jobs,
                        threads_per_worker=1,
                        processes=self.jobs > 1,  # one at a time needs no process of its own: it starts sooner
                        memory_limit=0,  # kernels hold what is large, and the sandbox bounds them
                        dashboard_address="127.0.0.1:0",  # any free port, for this machine alone
                        local_directory=scratch,
                        silence_logs=50,
                    )
                )
            try:
                # Our own answer, however slowly on a busy machine; nobody may be at an address that was given.
                patience = 300 if self.address is None else 10
                self.client = stack.enter_context(Client(where, timeout=patience, set_as_default=False))
                self.client.wait_for_workers(1, timeout=max(30, patience))
            except (OSError, TimeoutError, ValueError) as error:
                raise WorkersError(f"No Dask scheduler with workers answers at {where}: {error}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[str, object]]:
        """Name and result of each job, as they come; what a job raised is its result.

        Jobs are taken a few ahead of what is finished, so that no more submissions are in memory. A job whose worker died, or
        whose kernel did not start, is tried again, up to `RETRIES` times. A worker takes down the jobs that wait for it, too:
        those whose workers died each time run once more, one by one, after all others.
        """
        jobs = iter(jobs)
        ahead = 1 + max(1, sum(self.client.nthreads().values()))
        under_way: dict[str, Job] = {}
        suspects: list[Job] = []

        def submit(job: Job) -> Future:
            _, function, arguments = job
            future = self.client.submit(attempt, function, *arguments, pure=False, retries=RETRIES)
            under_way[future.key] = job
            return future

        waiting = as_completed(map(submit, islice(jobs, ahead)), loop=self.client.loop)
        for future in waiting:
            job, result = under_way.pop(future.key), outcome(future)
            if isinstance(result, KilledWorker):
                suspects.append(job)
            else:
                yield job[0], result
            future.release()
            for job in islice(jobs, 1):
                waiting.add(submit(job))
        for job in suspects:
            yield job[0], outcome(submit(job))


def outcome(future: Future) -> object:
    """What a job gave or raised. A worker that dies takes along what it has not handed over, so that nobody knows before."""
    try:
        return future.result()
    except Exception as error:
        return error


def attempt(function: Callable, *arguments: object) -> object:
    """Run a job on a worker. Errors that trying again would not change are results; a sandbox may work the next time."""
    try:
        return function(*arguments)
    except (IntakeError, AssignmentError) as error:
        return error


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
