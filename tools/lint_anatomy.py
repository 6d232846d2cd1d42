"""Rules about the parts of a lesson: sections, budget, figures, links, exercises, quiz, claims. See `lint_lessons.py`.

Each rule takes a notebook and gives pairs: the cell (None for the lesson as a whole), and what to do.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from nbformat import NotebookNode

import badges
import course

Found = Iterator[tuple[NotebookNode | None, str]]

FIGURE = "> **Figure:** "
FURTHER_TAGS = {"solution", "claim"}
# Functions of plots that give a table or a setting, not a picture.
NOT_DRAWN = ("style", "mean_and_std", "slider")
DRAWS = re.compile(rf"\bplt\.(subplots|figure|gca|plot|imshow)\(|\bplots\.(?!({'|'.join(NOT_DRAWN)})\b)\w+\(|\.imshow\(")
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef)
DRAWS_BY_HAND = re.compile(r"\bplt\.(?!show\()\w+\(")
KOREAN = re.compile(r"\(([^()]*[가-힣][^()]*)\)")
SWITCH = re.compile(r"\bprofile\(|\bis_ci\b|COURSE_PROFILE|\b(if|elif|not)\s+ci\b|['\"](ci|gpu)['\"]")
SILENCED = re.compile(r"filterwarnings|simplefilter|catch_warnings|captureWarnings|PYTHONWARNINGS|%%capture")


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def is_folded(cell: NotebookNode) -> bool:
    """Whether a cell is folded in JupyterLab or in Colab."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden")) or cell.metadata.get("cellView") == "form"


