"""Submissions that want more than they earn, or harm. Each is made alone; all are graded in one run, next to honest ones.

An attack says what it must get: its points in the two tests, and words that its notes must hold.
"""

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.homework import toy

WRONG_TOTAL = "def total(numbers):\n    return 0.0"


@dataclass(frozen=True)
class Attack:
    make: Callable  # (inbox, file) -> None: puts the submission there
    scale: str = "0"
    total: str = "0"
    note: str = ""


ATTACKS: dict[str, Attack] = {}


def attack(scale: str = "0", total: str = "0", note: str = "") -> Callable:
    """Register a function that changes a notebook with wrong answers, or makes a file by itself."""

    def register(make: Callable) -> Callable:
        ATTACKS[make.__name__] = Attack(make, scale, total, note)
        return make

    return register


def notebook(scale: str = toy.WRONG, total: str = WRONG_TOTAL, **others: str) -> nbformat.NotebookNode:
    return toy.answered(scale, total, **others)


def hand_in(made: nbformat.NotebookNode, file: Path) -> None:
    file.write_text(nbformat.writes(made), encoding="utf-8")


def first(made: nbformat.NotebookNode, source: str) -> nbformat.NotebookNode:
    """Run something before everything else."""
    made.cells.insert(0, new_code_cell(source))
    return made


# --- points for nothing ------------------------------------------------------------------------------------------------------


@attack()
def tests_tagged_to_be_skipped(inbox, file):
    made = notebook()
    for cell in made.cells:
        cell.metadata["tags"] = ["skip-execution", "raises-exception"]
    hand_in(made, file)


@attack()
def a_module_beside_the_notebook(inbox, file):
    (inbox / "random.py").write_text("raise SystemExit")
    hand_in(first(notebook(), "open('random.py', 'w').write('Random = None')\nopen('course_grade.py', 'w').write('')"), file)


@attack()
def asserts_that_never_fail(inbox, file):
    hand_in(first(notebook(), "import numpy.testing as t\nt.assert_allclose = t.assert_equal = lambda *a, **k: None"), file)


@attack()
def a_probe_of_its_own(inbox, file):
    code = """
import sys, types
from IPython.display import display
fake = types.ModuleType("course_grade.probe")
fake.seed = 0
def emit(name, compute):
    display({"application/vnd.course-grade+json": {"name": name, "value": 0.0}, "text/plain": ""}, raw=True)
fake.emit = emit
sys.modules["course_grade.probe"] = fake
"""
    hand_in(first(notebook(), code), file)


@attack(scale="4", total="0")
def values_sent_before_the_test(inbox, file):
    code = """
from course_grade.probe import emit
for name in ("five numbers", "a factor below zero", "a sum"):
    emit(name, lambda: 0.0)
"""
    hand_in(first(notebook(scale=toy.RIGHT), code), file)


@attack()
def values_sent_twice(inbox, file):
    code = """
from course_grade.probe import emit
def total(numbers):
    for guess in (0.0, sum(numbers)):
        emit("a sum", lambda: guess)
    return sum(numbers)
"""
    hand_in(notebook(total=code), file)


@attack()
def the_test_is_edited(inbox, file):
    made = notebook()
    for name in ("test-scale", "test-total"):
        toy.cell(made, name).source = "100"
    hand_in(made, file)


@attack()
def more_points_in_the_metadata(inbox, file):
    made = notebook()
    for name in ("test-scale", "test-total"):
        toy.cell(made, name).metadata.nbgrader.update(points=1000, grade=False, solution=True, locked=False)
    hand_in(made, file)


@attack()
def an_input_transformer(inbox, file):
    code = """
def cheat(lines):
    return ["100\\n"] if any("emit" in line for line in lines) else lines
get_ipython().input_transformers_cleanup.append(cheat)
"""
    hand_in(first(notebook(), code), file)


@attack()
def a_seed_of_its_own(inbox, file):
    hand_in(first(notebook(), "import os\nos.environ['COURSE_GRADE_SEED'] = '0'"), file)


@attack()
def builtins_replaced(inbox, file):
    hand_in(first(notebook(), "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.sum = lambda *a: 0"), file)


