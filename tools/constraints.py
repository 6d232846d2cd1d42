"""Resolve all dependencies anew, in an environment of its own, and write the exact versions to constraints.txt.

Names and versions only: no address, no hash, no local version. torch and torchvision are kept as the pair that is pinned
now, since they must fit each other; change the two by hand, then run this.
Usage: python tools/constraints.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this runs outside of the environment that it is to describe

from course_utils.files import write_text  # noqa: E402

PATH = ROOT / "constraints.txt"
HEAD = "# Exact versions that CI runs, written by `make constraints`. Names and versions only.\n"
OURS = ("course-utils", "course-grade")


def main() -> None:
    pair = [line for line in PATH.read_text(encoding="utf-8").splitlines() if re.match(r"torch(vision)?==", line)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-e", f"{ROOT}[dev]", "-e", ROOT / "homework", *pair], check=True)
        freeze = subprocess.run([python, "-m", "pip", "freeze"], check=True, stdout=subprocess.PIPE)
    frozen = freeze.stdout.decode("utf-8", errors="replace")
    lines = sorted({pinned for line in frozen.splitlines() if (pinned := pin(line))}, key=str.lower)
    write_text(PATH, HEAD + "\n".join(lines) + "\n")
    print(f"{len(lines)} versions in {PATH.name}")


def pin(line: str) -> str:
    """``name==version`` of a line of ``pip freeze``, or nothing for our own two and for comments."""
    found = re.match(r"([\w.-]+)==([^+\s]+)", line)
    return f"{found[1]}=={found[2]}" if found and found[1].lower().replace("_", "-") not in OURS else ""


if __name__ == "__main__":
    main()
