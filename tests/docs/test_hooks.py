"""Commit hooks need nothing but pre-commit, and check with the versions that CI has; CI sees what README.md promises."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def commands(job):
    """What a job of CI runs."""
    jobs = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]
    return [step["run"] for step in jobs[job]["steps"] if "run" in step]


def test_hooks_bring_the_tools_of_constraints_in_one_environment():
    (local,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert {hook["language"] for hook in local["hooks"]} == {"python", "pygrep"}
    (tools,) = {tuple(hook["additional_dependencies"]) for hook in local["hooks"] if hook["language"] == "python"}
    assert set(tools) <= set(text_of("constraints.txt").splitlines())


def test_ci_sees_the_oldest_versions_that_are_promised():
    assert any("--resolution lowest-direct" in command and '".[test]"' in command for command in commands("oldest"))
    assert commands("oldest")[-1].endswith("--nbmake tests/unit notebooks")


def test_ci_runs_the_readmes_commands_on_windows_and_macos():
    readme = text_of("README.md")
    _, install, lessons = commands("windows")
    assert install in readme
    assert lessons.removesuffix(" --profile ci") in readme
    (everything,) = commands("macos")
    assert f"`{everything}`" in readme
