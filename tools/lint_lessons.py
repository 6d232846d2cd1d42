"""Check how lessons are built and how they read, without running them. `make lint` and a commit hook do this.

A finding names a lesson, a cell ("-": the lesson as a whole) and a rule, and says what to do. What lessons broke before
there was a rule stands in tools/lint_known.txt, as lines `lesson cell rule`, one for each finding: a cell that breaks a rule
more often than it has lines is an error. The list only shrinks: a line that no longer applies is an error, too. --shrink
removes such lines and never adds one. (Where there is no list at all, --shrink begins one with all that is found.) Needs
nbformat alone, and no .venv.
Usage: python tools/lint_lessons.py [--shrink] [--known] [--figures]
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a hook's environment has no course_utils installed

import nbformat
from nbformat import NotebookNode

import course
import lint_anatomy
import lint_figures
import lint_style
from course_utils import files

KNOWN = Path(__file__).with_name("lint_known.txt")
RULES = lint_anatomy.RULES | lint_style.RULES
LAYOUT = "layout"  # the one rule that needs the file, not the notebook


@dataclass(frozen=True)
class Finding:
    """What breaks a rule, where, and what to do."""

    lesson: str
    cell: str
    rule: str
    message: str

    @property
    def line(self) -> str:
        """The line that a list of known findings has for it."""
        return f"{self.lesson} {self.cell} {self.rule}"


def findings(lesson: str, notebook: NotebookNode, rules: Iterable[str] = RULES) -> list[Finding]:
    """All that breaks one of the rules in a notebook."""
    left_out = lint_anatomy.NOT_IN_HOMEWORK if course.is_homework(notebook) else ()
    return [
        Finding(lesson, cell.id if cell else "-", name, message)
        for name in rules
        if name not in left_out
        for cell, message in RULES[name](notebook)
    ]


def layout(path: Path) -> list[Finding]:
    """Whether a file is a valid notebook, written as JupyterLab writes it. If not, other rules may not be able to read it."""
    try:
        notebook = course.read(path)
        nbformat.validate(notebook)
    except Exception as error:  # each kind of damage has one of its own, and none may hide what is wrong with other lessons
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Finding(path.stem, "-", LAYOUT, f"make it a valid notebook: {words}")]
    has_ids = (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    if has_ids and path.read_text(encoding="utf-8") == course.text(notebook):
        return []
    return [Finding(path.stem, "-", LAYOUT, "save it in JupyterLab, so that its layout is that of all lessons")]


def numbering(paths: Iterable[Path]) -> list[Finding]:
    """Links to the previous and the next lesson follow file names, so lessons are numbered from 00 without gaps."""
    return [
        Finding(path.stem, "-", "numbering", f"begin its name with {place:02}_, or fill the gap before it")
        for place, path in enumerate(paths)
        if not path.name.startswith(f"{place:02}_")
    ]


def read_known(path: Path) -> list[str]:
    """Lines of the list, comments left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line.strip() and not line.startswith("#")]


def compared(found: list[Finding], known: list[str]) -> tuple[list[Finding], list[str]]:
    """All findings of which there are more than lines, and the lines of which there are more than findings."""
    times, lines = Counter(finding.line for finding in found), Counter(known)
    return [finding for finding in found if times[finding.line] > lines[finding.line]], list((lines - times).elements())


def shrink(found: list[Finding], path: Path) -> int:
    """Remove lines that nothing breaks any more from the list, or begin one. How many lines it lost."""
    broken = sorted(finding.line for finding in found)
    known = read_known(path) if path.exists() else broken
    kept = sorted((Counter(broken) & Counter(known)).elements())
    head = "# What lessons broke before there was a rule, a line each: lesson, cell, rule. Lines are removed, never added.\n"
    files.write_text(path, head + "".join(f"{line}\n" for line in kept))
    return len(known) - len(kept)


def place_in(path: Path, cell: str) -> int:
    """Number of the line of a notebook's file at which a cell stands; 1 for the notebook as a whole."""
    if cell == "-":
        return 1
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() == f'"id": "{cell}",':
            return number
    return 1


def say(title: str, path: Path, root: Path, line: int, message: str) -> None:
    """Print an error; on GitHub in the form that is shown beside the file."""
    name = path.relative_to(root).as_posix()
    if os.environ.get("GITHUB_ACTIONS") == "true":
        message = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::error file={name},line={line},title={title}::{message}")
    else:
        print(f"{name}:{line}: {title}: {message}")


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument(
        "--shrink", action="store_true", help="remove lines that no longer apply from the list of known findings"
    )
    parser.add_argument("--known", action="store_true", help="show what is known, too: all that is left to do")
    parser.add_argument("--figures", action="store_true", help="only show how easily the code reads, in numbers")
    parser.add_argument("--root", type=Path, default=course.ROOT, help="folder with notebooks/")
    parser.add_argument("--list", type=Path, default=KNOWN, help="the list of known findings")
    options = parser.parse_args()
    paths = {path.stem: path for path in course.lessons(options.root)}
    if not paths:
        parser.error(f"there is no lesson in {options.root / 'notebooks'}")
    notebooks, found = {}, numbering(paths.values())
    for name, path in paths.items():
        broken = layout(path)
        found += broken
        if not broken:
            notebooks[name] = course.read(path)
            found += findings(name, notebooks[name])
    if options.figures:
        print(lint_figures.table(notebooks))
        return
    unread = {finding.lesson for finding in found if finding.rule in (LAYOUT, "syntax")}  # nothing is known of what they break
    if options.shrink and unread:
        print(f"no lines removed: first put right {', '.join(sorted(unread))}")
    elif options.shrink:
        print(f"{shrink(found, options.list)} lines removed from {options.list.name}")
    known = read_known(options.list)
    new, stale = compared(found, known)
    stale = [line for line in stale if line.split()[0] not in unread]
    for finding in found if options.known else new:
        path, times = paths[finding.lesson], known.count(finding.line)
        remark = f" (known: {times} of these)" if times and finding in new else ""
        say(finding.rule, path, options.root, place_in(path, finding.cell), f"{finding.cell}: {finding.message}{remark}")
    for line in stale:
        print(f"{options.list.name}: remove the line {line!r}: it no longer applies (--shrink removes all such lines)")
    print(lint_figures.table(notebooks))
    print(f"{len(new)} new findings; {len(known) - len(stale)} lines of known ones; {len(stale)} lines to remove")
    sys.exit(bool(new or stale))


if __name__ == "__main__":
    main()
