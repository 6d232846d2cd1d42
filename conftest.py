"""Options and environment of all tests."""

import os

import pytest

# Tests and the kernels that they start run every lesson small, and each process on one core: there are several at once.
os.environ["COURSE_PROFILE"] = "ci"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("COURSE_SEEDS", "COURSE_DATA"):
    os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lessons", default="", help="numbers of the lessons whose claims are judged, such as 00,01; all by default"
    )
