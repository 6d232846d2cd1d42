"""Commit hooks need nothing but pre-commit, and check with the versions that CI has; CI sees what README.md promises."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def jobs():
    """The jobs of CI, by name."""
    return yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]


def commands(job):
    """What a job of CI runs."""
    return [step["run"] for step in jobs()[job]["steps"] if "run" in step]


def test_hooks_bring_the_tools_of_constraints_in_one_environment():
    (local,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert {hook["language"] for hook in local["hooks"]} == {"python", "pygrep"}
    (tools,) = {tuple(hook["additional_dependencies"]) for hook in local["hooks"] if hook["language"] == "python"}
    assert set(tools) <= set(text_of("constraints.txt").splitlines())


@pytest.fixture
def check_types(tmp_path):
    """Run the hook for types in a clone that holds nothing else."""
    (tmp_path / "tools").mkdir()
    tool = shutil.copy(ROOT / "tools" / "check_types.py", tmp_path / "tools")

    def run(**environment):
        kept = {name: value for name, value in os.environ.items() if name != "CI"}
        command = [sys.executable, tool]
        return subprocess.run(command, env=kept | environment, capture_output=True, encoding="utf-8", check=False)

    return run


def test_without_an_environment_types_are_not_checked_and_ci_takes_that_for_a_failure(check_types):
    here, in_ci = check_types(), check_types(CI="true")
    assert (here.returncode, in_ci.returncode) == (0, 1)
    assert "not checked" in here.stdout
    assert "`make venv`" in here.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a program there is no script")
@pytest.mark.parametrize("status", [0, 1])
def test_with_an_environment_its_mypy_decides(check_types, tmp_path, status):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "asked: $*"\nexit {status}\n', encoding="utf-8")
    python.chmod(0o755)
    done = check_types()
    assert (done.returncode, done.stdout) == (status, "asked: -m mypy\n")


def test_ci_sees_the_oldest_versions_that_are_promised():
    assert any("--resolution lowest-direct" in command and '".[test]"' in command for command in commands("oldest"))
    assert commands("oldest")[-1].endswith("--nbmake tests/unit notebooks")
    assert jobs()["oldest"]["env"]["CI"] == ""  # else tests that need more than pip installs would fail there


def test_ci_runs_make_test_on_the_newest_versions_and_leaves_the_files_that_tests_read():
    assert commands("newest") == commands("test")
    assert jobs()["newest"]["env"] == {"COURSE_CONSTRAINTS": "/dev/null"}


def test_no_job_of_ci_hangs_for_hours():
    assert [name for name, job in jobs().items() if not 0 < job.get("timeout-minutes", 0) <= 360] == []


def test_ci_runs_the_documents_commands_on_windows_and_macos():
    page = text_of("docs/running.md")
    _, install, lessons = commands("windows")
    assert install in page
    assert lessons.removesuffix(" --profile ci") in page
    (everything,) = commands("macos")
    assert f"`{everything}`" in page


def test_the_site_is_built_once_and_deployed_by_a_job_that_builds_nothing():
    workflow = yaml.safe_load(text_of(".github/workflows/pages.yml"))
    build, deploy = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    assert [step["run"] for step in build["steps"] if "run" in step] == ["make site"]
    assert deploy["needs"] == "build"
    assert not [step for step in deploy["steps"] if "run" in step]
    assert {step["with"]["path"] for step in build["steps"] if "upload" in step.get("uses", "")} == {"site"}
    assert workflow["permissions"] == {"contents": "read"}  # only the job that deploys may more
    assert "github.io" not in text_of(".github/workflows/pages.yml")  # the repository's own name says where
