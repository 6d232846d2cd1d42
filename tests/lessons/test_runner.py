"""`make lessons`: one page a lesson, a line for each that fails, and one failing lesson does not stop the others."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import lessons
import notebooks

PICTURE = """
import base64, os
from IPython.display import Image, display
from pathlib import Path
pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
display(Image(data=base64.b64decode(pixel), format="png"))
print("profile", os.environ["COURSE_PROFILE"], "in", Path.cwd().name)
""".strip()
ALT = 'a curve, "rising" where x < 3 & y > 2'
HIDDEN = {"jupyter": {"source_hidden": True}, "cellView": "form", "tags": ["exercise", "solution"]}
GOOD = [
    new_code_cell(PICTURE, id="picture"),
    new_markdown_cell(f"> **Figure:** {ALT}", id="figure"),
    new_code_cell("print('an answer: ' + str(6 * 7))", id="answer", metadata=HIDDEN),
    new_markdown_cell("Go on to [the next](02_bad.ipynb).", id="next"),
]
FIRST = new_code_cell("print('still ' + 'here')", id="first")


def lesson(folder, name, *cells):
    """Write a lesson whose title asks for its own name."""
    title = new_markdown_cell(f"# {name[:2]} · What is {name[3:]}?", id="title", metadata={"tags": ["title"]})
    path = folder / f"{name}.ipynb"
    path.write_text(notebooks.text(new_notebook(cells=[title, *cells])), encoding="utf-8")
    return path


def run(folder, paths, *options):
    command = [sys.executable, notebooks.ROOT / "tools" / "lessons.py", "--profile", "ci", "--out", folder / "site"]
    return subprocess.run([*command, *options, *paths], capture_output=True, text=True, check=False, cwd=folder)


def failures(done):
    return sorted(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("FAILED"))


def page(folder, name):
    return (folder / "site" / f"{name}.html").read_text(encoding="utf-8")


def alternatives(text):
    """Alternative texts of the pictures of a page, as a browser reads them."""
    found = []

    class Pictures(HTMLParser):
        def handle_starttag(self, tag, attrs):
            # A browser takes the first of two attributes with one name.
            if tag == "img" and dict(attrs).get("src", "").startswith("data:image/png"):
                found.append(dict(reversed(attrs)).get("alt"))

    Pictures().feed(text)
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "book").mkdir()
    return tmp_path


def test_a_failing_lesson_is_named_and_the_others_go_on(folder):
    book = folder / "book"
    raises = new_code_cell("print('so far')\nraise ValueError('first line\\nlast line')", id="raises")
    paths = [
        lesson(book, "01_good", *GOOD),
        lesson(book, "02_bad", FIRST, raises, new_code_cell("print('never ' + 'reached')", id="after")),
        lesson(book, "03_dead", FIRST, new_code_cell("import os\nos._exit(1)", id="exits")),
        lesson(book, "04_slow", FIRST, new_code_cell("import time\ntime.sleep(100)", id="sleeps")),
        book / "05_noise.ipynb",
        lesson(book, "06_good", *GOOD),
    ]
    paths[4].write_text("no notebook", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in book.iterdir()}

    done = run(folder, paths, "--jobs", "2", "--timeout", "4")

    assert done.returncode == 1, done.stderr
    bad, dead, slow, noise = failures(done)
    assert bad == "FAILED 02_bad, cell 2 [raises]: ValueError: last line"
    assert dead == "FAILED 03_dead, cell 2 [exits]: the kernel died (out of memory, or the process was ended)"
    assert slow == "FAILED 04_slow, cell 2 [sleeps]: stopped because it ran longer than 4 s (--timeout sets another limit)"
    assert noise.startswith("FAILED 05_noise: not a readable notebook: ")
    assert "6 lessons, 4 failed" in done.stdout
    assert {path.name: path.read_bytes() for path in book.iterdir()} == before

    for name in ("01_good", "06_good"):
        assert "an answer: 42" in page(folder, name)
    for name in ("02_bad", "03_dead", "04_slow"):
        assert "still here" in page(folder, name)
    assert "so far" in page(folder, "02_bad")
    assert "ValueError" in page(folder, "02_bad")
    assert "never reached" not in page(folder, "02_bad")
    assert not (folder / "site" / "05_noise.html").exists()

    index = html.unescape((folder / "site" / "index.html").read_text(encoding="utf-8"))
    rows = re.findall(r"<tr>\s*<td>.*?</tr>", index, re.DOTALL)
    assert len(rows) == 6
    for path, row in zip(paths, rows, strict=True):
        assert path.stem in row
        assert (f'href="{path.stem}.html"' in row) == (path.stem != "05_noise")
        assert ("ran to the end" in row) == path.stem.endswith("_good")
        assert ("failed" in row) == (not path.stem.endswith("_good"))
    assert "What is good?" in rows[0]
    assert "cell 2 [raises]: ValueError: last line" in rows[1]


def test_a_page_has_outputs_alternative_texts_folded_solutions_and_links_to_pages(folder):
    path = lesson(folder / "book", "01_good", *GOOD)
    before = path.read_bytes()

    done = run(folder, [path])

    assert done.returncode == 0, done.stderr
    assert failures(done) == []
    assert "1 lessons, 0 failed" in done.stdout
    assert path.read_bytes() == before
    assert sorted(file.name for file in (folder / "site").iterdir()) == ["01_good.html", "index.html"]
    text = page(folder, "01_good")
    assert "profile ci in book" in text
    assert alternatives(text) == [ALT]
    (folded,) = re.findall(r'<details class="folded">.*?</details>', text, re.DOTALL)
    assert "answer" in folded
    assert "an answer: 42" not in folded
    assert "an answer: 42" in text
    assert 'href="02_bad.html"' in text


def test_a_notebook_that_is_not_there_is_named(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["lessons.py", "book/07_missing.ipynb"])
    with pytest.raises(SystemExit) as ended:
        lessons.main()
    assert ended.value.code == 2
    assert "there is no notebook book/07_missing.ipynb" in capsys.readouterr().err
    assert not (folder / "site").exists()
