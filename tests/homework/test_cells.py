"""One bad cell costs itself: whatever it does with interrupts, the kernel or the line to it, the rest is graded."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import dask
import nbformat
import pytest
from nbformat.v4 import new_code_cell

import release
from course_grade import job
from course_grade.assignment import Assignment
from course_grade.execute import SandboxExecute
from course_grade.workers import KilledWorker, Workers
from tests.homework import toy

LIMITS = {"memory": 1 << 30, "processes": 64, "disk": 64 << 20}
IGNORE = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
ALL = {"test-scale": "4", "test-total": "2"}
STOPPED, STUBBORN, DIED = "(stopped after 4 s)", "could not be interrupted, and was left out", "the kernel died in"

# By name: source of a cell that a student added, and words of the note.
ADDED = {
    "ten shell commands": ("\n".join(["!sleep 100"] * 10), STOPPED),
    "a shell script": ("%%bash\nfor n in 1 2 3 4; do sleep 100; done", STOPPED),
    "passes on": (
        "import time\nfor _ in range(9):\n    try:\n        time.sleep(99)\n    except KeyboardInterrupt:\n        pass",
        STOPPED,
    ),
    "tries again": (
        "import subprocess\nfor _ in range(6):\n    try:\n        subprocess.run(['sleep', '99'])\n    except BaseException: 1",
        STOPPED,
    ),
    "a context that suppresses": (
        "import contextlib, time\nfor _ in range(5):\n    with contextlib.suppress(BaseException):\n        time.sleep(99)",
        STOPPED,
    ),
    "threads": (
        "import threading, time\nwaiting = [threading.Thread(target=time.sleep, args=(99,)) for _ in range(4)]\n"
        "for thread in waiting:\n    thread.start()\nfor thread in waiting:\n    thread.join()",
        STOPPED,
    ),
    "a lock": ("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", STOPPED),
    "awaits": ("import asyncio\nawait asyncio.sleep(99)", STOPPED),
    "a generator": (
        "import time\ndef steps():\n    while True:\n        try:\n            time.sleep(9)\n        finally:\n"
        "            yield\nfor _ in zip(range(5), steps()): pass",
        STOPPED,
    ),
    "ignores": (f"{IGNORE}time.sleep(99)", STUBBORN),
    "handles": (f"{IGNORE}signal.signal(signal.SIGINT, lambda *_: print('no'))\nwhile True:\n    time.sleep(1)", STUBBORN),
    "is deep in C": ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", STUBBORN),
    "for ever": (
        "import time\nwhile True:\n    try:\n        time.sleep(9)\n    except BaseException:\n        pass",
        STUBBORN,
    ),
    "ends the process": ("import os\nos._exit(0)", DIED),
    "writes where it must not": ("import ctypes\nctypes.string_at(0)", DIED),
    "aborts": ("import os\nos.abort()", DIED),
    "exits": ("exit()\nraise ValueError", "(SystemExit)"),
    "quits": ("if True:\n    quit()\nraise ValueError", "(SystemExit)"),
    "exits from the system": ("import sys\nsys.exit('enough')", "(SystemExit)"),
    "asks": ("name = input('Who are you? ')", "(StdinNotImplementedError)"),
    "asks for a password": ("import getpass\ngetpass.getpass()", "(StdinNotImplementedError)"),
    "an error of ten megabytes": ("raise ValueError('x' * (10 << 20))", "too much output: an added cell"),
    "a picture of ten megabytes": (
        "from IPython.display import display\ndisplay({'image/png': 'x' * (10 << 20)}, raw=True)",
        "too much output: an added cell",
    ),
    "a picture of nothing": (
        "from IPython.display import display\ndisplay({'image/png': 7, 'text/plain': None}, raw=True)",
        "",
    ),
    "nonsense": (
        "kernel = get_ipython().kernel\n"
        "for content in ({'data': 7}, {}, [], 7):\n"
        "    kernel.session.send(kernel.iopub_socket, 'display_data', content=content, parent=kernel.get_parent())",
        "unreadable messages in an added cell",
    ),
    "forgets everything": ("%reset -f", ""),
    "installs": ("\n".join(f"!pip install nothing-{n}" for n in range(2)) + "\n%pip install nothing", ""),
    "downloads": ("!git clone https://example.org/x.git\n!curl -sS https://example.org\n!wget -nv https://example.org", ""),
    "closes what it prints to": ("import sys\nsys.stdout.close()\nsys.stderr.close()\nsys.__stdout__.close()", ""),
    "prints to nothing": ("import sys\nsys.stdout = sys.stderr = None", ""),
    "prints to nowhere": ("import sys\ndel sys.stdout, sys.stderr", "an added cell (AttributeError)"),
    "prints to a file that is closed": ("import sys\nwith open('log', 'w') as file:\n    sys.stderr = sys.stdout = file", ""),
    "prints to a number": ("import sys\nsys.stderr = 7", ""),
    "prints to both": (
        "import sys\nclass Both:\n    def __init__(self, *to): self.to = to\n    def write(self, text):\n"
        "        for each in self.to: each.write(text)\nsys.stdout = Both(sys.stdout, open('log', 'w'))",
        "",
    ),
    "prints to what exits": (
        "import sys\nclass Exits:\n    def write(self, text): sys.exit(text)\n    flush = write\nsys.stdout = Exits()",
        "",
    ),
    "takes names of builtins": ("list = [1, 2]; range = (0, 1); max = 1; print = 4; zip = isinstance = float = 'a'", ""),
    "sums up by hand": ("sum = 0\nfor n in [1, 2]:\n    sum += n", ""),
    "leaves a task that blocks": (
        "import asyncio, time\nasync def blocks():\n    time.sleep(9999)\ntask = asyncio.ensure_future(blocks())",
        "",
    ),
    "leaves tasks that block later": (
        "import asyncio, time\nasync def blocks():\n    await asyncio.sleep(0.001)\n    while True: pass\n"
        "tasks = [asyncio.create_task(blocks()), asyncio.gather(blocks(), blocks())]",
        "",
    ),
    "makes warnings errors": ("import warnings\nwarnings.filterwarnings('error')", ""),
    "prints in four thousand pieces": ("for n in range(4000):\n    print(n, flush=True)", ""),
}
PRINTS = """
from IPython.display import display
def {name}:
    for n in range(3000):
        display(n)
    return {value}
