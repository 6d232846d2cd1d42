"""`make` hands on what users give it, whatever characters their paths have; it says what comes, and finishes what it began."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Stands for every program: writes down how it was called, and "makes" the environment by putting itself there.
RECORDER = """
import json, os, pathlib, sys
arguments = sys.argv[2:]
names = ("COURSE_DATA", "PATH")
seen = {name: value for name, value in os.environ.items() if name in names or name.startswith("PIP_")}
with open(os.environ["LOG"], "a", encoding="utf-8") as log:
    log.write(json.dumps({"called": pathlib.Path(sys.argv[1]).name, "arguments": arguments, "environment": seen}) + "\\n")
if arguments[:2] == ["-m", "venv"]:
    target = pathlib.Path(arguments[2]) / "bin" / "python"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
    target.chmod(0o755)
sys.exit("pip" in arguments and int(os.environ.get("STATUS", 0)))
"""
PATHS = [
    "plain",
    "my folder",
    "it's here",
    'a "quoted" one',
    "semi;colon & more",
    "`tick`",
    "한국어",
    "-dash",
    "a\\b",
    "(x)*?[y]",
]


@pytest.fixture
def course(tmp_path):
    """A clone, at a path with spaces, that has only the Makefile and recorders instead of programs."""
    folder = tmp_path / "my course's clone"
    folder.mkdir()
    (folder / "homework").mkdir()
    for name in ("Makefile", "pyproject.toml", "homework/pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / "recorder.py").write_text(RECORDER, encoding="utf-8")
    program = tmp_path / "python3"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "recorder.py"}" "$0" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.fixture
def make(course, tmp_path):
    """Run make there; give what it said, and the calls that were written down."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")

    def run(*arguments, **environment):
        log = tmp_path / "log.jsonl"
        log.write_text("", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "COURSE_"))}
        variables = kept | {"LOG": str(log), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | environment
        done = subprocess.run(
            ["make", *arguments], cwd=course, env=variables, capture_output=True, encoding="utf-8", check=False
        )
        return done, [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]

    return run


def build(course, *programs):
    """An environment that is ready, with these programs beside python."""
    folder = course / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", *programs):
        shutil.copy(course.parent / "python3", folder / name)
    (course / ".venv" / ".ready").touch()


def test_the_environment_is_announced_and_pip_shows_what_it_does(make):
    done, (venv, pip) = make("venv")
    assert done.returncode == 0, done.stderr
    assert venv["arguments"] == ["-m", "venv", ".venv"]
    assert pip["called"] == "python"
    assert pip["arguments"][:3] == ["-m", "pip", "install"]
    assert pip["arguments"][-6:] == ["-c", "constraints.txt", "-e", ".[dev]", "-e", "./homework"]
    assert pip["arguments"][3:-6] == ["--disable-pip-version-check"]  # not quiet, and no choice that users should have
    before = done.stdout.partition("-m venv")[0]
    assert "3.3 GB" in before
    assert "docs/running.md" in before


def test_variables_of_pip_reach_pip_and_a_log_gets_no_moving_bar(make):
    given = {"PIP_EXTRA_INDEX_URL": "file:///a b", "PIP_FIND_LINKS": "x y"}
    _, (_, pip) = make("venv", **given)
    found = {name: value for name, value in pip["environment"].items() if name.startswith("PIP_")}
    assert found == given | {"PIP_PROGRESS_BAR": "off"}


def test_the_newest_versions_come_where_constraints_are_empty(make):
    """`make` hands over the empty file, and pip takes it."""
    _, (_, pip) = make("venv", COURSE_CONSTRAINTS=os.devnull)
    assert pip["arguments"][-6:-4] == ["-c", os.devnull]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-c", os.devnull, "pip"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_a_choice_of_progress_bar_is_kept(make):
    _, (_, pip) = make("venv", PIP_PROGRESS_BAR="ascii")
    assert pip["environment"]["PIP_PROGRESS_BAR"] == "ascii"


def test_an_environment_that_was_not_finished_is_finished_by_the_next_make(make, course):
    failed, calls = make("venv", STATUS="1")
    assert failed.returncode != 0
    assert len(calls) == 2
    assert (course / ".venv" / "bin" / "python").exists()
    again, calls = make("lessons")
    assert again.returncode == 0, again.stderr
    assert [call["arguments"][1] for call in calls] == ["venv", "pip", "--profile"]
    third, calls = make("lessons")
    assert third.returncode == 0
    assert [call["arguments"][0] for call in calls] == ["tools/lessons.py"]
    os.utime(course / "constraints.txt", (2**31, 2**31))  # newer than the environment
    assert len(make("lessons")[1]) == 3


@pytest.mark.parametrize("path", PATHS)
def test_data_of_any_name_reach_the_lessons_and_the_benchmark(make, course, path):
    build(course)
    done, (check, claims, gpu) = make("gpu", f"DATA={path}", f"CIFAR_JPEG={path}.npz", "MINUTES=5")
    assert done.returncode == 0, done.stderr
    assert check["arguments"] == ["benchmarks/gpu.py", "--check"]
    assert claims["arguments"] == ["tools/claims.py", "--profile", "gpu"]
    assert claims["environment"]["COURSE_DATA"] == str(course / path)
    places = ["--data", path, "--cifar-jpeg", f"{path}.npz"]
    assert gpu["arguments"] == ["benchmarks/gpu.py", "--minutes", "5", *places]
    _, (_, claims, _) = make("gpu", f"DATA=/data/{path}")
    assert claims["environment"]["COURSE_DATA"] == f"/data/{path}"


def test_without_data_nothing_is_said_of_data(make, course):
    build(course)
    done, (_, claims, gpu) = make("gpu", COURSE_DATA="kept here")
    assert done.returncode == 0, done.stderr
    assert claims["environment"]["COURSE_DATA"] == "kept here"
    assert gpu["arguments"] == ["benchmarks/gpu.py", "--minutes", "30"]


@pytest.mark.parametrize("path", PATHS)
def test_folders_of_any_name_are_graded(make, course, path):
    build(course, "course-grade")
    done, (grade,) = make("grade", f"INBOX={path}", f"OUT={path} graded", 'ARGS=--roster "my list.csv"')
    assert done.returncode == 0, done.stderr
    assert grade["called"] == "course-grade"
    assert grade["arguments"] == [path, "--out", f"{path} graded", "--roster", "my list.csv"]


def test_grading_asks_for_what_it_needs(make, course):
    build(course, "course-grade")
    done, calls = make("grade", "INBOX=a")
    assert done.returncode != 0
    assert "INBOX=folder-of-notebooks OUT=folder-for-grades" in done.stderr
    assert calls == []


@pytest.mark.parametrize(
    "target",
    ["help", "lessons", "site", "pages", "lint", "coverage", "lab", "claims", "data", "badges", "release", "readme", "korean"],
)
def test_targets_run_in_a_clone_at_a_path_with_spaces(make, course, target):
    build(course, "pre-commit", "jupyter")
    done, calls = make(target)
    assert done.returncode == 0, done.stderr
    assert len(calls) == (target != "help")
    for call in calls:
        assert call["environment"]["PATH"].startswith(f"{course / '.venv' / 'bin'}{os.pathsep}")
    assert target != "help" or re.search(r"^lessons +execute every lesson", done.stdout, re.MULTILINE)


def test_where_pre_commit_is_installed_lint_needs_no_environment(make, course):
    shutil.copy(course.parent / "python3", course.parent / "pre-commit")
    done, (lint,) = make("lint")
    assert done.returncode == 0, done.stderr
    assert (lint["called"], lint["arguments"]) == ("pre-commit", ["run", "--all-files"])
    assert not (course / ".venv").exists()


def test_hooks_are_made_with_the_environment_so_that_later_no_network_is_needed(make, course):
    build(course, "pre-commit")
    (course / ".venv" / ".ready").unlink()
    (course / ".git").mkdir()
    done, calls = make("venv")
    assert done.returncode == 0, done.stderr
    assert (calls[-1]["called"], calls[-1]["arguments"]) == ("pre-commit", ["install-hooks"])


# --- the small build of torch --------------------------------------------------------------------------------------------


def wheel(index, name, version, *needs):
    """Put an empty wheel into a folder that pip reads as an index."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{facts}-py3-none-any.whl", "w") as archive:
        needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
        archive.writestr(f"{facts}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        archive.writestr(f"{facts}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}.dist-info/RECORD", "")
    links = "".join(f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>' for path in folder.glob("*.whl"))
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", encoding="utf-8")


def test_the_line_of_the_documents_brings_the_cpu_build_and_no_cuda_library(tmp_path):
    """With made-up indexes: one like PyPI, and one like that of torch's CPU builds."""
    (variable,) = re.findall(r"`(PIP_\w+)=<address> make lessons`", (ROOT / "docs" / "running.md").read_text(encoding="utf-8"))
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:])
    torch, vision, cublas = (pins[name] for name in ("torch", "torchvision", "nvidia-cublas"))
    wheel(tmp_path / "all", "torch", torch, f"nvidia-cublas=={cublas}")
    wheel(tmp_path / "all", "torchvision", vision, f"torch=={torch}")
    wheel(tmp_path / "all", "nvidia-cublas", cublas)
    for newer in (torch, "99.0"):  # the pin holds there, too
        wheel(tmp_path / "cpu", "torch", f"{newer}+cpu")
    wheel(tmp_path / "cpu", "torchvision", f"{vision}+cpu", f"torch=={torch}")

    def chosen(**more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        variables = kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": (tmp_path / "all").as_uri()} | more
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", report]
        command += ["-c", ROOT / "constraints.txt", "torch>=2.5", "torchvision>=0.20"]
        done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
        return {item["metadata"]["name"]: item["metadata"]["version"] for item in installed}

    assert chosen() == {"torch": torch, "torchvision": vision, "nvidia-cublas": cublas}
    assert chosen(**{variable: (tmp_path / "cpu").as_uri()}) == {"torch": f"{torch}+cpu", "torchvision": f"{vision}+cpu"}
