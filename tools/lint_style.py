"""Rules about how a lesson's cells read: one statement does one thing, and what is folded is marked. See `lint_lessons.py`.

Each rule takes a notebook and gives pairs: the cell, and what to do. The set-up cell is left out: it is made by a tool.
"""

import ast
import contextlib
import re
from collections.abc import Iterator
from functools import cache

from nbformat import NotebookNode

import course
from lint_anatomy import Found, code, draws, is_folded, is_solution, markdown, with_next

WIDTH = 88
FOLDED = "jupyter.source_hidden, cellView: form, and a first line `# @title what it does`"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
RESHAPES = {"unstack", "stack", "swaplevel", "reorder_levels", "align"}  # of pandas; torch and NumPy stack, too
ARRAYS = {"torch", "np", "nn", "F"}
WORDS = {
    r"\bof above\b": "say what stands above, as in 'the table above'",
    r"\bha(s|ve) not the\b": "write 'does not have the'",
}


def written(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells that a person wrote."""
    return [cell for cell in code(notebook) if course.section(cell) != "setup"]


@cache
def tree(source: str) -> ast.Module | None:
    """Syntax tree of a cell, whose magics and shell commands stand for nothing; None when it is not Python."""
    lines = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines()]
    for text in (source, "\n".join(lines)):  # as it is, first: % and != may begin a line of an expression
        with contextlib.suppress(SyntaxError, ValueError):  # the latter of a null byte
            return ast.parse(text)
    return None


def nodes(cell: NotebookNode) -> Iterator[ast.AST]:
    parsed = tree(cell.source)
    return ast.walk(parsed) if parsed else iter(())


def shown(node: ast.AST) -> str:
    """The beginning of a statement."""
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:59]}…"


def unpacked(cell: NotebookNode) -> Iterator[ast.Assign]:
    """Assignments to several names at once."""
    for node in nodes(cell):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            yield node


def syntax(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        if tree(cell.source) is None:
            yield cell, "correct the code: Python does not read it"


def line_length(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for number, line in enumerate(cell.source.splitlines(), start=1):
            if len(line) > WIDTH:
                yield cell, f"break line {number} after at most {WIDTH} characters; it has {len(line)}"


def folded(notebook: NotebookNode) -> Found:
    for cell in notebook.cells:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden") is True
        form = cell.metadata.get("cellView") == "form"
        titled = re.match(r"# @title \S", cell.source) is not None
        marks = (hidden, form, titled)
        if any(marks) and not all(marks):
            yield cell, f"fold it everywhere ({FOLDED}), or not at all"
        elif not all(marks) and is_solution(cell):
            yield cell, f"fold the solution ({FOLDED})"


def tuple_assignment(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in unpacked(cell):
            if isinstance(node.value, ast.Tuple) and not related(node.targets[0], node.value):
                yield cell, f"assign one thing a line: {shown(node)}"


def related(target: ast.expr, value: ast.Tuple) -> bool:
    """Whether the values belong together: they differ in names alone, or use what is assigned, as a swap does."""
    assigned = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
    used = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    return bool(assigned & used) or len({shape(element) for element in value.elts}) == 1


def shape(expression: ast.expr) -> str:
    """An expression without the names of its variables and without its numbers and texts; what it calls remains."""
    blank = ast.parse(ast.unparse(expression), mode="eval")
    called = {id(node.func) for node in ast.walk(blank) if isinstance(node, ast.Call)}
    for node in ast.walk(blank):
        if isinstance(node, ast.Name) and id(node) not in called:
            node.id = "_"
        elif isinstance(node, ast.Constant):
            node.value = 0
    return ast.dump(blank).replace("Constant(value=0)", "Name(id='_', ctx=Load())")


def unpacking(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in unpacked(cell):
            value = node.value
            mapped = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "map"
            columns = isinstance(value, ast.Subscript) and isinstance(value.slice, ast.List)
            if isinstance(value, ast.GeneratorExp | ast.ListComp) or mapped or columns:
                yield cell, f"index by name, a line for each, instead of unpacking: {shown(node)}"


def comprehension(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in nodes(cell):
            if not isinstance(node, COMPREHENSIONS):
                continue
            loops = sum(isinstance(inner, ast.comprehension) for inner in ast.walk(node))
            conditions = sum(len(loop.ifs) for loop in node.generators)
            if loops > 1 or conditions > 1 or node.end_lineno != node.lineno:
                yield cell, f"write a for loop: a comprehension is one loop, one condition, one line: {shown(node)}"


def named_lambda(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in nodes(cell):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                yield cell, f"write a def instead of a lambda with a name: {shown(node)}"
            elif isinstance(node, ast.Lambda) and isinstance(node.body, ast.Lambda):
                yield cell, f"write a def instead of a lambda that returns a lambda: {shown(node)}"


def arguments(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in nodes(cell):
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg is None and (isinstance(keyword.value, ast.Dict) or joined(keyword.value)):
                        yield cell, f"write the arguments at the call: **{shown(keyword.value)}"


def joined(value: ast.expr) -> bool:
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)


def pandas(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in nodes(cell):
            if is_folded(cell) or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            of_arrays = isinstance(node.func.value, ast.Name) and node.func.value.id in ARRAYS
            if node.func.attr in RESHAPES and not of_arrays:
                yield cell, f"leave .{node.func.attr}() to course_utils.experiment, or fold the cell"


def details(notebook: NotebookNode) -> Found:
    for cell in markdown(notebook):
        for inside in re.findall(r"<details\b[^>]*>(.*?)</details>", cell.source, re.DOTALL):
            _, _, body = inside.partition("</summary>")
            if not re.match(r"[ \t]*\n[ \t]*\n", body) or not re.search(r"\n[ \t]*\n[ \t]*$", body):
                yield (
                    cell,
                    "put a blank line below </summary> and one above </details>, or Markdown and formulas in it stay raw",
                )


def formula(notebook: NotebookNode) -> Found:
    for cell in markdown(notebook):
        for found in re.finditer(r"^\$\$.+?\$\$", cell.source, re.DOTALL | re.MULTILINE):
            above, below = cell.source[: found.start()], cell.source[found.end() :]
            if re.search(r"\S[ \t]*\n\Z", above) or re.match(r"[ \t]*\n[ \t]*\S", below):
                yield cell, "put a blank line above and below a formula that stands alone, or pages show it raw"


def alt(notebook: NotebookNode) -> Found:
    for cell in code(notebook):
        if draws(cell.source) and len(str(cell.metadata.get("alt", ""))) < 60:
            yield (
                cell,
                "describe the figure in the cell's metadata `alt`, in 60 characters at least, for those who cannot see it",
            )


def slider(notebook: NotebookNode) -> Found:
    for cell in written(notebook):
        for node in nodes(cell):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "plots.slider"):
                continue
            if not {"alt", None} & {word.arg for word in node.keywords}:
                yield cell, "say what the frames of the slider show, as its `alt=`, for those who cannot see them"


def caption(notebook: NotebookNode) -> Found:
    for cell, below in with_next(notebook):
        pictured = cell.cell_type == "code" and draws(cell.source)
        prose = below is not None and below.cell_type == "markdown" and not below.source.lstrip().startswith("#")
        if pictured and not prose:
            yield cell, "say below the figure, in one or two sentences, what to look at and what it means"


def english(notebook: NotebookNode) -> Found:
    for cell in markdown(notebook):
        for pattern, advice in WORDS.items():
            for found in re.finditer(pattern, cell.source):
                yield cell, f"{advice}: {found.group()!r}"


RULES = {
    "syntax": syntax,
    "line-length": line_length,
    "folded": folded,
    "tuple-assignment": tuple_assignment,
    "unpacking": unpacking,
    "comprehension": comprehension,
    "named-lambda": named_lambda,
    "arguments": arguments,
    "pandas": pandas,
    "details": details,
    "formula": formula,
    "alt": alt,
    "slider": slider,
    "caption": caption,
    "english": english,
}
