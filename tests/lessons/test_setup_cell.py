"""The set-up cell installs the course and leaves torch alone, and one command rewrites the address that it installs from."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import badges
import course
import course_utils

ROOT = course.ROOT
# As in Colab: local versions, which pip must be told in full to keep them.
THERE = {"torch": "2.9.0+cu126", "torchvision": "0.24.0+cu126", "numpy": "2.0.2", "pandas": "2.2.2"}
FAKE_PIP = """
import json, os, pathlib, sys
pathlib.Path(os.environ["ASKED"]).write_text(json.dumps(sys.argv[1:]))
print("many lines\\n" * 500 + "fatal: no \u2713 route to host", file=sys.stderr)
sys.exit(int(os.environ["STATUS"]))
"""


@pytest.fixture
def installs(tmp_path):
    """Run the installing part of the set-up cell among made-up packages; give what it asks of pip, and its exit status."""

    def run(there=THERE, *, course_is_there=False, status=0):
        site, asked = tmp_path / "site", tmp_path / "asked.json"
        (site / "pip").mkdir(parents=True)
        (site / "pip" / "__init__.py").touch()
        (site / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")
        if course_is_there:
            (site / "course_utils").mkdir()
            (site / "course_utils" / "__init__.py").touch()
        for name, version in there.items():
            facts = site / f"{name}-{version}.dist-info"
            facts.mkdir()
            (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        cell = tmp_path / "cell.py"
        cell.write_text(installing_part(badges.setup(ROOT)) + '\nprint("went on")\n', encoding="utf-8")
        # -S: nothing of this environment is found but the made-up packages.
        environment = os.environ | {"PYTHONPATH": str(site), "ASKED": str(asked), "STATUS": str(status)}
        done = subprocess.run(
            [sys.executable, "-S", cell], env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )
        assert (done.returncode == 0) == ("went on" in done.stdout), done.stderr
        return json.loads(asked.read_text(encoding="utf-8")) if asked.exists() else None, done

    return run


def installing_part(source):
    """The set-up cell up to the end of its ``if``: what comes after needs the real packages."""
    (condition,) = (statement for statement in ast.parse(source).body if isinstance(statement, ast.If))
    return "\n".join(source.splitlines()[: condition.end_lineno])


def requirements(asked):
    return [Requirement(word) for word in asked if not word.startswith("-") and word != "install"]


def test_it_asks_for_the_package_and_pins_what_is_there(installs):
    asked, done = installs()
    assert done.returncode == 0
    assert asked[0] == "install"
    package, *pins = requirements(asked)
    assert package.name == "course-utils"
    assert package.url == f"git+{course.repository()}@v{course_utils.__version__}"
    assert {pin.name: str(pin.specifier) for pin in pins} == {
        "torch": "==2.9.0+cu126",
        "torchvision": "==0.24.0+cu126",
        "numpy": "==2.0.2",
    }


def test_it_never_asks_for_newer_versions(installs):
    options = [word for word in installs()[0] if word.startswith("-")]
    assert options == ["--quiet"]


def test_a_package_that_is_not_there_is_not_pinned(installs):
    asked, _ = installs({"torch": "2.9.0", "numpy": "2.0.2"})
    assert [pin.name for pin in requirements(asked)[1:]] == ["torch", "numpy"]


def test_it_installs_nothing_where_the_course_is_there(installs):
    asked, done = installs(course_is_there=True)
    assert asked is None
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_where_pip_fails_it_says_what_pip_says_and_what_to_do(installs):
    asked, done = installs(status=1)
    assert asked
    assert "CalledProcessError" not in done.stderr
    assert "fatal: no" in done.stderr
    assert "route to host\n" in done.stderr
    assert len(done.stderr.splitlines()) < 120
    *_, first, last = done.stderr.splitlines()
    assert "connect to the network, then run this cell again" in first
    assert "`make lab`" in last
    assert "pip install" in last


def test_where_pip_succeeds_it_says_that_a_restart_may_be_needed(installs):
    assert "restart the kernel" in installs()[1].stdout


def test_without_pip_or_git_it_says_so(tmp_path):
    """As in environments of uv, which have no pip; and pip cannot reach a repository without git."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = next(Path(place) for place in sys.path if (Path(place) / "pip").is_dir())
    for path, told in (("", "No module named pip"), (str(pip), "Cannot find command 'git'")):
        environment = os.environ | {"PATH": str(tmp_path), "PYTHONPATH": ""}
        cell = installing_part(badges.setup(ROOT))
        if path:  # pip alone, out of this environment
            (tmp_path / "only").mkdir()
            (tmp_path / "only" / "pip").symlink_to(pip / "pip")
            environment["PYTHONPATH"] = str(tmp_path / "only")
        done = subprocess.run(
            [python, "-c", cell], env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 1
        assert told in done.stderr
        assert "`make lab`" in done.stderr


def test_what_it_asks_for_is_what_this_project_is_called():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '\nname = "course-utils"\n' in project


# --- tools/badges.py ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run_badges(monkeypatch, capsys):
    """Call the command in this process, which saves starting one; give its exit status and what it says."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["badges.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            badges.main()
        status = ended.value.code
        return int(bool(status)), capsys.readouterr().out + (status if isinstance(status, str) else "")

    return run


def contents(root):
    return {path.name: path.read_bytes() for path in sorted((root / "notebooks").glob("*.ipynb"))}


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of the course whose Repository is another one."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = project.replace(course.repository(), "https://github.com/a-school/a-course")
    assert changed != project
    (tmp_path / "pyproject.toml").write_text(changed, encoding="utf-8")
    return tmp_path


def test_all_lessons_are_in_step():
    command = [sys.executable, ROOT / "tools" / "badges.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "in step" in done.stdout


def test_another_repository_is_noticed(elsewhere, run_badges):
    before = contents(elsewhere)
    status, said = run_badges("--check", "--root", elsewhere)
    assert status == 1
    for path in course.lessons():
        assert f"{path.name}: out of step, run `make badges`" in said
    assert contents(elsewhere) == before


def test_another_repository_is_written_into_badges_and_set_up_and_nowhere_else(elsewhere, run_badges):
    before = contents(elsewhere)
    assert run_badges("--root", elsewhere)[0] == 0
    assert run_badges("--check", "--root", elsewhere)[0] == 0
    assert contents(elsewhere).keys() == before.keys()
    for path in course.lessons():
        old, new = course.read(path), course.read(elsewhere / "notebooks" / path.name)
        assert new.metadata == old.metadata
        changed = {after.id for before, after in zip(old.cells, new.cells, strict=True) if before != after}
        assert changed == {"badges", "setup"}
        text = course.text(new)
        assert "git+https://github.com/a-school/a-course" in text
        assert (
            f"colab.research.google.com/github/a-school/a-course/blob/v{course_utils.__version__}/notebooks/{path.name}" in text
        )
        assert course.repository().removeprefix("https://github.com/") not in text


def test_the_set_up_is_folded_in_jupyterlab_and_in_colab():
    for path in [*course.lessons(), *course.homework_sources()]:
        (cell,) = course.cells(course.read(path), "setup")
        assert cell.metadata["jupyter"] == {"source_hidden": True}
        assert cell.metadata["cellView"] == "form"
        assert cell.source.startswith("# @title Set-up: ")


def test_another_version_is_noticed(run_badges, monkeypatch):
    monkeypatch.setattr(course, "TAG", "v99.0.0")
    status, said = run_badges("--check")
    assert status == 1
    assert said.count("out of step") == len([*course.lessons(), *course.homework_sources()])


def test_badges_lead_to_the_lessons_before_and_after():
    order = course.lessons()
    for place, path in enumerate(order):
        source = course.cells(course.read(path), "badges")[0].source
        neighbours = {order[near].name for near in (place - 1, place + 1) if 0 <= near < len(order)}
        assert {other.name for other in order if f"]({other.name})" in source} == neighbours


def test_each_recap_ends_with_the_next_lesson_and_its_question():
    order = course.lessons()
    for path, following in zip(order, [*order[1:], None], strict=True):
        last_line = course.cells(course.read(path), "recap")[-1].source.splitlines()[-1]
        if following is None:
            assert "**Next:**" not in last_line
        else:
            question = course.question(course.read(following))
            assert last_line == f"**Next:** [{course.number(following)} · {question}]({following.name})"


def test_a_new_question_reaches_the_lesson_before(elsewhere, run_badges):
    assert run_badges("--root", elsewhere)[0] == 0
    first, second = (elsewhere / "notebooks" / path.name for path in course.lessons()[:2])
    notebook = course.read(second)
    title = course.cells(notebook, "title")[0]
    title.source = title.source.replace(course.question(notebook), "What else?")
    second.write_text(course.text(notebook), encoding="utf-8")
    status, said = run_badges("--check", "--root", elsewhere)
    assert (status, said.count("out of step")) == (1, 1)
    assert run_badges("--root", elsewhere)[0] == 0
    recap = course.cells(course.read(first), "recap")[-1].source
    assert recap.endswith(f"**Next:** [01 · What else?]({second.name})")
    assert recap.count("**Next:**") == 1


def test_a_lesson_without_set_up_is_named(elsewhere, run_badges):
    path = elsewhere / "notebooks" / course.lessons()[0].name
    notebook = course.read(path)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "setup"]
    path.write_text(course.text(notebook), encoding="utf-8")
    before = contents(elsewhere)
    status, said = run_badges("--root", elsewhere)
    assert status == 1
    assert f"{path.name} has 0 cells whose first tag is 'setup'" in said
    assert contents(elsewhere) == before


def test_an_address_that_colab_cannot_open_is_refused(elsewhere, run_badges):
    project = elsewhere / "pyproject.toml"
    text = project.read_text(encoding="utf-8").replace("https://github.com/a-school", "https://git.example.org/a-school")
    project.write_text(text, encoding="utf-8")
    status, said = run_badges("--root", elsewhere)
    assert status == 1
    assert "Colab" in said
    assert "https://git.example.org/a-school/a-course" in said


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "cp1252"])
def test_commands_speak_to_a_console_of_any_encoding(elsewhere, encoding):
    first = course.lessons(elsewhere)[0]
    first.rename(first.with_name("00_시작 ✓ ≥.ipynb"))
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, ROOT / "tools" / "badges.py", "--check", "--root", elsewhere]
    done = subprocess.run(command, capture_output=True, encoding=encoding, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("00_"))
    assert ">=" in line or "≥" in line
    assert "out of step, run `make badges`" in line


def test_every_command_that_prints_lessons_words_is_made_so():
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("*.py")}
    commands = [text for text in texts.values() if "import course\n" in text and '__name__ == "__main__"' in text]
    assert len(commands) >= 7
    assert all("course.parser(__doc__)" in text for text in commands)
