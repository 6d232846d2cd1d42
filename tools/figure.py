"""Draw the figure of README.md: execute lesson 00 under the cpu profile and keep the picture of its experiment.

Usage: python tools/figure.py
"""

import asyncio
import base64
import os

from tqdm import tqdm

import notebooks
from lessons import Lesson

CELL, TARGET = "experiment-curves", notebooks.ROOT / "docs" / "memorising.png"


def main() -> None:
    lesson = Lesson(notebooks.lessons()[0])
    lesson.read()
    with tqdm(total=len(lesson.code_cells), unit="cell") as bar:
        asyncio.run(lesson.execute({**os.environ, "COURSE_PROFILE": "cpu"}, timeout=600, bar=bar))
    if lesson.error:
        raise SystemExit(lesson.report())
    (cell,) = (cell for cell in lesson.code_cells if cell.id == CELL)
    (picture,) = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    TARGET.parent.mkdir(exist_ok=True)
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_bytes(base64.b64decode(picture))
    temporary.replace(TARGET)
    print(f"{TARGET.relative_to(notebooks.ROOT)}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
