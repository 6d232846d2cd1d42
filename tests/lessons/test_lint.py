"""The lessons' linter finds what each of its rules is for, in broken copies, and nothing in the lessons that is not known."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest

import course
import lint_figures
import lint_lessons
from lint_anatomy import FIGURE, KOREAN, code, markdown

DESCRIPTION = "Two curves: the training loss falls to 0.1, the validation loss rises after epoch 5."
LESSONS = course.lessons()
HOMEWORK = LESSONS[-1]


def test_lessons_break_no_rule_but_what_is_known():
    """`python tools/lint_lessons.py` says what to do."""
    found = lint_lessons.numbering(LESSONS)
    for path in LESSONS:
        found += lint_lessons.layout(path) + lint_lessons.findings(path.stem, course.read(path))
    assert len(LESSONS) > 10
    assert lint_lessons.compared(found, lint_lessons.read_known(lint_lessons.KNOWN)) == ([], [])


def test_the_map_of_the_course_has_every_lesson_and_its_question():
    """Lesson 00 has the map; a title that changed, changes there, too."""
    (shown,) = (cell.source for cell in course.read(LESSONS[0]).cells if cell.id == "objectives-map")
    rows = [line for line in shown.splitlines() if line.startswith("| ") and line[2:3] in "[0"]
    expected = [f"| 00 | {course.question(course.read(LESSONS[0]))} |"]
    for path in LESSONS[1:]:
        expected.append(f"| [{course.number(path)}]({path.name}) | {course.question(course.read(path))} |")
    assert rows == expected


# --- each rule finds what it is for ------------------------------------------------------------------------------------


def first(notebook, tag, kind="code"):
    return next(cell for cell in course.cells(notebook, tag) if cell.cell_type == kind)


def replace(notebook, tag, kind, old, new):
    """Replace in the first cell of a section that has it."""
    found = next(c for c in course.cells(notebook, tag) if c.cell_type == kind and re.search(old, c.source, re.DOTALL))
    found.source = re.sub(old, new, found.source, count=1, flags=re.DOTALL)


def insert(notebook, section, source):
    """Insert a code cell below the first one of a section."""
    new = nbformat.v4.new_code_cell(source, id=f"{section}-new", metadata={"tags": [section]})
    notebook.cells.insert(notebook.cells.index(first(notebook, section)) + 1, new)


def drop(notebook, cells):
    notebook.cells = [cell for cell in notebook.cells if cell not in cells]


def figure(notebook):
    """The first cell that draws and is described in its metadata."""
    return next(cell for cell in notebook.cells if "alt" in cell.metadata)


def caption(notebook):
    """The cell below it."""
    return notebook.cells[notebook.cells.index(figure(notebook)) + 1]


def add(text):
    """Append text to the source of a cell."""
    return lambda c: c.update(source=c.source + text)


BROKEN = {
    "a section is gone": ("sections", lambda n: drop(n, course.cells(n, "recap"))),
    "two sections change places": ("sections", lambda n: n.cells.append(n.cells.pop(5))),
    "a tag is misspelt": ("sections", lambda n: n.cells[5].metadata.update(tags=["predcit"])),
    "no tags at all": ("sections", lambda n: n.cells[5].metadata.pop("tags")),
    "a second budget cell": ("sections", lambda n: insert(n, "budget", "b = runtime.budget()")),
    "one blank more in the set-up": ("setup", lambda n: add(" ")(first(n, "setup"))),
    "another id of the set-up": ("setup", lambda n: first(n, "setup").update(id="setup-cell")),
    "a budget in the proof": ("budget", lambda n: add("\nc = runtime.budget()")(first(n, "proof"))),
    "a profile in the proof": ("budget", lambda n: add("\nruntime.profile()")(first(n, "proof"))),
    "a comparison with ci": ("budget", lambda n: add("\nsmall = kind == 'ci'")(first(n, "proof"))),
    "an environment variable": ("budget", lambda n: add("\nCOURSE_PROFILE")(first(n, "proof"))),
    "an output": ("outputs", lambda n: first(n, "proof").outputs.append(nbformat.v4.new_output("stream", text="hello"))),
    "an execution count": ("outputs", lambda n: first(n, "proof").update(execution_count=3)),
    "a long line": ("line-length", lambda n: add("\n# " + "x" * 87)(first(n, "proof"))),
    "an empty cell": ("empty", lambda n: first(n, "proof").update(source="\n")),
    "an id twice": ("ids", lambda n: n.cells[-1].update(id=n.cells[-2].id)),
    "an id of another section": ("ids", lambda n: first(n, "proof").update(id="problem-x")),
    "an id of JupyterLab": ("ids", lambda n: first(n, "proof").update(id="8b7e1f02")),
    "a random id": ("ids", lambda n: first(n, "proof").update(id="proof-8b7e1f02")),
    "a figure in prose": ("figure", lambda n: figure(n).metadata.pop("alt")),
    "a short description": ("figure", lambda n: caption(n).update(source=FIGURE + "two curves.")),
    "a new plot": ("figure", lambda n: add("\nplt.subplots()")(first(n, "proof"))),
    "a new kind of plot": ("figure", lambda n: add("\nplots.reliability(x)")(first(n, "proof"))),
    "a description of nothing": (
        "figure",
        lambda n: first(n, "recap", "markdown").update(source=FIGURE + "x" * 60),
    ),
    "a link to nothing": ("links", lambda n: add(" [next](99_nothing.ipynb)")(n.cells[1])),
    "a picture that is not there": ("links", lambda n: add(' <img src="picture.png">')(n.cells[1])),
    "a link elsewhere": ("links", lambda n: add(" [paper](https://example.org/paper.pdf)")(n.cells[1])),
    "an address in code": ("links", lambda n: add("\nurl = 'http://example.org'")(first(n, "proof"))),
    "a neighbour's repository": ("links", lambda n: add(f" {course.repository()}-2")(n.cells[1])),
    "code after code": ("reason", lambda n: insert(n, "proof", "1 + 1")),
    "no Korean": ("korean", lambda n: [c.update(source=KOREAN.sub("", c.source)) for c in markdown(n)]),
    "a term twice": ("korean", lambda n: add(" (새 용어) and (새 용어)")(n.cells[-1])),
    "a filter": ("warnings", lambda n: add("\nwarnings.filterwarnings('ignore')")(first(n, "proof"))),
    "a simple filter": ("warnings", lambda n: add("\nsimplefilter('ignore')")(first(n, "proof"))),
    "a long idea": ("idea", lambda n: add(" word" * 300)(first(n, "idea", "markdown"))),
    "an exercise without check": (
        "exercises",
        lambda n: replace(n, "exercise", "code", r"check\.\w+\(", "print("),
    ),
    "an exercise without solution": ("exercises", lambda n: drop(n, course.cells(n, "solution"))),
    "a solution that is none": ("exercises", lambda n: first(n, "solution").metadata.tags.remove("solution")),
    "one exercise": (
        "exercises",
        lambda n: replace(n, "exercise", "markdown", "Exercise 2", "Question"),
    ),
    "a wrong number": (
        "exercises",
        lambda n: replace(n, "exercise", "markdown", "Exercise 2", "Exercise 3"),
    ),
    "a solution shown in JupyterLab": ("folded", lambda n: first(n, "solution").metadata.pop("jupyter")),
    "a solution shown in Colab": ("folded", lambda n: first(n, "solution").metadata.pop("cellView")),
    "an answer in the open": (
        "quiz",
        lambda n: replace(n, "quiz", "markdown", r"<details>(.+?)</details>", r"\1"),
    ),
    "two questions": ("quiz", lambda n: replace(n, "quiz", "markdown", r"\*\*3\.\*\*.*", "")),
    "a statement as title": ("title", lambda n: replace(n, "title", "markdown", r"\?", ".")),
    "no time": ("title", lambda n: replace(n, "title", "markdown", "Time:", "Duration:")),
    "no needs": ("title", lambda n: replace(n, "title", "markdown", "Needs:", "Requires:")),
    "Colab's metadata": ("metadata", lambda n: n.metadata.update(colab={"provenance": []})),
    "another kernel": ("metadata", lambda n: n.metadata.kernelspec.update(name="my-env")),
    "a Python version": ("metadata", lambda n: n.metadata.language_info.update(version="3.11.2")),
    "times of execution": ("metadata", lambda n: n.cells[3].metadata.update(execution={})),
    "nbgrader's metadata in a lesson": ("metadata", lambda n: n.cells[3].metadata.update(nbgrader={})),
    "a locked cell in a lesson": ("metadata", lambda n: n.cells[3].metadata.update(editable=False)),
    "a task in a lesson": ("sections", lambda n: n.cells[5].metadata.update(tags=["task"])),
    "claims not saved": ("claims", lambda n: [c.update(source=c.source.replace("claims.save()", "")) for c in code(n)]),
    "a claim after saving": ("claims", lambda n: add("\nclaims.add('late', 'x', {0: 1})")(code(n)[-1])),
    "a claim without tag": ("claims", lambda n: first(n, "claim").metadata.tags.remove("claim")),
}


def graded(notebook, grade_id):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


BROKEN_HOMEWORK = {
    "an exercise in homework": ("sections", lambda n: n.cells[6].metadata.update(tags=["exercise"])),
    "no way to hand in": ("sections", lambda n: drop(n, course.cells(n, "handin"))),
    "an answer without test": ("answers", lambda n: drop(n, [graded(n, "test-mixup-data")])),
    "a test of another answer": (
        "answers",
        lambda n: graded(n, "test-mixup-data").metadata.nbgrader.update(grade_id="test-mix"),
    ),
    "a test without hint": (
        "answers",
        lambda n: graded(n, "test-mixup-data").update(source="assert mixup_data"),
    ),
    "a locked answer": ("answers", lambda n: graded(n, "mixup-data").metadata.nbgrader.update(locked=True)),
    "half of nbgrader's metadata": (
        "answers",
        lambda n: graded(n, "mixup-data").metadata.update(nbgrader={"grade_id": "mixup-data"}),
    ),
    "a test that is not folded": (
        "reason",
        lambda n: graded(n, "test-mixup-data").metadata.update(jupyter={}, cellView="code"),
    ),
    "Colab's metadata in a cell": ("metadata", lambda n: n.cells[6].metadata.update(id="8b7e1f02")),
}


@pytest.mark.parametrize("name", BROKEN | BROKEN_HOMEWORK)
def test_a_broken_lesson_is_found(name):
    rule, damage = (BROKEN | BROKEN_HOMEWORK)[name]
    notebook = course.read(LESSONS[0] if name in BROKEN else HOMEWORK)
    before = broken_rules(notebook, rule)
    damage(notebook)
    assert broken_rules(notebook, rule) - before


def broken_rules(notebook, rule):
    """What a rule says of a notebook, and of which cells."""
    return set(lint_lessons.findings("lesson", notebook, [rule]))


FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}


def prose(source):
    return nbformat.v4.new_markdown_cell(source)


def program(source, section="proof", tags=(), **facts):
    return nbformat.v4.new_code_cell(source, metadata={"tags": [section, *tags], **facts})


CELLS = {  # of rules about single cells: what breaks them, and what does not
    "syntax": (
        ["model = ", "x = 1\x00", "for x in y:\nprint(x)"],
        ["%time x = 1", "if x:\n    !ls\nelse:\n    %pip list", "x;", "y = (\n    x\n    % 2\n    != 1\n)"],
    ),
    "empty": ([prose(" \n")], [prose("A word.")]),
    "line-length": (["# " + "x" * 87], ["# " + "x" * 86, program("# " + "x" * 98, "setup")]),
    "folded": (
        [
            "# @title Draws the figure",
            program("x = 1", **FOLDED),
            program("# @title Draws", jupyter={"source_hidden": True}),
            program("# @title Draws", cellView="form"),
            program("# @title", **FOLDED),
            program("x = 1", tags=["solution"]),
        ],
        ["x = 1", program("# @title Draws the figure", **FOLDED), program("x = 1", jupyter={"outputs_hidden": True})],
    ),
    "tuple-assignment": (
        [
            "half, dropout = nn.MaxPool2d(2), nn.Dropout(0.3)",
            "at_best, at_last = frame.loc[best], frame.iloc[-1]",
            "model, rows = network(seed), []",
        ],
        [
            "low, high = 0, 1",
            "a, b = b, a",
            "a, b = b, a + b",
            "x, y = x.to(device), y.to(device)",
            "plain, mixed = run(seed, None), run(seed, mixup)",
            "loss, accuracy = evaluate(model)",
            "height, width = image.shape",
        ],
    ),
    "unpacking": (
        [
            "early, late, times = (frame[c] for c in frame)",
            "early, late = [frame[c] for c in frame]",
            "x, y = map(torch.tensor, pair)",
            "x, y = frame[['x', 'y']]",
        ],
        ["x, y = split", "x, y = next(iter(loader))", "for x, y in zip(a, b):\n    pass", "rows = [f(x) for x in y]"],
    ),
    "comprehension": (
        [
            "pairs = [(a, b) for a in x for b in y]",
            "sums = [sum(a for a in row) for row in rows]",
            "few = [a for a in x if a > 0 if a < 1]",
            "long = [\n    a\n    for a in x\n]",
        ],
        ["[a for a in x if a > 0]", "print(\n    sum(a for a in x),\n)", "for a in [b for b in x]:\n    c = {d: a for d in x}"],
    ),
    "named-lambda": (
        ["square = lambda x: x * x", "use(lambda x: lambda y: x + y)"],
        ["frame.apply(lambda x: x * x)", "def square(x):\n    return x * x"],
    ),
    "arguments": (
        ["fit(**(settings | {'epochs': 3}))", "fit(**recipe | change)", "fit(**{'lr': 1})"],
        ["fit(lr=1)", "fit(**settings)", "both = sizes | others"],
    ),
    "pandas": (
        ["frame.unstack()", "frame['x'].stack()"],
        [
            "torch.stack(rows)",
            "np.stack(rows)",
            "frame.pivot(index='a', columns='b')",
            program("# @title Table\nframe.unstack()", **FOLDED),
        ],
    ),
    "drawing": (
        ["figure, axes = plt.subplots()", "plt.plot(x)"],
        ["plots.curves(x)", "plt.show()", program("# @title Draws\nplt.plot(x)", **FOLDED), program("plt.ion()", "setup")],
    ),
    "alt": (
        [
            "plots.curves(x)",
            program("plt.plot(x)", alt="curves"),
            "def f():\n    plt.plot(x)\n\n\nf()",
            "%timeit x\nplt.plot(x)",
        ],
        [
            program("plots.curves(x)", alt=DESCRIPTION),
            "x = 1",
            "def f():\n    plt.plot(x)",
            "def f(t):\n    plt.plot(t)\n\n\nplots.slider('t', x, f, alt='a line')",
        ],
    ),
    "slider": (["plots.slider('t', x, f)"], ["plots.slider('t', x, f, alt='a line')", "plots.slider('t', **settings)"]),
    "caption": (
        [
            "plots.curves(x)",
            [program("plots.curves(x)"), prose("## What next")],
            [program("plots.curves(x)"), program("x = 1")],
        ],
        [[program("plots.curves(x)"), prose("The gap grows.")], "x = 1"],
    ),
    "image-alt": (
        [prose("![](a.png)"), prose('<img src="a.png">'), prose('<img src="a.png" alt="">')],
        [prose("![a curve](a.png)"), prose('<img alt="a curve" src="a.png">')],
    ),
    "links": (
        [prose("[next](99_nothing.ipynb)")],
        [prose("[next](00_start_here.ipynb#top)"), prose(f'<img src="data:image/png;base64,{"A" * 5000}">')],
    ),
    "figure": (
        ["plots.curves(x)", prose(f"{FIGURE}{DESCRIPTION}"[:30])],
        [
            program("plots.curves(x)", alt=DESCRIPTION),
            [program("plots.curves(x)"), prose(FIGURE + DESCRIPTION)],
            "plots.slider(frames, alt='a line')",
        ],
    ),
    "formula": (
        [
            prose("It is\n$$x = 1$$"),
            prose("$$x = 1$$\nwhere it holds."),
            prose("It is\n$$\nx = 1\n$$\n\nso."),
        ],
        [prose("It is\n\n$$x = 1$$\n\nor $y$, and so on."), prose("$$\nx = 1\n$$"), prose("It costs $$ in one line.")],
    ),
    "details": (
        [
            prose("<details><summary>Answer</summary>\n$x$\n\n</details>"),
            prose("<details><summary>Answer</summary>\n\n$x$\n</details>"),
            prose("<details>\n<summary>Answer</summary> $x$</details>"),
        ],
        [prose("<details><summary>Answer</summary>\n\n$x$\n\n</details>"), prose("Unfold the details.")],
    ),
    "english": (
        [prose("The digits of above."), prose("It has not the same noise.")],
        [prose("The digits above."), prose("It has not changed. It does not have the noise. A kind of aboveground.")],
    ),
    "budget-name": (
        [program("b = runtime.budget(ci={})", "budget")],
        [program("budget = runtime.budget(ci={})", "budget"), program("x = 1", "budget")],
    ),
    "claims-folded": (
        [program("claims.add('a', 'b', c)", tags=["claim"]), program("claims.not_shown('a', 'b', c)", tags=["claim"])],
        [program("# @title Claims\nclaims.add('a', 'b', c)", tags=["claim"], **FOLDED), "x = 1"],
    ),
}


def made_of(cells):
    """A notebook of a source of code, of a cell, or of a few; its first cell is `cell-0`."""
    cells = [program(cells)] if isinstance(cells, str) else cells if isinstance(cells, list) else [cells]
    for place, cell in enumerate(cells):
        cell.id = f"cell-{place}"
    return nbformat.v4.new_notebook(cells=cells)


BREACHES = [(rule, bad) for rule, (breaches, _) in CELLS.items() for bad in breaches]
FINE = [(rule, good) for rule, (_, examples) in CELLS.items() for good in examples]


@pytest.mark.parametrize(("rule", "cells"), BREACHES)
def test_a_cell_that_breaks_a_rule_is_found_with_advice(rule, cells):
    (found, *_) = broken_rules(made_of(cells), rule)
    assert found.cell == "cell-0"
    assert len(found.message) > 15


@pytest.mark.parametrize(("rule", "cells"), FINE)
def test_a_cell_that_keeps_to_a_rule_is_not_found(rule, cells):
    assert broken_rules(made_of(cells), rule) == set()


def test_every_rule_has_a_broken_copy_and_one_that_is_good():
    in_copies = {rule for rule, _ in (BROKEN | BROKEN_HOMEWORK).values()}
    assert in_copies | set(CELLS) == set(lint_lessons.RULES)
    for rule in in_copies - set(CELLS):
        assert broken_rules(course.read(LESSONS[0]), rule) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('\n   "cell_type"', '\n  "cell_type"'),
        ("검", "\\uac80"),
        ("}\n", "}"),
        ('"nbformat_minor": 5', '"nbformat_minor": 5, "orig_nbformat": 4'),
        ('"id": "recap"', '"id": "quiz"'),
    ],
    ids=["indent", "escaped letter", "no newline at the end", "something more", "an id twice"],
)
@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")  # reading repairs the id, and the repair shows
def test_another_layout_is_found(old, new, tmp_path):
    text = LESSONS[0].read_text(encoding="utf-8")
    copy = tmp_path / LESSONS[0].name
    copy.write_text(text, encoding="utf-8")
    assert lint_lessons.layout(copy) == []
    damaged = new.join(text.rsplit(old, 1))
    assert damaged != text
    copy.write_text(damaged, encoding="utf-8")
    assert [found.rule for found in lint_lessons.layout(copy)] == ["layout"]


@pytest.mark.parametrize("rule", lint_lessons.RULES)
def test_every_rule_reads_a_notebook_without_cells(rule):
    assert all(found.cell == "-" for found in broken_rules(nbformat.v4.new_notebook(), rule))


def test_a_gap_in_the_numbers_is_found(tmp_path):
    names = [tmp_path / f"{number}.ipynb" for number in ("00_a", "01_b", "03_d")]
    assert lint_lessons.numbering(names[:2]) == []
    assert [found.lesson for found in lint_lessons.numbering(names)] == ["03_d"]


# --- the command, and the list of what is known ------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A folder with one lesson, and without a list."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(LESSONS[0], tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def lint(clone, monkeypatch, capsys):
    """Run the command on that folder; its status, and what it says."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def run(*options):
        arguments = ["lint_lessons.py", "--root", str(clone), "--list", str(clone / "known.txt"), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as end:
            lint_lessons.main()
        return end.value.code, capsys.readouterr().out

    return run


def proof_of(clone, ending):
    """Give the first proof of the lesson an ending; the line that a list would have for a tuple assignment there."""
    notebook = course.read(LESSONS[0])
    cell = first(notebook, "proof")
    cell.source += ending
    (clone / "notebooks" / LESSONS[0].name).write_text(course.text(notebook), encoding="utf-8")
    return f"{LESSONS[0].stem} {cell.id} tuple-assignment"


BREACH = "\nnumber, words = int(1), [2]"


def test_a_list_begins_with_what_is_found_and_then_only_shrinks(clone, lint):
    line = proof_of(clone, BREACH)
    assert lint()[0] == 1  # without a list nothing is known
    assert lint("--shrink")[0] == 0
    known = lint_lessons.read_known(clone / "known.txt")
    assert line in known
    assert lint()[0] == 0

    proof_of(clone, "")  # put right
    status, said = lint()
    assert status == 1
    assert f"remove the line {line!r}" in said
    assert lint("--shrink")[0] == 0
    assert lint_lessons.read_known(clone / "known.txt") == [entry for entry in known if entry != line]

    proof_of(clone, BREACH)  # and broken again: the list does not take it back
    status, said = lint("--shrink")
    assert status == 1
    assert line not in lint_lessons.read_known(clone / "known.txt")
    assert "assign one thing a line" in said


def test_a_line_that_stands_twice_is_to_be_removed(clone, lint):
    proof_of(clone, BREACH)
    lint("--shrink")
    path = clone / "known.txt"
    entry = lint_lessons.read_known(path)[0]
    path.write_text(path.read_text(encoding="utf-8") + f"{entry}\n", encoding="utf-8")
    status, said = lint()
    assert status == 1
    assert f"remove the line {entry!r}" in said
    assert lint("--shrink")[0] == 0


def test_a_cell_that_breaks_a_known_rule_once_more_is_found(clone, lint):
    line = proof_of(clone, BREACH)
    lint("--shrink")
    proof_of(clone, BREACH + BREACH)
    status, said = lint("--shrink")
    assert status == 1
    assert said.count("assign one thing a line: number, words = (int(1), [2]) (known: 1 of these)") == 2
    proof_of(clone, BREACH)
    assert lint()[0] == 0
    assert lint_lessons.read_known(clone / "known.txt").count(line) == 1


def damaged(content):
    return lambda path: path.write_bytes(content)


DAMAGE = {
    "nothing in it": damaged(b""),
    "half of it": lambda path: path.write_text(path.read_text(encoding="utf-8")[:5000], encoding="utf-8"),
    "another encoding": damaged(b'{"cells": ["\xe9"]}'),
    "a list": damaged(b"[]"),
    "no metadata": damaged(b'{"cells": [], "nbformat": 4, "nbformat_minor": 5}'),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "cells without ids": damaged(
        b'{"cells": [{"cell_type": "raw", "metadata": {}, "source": "a"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}'
    ),
    "code that is none": lambda path: proof_of(path.parent.parent, "\nfor"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_read_is_one_finding_and_costs_the_list_nothing(damage, clone, lint):
    proof_of(clone, BREACH)
    lint("--shrink")
    known = (clone / "known.txt").read_text(encoding="utf-8")
    DAMAGE[damage](clone / "notebooks" / LESSONS[0].name)
    status, said = lint("--shrink")
    assert status == 1
    assert f"no lines removed: first put right {LESSONS[0].stem}" in said
    assert f"notebooks/{LESSONS[0].name}:" in said
    assert "0 lines to remove" in said
    assert (clone / "known.txt").read_text(encoding="utf-8") == known


def test_a_folder_without_lessons_is_an_error_and_costs_the_list_nothing(clone, lint):
    lint("--shrink")
    (clone / "notebooks" / LESSONS[0].name).unlink()
    known = lint_lessons.read_known(clone / "known.txt")
    assert lint("--shrink")[0] == 2
    assert lint_lessons.read_known(clone / "known.txt") == known


def test_what_is_known_is_shown_on_request(clone, lint):
    proof_of(clone, BREACH)
    lint("--shrink")
    status, said = lint("--known")
    assert status == 0
    for entry in lint_lessons.read_known(clone / "known.txt"):
        _, cell, rule = entry.split()
        assert f" {rule}: {cell}: " in said


def test_a_finding_leads_to_the_line_of_its_cell(clone, lint, monkeypatch):
    lint("--shrink")
    _, cell, _ = proof_of(clone, BREACH).split()
    name = f"notebooks/{LESSONS[0].name}"
    (line,) = re.findall(rf"{name}:(\d+): tuple-assignment: {cell}: ", lint()[1])
    lines = (clone / name).read_text(encoding="utf-8").splitlines()
    assert f'"id": "{cell}"' in lines[int(line) - 1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert f"::error file={name},line={line},title=tuple-assignment::{cell}: assign" in lint()[1]


def test_an_annotation_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lint_lessons.say("rule", tmp_path / "a.ipynb", tmp_path, 3, "100%\nof it")
    assert capsys.readouterr().out == "::error file=a.ipynb,line=3,title=rule::100%25%0Aof it\n"


def test_the_command_needs_neither_torch_nor_an_installed_course():
    """As in a hook's environment: what the course needs cannot be imported, and the package only from this folder."""
    script = course.ROOT / "tools" / "lint_lessons.py"
    lines = [
        "import runpy, sys",
        *(f"sys.modules[{name!r}] = None" for name in ("torch", "numpy", "pandas", "matplotlib", "IPython")),
        "sys.path = [place for place in sys.path if place]",
        f"sys.argv = [{str(script)!r}, '--figures']",
        f"sys.path.insert(0, {str(script.parent)!r})",
        f"runpy.run_path({str(script)!r}, run_name='__main__')",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert HOMEWORK.stem in done.stdout


# --- figures -----------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_lesson_count_what_is_read_open():
    cells = [
        program("# (B, K)\n\nx = f(1)  # one\ny = [a for a in x]\nz = g(**y)"),  # four lines, two with comments
        program("\n".join(["x = 1"] * 20)),
        program("# @title Drawing\n" + "y = [a for a in x]\n" * 40, **FOLDED),
        program("import torch", "setup"),
        prose("Words."),
    ]
    found = dict(zip(lint_figures.HEADS, lint_figures.of(made_of(cells)), strict=True))
    width = (8 + 15 + 18 + 10 + 20 * 5) / 24
    assert found == {
        "cells": "2",
        "lines": "24",
        "median": "12",
        ">12": "50%",
        ">19": "50%",
        "comments": "8%",
        "width": f"{width:.0f}",
        "compr": f"{100 / 24:.1f}",
        "**": f"{100 / 24:.1f}",
    }


def test_a_lesson_without_open_code_has_figures():
    assert lint_figures.of(made_of([prose("Words.")]))[:3] == ("0", "0", "–")