@attack()
def everything_is_equal(inbox, file):
    code = """
class Equal(float):
    __eq__ = __le__ = __ge__ = lambda *a: True
    __hash__ = None
def scale(numbers, factor):
    return [Equal(0)] * 5
"""
    hand_in(notebook(scale=code), file)


@attack()
def solutions_from_the_disk(inbox, file):
    code = """
import os, sys
found = []
for folder, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/usr", sys.prefix, sys.base_prefix)]
    for name in names:
        if name.endswith((".ipynb", ".csv", ".db", ".json")):
            text = open(os.path.join(folder, name), errors="replace").read()
            found += [os.path.join(folder, name)] * ("BEGIN " + "SOLUTION" in text or "test-scale" in text)
print("FOUND", found)
"""
    hand_in(first(notebook(), code), file)


# --- harm to others ----------------------------------------------------------------------------------------------------------


@attack()
def writes_to_every_file_it_finds(inbox, file):
    code = f"""
import itertools, os
for root in ({str(inbox.parent)!r}, {str(Path.home())!r}, "/tmp", "/var", "/etc", "/usr", "/dev/shm"):
    files = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    for path in itertools.islice(files, 500):
        try:
            open(path, "w").write("gone")
        except OSError:
            pass
for path in ({str(inbox / "honest.ipynb")!r}, {str(inbox.parent / "out" / "gradebook.db")!r}):
    for act in (os.remove, lambda p: open(p, "w")):
        try:
            act(path)
            print("DID IT")
        except OSError as error:
            print(type(error).__name__)
"""
    hand_in(first(notebook(), code), file)


@attack()
def network(inbox, file):
    code = f"""
import socket
for address in (("127.0.0.1", {os.environ.get("COURSE_TEST_PORT", "9")}), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, timeout=2).send(b"hello")
        print("CONNECTED")
    except OSError as error:
        print(type(error).__name__)
"""
    hand_in(first(notebook(), code), file)


@attack(scale="4")
def ten_gigabytes(inbox, file):
    hand_in(notebook(scale=toy.RIGHT, total="def total(numbers):\n    return len(bytearray(10 << 30))"), file)


@attack(scale="4")
def four_hundred_children(inbox, file):
    code = """
import subprocess
def total(numbers):
    children = []
    for _ in range(400):
        children.append(subprocess.Popen(["sleep", "300"]))
    return len(children)
"""
    hand_in(notebook(scale=toy.RIGHT, total=code), file)


@attack(scale="4")
def a_fork_bomb(inbox, file):
    code = """
import os
def total(numbers):
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
    hand_in(notebook(scale=toy.RIGHT, total=code), file)


@attack(scale="4")
def a_child_that_outlives_grading(inbox, file):
    code = """
import subprocess
def total(numbers):
    subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM HUP INT; while true; do sleep 1; done"], start_new_session=True)
    return 0
"""
    hand_in(notebook(scale=toy.RIGHT, total=code), file)


@attack()
def kills_everything(inbox, file):
    hand_in(first(notebook(), "import os\nos.kill(-1, 9)"), file)
    # Its own kernel survives kill(-1), which spares the caller; the sandbox's holder does not.


@attack(scale="4", note="the kernel died")
def exits(inbox, file):
    hand_in(notebook(scale=toy.RIGHT, total="import os\nos._exit(0)"), file)


@attack(scale="4", note="could not be interrupted")
def loops_and_cannot_be_interrupted(inbox, file):
    code = """
def total(numbers):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""
    hand_in(notebook(scale=toy.RIGHT, total=code), file)


@attack(total="2")
def loops(inbox, file):
    hand_in(notebook(scale="def scale(numbers, factor):\n    while True:\n        pass", total=toy.RIGHT_TOTAL), file)


@attack(note="takes longer than")
def takes_all_day_in_small_steps(inbox, file):
    made = notebook()
    for _ in range(8):
        first(made, "import time\ntime.sleep(3)")
    hand_in(made, file)


