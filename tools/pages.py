"""Make the course's site from executed lessons, the pages of docs/, and the docstrings of course_utils, by Sphinx.

`make lessons` executes lessons and then calls this. Alone, it makes the pages anew from what was executed last; a lesson
that never was is shown without outputs, and says so.
Usage: python tools/pages.py [--strict] [--executed FOLDER] [--out FOLDER]
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from jinja2 import Template
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

import course
import tables
from course_utils import files

DOCS = course.ROOT / "docs"
EXECUTED = course.ROOT / "build" / "executed"
# Pages beside the lessons, in the order of the navigation: their short titles, and the documents that they are made of.
PAGES = {
    "running": ("Running it", "docs/running.md"),
    "results": ("Results", "docs/results.md"),
    "glossary": ("Glossary", "docs/glossary.md"),
    "instructors": ("For instructors", "homework/README.md"),
    "api/index": ("API", "docs/api.md"),
    "contributing": ("Contributing", "CONTRIBUTING.md"),
    "speed": ("Speed", "docs/speed.md"),
    "data": ("Data", "data/README.md"),
    "layouts": ("Layers computed wrongly", "docs/layouts.md"),
    "torch-report": ("A report for torch", "docs/torch-report.md"),
    "changes": ("Changes", "CHANGELOG.md"),
    "security": ("Security", "SECURITY.md"),
}
# Documents of a language other than English; what it has none of is linked in English.
KOREAN_PAGES = {"glossary": ("용어집", "docs/ko/glossary.md")}
LANGUAGES = ("en", "ko")
WORDS = {
    "en": {
        "title": "Better models",
        "description": "Hands-on lessons: make a deep-learning model better",
        "lessons": "Lessons",
        "ran": "How they ran",
        "executed": "Executed under profile",
        "columns": "| notebook | seconds | result |",
        "fine": "ran to the end",
        "failed": "failed",
        "not executed": "not executed",
        "show": "Show the code",
        "hide": "Hide the code",
        "stopped": "This notebook did not run to its end:",
        "no outputs": "This page was made without running the notebook: it shows no outputs.",
        "colab": "Open in Colab",
        "download": "Download the notebook",
        "other": "ko",
        "other_name": "한국어",
    },
    "ko": {
        "title": "더 좋은 모델",
        "description": "딥러닝 모델을 더 좋게 만드는 실습 강좌",
        "lessons": "레슨",
        "ran": "실행 결과",
        "executed": "실행한 프로필:",
        "columns": "| 노트북 | 초 | 결과 |",
        "fine": "끝까지 실행됨",
        "failed": "실패",
        "not executed": "실행하지 않음",
        "show": "코드 보기",
        "hide": "코드 접기",
        "stopped": "이 노트북은 끝까지 실행되지 않았습니다:",
        "no outputs": "노트북을 실행하지 않고 만든 쪽이어서 출력이 없습니다.",
        "colab": "Colab에서 열기",
        "download": "노트북 내려받기",
        "other": "en",
        "other_name": "English",
    },
}
HIDDEN = "```{toctree}\n:hidden:\n%s\n```\n"
FIGURE = "> **Figure:** "
PICTURE = re.compile(r'src="data:image/png;base64,([A-Za-z0-9+/=\s]+)"')


@dataclass(frozen=True)
class Run:
    """An executed notebook: where it comes from, the name of its page, and what became of it."""

    source: Path
    name: str
    notebook: NotebookNode

    @property
    def facts(self) -> dict:
        """What `tools/lessons.py` wrote down: profile, seconds, error; empty where the notebook was not executed."""
        return self.notebook.metadata.get("course", {})


def page_name(stem: str, taken: set[str]) -> str:
    """A name that every browser and file system takes, and no other page has; it is added to ``taken``."""
    plain = re.sub(r"[^\w.-]+", "-", stem).strip("-._") or "notebook"
    number = 1
    name = plain
    while _comparable(name) in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(_comparable(name))
    return name


def kept(folder: Path, language: str = "en") -> list[Run]:
    """All lessons in a language, with the outputs of the last English run where that was of the code that they have now."""
    runs = []
    for path in course.lessons(language=language):
        notebook = course.read(path)
        if (executed := folder / path.name).exists():
            take_outputs(notebook, course.read(executed))
        runs.append(Run(path, path.stem, notebook))
    return runs


def take_outputs(notebook: NotebookNode, executed: NotebookNode) -> None:
    """Give a notebook the outputs of a run, found by the ids of cells; none of them where any code differs."""
    ran = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if {cell.id: cell.source for cell in code} == {name: cell.source for name, cell in ran.items()}:
        for cell in code:
            cell.outputs, cell.execution_count = ran[cell.id].outputs, ran[cell.id].execution_count
        notebook.metadata["course"] = executed.metadata["course"]


def build(runs: dict[str, list[Run]], out: Path, *, whole: bool, strict: bool = False) -> bool:
    """Write the site; ``False`` where Sphinx found something wrong (with ``strict``, a warning is wrong).

    Args:
        runs: the notebooks to show, by language. Their pages stand in ``out/en``, ``out/ko``.
        out: folder of the site.
        whole: with all pages of the course, not only the notebooks.
        strict: warnings are errors. Pages are written all the same.
    """
    fine = True
    for language in runs:
        with tempfile.TemporaryDirectory() as work:
            pages, extra, written = (Path(work, name) for name in ("pages", "extra", language))
            for folder in (pages, extra):
                folder.mkdir()
            settings = Path(work, "site.json")
            facts = _prepare(runs, language, pages, extra, whole)
            files.write_text(settings, json.dumps(facts | {"locale": str(_theme(language, Path(work)))}))
            command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-j", "auto", "-c", str(DOCS)]
            command += [*(["-W", "--keep-going"] if strict else []), str(pages), str(written)]
            done = subprocess.run(command, check=False, env=os.environ | {"COURSE_SITE": str(settings)})
            fine = fine and done.returncode == 0
            if (written / "index.html").exists():  # else the site stays as it was
                for leftover in (".buildinfo", ".doctrees", "_sources"):
                    _remove(written / leftover)
                out.mkdir(parents=True, exist_ok=True)
                _remove(out / language)
                shutil.move(written, out / language)
    files.write_text(out / "index.html", _root(list(runs)))
    files.write_text(out / ".nojekyll", "")  # or GitHub leaves out folders that begin with a line
    return fine


def _theme(language: str, work: Path) -> Path:
    """A folder with the theme's words in a language; a copy, since Sphinx compiles them where they lie."""
    folder = work / "locale"
    words = Path(language, "LC_MESSAGES", "sphinx.po")
    if (course.ROOT / "locale" / words).exists():
        (folder / words).parent.mkdir(parents=True)
        shutil.copy(course.ROOT / "locale" / words, folder / words)
    return folder


