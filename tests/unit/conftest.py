"""What all unit tests share: profile `ci`, one thread a process, and the same generated examples at every run."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("course", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("course")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def course_environment(monkeypatch):
    """Settings of the caller's shell must not decide what a test finds."""
    monkeypatch.setenv("COURSE_PROFILE", "ci")
    for name in ("COURSE_SEEDS", "COURSE_RESULTS", "COURSE_DATA", "COURSE_JUDGE"):
        monkeypatch.delenv(name, raising=False)
