"""Settings of the homework course: for `course-grade`, and for nbgrader's own commands and formgrader in this folder.

`course-grade` stops when this file is broken, rather than go on without it.
"""

c = get_config()  # noqa: F821 - traitlets defines it

c.CourseDirectory.assignment_id = "14_homework"

# Kernels of submissions: limits of one cell, of one notebook, and of the sandbox. All that there are:
# course_grade/kernels/sandbox/launch.py.
c.SandboxExecute.timeout = 60
c.SandboxExecute.notebook_timeout = 240
c.SandboxExecute.limits = {"memory": 3 << 30, "processes": 128, "disk": 256 << 20}

# Where an nbgrader command executes a notebook after all, it does so in the sandbox.
c.ExecutePreprocessor.kernel_name = "sandbox"
c.KernelManager.transport = "ipc"


def _use_course_grade(**_):
    raise RuntimeError(
        "Hidden tests of this course are judged outside the kernel: grade with `course-grade`, not with `nbgrader autograde`."
    )


c.Autograde.pre_convert_hook = _use_course_grade
