"""Commit hooks need nothing but pre-commit, and check with the versions that CI has."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent


def test_hooks_bring_the_tools_of_constraints_in_one_environment():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {hook["language"] for hook in local["hooks"]} == {"python", "pygrep"}
    (tools,) = {tuple(hook["additional_dependencies"]) for hook in local["hooks"] if hook["language"] == "python"}
    assert set(tools) <= set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