def _documents(language: str) -> dict[str, tuple[str, str]]:
    """Pages beside the lessons: their short titles, and the documents that they are made of."""
    return PAGES if language == "en" else KOREAN_PAGES


def _home(language: str) -> Path:
    return DOCS / "index.md" if language == "en" else DOCS / language / "index.md"


def _names(runs: list[Run], language: str, whole: bool) -> dict[str, str]:
    """Names of a language's pages, by their sources."""
    names = {str(run.source): f"lessons/{run.name}" for run in runs}
    if whole:
        names |= {str(course.ROOT / document): name for name, (_, document) in _documents(language).items()}
        names |= {str(_home(language)): "index"}
    return names


def _prepare(runs: dict[str, list[Run]], language: str, pages: Path, extra: Path, whole: bool) -> dict:
    """Write the sources that Sphinx reads, and return what docs/conf.py wants to know."""
    words = WORDS[language]
    about: dict[str, dict] = {}
    (pages / "lessons").mkdir()
    for run in runs[language]:
        name = f"lessons/{run.name}"
        about[name] = {"source": str(run.source), "description": course.question(run.notebook)}
        if whole:
            about[name] |= {"download": f"notebooks/{run.name}.ipynb", "colab": course.colab_address(course.ROOT, run.source)}
            (extra / "notebooks").mkdir(exist_ok=True)
            shutil.copy(run.source, extra / "notebooks" / f"{run.name}.ipynb")
        write(pages / f"{name}.ipynb", course.text(_for_page(run, extra, words)))
    write(pages / "lessons" / "index.md", _lesson_list(runs[language], language, whole))
    about["lessons/index"] = {"source": str(_home(language).with_name("lessons.md"))}  # which is made here
    documents = _documents(language) if whole else {}
    if whole:
        generated = {name: make() for name, make in tables.TABLES[language].items()}
        for name, (_, document) in documents.items():
            about[name] = {"source": str(course.ROOT / document)}
            write(pages / f"{name}.md", _filled(course.ROOT / document, generated))
        if language == "en":
            for name, text in tables.reference().items():
                write(pages / "api" / f"{name}.md", text)
                about[f"api/{name}"] = {}
        about["index"] = {"source": str(_home(language)), "description": words["description"]}
        shutil.copy(DOCS / "memorising.png", pages)
        listed = "\n".join(["lessons/index", *(f"{title} <{name}>" for name, (title, _) in documents.items())])
        home = f"{_filled(_home(language), generated)}\n{HIDDEN % listed}"
    else:
        home = f"# Notebooks\n\n[What was executed](lessons/index.html)\n\n{HIDDEN % 'lessons/index'}"
    write(pages / "index.md", home)
    if words["other"] in runs:
        other = words["other"]
        theirs = {"lessons/index", *_names(runs[other], other, whole).values()}
        for name, facts in about.items():
            facts["other"] = "../" * (name.count("/") + 1) + f"{other}/{name if name in theirs else 'index'}.html"
    return {
        "title": words["title"],
        "words": words,
        "language": language,
        "address": f"{course.site_address()}{language}/" if whole else "",
        "repository": course.repository(),
        "extra": str(extra),
        "pages": about,
        "sources": _names(runs[language], language, whole),
        "english": _names(runs["en"], "en", whole) if language != "en" else {},
        "without_list": ["index", *documents],
    }