def is_solution(cell: NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", ())


def draws(source: str) -> bool:
    """Whether a cell shows a figure when it runs.

    Not by what its functions draw, unless it calls them: others may, and `plots.slider` describes its frames by its `alt=`.
    """
    if not DRAWS.search(source):
        return False
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return True  # magics, or no Python at all: as it is written
    called = set()
    for node in ast.walk(ast.Module(statements, [])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    return any(
        DRAWS.search(ast.unparse(statement))
        for statement in statements
        if not isinstance(statement, DEFINES) or statement.name in called
    )


def is_figure_text(cell: NotebookNode | None) -> bool:
    return cell is not None and cell.cell_type == "markdown" and cell.source.startswith(FIGURE)


def is_test_of(cell: NotebookNode | None, answer: NotebookNode) -> bool:
    """In homework: whether a cell tests this answer."""
    test = cell.metadata.get("nbgrader", {}).get("grade_id", "") if cell else ""
    return test != "" and test == f"test-{answer.metadata.get('nbgrader', {}).get('grade_id')}"


def with_next(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode | None]]:
    """Each cell with the one below it."""
    yield from zip(notebook.cells, [*notebook.cells, None][1:], strict=True)


def sections(notebook: NotebookNode) -> Found:
    known = course.sections(notebook)
    found = [course.section(cell) for cell in notebook.cells]
    for cell, section in zip(notebook.cells, found, strict=True):
        if section not in known:
            yield cell, f"make its first tag a section; {section!r} is none"
        if extra := set(cell.metadata.get("tags", ())[1:]) - FURTHER_TAGS:
            yield cell, f"remove the tags {sorted(extra)}; only {sorted(FURTHER_TAGS)} may follow the section"
    for section in known:
        if section not in found:
            yield None, f"add the section {section}"
    placed = [(known.index(section), cell) for section, cell in zip(found, notebook.cells, strict=True) if section in known]
    for (before, _), (after, cell) in pairwise(placed):
        if before > after:
            yield cell, f"move the section {known[after]} above {known[before]}"
    for section in ("badges", "title", "setup", "budget"):
        if found.count(section) > 1:
            yield None, f"keep one {section} cell of {found.count(section)}"


def setup(notebook: NotebookNode) -> Found:
    for cell in course.cells(notebook, "setup"):
        if cell.source != badges.setup(course.ROOT) or cell.id != "setup" or cell.cell_type != "code":
            yield cell, "run `make badges`: it writes the set-up cell, a code cell with the id 'setup'"


def budget(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        section = course.section(cell)
        calls = cell.source.count("runtime.budget(")
        if calls != (section == "budget"):
            yield cell, f"call runtime.budget once, in the budget cell; here it is called {calls} times"
        if section not in ("setup", "budget") and (found := SWITCH.search(cell.source)):
            yield cell, f"take what depends on the profile from the budget; this asks for the profile: {found.group()}"


def budget_name(notebook: NotebookNode) -> Found:
    for cell in course.cells(notebook, "budget"):
        if "runtime.budget(" in cell.source and not re.search(r"^budget = runtime\.budget\(", cell.source, re.MULTILINE):
            yield cell, "name the budget `budget`"


def outputs(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield cell, "clear the output and the execution count"


def empty(notebook: NotebookNode) -> Found:
    for cell in notebook.cells:
        if not cell.source.strip():
            yield cell, "remove the empty cell"


def ids(notebook: NotebookNode) -> Found:
    times = Counter(cell.id for cell in notebook.cells)
    for cell in notebook.cells:
        section = course.section(cell)
        if times[cell.id] > 1:
            yield cell, f"give each of the {times[cell.id]} cells with this id one of its own"
        if not re.fullmatch(rf"{section}(-[a-z0-9]+)*", cell.id):
            yield cell, f"let the id be {section}, followed by words with hyphens"
        if re.search(r"\b(?=[a-f]*\d)[0-9a-f]{6,}\b", cell.id):
            yield cell, "let the id be made of words; this one looks random"


def figure(notebook: NotebookNode) -> Found:
    for cell, below in with_next(notebook):
        if is_figure_text(below) and cell.cell_type != "code":
            yield below, f"put the {FIGURE.strip()} cell below the code that draws"
        described = is_figure_text(below) or "alt" in cell.metadata
        if cell.cell_type == "code" and draws(cell.source) and not described:
            yield cell, "describe the figure for those who cannot see it, in the cell's metadata `alt`"
        if is_figure_text(cell) and len(cell.source.removeprefix(FIGURE)) < 60:
            yield cell, "describe the figure in 60 characters at least, for those who cannot see it"


def drawing(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        if not is_folded(cell) and course.section(cell) != "setup" and (found := DRAWS_BY_HAND.search(cell.source)):
            yield cell, f"draw by a function of plots, or fold the cell: {found.group()}…) teaches matplotlib, not the subject"


def image_alt(notebook: NotebookNode) -> Found:
    for cell in markdown(notebook):
        for image in re.findall(r"!\[\s*\]\([^)]*\)|<img\b[^>]*>", cell.source):
            if image.startswith("!") or not re.search(r"\balt=([\"'])\s*[^\"'\s]", image):
                yield cell, f"say what the image shows, as its alt text: {image[:60]}"


def links(notebook: NotebookNode) -> Found:
    repository = course.repository()
    colab = "https://colab.research.google.com"
    allowed = (repository, f"{colab}/assets/colab-badge.svg", repository.replace("https://github.com", f"{colab}/github"))
    for cell in notebook.cells:
        for address in re.findall(r"https?://[^\s)\"'<>\]]+", cell.source):
            place = address.removesuffix(f"@{course.TAG}")
            if not any(place == start or place.startswith(f"{start}/") for start in allowed):
                yield cell, f"remove the address, which leads out of the course: {address}"
    for cell in markdown(notebook):
        found = re.findall(r"\]\(([^)\s]+)[^)]*\)", cell.source) + re.findall(r"(?:href|src)=[\"']([^\"']+)", cell.source)
        for link in found:
            file = link.partition("#")[0]
            if link.startswith(("https://", "http://", "data:", "attachment:")) or not file:
                continue
            if not (course.ROOT / "notebooks" / file).exists():
                yield cell, f"correct the link, which leads to nothing: {link}"


def reason(notebook: NotebookNode) -> Found:
    """Prose stands above each code cell, but for folded ones: their title is the reason."""
    for above, cell in pairwise(notebook.cells):
        both = above.cell_type == cell.cell_type == "code"
        set_up = course.section(above) == "setup" and course.section(cell) == "budget"
        if both and not set_up and not is_folded(cell):
            yield cell, f"say in a markdown cell between {above.id} and this one what comes"


def korean(notebook: NotebookNode) -> Found:
    terms = Counter(term.strip() for cell in markdown(notebook) for term in KOREAN.findall(cell.source))
    if len(terms) < 5:
        yield None, f"give five key terms at least their Korean term in parentheses; there are {len(terms)}"
    for term, times in terms.items():
        if times > 1:
            *_, last = (cell for cell in markdown(notebook) if term in cell.source)
            yield last, f"explain {term} where it stands first, and not {times} times"


def warnings(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        if found := SILENCED.search(cell.source):
            yield cell, f"remove the cause of the warning instead of {found.group()}"


def idea(notebook: NotebookNode) -> Found:
    source = "\n".join(cell.source for cell in course.cells(notebook, "idea"))
    prose = re.sub(r"\$\$.+?\$\$|\$[^$]+\$", " ", source, flags=re.DOTALL)  # 300 words *and* the formulas
    words = len(re.findall(r"\w+(?:[-'’.]\w+)*", prose))
    if words > 300:
        yield None, f"shorten the idea to 300 words; it has {words}"


def exercises(notebook: NotebookNode) -> Found:
    found: list[dict[str, Any]] = []  # of each exercise: its number, its prose, its code, whether a solution cell follows
    for cell in course.cells(notebook, "exercise"):
        if cell.cell_type == "markdown":
            _, *parts = re.split(r"^\*\*Exercise (\d+)\.", cell.source, flags=re.MULTILINE)
            for number, prose in zip(parts[::2], parts[1::2], strict=True):
                found.append({"number": int(number), "prose": prose, "stub": "", "solved": False})
            if not parts and found:
                found[-1]["prose"] += cell.source
        elif not found:
            yield cell, "put it below an exercise: it belongs to none"
        elif is_solution(cell):
            found[-1]["solved"] = True
        else:
            found[-1]["stub"] += cell.source
    numbers = [exercise["number"] for exercise in found]
    if numbers != list(range(1, len(numbers) + 1)) or not 2 <= len(numbers) <= 4:
        yield None, f"number two to four exercises from 1; they are numbered {numbers}"
    for exercise in found:
        if not re.search(r"\bcheck\.\w+\(", exercise["stub"]):
            yield None, f"end the stub of exercise {exercise['number']} with a call of check"
        if not exercise["solved"] and not re.search(r"<details>.+</details>", exercise["prose"], re.DOTALL):
            yield None, f"give exercise {exercise['number']} a folded solution"


def quiz(notebook: NotebookNode) -> Found:
    source = "\n".join(cell.source for cell in course.cells(notebook, "quiz"))
    questions = re.split(r"^\*\*\d+\.\*\*", source, flags=re.MULTILINE)[1:]
    if not 3 <= len(questions) <= 5:
        yield None, f"ask three to five quiz questions; there are {len(questions)}"
    for number, question in enumerate(questions, start=1):
        if len(re.findall(r"<details>\s*<summary>[^<]+</summary>.+?</details>", question, re.DOTALL)) != 1:
            yield None, f"give quiz question {number} one folded answer"


def title(notebook: NotebookNode) -> Found:
    if not course.question(notebook).endswith("?"):
        yield None, f"make the title a question: {course.question(notebook)!r}"
    if not course.time_needed(notebook):
        yield None, "say the **Time:** in the title cell"
    if not any(re.search(r"^\*\*Needs:\*\* \S", cell.source, re.MULTILINE) for cell in course.cells(notebook, "title")):
        yield None, "say in the title cell what the lesson **Needs:**"


def metadata(notebook: NotebookNode) -> Found:
    allowed = {"tags", "jupyter", "cellView", "alt"}
    if course.is_homework(notebook):
        allowed |= {"nbgrader", "deletable", "editable"}
    if set(notebook.metadata) != {"kernelspec", "language_info"}:
        yield None, f"keep kernelspec and language_info alone in the metadata: {sorted(notebook.metadata)}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield None, "name the kernel python3 in the metadata"
    if notebook.metadata.get("language_info") != {"name": "python"}:
        yield None, "keep the language alone in language_info"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - allowed:
            yield cell, f"remove the metadata {sorted(extra)}"


def answers(notebook: NotebookNode) -> Found:
    """In homework, the cell below an answer is its test, unless a person reads the answer; other cells are ours."""
    for cell, below in with_next(notebook):
        facts = cell.metadata.get("nbgrader", {})
        if facts.get("solution") and not facts.get("grade") and not is_test_of(below, cell):
            yield cell, "put the answer's test below it"
        if facts.get("grade") and not facts.get("solution") and not re.search(r"\bcheck\.\w+\(", cell.source):
            yield cell, "begin the test with a call of check, a hint for the student"
        if facts and facts.get("solution") == facts.get("locked"):
            yield cell, "let the cell be for an answer, or locked"


def _makes_claims(cell: NotebookNode) -> bool:
    return "claims.add(" in cell.source or "claims.not_shown(" in cell.source


def claims(notebook: NotebookNode) -> Found:
    cells = code(notebook)
    made = [place for place, cell in enumerate(cells) if _makes_claims(cell)]
    saved = [place for place, cell in enumerate(cells) if "claims.save(" in cell.source]
    if made and (len(saved) != 1 or saved[0] < made[-1]):
        yield None, "save the claims once, after the last is made"
    for cell in cells:
        if _makes_claims(cell) != ("claim" in cell.metadata.get("tags", ())):
            yield cell, "tag the cells that make claims, and no others, with 'claim'"


def claims_folded(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        if _makes_claims(cell) and not is_folded(cell):
            yield cell, "fold the claims; what they judge is shown on the main road, as a table or a printed line"


RULES = {
    "sections": sections,
    "setup": setup,
    "budget": budget,
    "budget-name": budget_name,
    "outputs": outputs,
    "empty": empty,
    "ids": ids,
    "figure": figure,
    "drawing": drawing,
    "image-alt": image_alt,
    "links": links,
    "reason": reason,
    "korean": korean,
    "warnings": warnings,
    "idea": idea,
    "exercises": exercises,
    "quiz": quiz,
    "title": title,
    "metadata": metadata,
    "answers": answers,
    "claims": claims,
    "claims-folded": claims_folded,
}
# Homework has tasks instead.
NOT_IN_HOMEWORK = {"exercises", "quiz"}
