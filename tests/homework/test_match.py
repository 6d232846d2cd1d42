"""Every answer arrives and no given cell runs twice, whatever an editor did to a notebook: the real homework, damaged."""

import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell

from course_grade.assignment import Assignment
from course_grade.defusing import prose
from course_grade.intake import graft
from course_grade.released import names_in, resemblance
from course_grade.submission import parse
from tests.homework import toy

ROOT = Path(__file__).resolve().parent.parent.parent
HOMEWORK = Assignment.read(
    ROOT / "homework" / "source" / "14_homework" / "14_homework.ipynb", ROOT / "notebooks" / "14_homework.ipynb"
)
ANSWERS = {name: cell.source for name, cell in Assignment.cells(HOMEWORK.source).items() if name in HOMEWORK.answers}
ANSWERS = {
    name: re.sub(r"^ *### (BEGIN|END) SOLUTION\n?", "", source, flags=re.MULTILINE).strip() for name, source in ANSWERS.items()
}
ANSWERS["training-loop"] = ANSWERS["training-loop"].partition("### BEGIN RELEASE")[0].rstrip()
SCRATCH = (
    "mixed, y_a, y_b, lam = mixup_data(x, y, 1.0, rng)\nprint(mixed.shape)",
    "import time\nstart = time.time()",
    "print('here')",
    "curves['mixup'][0].tail()",
    "plt.plot([1, 2, 3])",
    "def helper(x):\n    return x + 1",
)


def grade_id(cell) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def filled(answers: dict[str, str]) -> nbformat.NotebookNode:
    """The released homework with some answers."""
    notebook = deepcopy(HOMEWORK.release)
    for cell in notebook.cells:
        if grade_id(cell) in answers:
            cell.source = answers[grade_id(cell)]
    return notebook


def grafted(notebook) -> tuple[nbformat.NotebookNode, list[str]]:
    return graft(HOMEWORK, parse(nbformat.writes(notebook).encode()))


def lose(notebook, numbers, *, names: bool, ids: bool) -> None:
    """What editors do: names go with the metadata, ids are drawn anew."""
    for number in numbers:
        cell = notebook.cells[number]
        if names:
            cell.metadata = {}
        if ids:
            cell.id = f"drawn-{number}"


