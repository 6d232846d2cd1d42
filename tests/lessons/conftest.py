"""Tests of lessons use the tools' own idea of what a lesson is."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))