"""
# By name: answers, points, words of the note.
ANSWERED = {
    "prints in three thousand pieces": (
        PRINTS.format(name="scale(numbers, factor)", value="[number * factor for number in numbers]"),
        PRINTS.format(name="total(numbers)", value="sum(numbers)"),
        "4",
        "2",
        "",
    ),
    "exits in a check": (
        "import sys\ndef scale(numbers, factor):\n    if factor > 0: sys.exit()\n    return [factor * n for n in numbers]",
        "def total(numbers):\n    exit()",
        "2",
        "0",
        "",
    ),
    "kills the kernel in a check": (
        "import os\ndef scale(numbers, factor):\n    os._exit(0)",
        toy.RIGHT_TOTAL,
        "0",
        "2",
        f"{DIED} test-scale",
    ),
    "an answer that kills the kernel": ("import os\nos._exit(0)", toy.RIGHT_TOTAL, "0", "2", f"{DIED} scale"),
    "ignores in a check": (
        toy.RIGHT,
        f"{IGNORE}def total(numbers):\n    {IGNORE.splitlines()[1]}\n    time.sleep(99)",
        "4",
        "0",
        f"test-total {STUBBORN}",
    ),
    "swallows interrupts in a check": (
        "import time\ndef scale(numbers, factor):\n    while True:\n        try: time.sleep(9)\n        except: 1",
        toy.RIGHT_TOTAL,
        "0",
        "2",
        f"test-scale {STUBBORN}",
    ),
    "asks in a check": ("def scale(numbers, factor):\n    return [factor * int(input())]", toy.RIGHT_TOTAL, "0", "2", ""),
    "prints to nothing from a check": (
        "import sys\ndef scale(numbers, factor):\n    sys.stdout = None\n    return [n * factor for n in numbers]",
        "import sys\ndef total(numbers):\n    sys.stderr.close()\n    return sum(numbers)",
        "4",
        "2",
        "",
    ),
    "uses its own names of builtins": (
        "max, min = 10, [-10]\ndef scale(numbers, factor):\n    return [n * factor for n in numbers if min[0] < n < max]",
        "def sum(numbers, start=0.0):\n    return sum(numbers[1:], start + numbers[0]) if numbers else start\n"
        "def total(numbers):\n    return sum(numbers, 0.0)",
        "4",
        "2",
        "",
    ),
    "loops in a check": ("def scale(numbers, factor):\n    while factor:\n        pass", toy.RIGHT_TOTAL, "0", "2", ""),
}


@pytest.fixture(scope="module")
def plan(bubblewrap):
    settings = {"timeout": 300, "notebook_timeout": 900, "limits": LIMITS}
    plan = job.solve(job.Plan(Assignment("toy", toy.source(), toy.release()), seed=3, settings=settings))
    job.warmed(plan)  # by this thread, since it ends with the one that starts it
    yield plan
    job.cool()


@pytest.fixture(scope="module")
def graded(plan):
    """Notebooks with one bad cell, graded side by side since most of them only wait: by name, the notebook and its notes."""
    made = {}
    for number, (name, (source, _)) in enumerate(ADDED.items()):
        made[name] = toy.answered()
        made[name].cells.insert((0, 2, 4)[number % 3], new_code_cell(source))  # above, between and below the answers
    made |= {name: toy.answered(scale, total) for name, (scale, total, *_) in ANSWERED.items()}

    def grade(name: str) -> job.Result:
        # Only what is about a cell's limit has a short one, so that nothing here leans on the machine's pace.
        limited = ADDED.get(name, ANSWERED.get(name))[-1].endswith((STOPPED, STUBBORN)) or name == "loops in a check"
        settings = plan.settings | {"timeout": 4 if limited else 300}
        return job.grade(replace(plan, settings=settings), nbformat.writes(made[name]).encode())

    with ThreadPoolExecutor(8) as pool:
        results = dict(zip(made, pool.map(grade, made), strict=True))
    return {name: (nbformat.reads(result.notebook, as_version=4), result.notes) for name, result in results.items()}


def points(notebook: nbformat.NotebookNode) -> dict[str, str]:
    return {name: toy.cell(notebook, name).outputs[-1].data["text/plain"] for name in ALL}


@pytest.mark.parametrize("name", ADDED)
def test_a_bad_cell_costs_no_points_and_is_named(graded, name):
    notebook, notes = graded[name]
    assert points(notebook) == ALL
    assert ADDED[name][1] in "\n".join(notes)
    assert notes or not ADDED[name][1]


@pytest.mark.parametrize("name", ANSWERED)
def test_a_bad_answer_costs_its_own_points(graded, name):
    notebook, notes = graded[name]
    *_, scale, total, words = ANSWERED[name]
    assert points(notebook) == {"test-scale": scale, "test-total": total}
    assert words in "\n".join(notes)


DRAWS = """### BEGIN HIDDEN TESTS
import random
import numpy as np
import torch
from course_grade.probe import emit
hidden_draws = [random.random(), np.random.rand(2).tolist(), torch.rand(3)]
emit("numbers of each generator", lambda: scale(hidden_draws, 1))
def hidden_gradient():
    x = torch.arange(3.0).requires_grad_()
    return torch.autograd.grad(sum(scale(x, 2)), x)[0]
