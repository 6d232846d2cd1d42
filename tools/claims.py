"""Measure the claims of lessons anew, and check them.

With the default seeds the measurements replace those in results/; with other seeds they go to build/claims/.
On a GPU, lessons run one after the other, and claims are judged by their lessons' bounds alone.
Usage: python tools/claims.py [--lesson 01] [--seeds 3,4,5] [--profile cpu|gpu]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import course


def missed(folder: Path, numbers: list[str]) -> list[str]:
    """A line for each recorded claim that does not hold."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")) if path.stem in numbers]
    return [
        f"lesson {record['lesson']}, {claim['name']}: {list(claim['values'].values())}, asked: {claim['rule']}: DOES NOT HOLD"
        for record in records
        for claim in record["claims"]
        if not claim["holds"]
    ]


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--lesson", help="number of one lesson, such as 01; all when not given")
    parser.add_argument("--seeds", default="", help="seeds to use instead of the lesson's own, such as 3,4,5")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    options = parser.parse_args()

    paths = {course.number(path): path for path in course.lessons()}
    if options.lesson is not None and options.lesson not in paths:
        parser.error(f"there is no lesson {options.lesson}; there are {', '.join(paths)}.")
    chosen = [paths[options.lesson]] if options.lesson else list(paths.values())
    results = course.ROOT / ("results" if not options.seeds else f"build/claims/{options.seeds.replace(',', '-')}")
    environment = {**os.environ, "COURSE_RESULTS": str(results), "COURSE_SEEDS": options.seeds}

    pages = ["--out", str(Path("build") / "claims" / "pages")]
    jobs = ["--jobs", "1"] if options.profile == "gpu" else []
    runner = [sys.executable, "tools/lessons.py", "--profile", options.profile, *jobs, *pages, *map(str, chosen)]
    ran = subprocess.run(runner, cwd=course.ROOT, env=environment, check=False).returncode
    asked = [course.number(path) for path in chosen]
    if options.profile == "gpu":
        lines = missed(results / "gpu", asked)
        print("\n".join(lines))
        sys.exit(bool(ran or lines))
    tests = [sys.executable, "-m", "pytest", "-q", "tests/claims", "--lessons", ",".join(asked)]
    judged = subprocess.run(tests, cwd=course.ROOT, env=environment, check=False).returncode
    sys.exit(ran or judged)


if __name__ == "__main__":
    main()
