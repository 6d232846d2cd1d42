"""Every lesson has the anatomy that a reader of the other lessons expects.

Each check takes a notebook and returns complaints, so that the checks themselves are tested too, on broken copies.
"""

import re
from collections import Counter
from itertools import pairwise

import nbformat
import pytest

import badges
import course

LESSONS = course.lessons()
HOMEWORK = LESSONS[-1]
FIGURE = "> **Figure:** "
FURTHER_TAGS = {"solution", "claim"}
# Functions of plots that give a table or a setting, not a picture.
NOT_DRAWN = ("style", "mean_and_std")
DRAWS = re.compile(rf"\bplt\.(subplots|figure|gca|plot|imshow)\(|\bplots\.(?!({'|'.join(NOT_DRAWN)})\b)\w+\(|\.imshow\(")
KOREAN = re.compile(r"\(([^()]*[가-힣][^()]*)\)")


def sections_in_order(notebook):
    sections = course.sections(notebook)
    found = [course.section(cell) for cell in notebook.cells]
    for cell, section in zip(notebook.cells, found, strict=True):
        if section not in sections:
            yield f"{cell.id}: first tag {section!r} is no section"
        if extra := set(cell.metadata.get("tags", ())[1:]) - FURTHER_TAGS:
            yield f"{cell.id}: unknown tags {sorted(extra)}"
    for section in sections:
        if section not in found:
            yield f"section {section} is missing"
    places = [sections.index(section) for section in found if section in sections]
    for before, after in pairwise(places):
        if before > after:
            yield f"section {sections[after]} comes after {sections[before]}"
    for section in ("badges", "title", "setup", "budget"):
        if found.count(section) > 1:
            yield f"{found.count(section)} {section} cells"


def set_up_is_the_same_everywhere(notebook):
    for cell in course.cells(notebook, "setup"):
        if cell.source != badges.setup(course.ROOT):
            yield "setup differs from what tools/badges.py writes"
        if cell.id != "setup" or cell.cell_type != "code":
            yield f"{cell.id}: the setup cell is a code cell with the id 'setup'"


def one_budget_and_no_other_switch(notebook):
    switch = re.compile(r"\bprofile\(|\bis_ci\b|COURSE_PROFILE|\b(if|elif|not)\s+ci\b|['\"](ci|gpu)['\"]")
    for cell in code(notebook):
        section = course.section(cell)
        calls = cell.source.count("runtime.budget(")
        if calls != (section == "budget"):
            yield f"{cell.id}: {calls} calls of runtime.budget"
        if section not in ("setup", "budget") and (found := switch.search(cell.source)):
            yield f"{cell.id}: asks for the profile: {found.group()}"


def no_outputs(notebook):
    for cell in code(notebook):
        if cell.outputs:
            yield f"{cell.id}: has outputs"
        if cell.execution_count is not None:
            yield f"{cell.id}: has an execution count"


def cells_are_short(notebook):
    if len(notebook.cells) > 48:
        yield f"{len(notebook.cells)} cells"
    for cell in code(notebook):
        lines = cell.source.splitlines()
        if not cell.source.strip():
            yield f"{cell.id}: is empty"
        if len(lines) > 25:
            yield f"{cell.id}: {len(lines)} lines"
        if (longest := max(map(len, lines), default=0)) > 100:
            yield f"{cell.id}: a line of {longest} characters"


def ids_are_words(notebook):
    for name, times in Counter(cell.id for cell in notebook.cells).items():
        if times > 1:
            yield f"{name}: {times} cells have this id"
    for cell in notebook.cells:
        if not re.fullmatch(rf"{course.section(cell)}(-[a-z0-9]+)*", cell.id):
            yield f"{cell.id}: is not {course.section(cell)} followed by words with hyphens"
        if re.search(r"\b(?=[a-f]*\d)[0-9a-f]{6,}\b", cell.id):
            yield f"{cell.id}: looks random"


