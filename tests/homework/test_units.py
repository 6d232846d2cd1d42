"""The parts of grading that are functions: values, intake, what is shown, limits."""

import base64
import json
import math
import os
import random
import re
import subprocess
import sys
from copy import deepcopy

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from course_grade import defusing, intake, probe, sandbox, score, submission
from course_grade.assignment import Assignment
from course_grade.errors import AssignmentError, IntakeError
from tests.homework import toy

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
numbers = st.floats(allow_infinity=False) | st.integers(-(2**60), 2**60)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def assignment():
    return Assignment("toy", toy.source(), toy.release())


# --- values ------------------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None)
@given(plain)
def test_a_value_is_the_same_as_itself_after_its_journey_as_json(value):
    assert score.same(value, json.loads(json.dumps(value)))


@settings(derandomize=True, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6), st.data())
def test_a_number_that_is_off_is_noticed(values, data):
    place = data.draw(st.integers(0, len(values) - 1))
    wrong = list(values)
    wrong[place] = 1.0 if math.isnan(values[place]) else values[place] + max(1e-3, abs(values[place]) * 1e-3)
    assert not score.same(values, wrong)


@pytest.mark.parametrize(
    ("wanted", "got", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0.3, 0.3 + 1e-7, True),
        ([1.0, 2.0], [1.0], False),
        ([], None, False),
        ({"shape": [1], "dtype": "float32", "values": [1.0]}, {"shape": [1], "dtype": "float64", "values": [1.0]}, True),
        ({"shape": [1], "dtype": "int64", "values": [1]}, {"shape": [1], "dtype": "float64", "values": [1.0]}, False),
        ({"shape": [2], "dtype": "int64", "values": [1, 2]}, {"shape": [2, 1], "dtype": "int64", "values": [1, 2]}, False),
        (1.0, 10**400, False),
        (1.0, "1.0", False),
        ({"dtype": "float32"}, {"dtype": ["x"]}, False),
    ],
)
def test_kinds_and_shapes_count(wanted, got, equal):
    assert score.same(wanted, got) is equal


def test_each_check_has_its_share_and_its_reason():
    expected = {name: {"name": name, "value": number} for number, name in enumerate(("zero", "one", "two", "three"))}
    emitted = [
        {"name": "zero", "value": 0},
        {"name": "one", "value": 5},
        {"name": "two", "error": "TypeError: no <b>such</b> thing"},
        {"name": "unknown", "value": 0},
        "nonsense",
        {"value": 3},
    ]
    points, lines = score.score(expected, emitted, 6, "")
    assert points == 1.5
    assert lines == ["✓ zero", "✗ one: another value", "✗ two: TypeError: no <b>such</b> thing", "✗ three: not reached"]


@pytest.mark.parametrize("error", ["ValueError: hidden_draw = random.Random(seed)", "Stolen: abc", "no colon", ""])
def test_a_message_that_quotes_a_test_or_claims_to_be_an_error_is_not_shown(error):
    _, lines = score.score({"a": {"value": 1}}, [{"name": "a", "error": error}], 1, toy.TEST_SCALE)
    assert lines == ["✗ a: an error"]


def test_emit_sends_tensors_arrays_and_errors(capsys, monkeypatch):
    import numpy as np
    import torch

    sent = []
    monkeypatch.setattr(probe, "display", lambda bundle, raw: sent.append(bundle[probe.MIME]))
    probe.emit("tensor", lambda: torch.arange(6.0, requires_grad=True).reshape(2, 3))
    probe.emit("array", lambda: [np.arange(2), np.float32(0.5), (1, "a", None, True)])
    probe.emit("error", lambda: 1 / 0)
    probe.emit("unknown", lambda: object())
    assert [message["name"] for message in sent] == ["tensor", "array", "error", "unknown"]
    assert sent[0]["value"] == {"shape": [2, 3], "dtype": "float32", "values": [0, 1, 2, 3, 4, 5]}
    assert sent[1]["value"][2] == [1, "a", None, True]
    assert sent[2]["error"] == "ZeroDivisionError: division by zero"
    assert "object cannot be compared" in sent[3]["error"]
    json.dumps(sent)


# --- intake ------------------------------------------------------------------------------------------------------------------


def cells_of(notebook):
    return submission.parse(nbformat.writes(notebook).encode())


def sources(notebook):
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in notebook.cells if "nbgrader" in cell.metadata}