def assert_all_arrive(notebook, answers: dict[str, str]) -> None:
    """Each answer is in its place, and each given cell is there once."""
    ours, _ = grafted(notebook)
    got = {grade_id(cell): cell.source for cell in ours.cells if grade_id(cell)}
    for name, source in answers.items():
        expected = prose(source) if name == "explanation" else source
        assert got[name].strip() == expected.strip(), name
    sources = [cell.source.strip() for cell in ours.cells]
    tests = {grade_id(cell): cell.source for cell in HOMEWORK.release.cells if grade_id(cell) in HOMEWORK.tests}
    for cell in HOMEWORK.release.cells:
        if grade_id(cell) in HOMEWORK.tests:
            assert got[grade_id(cell)] == HOMEWORK.tests[grade_id(cell)]
            assert tests[grade_id(cell)].strip() not in sources
        elif grade_id(cell) not in HOMEWORK.answers:
            assert sources.count(cell.source.strip()) == 1, cell.id
        else:
            assert sources.count(cell.source.strip()) <= 1, cell.id


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.data())
def test_answers_arrive_from_a_damaged_notebook(data):
    """Some answers as released, some cells without names, ids or either, given ones deleted, own ones added anywhere."""
    draw = data.draw
    chosen = {name: source for name, source in ANSWERS.items() if draw(st.booleans(), label=name)}
    notebook = filled(chosen)
    count = len(notebook.cells)
    lost = draw(st.sampled_from(["all", "some", "none"]))
    numbers = [number for number in range(count) if lost == "all" or (lost == "some" and draw(st.booleans()))]
    lose(notebook, numbers, names=draw(st.booleans()), ids=draw(st.booleans()))
    given_cells = [cell for cell in notebook.cells if cell.source not in chosen.values()]
    for cell in draw(st.lists(st.sampled_from(given_cells), max_size=6, unique_by=id)):
        if cell.source not in {answer.source for answer in HOMEWORK.answers.values()}:
            notebook.cells.remove(cell)
    for source in draw(st.lists(st.sampled_from(SCRATCH), max_size=6)):
        notebook.cells.insert(draw(st.integers(0, len(notebook.cells))), new_code_cell(source))
    assert_all_arrive(notebook, chosen)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_answers_arrive_from_a_notebook_whose_cells_were_moved(random, names, ids):
    notebook = filled(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=names, ids=ids)
    random.shuffle(notebook.cells)
    assert_all_arrive(notebook, ANSWERS)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_copies_of_cells_never_run_twice(data):
    notebook = filled(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=data.draw(st.booleans()), ids=data.draw(st.booleans()))
    for copies, number in enumerate(data.draw(st.lists(st.integers(0, len(notebook.cells) - 1), min_size=1, max_size=8))):
        if notebook.cells[number].source not in ANSWERS.values():
            copy = deepcopy(notebook.cells[number])
            copy.id = f"copy-{copies}"
            notebook.cells.insert(data.draw(st.integers(0, len(notebook.cells))), copy)
    assert_all_arrive(notebook, ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("below", [0, 1])
def test_a_copy_of_given_text_beside_an_answer_is_not_taken_for_it(name, below):
    """Without names and ids, a long given text once stood for the explanation, of which it was the neighbour."""
    for number, cell in enumerate(HOMEWORK.release.cells):
        if grade_id(cell) not in HOMEWORK.answers:
            notebook = filled(ANSWERS)
            lose(notebook, range(len(notebook.cells)), names=True, ids=True)
            answer = next(at for at, cell in enumerate(HOMEWORK.release.cells) if grade_id(cell) == name)
            copy = deepcopy(notebook.cells[number])
            copy.id = "a-copy"
            notebook.cells.insert(answer + below, copy)
            assert_all_arrive(notebook, ANSWERS)


@pytest.mark.parametrize("number", range(3, 33))
@pytest.mark.parametrize("keeps", ["names of the first", "nothing"])
def test_cells_that_were_merged(number, keeps):
    """Two cells become one; the first's metadata stay or nothing does. What they define arrives, given code runs once."""
    notebook = filled(ANSWERS)
    if keeps == "nothing":
        lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    first, second = notebook.cells[number : number + 2]
    if first.cell_type != "code" or second.cell_type != "code":
        first, second = notebook.cells[number], next(c for c in notebook.cells[number + 1 :] if c.cell_type == "code")
        if first.cell_type != "code":
            return
    names = [grade_id(HOMEWORK.release.cells[notebook.cells.index(cell)]) for cell in (first, second)]
    first.source = f"{first.source}\n\n{second.source}"
    notebook.cells.remove(second)
    ours, _ = grafted(notebook)
    code = "\n".join(cell.source for cell in ours.cells if cell.cell_type == "code")
    for name in names:
        if name in ANSWERS:
            assert code.count(ANSWERS[name].strip()) == 1, name
            assert HOMEWORK.answers[name].source not in code or name == "training-loop"
    for cell in HOMEWORK.release.cells:
        if cell.cell_type == "code" and grade_id(cell) not in HOMEWORK.answers and grade_id(cell) not in HOMEWORK.tests:
            assert code.count(cell.source.strip()) == 1, cell.id


# --- handed out in another language ---------------------------------------------------------------------------------------

KOREAN = HOMEWORK.translations[0]


def filled_korean(answers: dict[str, str]) -> nbformat.NotebookNode:
    notebook = deepcopy(KOREAN)
    for cell in notebook.cells:
        if grade_id(cell) in answers:
            cell.source = answers[grade_id(cell)]
    return notebook


def test_a_korean_homework_becomes_the_notebook_that_an_english_one_becomes():
    assert [cell.source for cell in KOREAN.cells] != [cell.source for cell in HOMEWORK.release.cells]
    english, notes = grafted(filled(ANSWERS))
    korean, korean_notes = grafted(filled_korean(ANSWERS))
    assert korean_notes == notes == []
    assert [(cell.id, cell.source) for cell in korean.cells] == [(cell.id, cell.source) for cell in english.cells]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_answers_arrive_from_a_korean_notebook_whose_cells_were_moved(random, names, ids):
    notebook = filled_korean(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=names, ids=ids)
    random.shuffle(notebook.cells)
    assert_all_arrive(notebook, ANSWERS)


def test_an_untouched_korean_homework_counts_as_untouched():
    ours, notes = grafted(deepcopy(KOREAN))
    english, _ = grafted(deepcopy(HOMEWORK.release))
    assert notes == []
    assert [cell.source for cell in ours.cells] == [cell.source for cell in english.cells]


def test_prose_that_a_student_edited_is_still_put_back_and_named():
    notebook = filled_korean(ANSWERS)
    cell = next(cell for cell in notebook.cells if cell.id == "task")
    cell.source += "\n\n제 생각입니다."
    ours, notes = grafted(notebook)
    assert notes == ["given cells were edited and put back: task"]
    assert next(cell for cell in ours.cells if cell.id == "task").source.startswith("## The task")


def test_one_answer_left_as_released_and_others_moved():
    """What an editor without ids once made 64 cells of."""
    answers = {name: source for name, source in ANSWERS.items() if name != "bonus"}
    notebook = filled(answers)
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    moved = [cell for cell in notebook.cells if cell.source in (answers["mixup-data"], answers["label-smoothing"])]
    for cell in moved:
        notebook.cells.remove(cell)
        notebook.cells.append(cell)
    ours, notes = grafted(notebook)
    assert len(ours.cells) == len(HOMEWORK.release.cells)
    assert_all_arrive(notebook, answers)
    assert any("found by place" in note for note in notes)


@pytest.mark.parametrize("scratch", SCRATCH)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_scratch_cell_above_an_answer_is_not_the_answer(name, scratch):
    notebook = filled(ANSWERS)
    place = next(number for number, cell in enumerate(notebook.cells) if grade_id(cell) == name)
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    notebook.cells.insert(place, new_code_cell(scratch))
    assert_all_arrive(notebook, ANSWERS)
    ours, _ = grafted(notebook)
    sources = [cell.source for cell in ours.cells]
    assert sources.index(scratch) == place  # it still runs above


def test_a_short_note_above_an_explanation_is_not_the_explanation():
    notebook = filled(ANSWERS)
    place = next(number for number, cell in enumerate(notebook.cells) if grade_id(cell) == "explanation")
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    notebook.cells.insert(place, new_markdown_cell("to do: write this"))
    assert_all_arrive(notebook, ANSWERS)


@pytest.mark.parametrize("name", [name for name, cell in HOMEWORK.answers.items() if cell.cell_type == "code"])
@pytest.mark.parametrize("where", [0, 36])
def test_an_answer_in_a_cell_of_its_own_counts_before_the_stub(name, where):
    notebook = filled({other: source for other, source in ANSWERS.items() if other != name})
    notebook.cells.insert(where, new_code_cell(ANSWERS[name]))
    assert_all_arrive(notebook, ANSWERS)


@pytest.mark.parametrize("edit", ["a comment", "blanks", "a number"])
def test_given_cells_that_were_edited_a_little_run_once(edit):
    notebook = filled(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    changed = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source not in ANSWERS.values()]
    for cell in changed:
        cell.source = {
            "a comment": f"# mine\n{cell.source}",
            "blanks": cell.source.replace("\n", "  \r\n") + "\n\n",
            "a number": cell.source.replace("0", "7"),
        }[edit]
    assert_all_arrive(notebook, ANSWERS)
    ours, _ = grafted(notebook)
    assert len(ours.cells) == len(HOMEWORK.release.cells)


@pytest.mark.parametrize("names", [True, False])
def test_cells_of_another_type(names):
    """Text that became code, and code that became text."""
    notebook = filled(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=names, ids=names)
    for number, cell in enumerate(notebook.cells):
        if number % 3:
            about = {"metadata": cell.metadata, "id": cell.id}
            make = new_code_cell if cell.cell_type == "markdown" else new_markdown_cell
            notebook.cells[number] = make(cell.source, **about)
    assert_all_arrive(notebook, ANSWERS)


def test_a_helper_still_runs_before_an_answer_that_was_moved_with_it():
    notebook = filled(ANSWERS)
    place = next(number for number, cell in enumerate(notebook.cells) if grade_id(cell) == "mixup-data")
    answer = notebook.cells.pop(place)
    notebook.cells += [new_code_cell(SCRATCH[-1]), answer]
    ours, _ = grafted(notebook)
    sources = [cell.source for cell in ours.cells]
    assert sources.index(SCRATCH[-1]) < sources.index(ANSWERS["mixup-data"])


def test_a_notebook_knows_its_homework():
    assert resemblance(HOMEWORK, parse(nbformat.writes(filled(ANSWERS)).encode())) == 1
    assert resemblance(HOMEWORK, parse(nbformat.writes(toy.answered()).encode())) < 0.1


BLOCKS = (
    "if True:\n    {}",
    "try:\n    {}\nexcept ImportError:\n    raise",
    "import contextlib\nwith contextlib.suppress(OSError):\n    if True:\n        {}",
    "for _ in range(1):\n\t{}",
    "if False:\n    pass\nelse:\n\n    # mine\n    {}",
)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("stub_is_there", [True, False])
def test_an_answer_in_a_block_arrives_without_metadata(block, stub_is_there):
    margin = re.search(r"\n([ \t]*)\{\}", block)[1]
    source = block.format(ANSWERS["mixup-data"].replace("\n", f"\n{margin}"))
    notebook = filled(ANSWERS | {"mixup-data": source})
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    if stub_is_there:
        stub = next(cell for cell in HOMEWORK.release.cells if grade_id(cell) == "mixup-data")
        place = next(number for number, cell in enumerate(notebook.cells) if cell.source == source)
        notebook.cells.insert(place, deepcopy(stub))
    assert_all_arrive(notebook, ANSWERS | {"mixup-data": source})


def test_what_is_defined_at_the_margin_counts_before_what_stands_in_a_block():
    notebook = filled(ANSWERS)
    lose(notebook, range(len(notebook.cells)), names=True, ids=True)
    name = re.search(r"def (\w+)", ANSWERS["mixup-data"])[1]
    notebook.cells.append(new_code_cell(f"if False:\n    def {name}():\n        pass"))
    assert_all_arrive(notebook, ANSWERS)


def test_names_in_calls_functions_and_classes_are_not_those_of_a_cell():
    source = "f(\n    a=1,\n)\ndef g():\n    b = 1\nclass C:\n    if True:\n        d = 1\n"
    source += "if e:\n    h, i = 1, 2\n    def j():\n        k = 1\n"
    assert names_in(source) == {"g", "C", "h", "i", "j"}
