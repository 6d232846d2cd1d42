"""Measure the claims of lessons anew, and check them.

With the default seeds the measurements replace those in results/; with other seeds they go to build/claims/.
Usage: python tools/claims.py [--lesson 01] [--seeds 3,4,5]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import notebooks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", help="number of one lesson, such as 01; all when not given")
    parser.add_argument("--seeds", default="", help="seeds to use instead of the lesson's own, such as 3,4,5")
    options = parser.parse_args()

    paths = {notebooks.number(path): path for path in notebooks.lessons()}
    if options.lesson is not None and options.lesson not in paths:
        parser.error(f"there is no lesson {options.lesson}; there are {', '.join(paths)}.")
    chosen = [paths[options.lesson]] if options.lesson else list(paths.values())
    results = notebooks.ROOT / ("results" if not options.seeds else f"build/claims/{options.seeds.replace(',', '-')}")
    environment = {**os.environ, "COURSE_RESULTS": str(results), "COURSE_SEEDS": options.seeds}

    pages = ["--out", str(Path("build") / "claims" / "pages")]
    runner = [sys.executable, "tools/lessons.py", "--profile", "cpu", *pages, *map(str, chosen)]
    ran = subprocess.run(runner, cwd=notebooks.ROOT, env=environment, check=False).returncode
    asked = ",".join(notebooks.number(path) for path in chosen)
    tests = [sys.executable, "-m", "pytest", "-q", "tests/claims", "--lessons", asked]
    judged = subprocess.run(tests, cwd=notebooks.ROOT, env=environment, check=False).returncode
    sys.exit(ran or judged)


if __name__ == "__main__":
    main()