@pytest.mark.parametrize("keeps", ["names", "ids", "neither"])
@pytest.mark.parametrize("seed", range(12))
def test_answers_are_found_whatever_an_editor_has_lost(assignment, keeps, seed):
    """Cells are added anywhere, tests and given cells deleted, and names, or names and ids, are gone."""
    draw = random.Random(seed)
    notebook = toy.answered(why="Since *I* say so.")
    toy.cell(notebook, "picture").source = "print('mine')"
    for name in draw.sample(["title", "given", "test-scale", "test-total"], k=draw.randrange(3)):
        if keeps != "neither":
            notebook.cells.remove(toy.cell(notebook, name))
    if keeps != "names":
        for cell in notebook.cells:
            cell.metadata = {}
    if keeps == "neither":
        for number, cell in enumerate(notebook.cells):
            cell.id = f"lost-{number}"
        for number in range(draw.randrange(3)):  # a note below an answer, as students make
            notebook.cells.insert(draw.randrange(1, 3), new_markdown_cell(f"note {number}"))
    else:
        for number in range(draw.randrange(4)):
            notebook.cells.insert(draw.randrange(len(notebook.cells) + 1), new_code_cell(f"extra = {number}"))
    ours, notes = intake.graft(assignment, cells_of(notebook))
    found = sources(ours)
    assert found["scale"] == toy.RIGHT
    assert found["total"] == toy.RIGHT_TOTAL
    assert found["picture"] == "print('mine')"
    assert found["why"] == "Since *I* say so."
    assert "hidden_draw" in found["test-scale"]
    assert [cell.id for cell in ours.cells if "nbgrader" in cell.metadata] == list(found)
    assert any("found by place" in note for note in notes) == (keeps == "neither")
    extra = [cell.source for cell in notebook.cells if cell.source.startswith(("extra", "note"))]
    assert sorted(cell.source for cell in ours.cells if cell.source.startswith(("extra", "note"))) == sorted(extra)


def test_an_untouched_release_comes_through_unchanged(assignment):
    ours, notes = intake.graft(assignment, cells_of(toy.release()))
    assert notes == []
    tests = assignment.tests
    for cell, released in zip(ours.cells, assignment.release.cells, strict=True):
        assert cell.metadata == released.metadata
        assert cell.source == tests.get(cell.metadata.get("nbgrader", {}).get("grade_id"), released.source)


def test_extra_cells_keep_their_place(assignment):
    notebook = toy.answered()
    place = notebook.cells.index(toy.cell(notebook, "total"))
    notebook.cells.insert(place, new_code_cell("helper = 1"))
    notebook.cells.insert(0, new_code_cell("first = 1"))
    ours, _ = intake.graft(assignment, cells_of(notebook))
    order = [cell.source for cell in ours.cells]
    assert order[0] == "first = 1"
    assert order.index("helper = 1") == order.index(toy.RIGHT_TOTAL) - 1


def test_outputs_stay_text_and_pictures_and_are_bounded():
    outputs = [
        new_output("stream", name="stderr", text="careful"),
        new_output("display_data", data={"text/html": "<b>", "image/svg+xml": "<svg>", "text/plain": "a table"}),
        new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"}, metadata={"image/png": {"width": "x"}}),
        new_output("display_data", data={"image/png": "bm90IGEgcG5n", "image/jpeg": "!"}),
        {"output_type": "display_data", "data": ["no", "dict"]},
        {"output_type": "made up"},
        new_output("stream", name="stdout", text="x" * (3 << 20)),
        new_output("stream", name="stdout", text="after the limit"),
    ]
    shown = list(defusing.defuse(outputs, defusing.Allowance.of_notebook().of_cell()))
    assert [output.output_type for output in shown] == ["stream", "stream", "display_data", "stream"]
    assert {output.get("name", "stdout") for output in shown} == {"stdout"}
    assert shown[1].text == "a table\n"
    assert shown[2].data == {"image/png": PNG, "text/plain": "<Figure>"}
    assert shown[2].metadata == {}
    assert 1 << 20 <= sum(len(output.get("text", "")) for output in shown) < (1 << 20) + 100
    assert "cut here" in shown[3].text


def test_all_cells_share_the_allowance_of_a_notebook():
    whole = defusing.Allowance.of_notebook()
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(2_900_000)).decode()
    outputs = [
        new_output("stream", name="stdout", text="x" * (2 << 20)),
        new_output("display_data", data={"image/png": picture}),
    ]
    shown = [list(defusing.defuse(outputs, whole.of_cell())) for _ in range(20)]
    assert [[output.output_type for output in cell] for cell in shown] == [["stream", "display_data"]] * 2 + [[]] * 18


