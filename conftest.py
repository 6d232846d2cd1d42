"""Options and environment of all tests."""

import os

from nbmake import nb_result, nb_run, pytest_items

from tests.lessons.running import complaints

# The Korean lessons have the same code (a test compares it), so they are not executed a second time.
collect_ignore = ["notebooks/ko"]

# Tests and the kernels that they start run every lesson small, and each process on one core: there are several at once.
os.environ["COURSE_PROFILE"] = "ci"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("COURSE_SEEDS", "COURSE_DATA"):
    os.environ.pop(name, None)


class JudgedRun(nb_run.NotebookRun):
    """nbmake asks that a lesson runs; this asks of the same run that a reader sees what they should."""

    def execute(self) -> nb_result.NotebookResult:
        result = super().execute()
        if result.error is None and (found := complaints(result.nb)):
            result.error = nb_result.NotebookError(summary=found[0], trace="\n".join(found), failing_cell_index=-1)
        return result


pytest_items.NotebookRun = JudgedRun