@attack(scale="4", total="2", note="too much output")
def prints_200_megabytes(inbox, file):
    made = first(notebook(scale=toy.RIGHT, total=toy.RIGHT_TOTAL), "for _ in range(200):\n    print('x' * (1 << 20))")
    hand_in(first(made, "print('x' * (200 << 20))"), file)


@attack(scale="4", total="2")
def floods_with_values(inbox, file):
    code = """
from course_grade.probe import emit
for n in range(3000):
    emit(f"value {n}", lambda: ["x" * 1000] * 20)
"""
    hand_in(first(notebook(scale=toy.RIGHT, total=toy.RIGHT_TOTAL), code), file)


@attack(scale="4", note="too much output: test-total")
def floods_a_test_with_values(inbox, file):
    code = """
from course_grade.probe import emit
def total(numbers):
    for n in range(3000):
        emit(f"value {n}", lambda: ["x" * 1000] * 20)
    return sum(numbers)
"""
    hand_in(notebook(scale=toy.RIGHT, total=code), file)


@attack(scale="4", total="2")
def prints_and_draws_in_a_hundred_cells(inbox, file):
    code = """
from IPython.display import display
import base64
picture = base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(2_900_000)).decode()
"""
    made = notebook(toy.RIGHT, toy.RIGHT_TOTAL)
    made.cells += [new_code_cell(code)] + [
        new_code_cell("display({'image/png': picture}, raw=True)\nprint('x' * 1_000_000)") for _ in range(100)
    ]
    hand_in(made, file)


@attack(scale="4", total="2", note="text is cut after 20,000 characters in 1 cell")
def slow_to_show(inbox, file):
    """Pygments needs the cube of the length for such code, nbconvert's Markdown the square for such formulas."""
    made = notebook(toy.RIGHT, toy.RIGHT_TOTAL)
    made.cells += [
        new_code_cell("if given == 0:\n    x = 1" + ".1" * 10_000),
        new_code_cell("x = 1" + "\t\n" * 10_000 + "x = 2"),
    ]
    made.cells += [new_markdown_cell("\\\\(" * 30_000), new_markdown_cell("![" * 9_000)]
    hand_in(made, file)


@attack(note="unreadable messages")
def sends_nonsense_to_the_grader(inbox, file):
    code = """
kernel = get_ipython().kernel
kernel.session.send(kernel.iopub_socket, "display_data", content={"data": 7}, parent=kernel.get_parent())
kernel.session.send(kernel.iopub_socket, "status", content={"state": 1}, parent=kernel.get_parent())
"""
    hand_in(first(notebook(), code), file)


@attack()
def fills_the_disk(inbox, file):
    code = """
import os, glob
for folder in ["/tmp", "/dev/shm", os.path.expanduser("~"), *map(os.path.dirname, glob.glob("/dev/shm/course-grade-*/*"))]:
    try:
        for n in range(40):
            open(f"{folder}/{n}", "wb").write(bytes(32 << 20))
    except (OSError, MemoryError) as error:
        print(type(error).__name__)
"""
    hand_in(first(notebook(), code), file)


@attack()
def settings_of_the_system(inbox, file):
    code = """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/panic", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"):
    try:
        open(path, "w").write("|/bin/sh")
        print("DID IT")
    except OSError as error:
        print(type(error).__name__)
"""
    hand_in(first(notebook(), code), file)


@attack()
def namespaces_of_its_own(inbox, file):
    code = """
import ctypes, os
print("ROOT" if ctypes.CDLL(None).unshare(0x10000000) == 0 else "refused", os.getuid())
"""
    hand_in(first(notebook(), code), file)


@attack()
def its_own_sockets_as_links(inbox, file):
    code = """
import os
from pathlib import Path
for path in Path(get_ipython().kernel.config.get("x", "/dev/shm")).glob("course-grade-*/*"):
    try:
        path.unlink()
        path.symlink_to("/etc/passwd")
    except OSError as error:
        print(type(error).__name__)
"""
    hand_in(first(notebook(), code), file)


# --- pages that act ----------------------------------------------------------------------------------------------------------