@pytest.mark.parametrize("size", [2_900_000, 4_000_000])
def test_outputs_that_are_left_out_are_noted(assignment, size):
    notebook = toy.answered()
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(size)).decode()
    toy.cell(notebook, "picture").outputs = [new_output("display_data", data={"image/png": picture})]
    ours, notes = intake.graft(assignment, cells_of(notebook))
    fits = size < 3_000_000
    assert len(toy.cell(ours, "picture").outputs) == fits
    assert any("outputs are too large" in note for note in notes) != fits


def test_outputs_lose_their_colours():
    output = new_output(
        "error", ename="E", evalue="", traceback=["\x1b[0;31mValueError\x1b[0m: \x1b]8;;http://x\x07link \x1b[1"]
    )
    (shown,) = defusing.defuse([output], defusing.Allowance(100, 0))
    assert shown.text == "ValueError: ]8;;http://x\x07link [1\n"


@pytest.mark.parametrize(
    "text",
    [
        "a < b and *so* on",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "$\\lambda x + (1 - \\lambda) y$",
        "한국어 문장",
        "[link](https://example.org/?a=1&b=2)",
        "```\n<b>x</b> if a < b & c\n```",
        "![mine](attachment:picture.png)",
        "```\ncode\n```",
        "inline ```x = 1``` and more",
    ],
)
def test_prose_stays_readable(text):
    assert defusing.prose(text).replace("\u200b", "") == text


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>",
        "<img src=x onerror=y>",
        "[a](javascript:x)",
        "$\\href{x}{y}$",
        "$\\csname href\\endcsname{x}{y}$",
        "$\\bbox[background: url(x)]{y}$",
        "<a href='JAVASCRIPT:x'>",
        "![x](https://a/b)",
        "![x][y]",
    ],
)
def test_prose_loses_what_acts(text):
    clean = defusing.prose(text).lower()
    assert not any(word in clean for word in ("<script", "<img", "<a", "javascript:", "\\href", "\\csname", "\\bbox", "!["))


@pytest.mark.parametrize(("before", "after"), [("```html\nx\n```", "```\nx\n```"), ("> * ~~~~py x\n", "> * ~~~~\n")])
def test_code_in_prose_names_no_language(before, after):
    assert defusing.prose(before) == after


@pytest.mark.parametrize("before", ["java", "Java&#10;", "&#106ava", "java&Tab;", "&amp;#106;ava", "&amp#106;ava", "vb"])
@pytest.mark.parametrize(
    "between", ["script:", "script\\:", "script&colon;", "script&#58", "&#115;cript:", "script :", "script&amp;#58;"]
)
@pytest.mark.parametrize("link", ["[a]({})", "[a](<{}>)", "[a][b]\n\n[b]: {}", "<{}>", '[a]({} "title")'])
def test_no_link_leads_to_a_script(before, between, link):
    page = BeautifulSoup(markdown2html(defusing.prose(link.format(before + between + "x"))), "html.parser")
    for found in page.find_all("a"):
        # As a browser reads an address: entities are gone, blanks and control characters have no meaning.
        assert not re.match(r"[\0- ]*(java|vb)script:", re.sub(r"[\t\n\r]", "", found["href"]), re.IGNORECASE)


