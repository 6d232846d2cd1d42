"""What README.md and the site take from elsewhere: tables of lessons, claims, speed, terms and modules."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import course
from course_utils import record

DOCS = course.ROOT / "docs"
PACKAGE = course.ROOT / "course_utils"
KOREAN = re.compile(r"\(([^()]*[가-힣][^()]*)\)")


def plain(text: str) -> str:
    """Text for a cell of a table: no bar, no line break, nothing that Markdown would take for its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(text.split()))


def findings() -> dict[str, dict]:
    """What docs/results.toml says of each lesson: its finding, its setting, and a sentence per claim."""
    return tomllib.loads((DOCS / "results.toml").read_text(encoding="utf-8"))


def lessons_with_badges() -> str:
    """The table of README.md."""
    rows = ["| | lesson | computing | |", "|---|---|---|---|"]
    for path in course.lessons():
        notebook = course.read(path)
        title = f"[{course.question(notebook)}](notebooks/{path.name})"
        (minutes,) = re.findall(r"([\w -]+ minutes?) of computing", course.time_needed(notebook))
        row = (course.number(path), title, minutes.strip(), course.colab(course.ROOT, path))
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def lessons(language: str = "en") -> str:
    """The map of the lessons: what each asks, and what was found."""
    heads = {"en": "| lesson | question | what was found |", "ko": "| 레슨 | 질문 | 발견한 것 |"}
    rows = [heads[language], "|---|---|---|"]
    found = findings()
    for path in course.lessons(language=language):
        number = course.number(path)
        question = f"[{course.question(course.read(path))}]({_from_docs(path, language)})"
        rows.append(f"| {number} | {question} | {found[number]['finding' if language == 'en' else f'finding_{language}']} |")
    return "\n".join(rows)


def _from_docs(path: Path, language: str) -> str:
    """A link to a lesson from the documents of a language."""
    return f"../notebooks/{path.name}" if language == "en" else f"../../notebooks/{language}/{path.name}"


def claims() -> str:
    """Every claim as a sentence with its numbers, lesson by lesson."""
    parts = []
    sentences = findings()
    for path in sorted((course.ROOT / "results" / "cpu").glob("*.json")):
        header, made = record.read(path)
        number = header["lesson"]
        lesson = next(path for path in course.lessons() if course.number(path) == number)
        said = sentences[number]
        parts += [f"## {number} · {course.question(course.read(lesson))}", "", said["setting"], ""]
        parts += [f"From [lesson {number}](../notebooks/{lesson.name}).", "", "{.claims}"]
        parts += ["| what was measured | mean | 95 % interval | promised | margin | n |", "|---|---|---|---|---|---|"]
        for claim in made:
            low, high = claim.interval
            sentence = said["claims"][claim.name]
            state = {"holds": claim.rule, "does not hold": f"**does not hold:** {claim.rule}", "not shown": "*not shown*"}
            margin = f"{claim.margin:.1f} sd" if claim.margin == claim.margin else ""
            row = [sentence, f"{claim.mean:.3g}", f"{low:.3g} to {high:.3g}", state[claim.verdict], margin, str(claim.n)]
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
        where = f"{header['seconds']:.0f} s on {header['threads']} thread(s) of {header['processor']}"
        parts += ["", f"Measured in {where}; {versions}.", ""]
    return "\n".join(parts)


def speed() -> str:
    found = json.loads((course.ROOT / "results" / "bench.json").read_text(encoding="utf-8"))
    rows = ["| ratio | median | range | goal | result | what was timed |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        cells = (row["name"], f"{row['ratio']:.3g}", f"{row['low']:.3g} to {row['high']:.3g}", row["goal"])
        rows.append(f"| {' | '.join((*cells, 'met' if row['met'] else '**missed**', row['note']))} |")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join([*rows, "", f"{found['threads']} threads of {found['processor']}; {versions}."])


# --- terms ----------------------------------------------------------------------------------------------------------------


def terms(language: str = "en") -> str:
    """English and Korean terms, in the order of the alphabet, each with the lessons that explain it."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in course.lessons():
        for english, korean, anchor in terms_of(path):
            number = course.number(path)
            links = found.setdefault((english, korean), [])
            if not any(one.startswith(f"[{number}]") for one in links):
                links.append(f"[{number}]({_from_docs(path, language)}{anchor})")
    if language == "ko":
        rows = ["| 한국어 | 영어 | 레슨 |", "|---|---|---|"]
        ordered = sorted((korean, english, links) for (english, korean), links in found.items())
        return "\n".join(
            [*rows, *(f"| {korean} | {plain(english)} | {', '.join(links)} |" for korean, english, links in ordered)]
        )
    rows = ["| English | 한국어 | lesson |", "|---|---|---|"]
    for (english, korean), links in sorted(found.items(), key=lambda item: (item[0][0].casefold(), item[0][1])):
        rows.append(f"| {plain(english)} | {korean} | {', '.join(links)} |")
    return "\n".join(rows)


def terms_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """(English, Korean, anchor of the heading above) of each term that a lesson gives in both languages.

    Raises:
        KeyError: docs/terms.toml has no line for a term.
    """
    english = tomllib.loads((DOCS / "terms.toml").read_text(encoding="utf-8"))
    anchor = ""
    for cell in course.read(path).cells:
        if cell.cell_type != "markdown":
            continue
        if re.match("#{2,} ", cell.source):
            anchor = f"#lesson-{course.number(path)}-{cell.id}"
        for found in KOREAN.finditer(cell.source):
            (korean,) = re.findall(r"[가-힣]+(?:[ /][가-힣]+)*", found[1])
            yield english[korean], korean, anchor


# --- the reference --------------------------------------------------------------------------------------------------------


def modules() -> list[str]:
    """Modules of course_utils in the order of its docstring, from the ground up; techniques one by one."""
    order = re.findall(
        r"^- ``(\w+)``", ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or "", re.M
    )
    names = []
    for name in order:
        folder = PACKAGE / name
        names += [f"{name}.{path.stem}" for path in sorted(folder.glob("[a-z]*.py"))] if folder.is_dir() else [name]
    return names


def reference() -> dict[str, str]:
    """Sources of the reference's pages, by their names."""
    return {
        f"course_utils.{name}": (f"# `{name}`\n\n```{{eval-rst}}\n.. automodule:: course_utils.{name}\n```\n")
        for name in modules()
    }


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def rooms() -> str:
    """The modules with the first sentence of each, and the hidden list that the navigation needs."""
    rows = ["| module | what it is for |", "|---|---|"]
    for name in modules():
        first = _docstring(PACKAGE / f"{name.replace('.', '/')}.py").split("\n\n")[0]
        rows.append(f"| [`{name}`](course_utils.{name}.html) | {' '.join(first.split())} |")
    listed = "\n".join(f"course_utils.{name}" for name in modules())
    return "\n".join([*rows, "", f"```{{toctree}}\n:hidden:\n{listed}\n```"])


TABLES = {
    "en": {"lessons": lessons, "claims": claims, "speed": speed, "terms": terms, "rooms": rooms},
    "ko": {"lessons": lambda: lessons("ko"), "terms": lambda: terms("ko")},
}
