"""What a reader sees in an executed lesson: pictures where they are described, hints of exercises, no warnings."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbmake import pytest_items

import course
from course_utils.check import NOT_YET
from tests.lessons.running import complaints

PICTURE = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
DESCRIPTION = new_markdown_cell("> **Figure:** a curve.")


def said(words, name="stdout"):
    return new_output("stream", text=f"{words}\n", name=name)


def executed(*outputs, tags=("proof",)):
    source = "check.value(answer, 1);" if "exercise" in tags else "1"
    return new_code_cell(source, id="cell", outputs=list(outputs), execution_count=1, metadata={"tags": list(tags)})


def helper(*outputs):
    """What stands beside the stub of an exercise, such as the reference that its check compares with."""
    cell = executed(*outputs, tags=["exercise"])
    cell.source = "expected = 1"
    return cell


def described(*outputs):
    cell = executed(*outputs)
    cell.metadata.alt = "A curve."
    return cell


GOOD = {
    "words": [executed(said("all is well"))],
    "no words": [executed()],
    "a picture": [executed(PICTURE), DESCRIPTION],
    "a picture with alternative text": [described(PICTURE), new_markdown_cell("It rises.")],
    "an untouched stub": [executed(said(NOT_YET), tags=["exercise"])],
    "an untouched stub with a picture to read": [executed(PICTURE, said(NOT_YET), tags=["exercise"]), DESCRIPTION],
    "a stub that measures first": [executed(said("seed 0: 0.8"), said(NOT_YET), tags=["exercise"])],
    "what a check compares with": [helper(said("measured"))],
    "a solution": [executed(said("✓ right."), tags=["exercise", "solution"])],
}
BAD = {
    "stderr": [executed(said("hm", name="stderr"))],
    "a warning": [executed(said("UserWarning: careful"))],
    "a warning in a table": [executed(new_output("execute_result", data={"text/html": "FutureWarning"}))],
    "an error": [executed(new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"]))],
    "not executed": [new_code_cell("1", id="cell", metadata={"tags": ["proof"]})],
    "a description without picture": [executed(said("hm")), DESCRIPTION],
    "an alternative text without picture": [described(said("hm"))],
    "a picture without description": [executed(PICTURE), new_markdown_cell("A curve.")],
    "a picture at the end": [executed(PICTURE)],
    "two pictures": [executed(PICTURE, PICTURE), DESCRIPTION],
    "a stub that is right": [executed(said("✓ right."), tags=["exercise"])],
    "a stub that is wrong": [executed(said("✗ not yet"), tags=["exercise"])],
    "a silent stub": [executed(tags=["exercise"])],
    "a stub whose hint is not last": [executed(said(NOT_YET), said("seed 0: 0.8"), tags=["exercise"])],
    "a silent solution": [executed(tags=["exercise", "solution"])],
    "a wrong solution": [executed(said("✗ not yet"), tags=["exercise", "solution"])],
    "a half-right solution": [executed(said("✓ right.\n✗ not yet"), tags=["exercise", "solution"])],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_outputs_are_left_alone(name):
    assert complaints(new_notebook(cells=GOOD[name])) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_outputs_are_found(name):
    (complaint,) = complaints(new_notebook(cells=BAD[name]))
    assert complaint.startswith("cell: ")


@pytest.mark.parametrize(
    ("source", "words"), [("import warnings; warnings.warn('careful')", "cell: writes to stderr"), ("2 ** 3", "")]
)
def test_nbmake_judges_the_outputs_of_what_it_executes(tmp_path, source, words):
    path = tmp_path / "lesson.ipynb"
    path.write_text(course.text(new_notebook(cells=[new_code_cell(source, id="cell", metadata={"tags": ["proof"]})])))
    error = pytest_items.NotebookRun(path, 60).execute().error
    assert error.summary.startswith(words) if words else error is None, error