def test_long_prose_is_cut():
    assert defusing.prose("a " * defusing.PROSE_LIMIT) == "a " * (defusing.PROSE_LIMIT // 2) + "\n\n… cut here: too long"


def _places(tree, path=()):
    """Paths to everything in some JSON."""
    yield path
    for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from _places(child, (*path, key))


def _damaged(data) -> bytes:
    made = toy.answered()
    toy.cell(made, "picture").outputs = [
        new_output("display_data", data={"image/png": PNG, "text/plain": "x"}),
        new_output("stream", text="x"),
        new_output("error", ename="E", evalue="e", traceback=["a"]),
    ]
    toy.cell(made, "why").attachments = {"a.png": {"image/png": PNG}}
    tree = json.loads(nbformat.writes(made))
    for _ in range(data.draw(st.integers(1, 4))):
        *way, last = data.draw(st.sampled_from([path for path in _places(tree) if path]))
        place = tree
        for key in way:
            place = place[key]
        place[last] = data.draw(plain)
    return json.dumps(tree).encode()


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_notebook_is_refused_or_becomes_ours(assignment, data):
    content = _damaged(data)
    try:
        ours, notes = intake.graft(assignment, submission.parse(content))
    except IntakeError:
        return
    nbformat.validate(nbformat.reads(nbformat.writes(ours), as_version=4))
    assert list(sources(ours)) == list(sources(assignment.release))
    assert all(isinstance(note, str) for note in notes)


@pytest.mark.parametrize("code", ["x = 1" + ".1" * 100, "x = 1" + "\t\n" * 100 + "x = 2"])
def test_code_that_is_slow_to_colour_is_shown_without_colours(assignment, code):
    notebook = toy.answered()
    notebook.cells.append(new_code_cell(code))
    ours, _ = intake.graft(assignment, cells_of(notebook))
    page, _ = HTMLExporter().from_notebook_node(ours)
    found = BeautifulSoup(page, "html.parser").select("div.highlight")
    assert found[-1].text.strip() == code
    assert found[-1].select("span[class]") == []
    assert found[0].select("span[class]") != []


def test_a_file_is_read_once_and_never_through_a_link(tmp_path):
    real = tmp_path / "real.ipynb"
    real.write_text("{}")
    assert submission.read(real) == b"{}"
    link = tmp_path / "link.ipynb"
    link.symlink_to(real)
    pipe = tmp_path / "pipe.ipynb"
    os.mkfifo(pipe)
    for path, reason in (
        (link, "a link"),
        (pipe, "not a file"),
        (tmp_path, "not a file"),
        (tmp_path / "gone", "nothing was handed in"),
    ):
        with pytest.raises(IntakeError, match=reason):
            submission.read(path)


# --- the instructor's side ---------------------------------------------------------------------------------------------------


def test_source_and_release_must_belong_together(tmp_path, assignment):
    source, release = tmp_path / "toy.ipynb", tmp_path / "release.ipynb"
    source.write_text(nbformat.writes(assignment.source))
    changed = deepcopy(assignment.release)
    toy.cell(changed, "scale").metadata.nbgrader.grade_id = "scales"
    release.write_text(nbformat.writes(changed))
    with pytest.raises(AssignmentError, match="make release"):
        Assignment.read(source, release)
    with pytest.raises(AssignmentError, match="missing"):
        Assignment.read(source, tmp_path / "gone.ipynb")
    release.write_text("[]")
    with pytest.raises(AssignmentError, match="no notebook"):
        Assignment.read(source, release)


def test_a_kernel_is_shown_no_homework_and_no_tests():
    shown = sandbox.files()
    assert any(path.endswith("course_utils") for path in shown)
    assert any(path.endswith("data") for path in shown)
    assert not any(path.endswith(("homework", "tests", "main", "notebooks")) for path in shown)
    assert str(sandbox.HERE.parent) not in shown


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_either_version(tmp_path, monkeypatch, version):
    """On a made-up tree; this machine's own version is used by every other test here."""
    launcher = launcher_module()
    root = tmp_path / "cgroup"
    if version == 1:
        lines = "4:memory:/user\n3:cpu,cpuacct:/\n2:pids:/user\n1:name=systemd:/\n"
        for folder in ("memory/user", "cpu", "pids/user"):
            (root / folder).mkdir(parents=True)
    else:
        lines = "0::/user.slice/grading.scope\n"
        (root / "user.slice" / "grading.scope").mkdir(parents=True)
        (root / "user.slice" / "cgroup.subtree_control").write_text("cpu memory pids\n")
    own = tmp_path / "own"
    own.write_text(lines)
    monkeypatch.setattr(launcher, "OWN_GROUP", own)
    made = launcher.control_groups({"memory": 5, "processes": 7}, label=1, root=root)
    names = sorted(str(path.parent.relative_to(root)) for path in made)
    assert names == (["cpu", "memory/user", "pids/user"] if version == 1 else ["user.slice"])
    assert all(path.name == f"course-grade-{os.getpid()}-1" for path in made)


def launcher_module():
    import importlib.util

    spec = importlib.util.spec_from_file_location("launch_under_test", sandbox.KERNELS / "sandbox" / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEMORY = """
import contextlib, re, sys
from pathlib import Path
sys.path[:0] = ["tools", "."]
from course_grade import job
from course_grade.assignment import Assignment
from course_grade.errors import IntakeError
from tests.homework import attacks, toy

plan = job.solve(job.Plan(Assignment("toy", toy.source(), toy.release()), seed=1, settings={"timeout": 20}))
large = ("prints_200_megabytes", "floods_with_values", "floods_a_test_with_values", "prints_and_draws_in_a_hundred_cells")
for name in (*large, "millions_of_lists"):
    file = Path(sys.argv[1], f"{name}.ipynb")
    attacks.ATTACKS[name].make(file.parent, file)
    with contextlib.suppress(IntakeError):
        job.grade(plan, file.read_bytes())
job.cool()
# Not getrusage, which begins with the memory of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_the_grader_stays_small_whatever_a_notebook_prints(bubblewrap, tmp_path):
    root = sandbox.HERE.parent.parent
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 300  # MB
