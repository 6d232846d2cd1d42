"""Rewrite what README.md takes from elsewhere: the tables of lessons, claims and speed.

Usage: python tools/readme.py [--check]
"""

import json
import re

import course
from course_utils import record

README = course.ROOT / "README.md"
BAR = r"\|"  # a bar inside a cell of a table


def lesson_table() -> str:
    rows = ["| | lesson | time | |", "|---|---|---|---|"]
    for path in course.lessons():
        notebook = course.read(path)
        title = f"[{course.question(notebook)}](notebooks/{path.name})"
        row = (course.number(path), title, course.time_needed(notebook), course.colab(course.ROOT, path))
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def claims_table() -> str:
    marks = {"holds": "✓", "does not hold": "✗", "not shown": ""}
    rows = ["| lesson | claim | mean ± standard deviation | 95 % interval | n | asked | |", "|---|---|---|---|---|---|---|"]
    notes = []
    for path in sorted((course.ROOT / "results" / "cpu").glob("*.json")):
        header, claims = record.read(path)
        for claim in claims:
            low, high = claim.interval
            row = [header["lesson"], claim.statement, f"{claim.mean:.3g} ± {claim.sd:.2g}", f"{low:.3g} to {high:.3g}"]
            row += [str(claim.n), claim.rule or claim.verdict, marks[claim.verdict]]
            rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |")
        versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
        where = f"{header['seconds']:.0f} s on {header['threads']} thread(s) of {header['processor']}"
        notes += ["", f"Lesson {header['lesson']}: {where}; {versions}."]
    return "\n".join([*rows, *notes])


def speed_table() -> str:
    found = json.loads((course.ROOT / "results" / "bench.json").read_text(encoding="utf-8"))
    rows = ["| ratio | median | range | goal | | |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        cells = (row["name"], f"{row['ratio']:.3g}", f"{row['low']:.3g} to {row['high']:.3g}", row["goal"])
        rows.append(f"| {' | '.join((*cells, '✓' if row['met'] else '✗', row['note']))} |")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join([*rows, "", f"{found['threads']} threads of {found['processor']}; {versions}."])


def refreshed() -> str:
    text = README.read_text(encoding="utf-8")
    for name, table in (("lessons", lesson_table()), ("claims", claims_table()), ("speed", speed_table())):
        pattern = rf"(<!-- {name}: [^\n]*-->\n)(?:.*?\n)?(<!-- end of {name} -->)"
        block = f"\n{table}\n\n".replace("\\", r"\\")  # a backslash in a table is no reference to a group
        text, count = re.subn(pattern, rf"\g<1>{block}\g<2>", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md has {count} blocks `<!-- {name}: … -->` to `<!-- end of {name} -->`; it needs one.")
    return text


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail when README.md is out of step")
    options = parser.parse_args()
    course.keep_in_step({README: refreshed()}, "make readme", options.check)


if __name__ == "__main__":
    main()