def figures_are_described(notebook):
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type == "code" and DRAWS.search(cell.source) and not is_figure(after):
            yield f"{cell.id}: draws, and no {FIGURE.strip()} cell follows"
        if is_figure(after) and cell.cell_type != "code":
            yield f"{after.id}: describes no code cell"
        if is_figure(cell) and len(cell.source.removeprefix(FIGURE)) < 60:
            yield f"{cell.id}: too short to stand for the figure"


def links_lead_somewhere(notebook):
    repository = course.repository()
    colab = "https://colab.research.google.com"
    allowed = (repository, f"{colab}/assets/colab-badge.svg", repository.replace("https://github.com", f"{colab}/github"))
    for cell in notebook.cells:
        for address in re.findall(r"https?://[^\s)\"'<>\]]+", cell.source):
            place = address.removesuffix(f"@{course.TAG}")
            if not any(place == start or place.startswith(f"{start}/") for start in allowed):
                yield f"{cell.id}: leads out of the course: {address}"
    for cell in markdown(notebook):
        links = re.findall(r"\]\(([^)\s]+)[^)]*\)", cell.source) + re.findall(r"(?:href|src)=[\"']([^\"']+)", cell.source)
        for link in links:
            file = link.partition("#")[0]
            if not link.startswith(("https://", "http://")) and file and not (course.ROOT / "notebooks" / file).exists():
                yield f"{cell.id}: link to nothing: {link}"


def code_has_a_reason_above(notebook):
    for before, cell in pairwise(notebook.cells):
        both = before.cell_type == cell.cell_type == "code"
        set_up = course.section(before) == "setup" and course.section(cell) == "budget"
        if both and not set_up and not is_solution(cell) and not is_test_of(cell, before):
            yield f"{cell.id}: no markdown between it and {before.id}"


def korean_terms(notebook):
    terms = Counter(term.strip() for cell in markdown(notebook) for term in KOREAN.findall(cell.source))
    if len(terms) < 5:
        yield f"only {len(terms)} Korean terms"
    for term, times in terms.items():
        if times > 1:
            where = ", ".join(cell.id for cell in markdown(notebook) if f"({term})" in cell.source)
            yield f"{term} is explained {times} times: {where}"


def warnings_are_not_silenced(notebook):
    for cell in code(notebook):
        if found := re.search(
            r"filterwarnings|simplefilter|catch_warnings|captureWarnings|PYTHONWARNINGS|%%capture", cell.source
        ):
            yield f"{cell.id}: {found.group()}"


def idea_is_brief(notebook):
    source = "\n".join(cell.source for cell in course.cells(notebook, "idea"))
    prose = re.sub(r"\$\$.+?\$\$|\$[^$]+\$", " ", source, flags=re.DOTALL)  # 300 words *and* the formulas
    words = len(re.findall(r"\w+(?:[-'’.]\w+)*", prose))
    if words > 300:
        yield f"the idea has {words} words"


def exercises_can_be_checked_and_solved(notebook):
    exercises = []  # per exercise: its number, its prose, its code, whether a solution cell follows
    for cell in course.cells(notebook, "exercise"):
        if cell.cell_type == "markdown":
            _, *parts = re.split(r"^\*\*Exercise (\d+)\.", cell.source, flags=re.MULTILINE)
            exercises += [
                {"number": int(n), "prose": prose, "stub": "", "solved": False}
                for n, prose in zip(parts[::2], parts[1::2], strict=True)
            ]
            if not parts and exercises:
                exercises[-1]["prose"] += cell.source
        elif not exercises:
            yield f"{cell.id}: belongs to no exercise"
        elif is_solution(cell):
            exercises[-1]["solved"] = True
        else:
            exercises[-1]["stub"] += cell.source
    numbers = [exercise["number"] for exercise in exercises]
    if numbers != list(range(1, len(numbers) + 1)) or not 2 <= len(numbers) <= 4:
        yield f"exercises are numbered {numbers}; there are two to four, from 1"
    for exercise in exercises:
        if not re.search(r"\bcheck\.\w+\(", exercise["stub"]):
            yield f"exercise {exercise['number']}: no call of check"
        if not exercise["solved"] and not re.search(r"<details>.+</details>", exercise["prose"], re.DOTALL):
            yield f"exercise {exercise['number']}: no folded solution"