SCRIPTS = (
    "<script>document.title='HACKED'</script>",
    "<img src=x onerror=\"document.title='HACKED'\">",
    "<svg onload=\"document.title='HACKED'\"></svg>",
    "<iframe srcdoc=\"<script>top.document.title='HACKED'</script>\"></iframe>",
    "[click](javascript:document.title='HACKED')",
    "[click](javascript&#58;document.title='HACKED')",
    "[click](java&#115cript&colon;document.title='HACKED')",
    "[click](javascript\\:document.title='HACKED')",
    "<a href=\"jAvAsCrIpT:document.title='HACKED'\">click</a>",
    "$\\href{javascript:document.title='HACKED'}{x}$",
    "$\\mmlToken{mi}[href=\"javascript:document.title='HACKED'\"]{x}$",
    "<style>body { display: none }</style>",
    "</textarea></pre></div><script>document.title='HACKED'</script>",
    "![x](x\" onerror=\"document.title='HACKED')",
    '```{=html}\n<script>document.title="HACKED"</script>\n```',
)


@attack(scale="4", total="2")
def scripts_in_answers_and_outputs(inbox, file):
    text = "\n\n".join(SCRIPTS)
    made = notebook(scale=toy.RIGHT + "\n# " + SCRIPTS[0], total=toy.RIGHT_TOTAL, why=text)
    picture = toy.cell(made, "picture")
    picture.source = "from IPython.display import HTML, Javascript, SVG, display\ndisplay(HTML('<script>1</script>'))"
    picture.outputs = [
        new_output("display_data", data={"text/html": text, "text/plain": text}),
        new_output("display_data", data={"application/javascript": "document.title='HACKED'"}),
        new_output("display_data", data={"image/svg+xml": SCRIPTS[2]}),
        new_output("display_data", data={"image/png": text}, metadata={"image/png": {"width": '1" onload="alert(1)'}}),
        new_output("display_data", data={"text/latex": SCRIPTS[9], "text/markdown": text}),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}),
        new_output("stream", name="stdout", text=text),
        new_output("error", ename=SCRIPTS[0], evalue=SCRIPTS[1], traceback=list(SCRIPTS)),
    ]
    made.cells += [new_markdown_cell(text), nbformat.v4.new_raw_cell(text, metadata={"format": "text/html"})]
    made.cells[0].metadata["name"] = SCRIPTS[0]
    made.metadata["title"] = SCRIPTS[0]
    hand_in(made, file)


@attack()
def hidden_tests_in_its_outputs(inbox, file):
    steal = "raise ValueError('stolen: ' + get_ipython().user_ns['In'][-1][-200:])"
    made = notebook(scale=f"def scale(numbers, factor):\n    {steal}", total=f"def total(numbers):\n    {steal}")
    made.cells.append(new_code_cell("print(In)\nprint(In[-2].encode().hex())"))
    hand_in(made, file)


# --- files that are no submissions --------------------------------------------------------------------------------------------


@attack(note="not a readable notebook")
def bad_json(inbox, file):
    file.write_text('{"cells": [')


@attack(note="not a readable notebook")
def a_list(inbox, file):
    file.write_text("[]")


@attack(note="not a readable notebook")
def nothing_but_depth(inbox, file):
    file.write_text("[" * 200_000)


@attack(note="not a readable notebook")
def cells_of_another_kind(inbox, file):
    file.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1, None, {"cell_type": 7}]}))


@attack(scale="4")
def halves_of_characters(inbox, file):
    made = notebook(toy.RIGHT, total="def total(numbers):\n    return 'HALF'", why="HALF")
    toy.cell(made, "picture").outputs = [new_output("stream", name="stdout", text="HALF")]
    file.write_text(nbformat.writes(made).replace("HALF", "\\ud800"))


@attack(note="the file is empty")
def an_empty_file(inbox, file):
    file.write_text("")


@attack(note="the file is a link")
def a_link_to_the_solution(inbox, file):
    file.symlink_to(inbox.parent / "course" / "source" / "toy" / "toy.ipynb")


@attack(note="the file is a link")
def a_link_to_a_peer(inbox, file):
    file.symlink_to("honest.ipynb")


