"""Keep the Korean lessons in step with the English ones: a gettext catalogue a lesson, a message a Markdown cell.

A message's context is the id of its cell, so that a cell that moves keeps its translation. `update` brings catalogues up to
date: a cell whose English has changed becomes fuzzy, and keeps the English that it was translated from. `build` derives
notebooks/ko/ from the English notebooks, code untouched. `check` changes nothing, names each cell that is missing, stale or
orphaned, or whose formulas, code, links, tags, headings or table rows differ from the English, and ends with 1 if there is one.
Usage: python tools/korean.py [update|build|check]   (update and build when none is given)
"""

import argparse
import difflib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polib
from nbformat import NotebookNode

import course
from course_utils import files

CATALOGUES = Path("locale") / "ko" / "LC_MESSAGES"
NOTEBOOKS = Path("notebooks") / "ko"
GENERATED = {"badges"}  # cells that tools/badges.py writes, in both languages
# What a translation carries over as it is. Code comes first: what stands in it is nothing else.
KEEP = {
    "code": r"```.*?```|`[^`\n]+`",
    "formulas": r"\$\$.+?\$\$|\$[^$\n]+\$",
    "links": r"\]\([^)]*\)",
    "tags": r"</?[a-zA-Z][^>]*>",
    "headings": r"^#+(?= )",
    "table rows": r"^[ \t]*\|",
}


class Problem(NamedTuple):
    """What is wrong with the translation of a cell."""

    cell: str
    what: str
    details: str = ""


def messages(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """(cell id, English) of each cell that is translated."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and course.section(cell) not in GENERATED:
            yield cell.id, cell.source


def updated(notebook: NotebookNode, old: polib.POFile) -> polib.POFile:
    """A catalogue with the messages of the notebook in its order; what was translated stays, found by the cell's id."""
    entries = {entry.msgctxt: entry for entry in old}
    new = polib.POFile(wrapwidth=0)
    new.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Content-Transfer-Encoding": "8bit", "Language": "ko"}
    for cell, english in messages(notebook):
        entry = entries.pop(cell, None) or polib.POEntry(msgctxt=cell, msgid=english)
        entry.obsolete = False
        if entry.msgid != english:
            if entry.msgstr:  # of two changes, the first is the one that was translated
                entry.previous_msgid = entry.previous_msgid or entry.msgid
                entry.flags = ["fuzzy"]
            entry.msgid = english
        if entry.previous_msgid == english:  # changed back
            entry.previous_msgid, entry.flags = None, []
        new.append(entry)
    for entry in entries.values():  # the cell is gone; its translation may serve another
        if entry.msgstr:
            entry.obsolete = True
            new.append(entry)
    return new


def translated(notebook: NotebookNode, catalogue: polib.POFile) -> NotebookNode:
    """The notebook in Korean, one folder lower; cells without a valid translation stay English."""
    korean = {entry.msgctxt: entry.msgstr for entry in catalogue.translated_entries() if not entry.fuzzy}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = korean.get(cell.id) or cell.source
            # Links to other lessons lead to the Korean ones beside it; what stands elsewhere is one folder farther away.
            cell.source = re.sub(r"\]\(\.\./", "](../../", cell.source)
            if course.section(cell) == "badges":
                cell.source = cell.source.replace("/notebooks/", "/notebooks/ko/")
    notebook.metadata["language"] = "ko"
    return notebook


def problems(notebook: NotebookNode, catalogue: polib.POFile) -> Iterator[Problem]:
    """All that is wrong with a lesson's translation."""
    entries = {entry.msgctxt: entry for entry in catalogue if not entry.obsolete}
    for cell, english in messages(notebook):
        entry = entries.pop(cell, None)
        if entry is None or not entry.msgstr:
            yield Problem(cell, "is not translated")
        elif entry.msgid != english or entry.fuzzy:
            before = (entry.previous_msgid or entry.msgid).splitlines()
            changes = difflib.unified_diff(before, english.splitlines(), "translated from", "now", n=0, lineterm="")
            yield Problem(cell, "is stale, its English has changed", "\n".join(changes))
        else:
            ours, theirs = kept(english), kept(entry.msgstr)
            for what in KEEP:
                if ours[what] != theirs[what]:
                    missing, more = (
                        list((a - b).elements()) for a, b in ((ours[what], theirs[what]), (theirs[what], ours[what]))
                    )
                    yield Problem(cell, f"has other {what} than its English", f"missing: {missing}\nnew: {more}")
    for cell in entries:
        yield Problem(cell, "is translated, and there is no such cell")


def kept(text: str) -> dict[str, Counter]:
    """What stands in a text that a translation must carry over, by kind."""
    found = {}
    for what, pattern in KEEP.items():
        found[what] = Counter(re.findall(pattern, text, re.MULTILINE | re.DOTALL))
        if what in ("code", "formulas"):  # what stands in them is neither a link nor a tag
            text = re.sub(pattern, "", text, flags=re.MULTILINE | re.DOTALL)
    return found


def read(path: Path) -> polib.POFile:
    """A catalogue; an empty one where there is no file.

    Raises:
        SystemExit: the file is no catalogue.
    """
    if not path.exists():
        return polib.POFile(wrapwidth=0)
    try:
        return polib.pofile(str(path), wrapwidth=0)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from None


def report(root: Path) -> int:
    """Print the problems of all lessons as GitHub shows them beside a change, and return how many there are."""
    count = 0
    for path in course.lessons(root):
        notebook, catalogue = course.read(path), root / CATALOGUES / f"{path.stem}.po"
        if not catalogue.exists():
            print(f"{path.name}: not begun")
            continue
        found = list(problems(notebook, read(catalogue)))
        derived = root / NOTEBOOKS / path.name
        wanted = course.text(translated(course.read(path), read(catalogue)))
        if not derived.exists() or derived.read_text(encoding="utf-8") != wanted:
            found.append(Problem("all", f"{NOTEBOOKS / path.name} is out of step: run `make korean`"))
        total = sum(1 for _ in messages(notebook))
        print(f"{path.name}: {total - len({problem.cell for problem in found} - {'all'})} of {total} cells are up to date")
        for problem in found:
            print(f"::error file={catalogue.relative_to(root)},title=Korean [{problem.cell}]::the cell {problem.what}")
            print("".join(f"    {line}\n" for line in problem.details.splitlines()), end="")
        count += len(found)
    return count


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("command", nargs="?", choices=("update", "build", "check"))
    parser.add_argument("--root", type=Path, default=course.ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    commands = [options.command] if options.command else ["update", "build"]
    for path in course.lessons(options.root):
        catalogue = options.root / CATALOGUES / f"{path.stem}.po"
        if "update" in commands and catalogue.exists():
            files.write_text(catalogue, str(updated(course.read(path), read(catalogue))).strip("\n") + "\n")
        if "build" in commands and catalogue.exists():
            derived = options.root / NOTEBOOKS / path.name
            derived.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(derived, course.text(translated(course.read(path), read(catalogue))))
    sys.exit("check" in commands and report(options.root) > 0)


if __name__ == "__main__":
    main()