def solutions_are_folded(notebook):
    for cell in notebook.cells:
        folded = cell.metadata.get("jupyter", {}).get("source_hidden") is True and cell.metadata.get("cellView") == "form"
        hidden = "jupyter" in cell.metadata or "cellView" in cell.metadata
        if is_solution(cell) and not (folded and cell.cell_type == "code"):
            yield f"{cell.id}: a solution is a code cell, hidden in JupyterLab and in Colab"
        if hidden and not is_solution(cell) and course.section(cell) != "setup":
            yield f"{cell.id}: hidden, and neither a solution nor the set-up"


def quiz_has_folded_answers(notebook):
    source = "\n".join(cell.source for cell in course.cells(notebook, "quiz"))
    questions = re.split(r"^\*\*\d+\.\*\*", source, flags=re.MULTILINE)[1:]
    if not 3 <= len(questions) <= 5:
        yield f"{len(questions)} quiz questions; there are three to five"
    for number, question in enumerate(questions, start=1):
        if len(re.findall(r"<details><summary>[^<]+</summary>.+?</details>", question, re.DOTALL)) != 1:
            yield f"quiz question {number}: not one folded answer"


def title_is_a_question(notebook):
    if not course.question(notebook).endswith("?"):
        yield f"the title is no question: {course.question(notebook)!r}"
    if not course.time_needed(notebook):
        yield "the title cell says no **Time:**"
    if not any(re.search(r"^\*\*Needs:\*\* \S", cell.source, re.MULTILINE) for cell in course.cells(notebook, "title")):
        yield "the title cell says no **Needs:**"


def metadata_is_plain(notebook):
    allowed = {"tags", "jupyter", "cellView"}
    if course.is_homework(notebook):
        allowed |= {"nbgrader", "deletable", "editable"}
    if set(notebook.metadata) != {"kernelspec", "language_info"}:
        yield f"metadata: {sorted(notebook.metadata)}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if notebook.metadata.get("language_info") != {"name": "python"}:
        yield "language_info says more than the language"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - allowed:
            yield f"{cell.id}: metadata {sorted(extra)}"


def answers_can_be_checked(notebook):
    """In homework, the cell below an answer is its test, unless a person reads the answer; other cells are ours."""
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        facts = cell.metadata.get("nbgrader", {})
        if facts.get("solution") and not facts["grade"] and not is_test_of(after, cell):
            yield f"{cell.id}: no test below"
        if facts.get("grade") and not facts["solution"] and not re.search(r"\bcheck\.\w+\(", cell.source):
            yield f"{cell.id}: no call of check"
        if facts and facts["solution"] == facts["locked"]:
            yield f"{cell.id}: a cell is for an answer or locked"


def claims_are_saved(notebook):
    cells = code(notebook)
    made, saved = ([n for n, cell in enumerate(cells) if call in cell.source] for call in ("claims.add(", "claims.save("))
    if made and not saved:
        yield "claims are made and not saved"
    elif made and (len(saved) != 1 or saved[0] < made[-1]):
        yield "claims are saved once, after the last is made"
    for cell in cells:
        if ("claims.add(" in cell.source) != ("claim" in cell.metadata.tags):
            yield f"{cell.id}: the tag 'claim' marks the cells that make claims"