def _for_page(run: Run, extra: Path, words: dict[str, str]) -> NotebookNode:
    """A copy of a notebook as MyST-NB wants it: folds, alternative texts, anchors, and no badges."""
    notebook = run.notebook.copy()
    notebook.cells = [NotebookNode({**cell, "metadata": NotebookNode(cell.metadata)}) for cell in run.notebook.cells]
    for cell, after in pairwise([*notebook.cells, new_markdown_cell("")]):
        tags = list(cell.metadata.get("tags", ()))
        shown = cell.metadata.setdefault("mystnb", {})
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            tags.append("hide-input")
            if title := re.match(r"# @title (.+)", cell.source):
                shown |= {f"code_prompt_{way}": f"{words[way]}: {title[1]}" for way in ("show", "hide")}
        if "badges" in tags:
            tags.append("remove-cell")
        alt = cell.metadata.get("alt", "")
        if not alt and after.source.startswith(FIGURE):
            alt = after.source.removeprefix(FIGURE)
        if alt:
            shown["image"] = {"alt": " ".join(alt.split())}
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?m)^(# .*\d) %", "\\1\N{NO-BREAK SPACE}%", cell.source)
            if re.match("#{2,} ", cell.source):  # the same anchor in every language
                cell.source = f"{{#lesson-{course.number(run.source)}-{cell.get('id', '')}}}\n{cell.source}"
        if cell.cell_type == "code":
            cell.outputs = [_with_files(output, extra) for output in cell.outputs]
        cell.metadata.tags = tags
    notebook.cells[1:1] = _notice(run, words)
    return notebook


def _with_files(output: NotebookNode, extra: Path) -> NotebookNode:
    """Pictures inside HTML (the frames of a slider) become files, which a page loads when they are shown."""

    def stored(found: re.Match) -> str:
        content = base64.b64decode(found[1])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.png"
        (extra / "frames").mkdir(exist_ok=True)
        (extra / "frames" / name).write_bytes(content)
        return f'loading="lazy" src="../frames/{name}"'

    if "text/html" not in output.get("data", {}):
        return output
    data = {**output.data, "text/html": PICTURE.sub(stored, output.data["text/html"])}
    return NotebookNode({**output, "data": NotebookNode(data)})


def _notice(run: Run, words: dict[str, str]) -> list[NotebookNode]:
    """What a reader must know of this run, above everything else: that it failed, or that there was none."""
    if error := run.facts.get("error"):
        fence = "`" * 8
        text = f":::{{danger}}\n{words['stopped']}\n{fence}text\n{error}\n{fence}\n:::"
    elif not run.facts:
        text = f":::{{note}}\n{words['no outputs']}\n:::"
    else:
        return []
    return [new_markdown_cell(text, id="notice")]


def _lesson_list(runs: list[Run], language: str, whole: bool) -> str:
    """The page above all lessons: how each ran, and for the course's own what it found."""
    words = WORDS[language]
    names = "\n".join(run.name for run in runs)
    rows = [words["columns"], "|---|---|---|"]
    for run in runs:
        error = run.facts.get("error", "")
        state = words["fine"] if run.facts else words["not executed"]
        state = f"**{words['failed']}** {tables.plain(error)}" if error else state
        seconds = f"{run.facts['seconds']:.0f}" if run.facts else ""
        title = course.question(run.notebook) or run.source.stem
        rows.append(f"| [{tables.plain(title)}]({quote(run.name)}.html) | {seconds} | {state} |")
    profiles = sorted({run.facts["profile"] for run in runs if run.facts})
    executed = f"{words['executed']} {', '.join(profiles)}\n\n" if profiles else ""
    found = f"{tables.lessons(language)}\n\n## {words['ran']}\n\n" if whole else ""
    return "\n".join([f"# {words['lessons']}", "", found + executed, *rows, "", HIDDEN % names])


def _filled(document: Path, generated: dict[str, str]) -> str:
    """A document of ours, with the generated tables where it names them: ``<!-- table: claims -->``."""
    text = document.read_text(encoding="utf-8").replace("](../memorising.png)", "](memorising.png)")  # it lies beside the page
    return re.sub(r"<!-- table: (\w+) -->", lambda found: generated[found[1]], text)


def _root(languages: list[str]) -> str:
    template = Template((DOCS / "root.html").read_text(encoding="utf-8"), autoescape=True)
    return template.render(title=WORDS["en"]["title"], languages=languages) + "\n"


def write(path: Path, text: str) -> None:
    """Write a source; halves of characters, which a notebook may hold and UTF-8 cannot, are spelled out."""
    backslash = "\\\\" if path.suffix == ".ipynb" else "\\"  # in JSON, one alone would make the half again
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, re.sub("[\ud800-\udfff]", lambda half: f"{backslash}u{ord(half[0]):x}", text))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _comparable(name: str) -> str:
    """A name as file systems compare it that take no notice of case, or of how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--executed", type=Path, default=EXECUTED, help="folder of executed lessons")
    parser.add_argument("--out", type=Path, default=course.ROOT / "site", help="folder of the site")
    parser.add_argument("--strict", action="store_true", help="a warning of Sphinx is an error")
    options = parser.parse_args()
    runs = {language: kept(options.executed, language) for language in LANGUAGES}
    sys.exit(not build(runs, options.out.resolve(), whole=True, strict=options.strict))


if __name__ == "__main__":
    main()
