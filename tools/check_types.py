"""Check types with mypy, in the course's environment; a commit hook runs this.

mypy must see torch, so it runs in .venv. In a clone without one this says so and lets a commit pass. In CI it does not.
Usage: python tools/check_types.py
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = (ROOT / ".venv" / "bin" / "python", ROOT / ".venv" / "Scripts" / "python.exe")


def main() -> None:
    for python in PLACES:
        if python.exists():
            sys.exit(subprocess.run([python, "-m", "mypy"], cwd=ROOT, check=False).returncode)
    print("Types were not checked: there is no .venv. `make venv` makes one; CI checks them in any case.")
    sys.exit(bool(os.environ.get("CI")))


if __name__ == "__main__":
    main()
