"""The Korean lessons are complete, in step with the English ones, and what an editor may do to either is found."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import course  # noqa: E402
import korean  # noqa: E402

LESSONS = course.lessons()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_cell_is_translated_and_none_is_stale(path):
    catalogue = korean.read(ROOT / korean.CATALOGUES / f"{path.stem}.po")
    notebook = course.read(path)
    assert len(list(korean.messages(notebook))) == len(catalogue.translated_entries()) > 20
    assert list(korean.problems(notebook, catalogue)) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_korean_notebook_has_the_same_code_ids_and_metadata(path):
    english, translated = course.read(path), course.read(ROOT / korean.NOTEBOOKS / path.name)
    assert translated.metadata.pop("language") == "ko"
    assert translated.metadata == english.metadata
    for ours, theirs in zip(english.cells, translated.cells, strict=True):
        assert (ours.id, ours.cell_type, ours.metadata) == (theirs.id, theirs.cell_type, theirs.metadata)
        assert ours.cell_type != "code" or ours.source == theirs.source


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_korean_notebook_is_korean_and_its_links_lead_somewhere(path):
    notebook = course.read(ROOT / korean.NOTEBOOKS / path.name)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    letters = [letter for letter in text if letter.isalpha()]
    assert sum("가" <= letter <= "힣" for letter in letters) > 0.4 * len(letters)
    assert "/notebooks/ko/" in course.cells(notebook, "badges")[0].source
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", text) if not link.startswith("https://")]
    assert all((ROOT / korean.NOTEBOOKS / link).exists() for link in links)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_star_of_markdown_stays_raw(path):
    """A particle right behind `**` keeps it from closing where a sign stands before it: `**5 %**는` is not bold."""
    markdown = MarkdownIt("commonmark").enable("table")
    for cell in course.read(ROOT / korean.NOTEBOOKS / path.name).cells:
        if cell.cell_type == "markdown":
            text = re.sub(korean.KEEP["formulas"], "x", cell.source, flags=re.DOTALL | re.MULTILINE)
            shown = [part for block in markdown.parse(text) for part in block.children or () if part.type == "text"]
            assert [part.content for part in shown if "*" in part.content] == [], cell.id


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "ko").glob("*.md")), ids=lambda path: path.stem)
def test_a_korean_document_was_translated_from_the_english_one_as_it_is(path):
    name, mark = re.search(r"<!-- translated from (\S+), (\w+) -->", path.read_text(encoding="utf-8")).groups()
    now = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()[:12]
    assert mark == now, f"{name} has changed: bring {path.name} up to date, and give it the mark {now}"


def test_one_english_term_has_one_korean_word_in_the_korean_lessons():
    """What the glossary says is what the lessons write, at least once each."""
    import tomllib

    terms = tomllib.loads((ROOT / "docs" / "terms.toml").read_text(encoding="utf-8"))
    text = "".join((ROOT / korean.NOTEBOOKS / path.name).read_text(encoding="utf-8") for path in LESSONS)
    assert [term for term in terms if term not in text] == []
    for other in ("레이블", "최적화기", "신뢰구간"):  # words that the glossary does not have
        assert other not in text


# --- what may happen to a lesson and to its translation -----------------------------------------------------------------

ENGLISH = "## The loss\n\nIt is $x$ in `fit`, see [lesson 00](00_start_here.ipynb).\n\n| a | b |\n|---|---|\n| 1 | 2 |"
KOREAN = "## 손실\n\n[레슨 00](00_start_here.ipynb)을 보면 `fit`에서 $x$입니다.\n\n| 가 | 나 |\n|---|---|\n| 1 | 2 |"


def lesson(*texts):
    cells = [new_markdown_cell("badge", id="badges", metadata={"tags": ["badges"]})]
    cells += [new_markdown_cell(text, id=f"cell-{number}") for number, text in enumerate(texts)]
    return new_notebook(cells=[*cells, new_code_cell("print(1)", id="code")])


def catalogue_of(notebook, *translations):
    catalogue = korean.updated(notebook, polib.POFile())
    for entry, text in zip(catalogue, translations, strict=True):
        entry.msgstr = text
    return catalogue


def found(notebook, catalogue):
    return [(problem.cell, problem.what) for problem in korean.problems(notebook, catalogue)]


def test_a_right_translation_is_found_right_and_taken():
    notebook = lesson(ENGLISH)
    catalogue = catalogue_of(notebook, KOREAN)
    assert found(notebook, catalogue) == []
    assert korean.translated(notebook, catalogue).cells[1].source == KOREAN


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("$x$", "$y$", "formulas"),
        ("`fit`", "fit", "code"),
        ("00_start_here", "01_fitting", "links"),
        ("## ", "### ", "headings"),
        ("\n| 1 | 2 |", "", "table rows"),
        ("손실", "<b>손실</b>", "tags"),
    ],
)
def test_what_a_translation_must_carry_over_is_missed(old, new, what):
    notebook = lesson(ENGLISH)
    ((cell, said),) = found(notebook, catalogue_of(notebook, KOREAN.replace(old, new)))
    assert cell == "cell-0"
    assert what in said


def test_an_edited_english_cell_is_stale_shown_in_english_and_its_change_is_printed():
    catalogue = catalogue_of(lesson(ENGLISH), KOREAN)
    edited = lesson(ENGLISH.replace("It is", "It was"))
    (problem,) = korean.problems(edited, catalogue)  # also before anybody has run `update`
    assert problem.what.startswith("is stale")
    for _ in range(2):  # a second run changes nothing
        catalogue = korean.updated(edited, catalogue)
    (problem,) = korean.problems(edited, catalogue)
    assert "-It is $x$" in problem.details
    assert "+It was $x$" in problem.details
    assert korean.translated(edited, catalogue).cells[1].source.startswith("## The loss\n\nIt was")
    again = korean.updated(lesson(ENGLISH), catalogue)  # changed back
    assert found(lesson(ENGLISH), again) == []


def test_cells_that_are_new_gone_or_moved():
    catalogue = catalogue_of(lesson("One.", "Two."), "하나.", "둘.")
    more = lesson("One.", "Two.", "Three.")
    assert found(more, korean.updated(more, catalogue)) == [("cell-2", "is not translated")]
    less = lesson("One.")
    assert found(less, catalogue) == [("cell-1", "is translated, and there is no such cell")]
    updated = korean.updated(less, catalogue)
    assert found(less, updated) == []
    assert [entry.msgstr for entry in updated.obsolete_entries()] == ["둘."]  # nothing is lost
    assert found(lesson("One.", "Two."), korean.updated(lesson("One.", "Two."), updated)) == []
    moved = lesson("One.", "Two.")
    moved.cells[1], moved.cells[2] = moved.cells[2], moved.cells[1]
    assert found(moved, korean.updated(moved, catalogue)) == []


def test_the_check_names_the_cell_as_github_shows_it(tmp_path):
    for name in ("notebooks", "locale"):
        shutil.copytree(ROOT / name, tmp_path / name)
    path = tmp_path / "notebooks" / LESSONS[0].name
    content = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in content["cells"] if cell["id"] == "recap")
    cell["source"] = [*cell["source"], " One more sentence."]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    command = [sys.executable, ROOT / "tools" / "korean.py", "--root", tmp_path]
    done = subprocess.run([*command, "check"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "[recap]" in line]
    assert line.startswith(f"::error file={(korean.CATALOGUES / LESSONS[0].stem).as_posix()}.po,title=Korean [recap]::")
    assert "One more sentence" in done.stdout
    assert subprocess.run(command, check=False).returncode == 0
    (derived,) = [c for c in course.read(tmp_path / "notebooks" / "ko" / LESSONS[0].name).cells if c.id == "recap"]
    assert derived.source.startswith("## Recap")  # English again, rather than wrong


def test_the_catalogues_are_as_the_command_writes_them():
    for path in LESSONS:
        file = ROOT / korean.CATALOGUES / f"{path.stem}.po"
        again = str(korean.updated(course.read(path), korean.read(file))).strip("\n") + "\n"
        assert file.read_text(encoding="utf-8") == again