@attack(note="not a file")
def a_folder(inbox, file):
    file.mkdir()
    hand_in(notebook(toy.RIGHT), file / "toy.ipynb")


@attack(note="not a file")
def a_pipe(inbox, file):
    os.mkfifo(file)


@attack(note="larger than")
def a_huge_file(inbox, file):
    made = notebook(toy.RIGHT)
    toy.cell(made, "picture").outputs = [new_output("stream", name="stdout", text="x" * (17 << 20))]
    hand_in(made, file)


@attack(note="too many values")
def millions_of_lists(inbox, file):
    file.write_text('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [' + "[]," * 5_000_000 + "[]]}")


@attack(note="more than 200,000 characters")
def a_book(inbox, file):
    made = notebook(toy.RIGHT)
    made.cells += [new_markdown_cell("word " * 3_000) for _ in range(20)]
    hand_in(made, file)


@attack(note="more than")
def ten_thousand_cells(inbox, file):
    made = notebook(toy.RIGHT)
    made.cells += [new_code_cell("pass") for _ in range(10_000)]
    hand_in(made, file)


@attack(note="found by place")
def another_notebook(inbox, file):
    hand_in(nbformat.v4.new_notebook(cells=[new_code_cell("print('hello')"), new_markdown_cell("# Other")]), file)


# --- honest notebooks that plain nbgrader punishes ----------------------------------------------------------------------------


@attack(scale="4", total="2")
def honest_two(inbox, file):
    hand_in(notebook(toy.RIGHT, toy.RIGHT_TOTAL), file)


@attack(scale="4", total="2", note="more copies")
def honest_but_a_cell_is_duplicated(inbox, file):
    made = notebook(toy.WRONG, toy.RIGHT_TOTAL)
    for name in ("scale", "test-scale", "total"):
        copy = deepcopy(toy.cell(made, name))
        copy.id = f"{name}-copy"
        made.cells.insert(made.cells.index(toy.cell(made, name)) + 1, copy)
    toy.cell(made, "scale-copy").source = toy.RIGHT
    hand_in(made, file)


@attack(scale="4", total="2")
def honest_without_nbgrader_metadata(inbox, file):
    made = notebook(toy.RIGHT, toy.RIGHT_TOTAL)
    for cell in made.cells:
        cell.metadata = {}
    hand_in(made, file)


@attack(scale="4", total="2", note="found by place")
def honest_without_metadata_and_ids(inbox, file):
    made = notebook(toy.RIGHT, toy.RIGHT_TOTAL)
    made.nbformat_minor = 4
    for cell in made.cells:
        cell.metadata = {}
        del cell["id"]
    made.cells.insert(3, nbformat.NotebookNode(cell_type="markdown", metadata={}, source="a remark"))
    hand_in(made, file)


@attack(scale="4", total="2", note="were edited and put back")
def honest_with_a_cell_deleted(inbox, file):
    made = notebook(toy.RIGHT, toy.RIGHT_TOTAL)
    made.cells.remove(toy.cell(made, "test-scale"))
    toy.cell(made, "given").source = "given = 2"
    hand_in(made, file)


@attack(scale="4", total="2")
def honest_with_warnings(inbox, file):
    code = """
import sys, warnings
def scale(numbers, factor):
    warnings.warn("careful")
    print("hm", file=sys.stderr)
    return [number * factor for number in numbers]
"""
    hand_in(notebook(code, toy.RIGHT_TOTAL), file)


@attack(scale="4", total="2")
def honest_from_colab(inbox, file):
    made = json.loads(nbformat.writes(notebook(toy.RIGHT, toy.RIGHT_TOTAL)))
    made["nbformat_minor"] = 0
    made["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for cell in made["cells"]:
        cell["metadata"] = {"id": cell.pop("id"), "colab": {"base_uri": "https://localhost:8080/"}}
        cell["source"] = cell["source"] if isinstance(cell["source"], list) else cell["source"].splitlines(True)
    file.write_text(json.dumps(made))


@attack(scale="2", total="2")
def honest_and_half_right(inbox, file):
    hand_in(notebook(toy.HALF, toy.RIGHT_TOTAL), file)