emit("a gradient", hidden_gradient)
emit("types", lambda: [str(torch.zeros(1).dtype), str(torch.zeros(1).device), torch.is_inference_mode_enabled()])
emit("no number", lambda: scale([np.log(np.zeros(1))[0]], 1))
### END HIDDEN TESTS
"""
SETS = {
    "type": "import torch\ntorch.set_default_dtype(torch.float64)",
    "gradients": "import torch\ntorch.set_grad_enabled(False)",
    "inference": "import torch\nmode = torch.inference_mode()\nmode.__enter__()",
    "device": "import torch\ntorch.set_default_device('meta')",
    "seeds": "import random, torch\nimport numpy as np\nrandom.seed(1)\nnp.random.seed(2)\ntorch.manual_seed(3)",
    "errors": "import warnings\nimport numpy as np\nnp.seterr(all='raise')\nwarnings.simplefilter('error')",
}


@pytest.fixture(scope="module")
def drawing(bubblewrap):
    """A plan whose hidden test leans on whatever is global."""
    source = toy.source()
    toy.cell(source, "given").source = "import numpy, torch"
    toy.cell(source, "test-scale").source = DRAWS
    settings = {"timeout": 300, "notebook_timeout": 900}
    return job.solve(job.Plan(Assignment("toy", source, release.released(deepcopy(source))), seed=5, settings=settings))


@pytest.mark.parametrize("name", SETS)
def test_what_a_cell_sets_changes_no_check_and_is_there_afterwards(drawing, name):
    made = deepcopy(drawing.assignment.release)
    toy.cell(made, "scale").source, toy.cell(made, "total").source = toy.RIGHT, toy.RIGHT_TOTAL
    made.cells.insert(1, new_code_cell(SETS[name]))
    made.cells.append(new_code_cell("import torch, numpy as np\nprint(torch.get_default_dtype(), np.geterr()['over'])"))
    result = job.grade(drawing, nbformat.writes(made).encode())
    notebook = nbformat.reads(result.notebook, as_version=4)
    assert toy.cell(notebook, "test-scale").outputs[-1].data["text/plain"] == "4"
    assert result.notes == ()
    wanted = {"type": "torch.float64 warn\n", "errors": "torch.float32 raise\n"}.get(name, "torch.float32 warn\n")
    assert next(cell for cell in notebook.cells if "geterr" in cell.source).outputs[0].text == wanted


def test_feedback_and_notes_say_why_a_check_was_not_reached(graded):
    for name, words in (
        ("kills the kernel in a check", "the kernel died"),
        ("swallows interrupts in a check", "stopped after 4 s"),
    ):
        text = toy.cell(graded[name][0], "test-scale").outputs[0].text
        assert text.splitlines() == [f"✗ five numbers: not reached: {words}", f"✗ a factor below zero: not reached: {words}"]
    text = toy.cell(graded["asks in a check"][0], "test-scale").outputs[0].text
    assert "✗ five numbers: `input()` cannot be answered while grading" in text


def test_a_test_that_ends_with_an_error_is_named(plan):
    """As when a student's cell has broken what the test needs before its first check."""
    made = toy.answered()
    made.cells.insert(1, new_code_cell("import random\nrandom.Random = 7"))
    result = job.grade(plan, nbformat.writes(made).encode())
    assert "test-scale ended with an error (TypeError)" in result.notes
    text = toy.cell(nbformat.reads(result.notebook, as_version=4), "test-scale").outputs[0].text
    assert text.startswith("✗ five numbers: not reached: the test ended with an error (TypeError)\n")


