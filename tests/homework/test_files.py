"""What a file that was handed in holds: notebooks of all versions, broken ones, and files that are something else."""

import gzip
import json
from copy import deepcopy

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_grade.assignment import Assignment
from course_grade.errors import IntakeError
from course_grade.intake import graft
from course_grade.submission import parse
from tests.homework import toy

ASSIGNMENT = Assignment("toy", toy.source(), toy.release())
TREE = json.loads(nbformat.writes(toy.answered()))


def grafted(content: bytes) -> tuple[dict[str, str], list[str]]:
    ours, notes = graft(ASSIGNMENT, parse(content))
    nbformat.validate(nbformat.reads(nbformat.writes(ours), as_version=4))
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in ours.cells if "nbgrader" in cell.metadata}, notes


def assert_whole(content: bytes) -> list[str]:
    """All answers are there; returns the notes."""
    found, notes = grafted(content)
    assert found["scale"] == toy.RIGHT
    assert found["total"] == toy.RIGHT_TOTAL
    assert found["why"] == "Since I measured it."
    return notes


@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4, 5, 6, 99])
def test_minor_versions(minor):
    tree = deepcopy(TREE)
    tree["nbformat_minor"] = minor
    if minor < 5:
        for cell in tree["cells"]:
            del cell["id"]
    assert_whole(json.dumps(tree).encode())


def test_version_3():
    notebook = nbformat.convert(toy.answered(), 3)
    notes = assert_whole(json.dumps(notebook).encode())
    assert not any("missing" in note for note in notes)


@pytest.mark.parametrize("key", ["nbformat", "nbformat_minor", "metadata"])
def test_what_is_missing_around_the_cells(key):
    tree = deepcopy(TREE)
    del tree[key]
    assert_whole(json.dumps(tree).encode())


@pytest.mark.parametrize("key", ["metadata", "outputs", "execution_count", "id"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 7, "absent"])
def test_what_is_broken_in_cells(key, value):
    tree = deepcopy(TREE)
    for cell in tree["cells"]:
        cell[key] = value
        if value == "absent":
            del cell[key]
    assert_whole(json.dumps(tree).encode())


def test_a_broken_cell_costs_only_itself():
    tree = deepcopy(TREE)
    tree["cells"][2:2] = [
        None,
        7,
        {"cell_type": 3},
        {"source": "x"},
        {"cell_type": "code"},
        {"cell_type": "code", "source": None},
    ]
    assert "4 of 14 cells are broken and left out" in assert_whole(json.dumps(tree).encode())


@pytest.mark.parametrize("place", ["why", "scale", "title", "given", "test-scale"])
@pytest.mark.parametrize("listed", [True, False])
def test_null_characters_are_taken_out(place, listed):
    tree = deepcopy(TREE)
    cell = next(cell for cell in tree["cells"] if cell["id"] == place)
    text = "".join(cell["source"])
    cell["source"] = ["\0", text, "\0"] if listed else f"\0{text}\0"
    assert "null characters were taken out" in assert_whole(json.dumps(tree).encode())


@settings(derandomize=True, deadline=None)
@given(
    st.text(alphabet=st.characters(max_codepoint=0x1F) | st.sampled_from("\x7f\x85\ud800\udfff\ufeff\u200b\u2028￿"), min_size=1)
)
def test_no_character_costs_everything(odd):
    tree = deepcopy(TREE)
    tree["cells"][0]["source"] = f"# Toy {odd}"
    tree["cells"].insert(
        3, {"cell_type": "code", "source": f"x = '''{odd}'''", "metadata": {odd: odd}, "id": odd, "outputs": []}
    )
    tree["cells"][6]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": odd}]
    for raw in (json.dumps(tree), json.dumps(tree, ensure_ascii=False)):
        assert_whole(raw.encode("utf-8", "surrogatepass"))


