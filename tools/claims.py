"""Measure the claims of lessons, show how firm they are, and judge them anew when a bound has changed.

Ten seeds are measured and kept in results/; other seeds go to build/claims/, where only their bounds judge them. On a GPU,
lessons run one after the other, with their own seeds.

A claim is kept when the mean of its ten values lies three standard deviations or more from every bound, and when it can fail
(see `weakness`). Where no such bound means anything, the lesson says `claims.not_shown` in place of `claims.add`.
Usage: python tools/claims.py [--lesson 01] [--seeds 3,4,5] [--profile cpu|gpu] [--margins | --rejudge]
"""

import argparse
import ast
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import course
from course_utils import record
from course_utils.record import Claim
from lint_style import tree

SEEDS = ",".join(map(str, range(10)))
LEAST_MARGIN = 3  # standard deviations
# A bound is out of reach when it is farther from the mean than this many standard deviations, and by more than this factor.
FAR, FACTOR = 10, 3
# Claims that `weakness` would find fault with and that are meant so: "lesson/name", and why. Few, and each with a reason.
MEANT = {
    "02/adam-does-not": "a net that learns nothing names one class: one in ten",
    "03/latency-rate": "a time, which another processor changes more than another seed",
}


def stated(path: Path) -> list[Claim]:
    """Claims as a lesson states them, without values: read from its cells, which are not run.

    Raises:
        SystemExit: a name, statement or bound is not written out where the claim is made, a name is taken, or Python does not
            read the cell.
    """
    found: list[Claim] = []
    for cell in course.read(path).cells:
        if cell.cell_type == "code" and "claims." in cell.source:
            where = f"{path.name}, cell {cell.id}"
            for call in _calls(cell.source, where):
                claim = _stated(call, where)
                if any(other.name == claim.name for other in found):
                    raise SystemExit(f"{where}: the claim {claim.name!r} is made twice; give each a name of its own.")
                found.append(claim)
    return found


def _calls(source: str, where: str) -> list[ast.Call]:
    makers = ("claims.add", "claims.not_shown")
    parsed = tree(source)
    if parsed is None:
        raise SystemExit(f"{where}: correct the code: Python does not read it")
    nodes = [node for node in ast.walk(parsed) if isinstance(node, ast.Call)]
    return sorted((call for call in nodes if ast.unparse(call.func) in makers), key=lambda call: call.lineno)


def _stated(call: ast.Call, where: str) -> Claim:
    try:
        name, statement = (ast.literal_eval(argument) for argument in call.args[:2])
        bounds = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return Claim(name, statement, {}, **bounds)
    except (ValueError, TypeError):
        raise SystemExit(
            f"{where}: write out name, statement and bounds, as in claims.add('gain', 'what the values are', values, "
            f"mean_at_least=0.1). Found: {ast.unparse(call)}"
        ) from None


def weakness(claim: Claim) -> str:
    """What is wrong with a claim that holds: too close to a bound, or unable to fail; empty when nothing is."""
    if not claim.bounds:
        return ""
    values = list(claim.values.values())
    if max(values) == min(values):
        return "equal on every seed: make it an assert"
    if max(map(abs, values)) < 1e-6:
        return "nothing but rounding: make it an assert"
    if not claim.margin >= LEAST_MARGIN:
        return f"closer than {LEAST_MARGIN} standard deviations"
    for name, bound in claim.bounds.items():
        side = 1 if name.endswith("least") else -1
        if side * bound < 0 and side * claim.mean >= LEAST_MARGIN * claim.sd:
            return f"{name} = {bound:g} lies on the other side of zero, and zero would hold"
        within = bound * claim.mean > 0 and 1 / FACTOR <= bound / claim.mean <= FACTOR
        if abs(claim.mean - bound) > FAR * claim.sd and not within:
            return f"{name} = {bound:g} is out of reach: {abs(claim.mean - bound) / claim.sd:.0f} standard deviations away"
    return ""


