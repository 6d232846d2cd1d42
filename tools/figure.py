"""Draw the figure of README.md: execute lesson 00 under the cpu profile and keep the picture of its experiment.

Usage: python tools/figure.py
"""

import asyncio
import base64
import os

from tqdm import tqdm

import course
from course_utils import files
from lessons import Lesson

CELL, TARGET = "experiment-curves", course.ROOT / "docs" / "memorising.png"


def main() -> None:
    course.parser(__doc__).parse_args()
    lesson = Lesson(course.lessons()[0])
    lesson.read()
    if lesson.notebook:
        environment = {**os.environ, "COURSE_PROFILE": "cpu"}
        with tqdm(total=len(lesson.code_cells), unit="cell") as bar:
            asyncio.run(lesson.execute(lesson.notebook, environment, timeout=600, bar=bar))
    if lesson.error:
        raise SystemExit(lesson.report())
    (cell,) = (cell for cell in lesson.code_cells if cell.id == CELL)
    (picture,) = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    with files.whole(TARGET) as file:
        file.write(base64.b64decode(picture))
    print(f"{TARGET.relative_to(course.ROOT)}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
