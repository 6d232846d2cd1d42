"""Documents say what the project is: tables, environments, checksums, links and commands are in step."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import course  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GRADER = tomllib.loads((ROOT / "homework" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "data/README.md", "homework/README.md"),
    *(f"docs/{name}.md" for name in ("api", "glossary", "index", "layouts", "results", "running", "speed", "torch-report")),
    *("docs/ko/glossary.md", "docs/ko/index.md"),
]
CONDA_NAMES = {"torch": "pytorch", "build": "python-build"}
# What pip installs from an extra that names this package itself, and what conda users do without.
OURS = "course-utils"


def requirements(*extras: str) -> dict[str, str]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    return {CONDA_NAMES.get(item.name, item.name): str(item.specifier) for item in parsed if item.name != OURS}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_generated_parts_of_the_readme_are_in_step():
    ran = subprocess.run([sys.executable, "tools/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_conda_environment_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = [item for item in environment["dependencies"] if isinstance(item, str)]
    found = {item.name: str(item.specifier) for item in map(Requirement, listed)}
    assert found.pop("python") == PROJECT["requires-python"]
    assert found.pop("pip") == ""
    assert found == requirements("lab", "test")
    assert {"pip": ["--editable ."]} in environment["dependencies"]


def test_constraints_are_exact_complete_and_without_addresses():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line) for line in pins), pins
    names = {re.split("==", line)[0].lower().replace("_", "-") for line in pins}
    lines = [*PROJECT["dependencies"], *GRADER["dependencies"]]
    lines += [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert {Requirement(line).name for line in lines} - {OURS} <= names
    for line in lines:
        requirement = Requirement(line)
        versions = [
            pin.split("==")[1].split(" ")[0]
            for pin in pins
            if pin.lower().replace("_", "-").startswith(f"{requirement.name}==")
        ]
        assert all(requirement.specifier.contains(version) for version in versions), line


def test_data_readme_has_the_checksums_and_counts():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((ROOT / "data" / "manifest.json").read_text(encoding="utf-8"))
    from course_utils import data

    for file, facts in manifest.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{file}`"))
        dataset = data.load(Path(file).stem)
        counts = " / ".join(f"{len(split.y):,}" for split in (dataset.train, dataset.val, dataset.test))
        assert facts["sha256"] in row
        assert counts in row
    assert sum(facts["bytes"] for facts in manifest.values()) <= 6e6


def test_the_repository_is_the_same_everywhere():
    repository = PROJECT["urls"]["Repository"]
    assert yaml.safe_load(text_of("CITATION.cff"))["repository-code"] == repository
    (link,) = yaml.safe_load(text_of(".github/ISSUE_TEMPLATE/config.yml"))["contact_links"]
    assert link["url"] == f"{repository}/security/policy"


def test_the_version_is_the_same_everywhere():
    from course_utils import __version__

    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (Unreleased|\d{4}-\d\d-\d\d)$", text_of("CHANGELOG.md"), re.MULTILINE)
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert newest[1] == citation["version"] == __version__
    assert "version" in PROJECT["dynamic"]


def test_no_two_test_files_share_a_name():
    """Pytest takes them for one module, and says so only when both are collected by one process."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in ("__init__.py", "conftest.py")]
    assert sorted(names) == sorted(set(names))


def test_links_lead_somewhere():
    links = {(document, target) for document in DOCUMENTS for target in re.findall(r"\]\(([^)#\s]+)", text_of(document))}
    local = {(document, target) for document, target in links if not target.startswith("http")}
    assert len(local) >= 6
    assert not [link for link in local if not (ROOT / link[0]).parent.joinpath(link[1]).exists()]
    allowed = (PROJECT["urls"]["Repository"], "https://colab.research.google.com/")
    assert not [target for _, target in links - local if not target.startswith((*allowed, course.site_address()))]


def test_make_targets_named_in_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = {
        word for document in DOCUMENTS for word in re.findall(r"`make ([a-z]+)|^make ([a-z]+)", text_of(document), re.MULTILINE)
    }
    words = {word for pair in named for word in pair if word}
    assert {"lessons", "test", "claims", "lab"} <= words <= targets


def test_the_page_on_running_gives_the_command_that_make_test_runs():
    recipe = re.search(r"-m (pytest .+)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1]
    assert f"-m {recipe}" in text_of("docs/running.md")


def test_ci_runs_make_test():
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("\nmake test")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.14"]
    assert any(step.get("run") == ".ci/run" for step in workflow["jobs"]["test"]["steps"])