def test_raw_control_characters_in_a_text():
    assert_whole(json.dumps(TREE).replace("# Toy", "# Toy \t \x00 \x08").encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
def test_other_encodings(encoding):
    tree = deepcopy(TREE)
    tree["cells"][0]["source"] = "# 과제"
    notes = assert_whole(json.dumps(tree, ensure_ascii=False).encode(encoding))
    assert any("not saved as UTF-8" in note for note in notes) == (encoding == "cp949")


@pytest.mark.parametrize("end", [b"\0", b"\0" * 5000, b" " * 5000, b"\r\n\0\0\n\0", b"\n\n\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_fills_up_the_end_of_a_file(end, encoding):
    notes = assert_whole((json.dumps(TREE) + end.decode()).encode(encoding))
    assert ("null characters at the end of the file were taken out" in notes) == end.endswith(b"\0")


def printed(*outputs: dict) -> bytes:
    """A right notebook, with outputs in a given cell, and code that looks like them."""
    tree = deepcopy(TREE)
    cell = next(cell for cell in tree["cells"] if cell["id"] == "given")
    cell["outputs"] = list(outputs)
    tree["cells"].append(
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": ['{"text": ["kept"]}\n', '"text": ["kept"]']}
    )
    return json.dumps(tree).encode()


@pytest.mark.parametrize("line", ["7\n", 'a "text": [\n', "b\\\n", "], [\n", ""])
def test_printed_lines_never_cost_points(line):
    many = [line] * 110_000
    html = {"output_type": "display_data", "metadata": {}, "data": {"text/html": many, "text/plain": many}}
    for output in ({"output_type": "stream", "name": "stdout", "text": many}, html):
        raw = printed(output)
        assert "printed outputs have too many lines and are not shown" in assert_whole(raw)
        assert parse(raw)[-1].source == '{"text": ["kept"]}\n"text": ["kept"]'


def test_too_many_outputs_are_refused_with_what_to_do():
    with pytest.raises(IntakeError, match="clear all outputs and hand in again"):
        parse(printed(*[{"output_type": "stream", "name": "stdout", "text": "x"}] * 60_000))


def test_bytes_of_no_encoding():
    raw = json.dumps(TREE).encode().replace(b"# Toy", b"# Toy \xff\xfe\x81")
    assert any("not saved as UTF-8" in note for note in assert_whole(raw))


def test_a_number_that_is_too_long():
    assert_whole(json.dumps(TREE).replace('"execution_count": null', f'"execution_count": {"9" * 5000}').encode())


WHOLE = json.dumps(TREE).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04\x14\x00", "zip"),
        (gzip.compress(WHOLE), "gzip"),
        (b"\n <!DOCTYPE html><html><title>Log in", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"https://colab.research.google.com/drive/1", "link"),
        (b"<<<<<<< HEAD\n{}", "merge conflict"),
        (WHOLE.replace(b'"# Toy"', b'"# Toy"\n<<<<<<< HEAD\n'), "merge conflict"),
        (b"\x89PNG\r\n", "picture"),
        (b"import torch\n", "other text"),
        (b"\x00\x01\x02\x03", "other text"),
        (WHOLE[:-1], "breaks off"),
        (WHOLE[: len(WHOLE) // 2], "breaks off"),
        (WHOLE[:200], "breaks off"),
        (b"{'cells': []}", "line 1"),
        (WHOLE + b"{}", "broken"),
        (b"[]", "JSON of another kind"),
        (b"7", "JSON of another kind"),
        (b'{"a": 1}', "without cells"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"cells": [1, null]}', "no cells that Jupyter"),
        (b'{"cells": {}}', "without cells"),
    ],
)
def test_a_file_that_is_not_a_notebook_is_told_in_words(content, words):
    with pytest.raises(IntakeError) as raised:
        parse(content)
    said = str(raised.value)
    assert said.startswith("not a readable notebook: ")
    assert words in said
    assert "Error" not in said


@settings(derandomize=True, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_wherever_an_upload_breaks_off(end):
    with pytest.raises(IntakeError) as raised:
        parse(WHOLE[:end])
    assert "Error" not in str(raised.value)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(content):
    with pytest.raises(IntakeError, match="not a readable notebook"):
        parse(content)
