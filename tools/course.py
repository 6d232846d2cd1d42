"""What every tool here needs: where lessons are, how they are read, and how a command speaks."""

import argparse
import re
import sys
import tomllib
from pathlib import Path

# jsonschema, which reads notebooks' schema, would compile a grammar for addresses that no notebook has: a second a process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None is Python's own mark of what is not to be imported

import nbformat  # noqa: E402
from nbformat import NotebookNode  # noqa: E402

from course_utils import __version__, files  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TAG = f"v{__version__}"  # of the release that lessons belong to
SECTIONS = (
    *("badges", "title", "objectives", "setup", "budget", "predict", "problem", "idea", "scratch", "proof"),
    *("experiment", "lecture", "failure", "exercise", "quiz", "recap"),
)
HOMEWORK_SECTIONS = ("badges", "title", "objectives", "setup", "budget", "task", "handin", "recap")


def lessons(root: Path = ROOT, language: str = "en") -> list[Path]:
    """Notebooks of the course in a language, in their order."""
    folder = root / "notebooks" if language == "en" else root / "notebooks" / language
    return sorted(folder.glob("*.ipynb"))


def homework_sources(root: Path = ROOT) -> list[Path]:
    """Instructor's versions of the lessons that are homework, with solutions and hidden tests."""
    return sorted((root / "homework" / "source").glob("*/*.ipynb"))


def number(path: Path) -> str:
    """``"01"`` of ``01_fitting.ipynb``, the name of a lesson in results and on command lines."""
    return path.stem.partition("_")[0]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def section(cell: NotebookNode) -> str:
    """Section of a cell: its first tag."""
    return next(iter(cell.metadata.get("tags", ())), "")


def is_homework(notebook: NotebookNode) -> bool:
    """Whether a lesson is homework: it sets a task."""
    return bool(cells(notebook, "task"))


def sections(notebook: NotebookNode) -> tuple[str, ...]:
    """The sections of a lesson, in their order."""
    return HOMEWORK_SECTIONS if is_homework(notebook) else SECTIONS


def cells(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


def question(notebook: NotebookNode) -> str:
    """The question that is the title of a lesson, without its number."""
    heading = re.search(r"^# (?:\d+[ .:·-]+)?(.+)$", _title(notebook), re.MULTILINE)
    return heading.group(1).strip() if heading else ""


def time_needed(notebook: NotebookNode) -> str:
    """What the title cell says after ``**Time:**``."""
    line = re.search(r"^\*\*Time:\*\* (.+)$", _title(notebook), re.MULTILINE)
    return line.group(1).strip() if line else ""


def _title(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in cells(notebook, "title"))


def text(notebook: NotebookNode) -> str:
    """A notebook as JupyterLab saves it: the one layout in which lessons are committed."""
    return nbformat.writes(notebook) + "\n"


def repository(root: Path = ROOT) -> str:
    """Address of the repository, as pyproject.toml names it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removesuffix("/").removesuffix(".git")


def site_address(root: Path = ROOT) -> str:
    """Where GitHub Pages shows the site of the repository."""
    owner, name = repository(root).removeprefix("https://github.com/").split("/")[:2]
    return f"https://{owner}.github.io/{name}/"


def colab_address(root: Path, path: Path) -> str:
    """Where Colab opens a lesson of this release."""
    address = repository(root)
    if not address.startswith("https://github.com/"):
        raise SystemExit(f"Colab opens notebooks from GitHub alone, and Repository in pyproject.toml is {address}.")
    target = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    folder = "notebooks/ko" if path.parent.name == "ko" else "notebooks"
    return f"{target}/blob/{TAG}/{folder}/{path.name}"


def colab(root: Path, path: Path) -> str:
    """Badge that opens a lesson of this release in Colab, in markdown."""
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({badge})]({colab_address(root, path)})"


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of a command's options. What the command says from now on reaches a console of any encoding."""
    files.spell_out()
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def keep_in_step(texts: dict[Path, str], command: str, check: bool) -> None:
    """Give files the texts that ``command`` makes, or only say which differ; ends the process, with status 1 for the latter."""
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if not check:
        for path in stale:
            files.write_text(path, texts[path])
    verdict = f"out of step, run `{command}`" if check else "rewritten"
    print("\n".join(f"{path.name}: {verdict}" for path in stale) or f"all that `{command}` makes is in step")
    sys.exit(bool(stale) and check)
