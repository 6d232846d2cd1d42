import io
import os
import random
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st

from course_utils import files, runtime


@pytest.fixture
def hardware(monkeypatch):
    def pretend(*, cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize("name", ["ci", "cpu", "gpu", " cpu "])
def test_the_variable_decides_the_profile(monkeypatch, name):
    monkeypatch.setenv("COURSE_PROFILE", name)
    assert runtime.profile() == name.strip()


@pytest.mark.parametrize(("found", "expected"), [({}, "cpu"), ({"cuda": True}, "gpu"), ({"mps": True}, "gpu")])
def test_without_the_variable_the_hardware_decides(monkeypatch, hardware, found, expected):
    monkeypatch.delenv("COURSE_PROFILE")
    hardware(**found)
    assert runtime.profile() == expected


def test_unknown_profile_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(ValueError, match=r"'fast'.*ci, cpu, gpu"):
        runtime.profile()


@pytest.mark.parametrize(("found", "expected"), [({"cuda": True}, "cuda"), ({"mps": True}, "mps")])
def test_gpu_profile_trains_on_the_accelerator(monkeypatch, hardware, found, expected):
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    hardware(**found)
    assert runtime.device().type == expected


@pytest.mark.parametrize("name", ["ci", "cpu"])
def test_other_profiles_train_on_the_cpu_even_beside_a_gpu(monkeypatch, hardware, name):
    monkeypatch.setenv("COURSE_PROFILE", name)
    hardware(cuda=True)
    assert runtime.device() == torch.device("cpu")


def test_gpu_profile_without_gpu_says_what_to_do(monkeypatch, hardware):
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    hardware()
    with pytest.raises(RuntimeError, match=r"no GPU here: unset COURSE_PROFILE"):
        runtime.device()
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    with pytest.raises(RuntimeError, match=r"no GPU here: choose Runtime > Change runtime type"):
        runtime.device()


@given(st.integers(0, 2**32 - 1))
def test_a_seed_fixes_python_numpy_and_torch(seed):
    def draw():
        runtime.seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002 - the global state is what is seeded

    assert draw() == draw()


def test_different_seeds_differ():
    def draw(seed):
        runtime.seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert not set(draw(0)) & set(draw(1))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_cannot_take_is_refused(seed):
    with pytest.raises(ValueError, match=str(seed)):
        runtime.seed_everything(seed)


def test_seeds_count_from_zero_or_come_from_the_variable(monkeypatch):
    assert runtime.seeds(3) == [0, 1, 2]
    monkeypatch.setenv("COURSE_SEEDS", "7, 3,11")
    assert runtime.seeds(2) == [7, 3, 11]


@pytest.mark.parametrize("text", ["3,,4", "a", "1.5", "1;2", "1,1", "-1,2"])
def test_seeds_that_are_no_list_of_seeds_are_refused(monkeypatch, text):
    monkeypatch.setenv("COURSE_SEEDS", text)
    with pytest.raises(ValueError, match="COURSE_SEEDS"):
        runtime.seeds(3)


@pytest.mark.parametrize(("name", "epochs"), [("ci", 1), ("cpu", 20), ("gpu", 90)])
def test_budget_gives_the_sizes_of_the_profile(monkeypatch, name, epochs):
    monkeypatch.setenv("COURSE_PROFILE", name)
    sizes = runtime.budget(ci={"epochs": 1, "n": 8}, cpu={"epochs": 20, "n": 100}, gpu={"epochs": 90, "n": 1000})
    assert sizes.epochs == epochs


def test_budget_refuses_profiles_with_different_sizes():
    with pytest.raises(ValueError, match="profile cpu lacks n"):
        runtime.budget(ci={"epochs": 1, "n": 8}, cpu={"epochs": 20}, gpu={"epochs": 90, "n": 8})


def test_progress_writes_to_standard_output_or_nowhere(capsys):
    assert list(runtime.progress(range(3), "counting")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert "counting" in shown.out
    assert "3/3" in shown.out
    assert shown.err == ""
    assert list(runtime.progress(range(3), "counting", show=False)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def environment():
    return {row["what"]: row for row in runtime.check_environment()}


def test_this_environment_is_sound():
    rows = environment()
    assert [what for what, row in rows.items() if not row["ok"] or row["fix"]] == []
    assert {"Python", "torch", "torchvision", "numpy", "scikit-learn", "torchvision fits torch", "device"} <= set(rows)
    assert "pytest" not in rows  # a student does not need the extras


def test_one_thread_is_written_as_one(monkeypatch):
    for threads, words in ((1, "1 CPU thread"), (2, "2 CPU threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        assert environment()["device"]["found"].endswith(words)


def test_a_course_that_is_imported_and_not_installed_is_shown_with_its_cure(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    rows = environment()
    assert rows["course-utils"]["fix"] == "In the folder of the course, run: pip install -e ."
    assert rows["Python"]["ok"]


@pytest.mark.parametrize("version", [None, "0.1"])
def test_a_missing_or_old_package_is_shown_with_its_cure(monkeypatch, version):
    real = metadata.version

    def pretend(name):
        if name != "pandas":
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", pretend)
    rows = environment()
    assert rows["pandas"]["ok"] is False
    assert rows["pandas"]["found"] == (version or "missing")
    assert 'pip install "pandas>=' in rows["pandas"]["fix"]
    assert [what for what, row in rows.items() if not row["ok"]] == ["pandas"]


def test_a_torchvision_that_does_not_fit_torch_is_shown_with_its_cure(monkeypatch):
    def mismatched(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", mismatched)
    row = environment()["torchvision fits torch"]
    assert row["ok"] is False
    assert "nms does not exist" in row["found"]
    assert "pip install --upgrade torch torchvision" in row["fix"]


def test_a_missing_gpu_is_shown_with_its_cure(monkeypatch, hardware):
    hardware()
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    row = environment()["device"]
    assert row["ok"] is False
    assert "unset COURSE_PROFILE" in row["fix"]


BAR = """
from course_utils import runtime
bar = runtime.progress(range(2), "α ≥ 훈련 ✓")
for step in bar:
    bar.set_postfix_str(f"손실 ≥ {step} 😀 é")
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "cp1252", "latin-1", "utf-8"])
def test_a_bar_shows_on_any_stream(encoding):
    variables = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", BAR], env=variables, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert "100%" in shown
    assert ("훈련" in shown) == (encoding in ("cp949", "utf-8"))
    assert "≥ 1" in shown or ">= 1" in shown


class Console(io.StringIO):
    """A stream that names an encoding and shows it alone."""

    def __init__(self, encoding):
        super().__init__()
        self.name = encoding

    @property
    def encoding(self):
        return self.name


@pytest.mark.parametrize("encoding", ["no-such-encoding", None, "ascii", "utf-8"])
def test_words_and_bars_reach_a_stream_whose_encoding_nobody_knows(monkeypatch, encoding):
    console = Console(encoding)
    monkeypatch.setattr(sys, "stdout", console)
    files.say("≥ 훈련")
    bar = runtime.progress(range(2), "≥")
    list(bar)
    known = encoding in (None, "utf-8")
    assert console.getvalue().startswith("≥ 훈련\n" if known else ">= \\ud6c8\\ub828\n")
    assert ("\r≥: 100%" if known else "\r>=: 100%") in console.getvalue()


def test_a_bar_goes_where_standard_output_goes_at_the_moment(monkeypatch):
    bar = runtime.progress(range(2), "moving")
    later = io.StringIO()
    monkeypatch.setattr(sys, "stdout", later)
    list(bar)
    assert "moving: 100%" in later.getvalue()
    monkeypatch.setattr(sys, "stdout", None)  # as in a program without a console
    assert list(runtime.progress(range(2), "nowhere")) == [0, 1]