def test_a_given_cell_that_was_stopped_is_named(plan):
    made = toy.answered()
    made.cells.insert(0, new_code_cell("import time\nclass Slow(int):\n    def __pos__(self): time.sleep(99)\nslow = Slow()"))
    source = toy.source()
    toy.cell(source, "given").source = "+slow"
    toy.cell(made, "given").source = "+slow"
    assignment = Assignment("toy", source, release.released(deepcopy(source)))
    result = job.grade(
        replace(plan, assignment=assignment, settings=plan.settings | {"timeout": 4}), nbformat.writes(made).encode()
    )
    assert "given (stopped after 4 s)" in "\n".join(result.notes)


def test_feedback_says_that_time_was_up(graded):
    notebook, _ = graded["loops in a check"]
    assert "✗ five numbers: stopped: it takes too long" in toy.cell(notebook, "test-scale").outputs[0].text


def test_nothing_that_is_printed_is_dropped(graded):
    notebook, _ = graded["prints in four thousand pieces"]
    cell = next(cell for cell in notebook.cells if "4000" in cell.source)
    assert cell.outputs[0].text == "".join(f"{n}\n" for n in range(4000))


def test_cells_that_ran_before_a_kernel_died_are_not_heard_twice(plan):
    """Each cell is heard once, though most run twice here; the second kernel knows nothing of the first."""
    made = toy.answered()
    made.cells = [new_code_cell("print('once')"), *made.cells, new_code_cell("import os\nprint('last')\nos._exit(0)")]
    made.cells.append(new_code_cell("print(given, 'after')"))
    executor = SandboxExecute(seed=1, warm=job.warmed(plan), **plan.settings)
    executor.execute(made)
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in made.cells]
    assert printed[0] == "once\n"
    assert printed[-1] == "1 after\n"
    assert "the kernel died" in printed[-2]


def test_a_notebook_that_takes_too_long_keeps_what_it_has(plan):
    made = toy.answered()
    made.cells.append(new_code_cell(f"{IGNORE}time.sleep(99)"))
    executor = SandboxExecute(seed=1, warm=job.warmed(plan), timeout=60, notebook_timeout=5, limits=LIMITS)
    executor.execute(made)
    assert executor.notes == ["stopped: the notebook takes longer than 5 s"]


def good(number: int) -> int:
    time.sleep(0.02)
    return number


def raises() -> None:
    raise ZeroDivisionError("the job's own")


def kills_its_worker() -> None:
    os._exit(3)


def test_jobs_that_kill_their_workers_cost_nobody_else():
    """With a scheduler that gives up at the first death, so that those who waited for the same worker are lost at first."""
    jobs = [(f"good {number}", good, (number,)) for number in range(5)]
    jobs[1:1] = [("killer", kills_its_worker, ())]
    jobs[3:3] = [("raises", raises, ())]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), Workers(2) as workers:
        results = dict(workers.run(jobs))
    assert isinstance(results.pop("killer"), KilledWorker)
    assert isinstance(results.pop("raises"), ZeroDivisionError)
    assert results == {f"good {number}": number for number in range(5)}