CHECKS = [
    sections_in_order,
    set_up_is_the_same_everywhere,
    one_budget_and_no_other_switch,
    no_outputs,
    cells_are_short,
    ids_are_words,
    figures_are_described,
    links_lead_somewhere,
    code_has_a_reason_above,
    korean_terms,
    warnings_are_not_silenced,
    idea_is_brief,
    exercises_can_be_checked_and_solved,
    solutions_are_folded,
    quiz_has_folded_answers,
    title_is_a_question,
    metadata_is_plain,
    answers_can_be_checked,
    claims_are_saved,
]
# Homework has tasks instead.
NOT_IN_HOMEWORK = {exercises_can_be_checked_and_solved, quiz_has_folded_answers}


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def is_solution(cell):
    return "solution" in cell.metadata.get("tags", ())


def is_test_of(cell, answer):
    test = cell.metadata.get("nbgrader", {}).get("grade_id", "") if cell else ""
    return test != "" and test == f"test-{answer.metadata.get('nbgrader', {}).get('grade_id')}"


def is_figure(cell):
    return cell is not None and cell.cell_type == "markdown" and cell.source.startswith(FIGURE)


def as_jupyterlab_saves_it(path):
    return path.read_text(encoding="utf-8") == course.text(course.read(path))


def test_there_are_lessons():
    assert [course.number(path) for path in LESSONS][:2] == ["00", "01"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_keeps_to(path, check):
    notebook = course.read(path)
    if not (course.is_homework(notebook) and check in NOT_IN_HOMEWORK):
        assert list(check(notebook)) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_committed_as_jupyterlab_saves_it(path):
    nbformat.validate(course.read(path))
    assert as_jupyterlab_saves_it(path)


def test_lessons_are_numbered_without_gaps():
    """Links to the previous and the next lesson follow the order of file names."""
    assert [path.name[:3] for path in LESSONS] == [f"{number:02}_" for number in range(len(LESSONS))]


# --- the checks find what they are for ---------------------------------------------------------------------------------


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


def figure_cell(notebook):
    return next(filter(is_figure, notebook.cells))


def add(text):
    """Append text to the source of a cell."""
    return lambda c: c.update(source=c.source + text)


BROKEN = {
    "a section is gone": (sections_in_order, lambda n: drop(n, course.cells(n, "recap"))),
    "two sections change places": (sections_in_order, lambda n: n.cells.append(n.cells.pop(5))),
    "a tag is misspelt": (sections_in_order, lambda n: n.cells[5].metadata.update(tags=["predcit"])),
    "no tags at all": (sections_in_order, lambda n: n.cells[5].metadata.pop("tags")),
    "a second budget cell": (sections_in_order, lambda n: insert(n, "budget", "b = runtime.budget()")),
    "one blank more in the set-up": (set_up_is_the_same_everywhere, lambda n: add(" ")(first(n, "setup"))),
    "another id of the set-up": (set_up_is_the_same_everywhere, lambda n: first(n, "setup").update(id="setup-cell")),
    "a budget in the proof": (one_budget_and_no_other_switch, lambda n: add("\nc = runtime.budget()")(first(n, "proof"))),
    "a profile in the proof": (one_budget_and_no_other_switch, lambda n: add("\nruntime.profile()")(first(n, "proof"))),
    "a comparison with ci": (one_budget_and_no_other_switch, lambda n: add("\nsmall = kind == 'ci'")(first(n, "proof"))),
    "an environment variable": (one_budget_and_no_other_switch, lambda n: add("\nCOURSE_PROFILE")(first(n, "proof"))),
    "an output": (no_outputs, lambda n: first(n, "proof").outputs.append(nbformat.v4.new_output("stream", text="hello"))),
    "an execution count": (no_outputs, lambda n: first(n, "proof").update(execution_count=3)),
    "a long cell": (cells_are_short, lambda n: add("\npass" * 25)(first(n, "budget"))),
    "a long line": (cells_are_short, lambda n: add("\n# " + "x" * 99)(first(n, "proof"))),
    "an empty cell": (cells_are_short, lambda n: first(n, "proof").update(source="\n")),
    "many cells": (cells_are_short, lambda n: n.cells.extend(n.cells[-1:] * (49 - len(n.cells)))),
    "an id twice": (ids_are_words, lambda n: n.cells[-1].update(id=n.cells[-2].id)),
    "an id of another section": (ids_are_words, lambda n: first(n, "proof").update(id="problem-x")),
    "an id of JupyterLab": (ids_are_words, lambda n: first(n, "proof").update(id="8b7e1f02")),
    "a random id": (ids_are_words, lambda n: first(n, "proof").update(id="proof-8b7e1f02")),
    "a figure in prose": (figures_are_described, lambda n: figure_cell(n).update(source="Nice. " + "It is a curve. " * 9)),
    "a short description": (figures_are_described, lambda n: figure_cell(n).update(source=FIGURE + "two curves.")),
    "a new plot": (figures_are_described, lambda n: add("\nplt.subplots()")(first(n, "proof"))),
    "a new kind of plot": (figures_are_described, lambda n: add("\nplots.reliability(x)")(first(n, "proof"))),
    "a description of nothing": (
        figures_are_described,
        lambda n: first(n, "recap", "markdown").update(source=FIGURE + "x" * 60),
    ),
    "a link to nothing": (links_lead_somewhere, lambda n: add(" [next](99_nothing.ipynb)")(n.cells[1])),
    "a picture that is not there": (links_lead_somewhere, lambda n: add(' <img src="picture.png">')(n.cells[1])),
    "a link elsewhere": (links_lead_somewhere, lambda n: add(" [paper](https://example.org/paper.pdf)")(n.cells[1])),
    "an address in code": (links_lead_somewhere, lambda n: add("\nurl = 'http://example.org'")(first(n, "proof"))),
    "a neighbour's repository": (links_lead_somewhere, lambda n: add(f" {course.repository()}-2")(n.cells[1])),
    "code after code": (code_has_a_reason_above, lambda n: insert(n, "proof", "1 + 1")),
    "no Korean": (korean_terms, lambda n: [c.update(source=KOREAN.sub("", c.source)) for c in markdown(n)]),
    "a term twice": (korean_terms, lambda n: add(" (새 용어) and (새 용어)")(n.cells[-1])),
    "a filter": (warnings_are_not_silenced, lambda n: add("\nwarnings.filterwarnings('ignore')")(first(n, "proof"))),
    "a simple filter": (warnings_are_not_silenced, lambda n: add("\nsimplefilter('ignore')")(first(n, "proof"))),
    "a long idea": (idea_is_brief, lambda n: add(" word" * 300)(first(n, "idea", "markdown"))),
    "an exercise without check": (
        exercises_can_be_checked_and_solved,
        lambda n: replace(n, "exercise", "code", r"check\.\w+\(", "print("),
    ),
    "an exercise without solution": (exercises_can_be_checked_and_solved, lambda n: drop(n, course.cells(n, "solution"))),
    "a solution in the open": (
        exercises_can_be_checked_and_solved,
        lambda n: replace(n, "exercise", "markdown", r"<details>(.+)</details>", r"\1"),
    ),
    "one exercise": (
        exercises_can_be_checked_and_solved,
        lambda n: replace(n, "exercise", "markdown", "Exercise 2", "Question"),
    ),
    "a wrong number": (
        exercises_can_be_checked_and_solved,
        lambda n: replace(n, "exercise", "markdown", "Exercise 2", "Exercise 3"),
    ),
    "a solution shown in JupyterLab": (solutions_are_folded, lambda n: first(n, "solution").metadata.pop("jupyter")),
    "a solution shown in Colab": (solutions_are_folded, lambda n: first(n, "solution").metadata.pop("cellView")),
    "a hidden proof": (solutions_are_folded, lambda n: first(n, "proof").metadata.update(jupyter={"source_hidden": True})),
    "an answer in the open": (
        quiz_has_folded_answers,
        lambda n: replace(n, "quiz", "markdown", r"<details>(.+?)</details>", r"\1"),
    ),
    "two questions": (quiz_has_folded_answers, lambda n: replace(n, "quiz", "markdown", r"\*\*3\.\*\*.*", "")),
    "a statement as title": (title_is_a_question, lambda n: replace(n, "title", "markdown", r"\?", ".")),
    "no time": (title_is_a_question, lambda n: replace(n, "title", "markdown", "Time:", "Duration:")),
    "no needs": (title_is_a_question, lambda n: replace(n, "title", "markdown", "Needs:", "Requires:")),
    "Colab's metadata": (metadata_is_plain, lambda n: n.metadata.update(colab={"provenance": []})),
    "another kernel": (metadata_is_plain, lambda n: n.metadata.kernelspec.update(name="my-env")),
    "a Python version": (metadata_is_plain, lambda n: n.metadata.language_info.update(version="3.11.2")),
    "times of execution": (metadata_is_plain, lambda n: n.cells[3].metadata.update(execution={})),
    "nbgrader's metadata in a lesson": (metadata_is_plain, lambda n: n.cells[3].metadata.update(nbgrader={})),
    "a locked cell in a lesson": (metadata_is_plain, lambda n: n.cells[3].metadata.update(editable=False)),
    "a task in a lesson": (sections_in_order, lambda n: n.cells[5].metadata.update(tags=["task"])),
    "claims not saved": (claims_are_saved, lambda n: [c.update(source=c.source.replace("claims.save()", "")) for c in code(n)]),
    "a claim after saving": (claims_are_saved, lambda n: add("\nclaims.add('late', 'x', {0: 1})")(code(n)[-1])),
    "a claim without tag": (claims_are_saved, lambda n: first(n, "claim").metadata.tags.remove("claim")),
}


def graded(notebook, grade_id):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


BROKEN_HOMEWORK = {
    "an exercise in homework": (sections_in_order, lambda n: n.cells[6].metadata.update(tags=["exercise"])),
    "no way to hand in": (sections_in_order, lambda n: drop(n, course.cells(n, "handin"))),
    "an answer without test": (answers_can_be_checked, lambda n: drop(n, [graded(n, "test-mixup-data")])),
    "a test of another answer": (
        answers_can_be_checked,
        lambda n: graded(n, "test-mixup-data").metadata.nbgrader.update(grade_id="test-mix"),
    ),
    "a test without hint": (
        answers_can_be_checked,
        lambda n: graded(n, "test-mixup-data").update(source="assert mixup_data"),
    ),
    "a locked answer": (answers_can_be_checked, lambda n: graded(n, "mixup-data").metadata.nbgrader.update(locked=True)),
    "code after a test": (
        code_has_a_reason_above,
        lambda n: graded(n, "test-mixup-data").metadata.nbgrader.update(grade_id="test"),
    ),
    "Colab's metadata in a cell": (metadata_is_plain, lambda n: n.cells[6].metadata.update(id="8b7e1f02")),
}


@pytest.mark.parametrize("name", BROKEN | BROKEN_HOMEWORK)
def test_a_broken_lesson_is_found(name):
    check, damage = (BROKEN | BROKEN_HOMEWORK)[name]
    notebook = course.read(LESSONS[0] if name in BROKEN else HOMEWORK)
    before = set(check(notebook))
    damage(notebook)
    assert set(check(notebook)) - before


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
    damaged = new.join(text.rsplit(old, 1))
    assert damaged != text
    copy = tmp_path / LESSONS[0].name
    copy.write_text(damaged, encoding="utf-8")
    assert not as_jupyterlab_saves_it(copy)


def test_every_check_can_fail():
    assert {check for check, _ in (BROKEN | BROKEN_HOMEWORK).values()} == set(CHECKS)