def recorded(path: Path) -> tuple[dict, list[Claim]]:
    """What a record holds.

    Raises:
        SystemExit: it is damaged.
    """
    try:
        return record.read(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{error} `make claims LESSON={path.stem}` measures them.") from None


def complaints(path: Path, *, firm: bool) -> Iterator[str]:
    """A line for each recorded claim that does not hold or, where they are to be ``firm``, has a weakness that is not meant."""
    header, claims = recorded(path)
    for claim in claims:
        where = f"lesson {header['lesson']}, {claim.name}"
        if claim.verdict == "does not hold":
            yield f"{where}: {list(claim.values.values())}, asked: {claim.rule}: DOES NOT HOLD"
        elif firm and (reason := weakness(claim)) and f"{header['lesson']}/{claim.name}" not in MEANT:
            yield f"{where}: {claim.found}, asked: {claim.rule}: {reason}"


def margins(paths: list[Path]) -> str:
    """A table of recorded claims, closest to their bounds first; what is not shown stands at the end."""
    rows = []
    for path in paths:
        header, claims = recorded(path)
        rows += [(f"{header['lesson']}/{claim.name}", claim) for claim in claims]
    rows.sort(key=lambda row: (not row[1].bounds, -math.inf if math.isnan(row[1].margin) else row[1].margin))
    table = [("lesson/name", "mean", "sd", "n", "margin", "asked", "")]
    for key, claim in rows:
        reason = weakness(claim)
        remark = f"meant: {MEANT[key]}" if reason and key in MEANT else reason
        numbers = (f"{claim.mean:.4g}", f"{claim.sd:.2g}", str(claim.n), f"{claim.margin:.1f}" if claim.bounds else "")
        table.append((key, *numbers, claim.rule or claim.verdict, remark))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def rejudge(lesson: Path, path: Path) -> Iterator[str]:
    """Judge recorded values by the bounds that the lesson states now, and rewrite the record; a line for what changed.

    Raises:
        SystemExit: the lesson makes a claim that was not measured, or the record is damaged; it stays as it is.
    """
    header, measured = recorded(path)
    old, new = ({claim.name: claim for claim in claims} for claims in (measured, stated(lesson)))
    if unknown := [name for name in new if name not in old]:
        number = course.number(lesson)
        raise SystemExit(f"lesson {number}: {', '.join(unknown)} was not measured: run `make claims LESSON={number}`")
    judged = [replace(claim, values=old[name].values) for name, claim in new.items()]
    record.write(path, header, judged)
    yield from (f"{path.stem}/{name}: no longer claimed" for name in old if name not in new)
    for claim in judged:
        before = old[claim.name]
        if (claim.statement, claim.rule) != (before.statement, before.rule):
            was = f"{before.statement}: {before.rule or before.verdict}"
            yield f"{path.stem}/{claim.name}: {claim.statement}: {claim.rule or claim.verdict} (was {was}): {claim.verdict}"


def measure(lessons: list[Path], results: Path, profile: str, seeds: str) -> int:
    """Execute the lessons; their claims go to ``results``, their site to build/claims/site."""
    environment = {**os.environ, "COURSE_RESULTS": str(results), "COURSE_SEEDS": seeds}
    folder = Path("build") / "claims"
    pages = ["--out", str(folder / "site"), "--executed", str(folder / "executed")]
    one_by_one = ["--jobs", "1"] if profile == "gpu" else []
    # Ten seeds take three times as long as a lesson's own three.
    runner = [sys.executable, "tools/lessons.py", "--profile", profile, "--timeout", "7200", *one_by_one, *pages]
    return subprocess.run([*runner, *map(str, lessons)], cwd=course.ROOT, env=environment, check=False).returncode


def seeds_of(text: str) -> str:
    """Seeds as the lessons read them, refused here if they cannot: the lessons would find out one by one."""
    if text and not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"write whole numbers with commas between, as in 3,4,5, not {text!r}")
    return text


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--lesson", help="number of one lesson, such as 01; all when not given")
    parser.add_argument("--seeds", type=seeds_of, default="", help="seeds in place of the ten of the record, such as 3,4,5")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--margins", action="store_true", help="measure nothing: show how far the claims are from their bounds")
    parser.add_argument(
        "--rejudge", action="store_true", help="measure nothing: judge the record by the lessons' present bounds"
    )
    options = parser.parse_args()

    lessons = {course.number(path): path for path in course.lessons() if stated(path)}
    if options.lesson is not None and options.lesson not in lessons:
        parser.error(f"there is no lesson {options.lesson} with claims; there are {', '.join(lessons)}.")
    chosen = [options.lesson] if options.lesson else list(lessons)
    results = course.ROOT / ("results" if not options.seeds else f"build/claims/{options.seeds.replace(',', '-')}")
    ran = 0
    if not options.margins and not options.rejudge:
        seeds = options.seeds or (SEEDS if options.profile == "cpu" else "")
        ran = measure([lessons[number] for number in chosen], results, options.profile, seeds)

    wanted = [results / options.profile / f"{number}.json" for number in chosen]
    records = [path for path in wanted if path.exists()]
    if options.rejudge:
        changes = 0
        for path in records:
            for line in rejudge(lessons[path.stem], path):  # a record is rewritten: said at once, whatever befalls the next
                print(line)
                changes += 1
        print(f"{changes} claims have changed")
    if options.margins:
        print(margins(records))
    firm = options.profile == "cpu" and not options.seeds
    found = [
        f"lesson {path.stem}: there is no record {path}: run `make claims LESSON={path.stem}`"
        for path in wanted
        if not path.exists()
    ]
    found += [line for path in records for line in complaints(path, firm=firm)]
    print("\n".join(found))
    sys.exit(bool(ran or found))


if __name__ == "__main__":
    main()
