"""`make lessons`: one page a lesson, a line for each that fails, and one failing lesson does not stop the others."""

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

import course
import lessons
import pages

PICTURE = """
import base64, os
from IPython.display import Image, display
from pathlib import Path
pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
display(Image(data=base64.b64decode(pixel), format="png"))
print("profile", os.environ["COURSE_PROFILE"], "in", Path.cwd().name)
""".strip()
ALT = 'a curve, "rising" where x < 3 & y > 2'
SECOND = "the same, a description that no cell shows"
HIDDEN = {"jupyter": {"source_hidden": True}, "cellView": "form", "tags": ["exercise", "solution"]}
GOOD = [
    new_code_cell(PICTURE, id="picture"),
    new_markdown_cell(f"> **Figure:** {ALT}", id="figure"),
    new_code_cell(PICTURE, id="second", metadata={"alt": SECOND}),
    new_markdown_cell("It rises.", id="caption"),
    new_code_cell("print('an answer: ' + str(6 * 7))", id="answer", metadata=HIDDEN),
    new_markdown_cell("Go on to [the next](02_bad.ipynb).", id="next"),
]
FIRST = new_code_cell("print('still ' + 'here')", id="first")


def lesson(folder, name, *cells):
    """Write a lesson whose title asks for its own name."""
    title = new_markdown_cell(f"# {name[:2]} · What is {name[3:]}?", id="title", metadata={"tags": ["title"]})
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(new_notebook(cells=[title, *cells])), encoding="utf-8")
    return path


def run(folder, paths, *options, **environment):
    command = [sys.executable, course.ROOT / "tools" / "lessons.py", "--profile", "ci", "--out", folder / "site"]
    variables = os.environ | environment
    pipes = {"capture_output": True, "encoding": environment.get("PYTHONIOENCODING", "utf-8")}
    return subprocess.run([*command, *options, *paths], **pipes, check=False, cwd=folder, env=variables)


def failures(done):
    return sorted(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("FAILED"))


def page(folder, name):
    return (folder / "site" / "en" / "lessons" / f"{name}.html").read_text(encoding="utf-8")


def pages_of(folder):
    return {path.stem for path in (folder / "site" / "en" / "lessons").glob("*.html")} - {"index"}


def alternatives(text):
    """Alternative texts of the pictures of a page, as a browser reads them."""
    found = []

    class Pictures(HTMLParser):
        def handle_starttag(self, tag, attrs):
            # A browser takes the first of two attributes with one name.
            if tag == "img" and "_images/" in dict(attrs).get("src", ""):
                found.append(dict(reversed(attrs)).get("alt"))

    Pictures().feed(text)
    return found


def links(text):
    """Where the links of a page lead, as a browser reads them."""
    found = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "a" and dict(attrs).get("href"):
                found.append(dict(attrs)["href"])

    Links().feed(text)
    return found


def old_notebook(path, minor, *sources):
    """Write a notebook of nbformat 4.``minor``, whose cells have no ids, as a JSON file by hand."""
    cells = [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": s} for s in sources]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": minor}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


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
    assert "did not run to its end" in page(folder, "02_bad")
    assert "did not run" not in page(folder, "01_good")
    assert pages_of(folder) == {path.stem for path in paths} - {"05_noise"}

    index = html.unescape(page(folder, "index"))
    rows = re.findall(r"<tr[^>]*>\s*<td>.*?</tr>", index, re.DOTALL)
    assert len(rows) == 5
    for path, row in zip([path for path in paths if path.stem != "05_noise"], rows, strict=True):
        assert f'href="{path.stem}.html"' in row
        assert f"What is {path.stem[3:]}?" in row
        assert ("ran to the end" in row) == path.stem.endswith("_good")
        assert ("failed" in row) == (not path.stem.endswith("_good"))
    assert "cell 2 [raises]: ValueError: last line" in rows[1]


def test_a_page_has_outputs_alternative_texts_folded_solutions_and_links_to_pages(folder):
    path = lesson(folder / "book", "01_good", *GOOD)
    before = path.read_bytes()

    done = run(folder, [path])

    assert done.returncode == 0, done.stderr
    assert failures(done) == []
    assert "1 lessons, 0 failed" in done.stdout
    assert path.read_bytes() == before
    assert sorted(file.name for file in (folder / "site").iterdir()) == [".nojekyll", "en", "index.html"]
    assert pages_of(folder) == {"01_good"}
    text = page(folder, "01_good")
    assert "profile ci in book" in text
    assert alternatives(text) == [ALT, SECOND]
    (folded,) = re.findall(r'<details class="[^"]*hide.*?</details>', text, re.DOTALL)
    assert "answer" in folded
    assert "an answer: 42" not in folded
    assert "an answer: 42" in text
    assert 'href="02_bad.ipynb"' in text  # of which there is no page


def test_a_notebook_that_is_not_there_is_named(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["lessons.py", "book/07_missing.ipynb"])
    with pytest.raises(SystemExit) as ended:
        lessons.main()
    assert ended.value.code == 2
    assert "there is no notebook book/07_missing.ipynb" in capsys.readouterr().err
    assert not (folder / "site").exists()


def test_notebooks_of_any_version_and_content_are_taken_and_none_costs_the_page_of_another(folder):
    book = folder / "book"
    broken = "'\\ud83d'"  # half of a character
    picture = new_markdown_cell("![a](attachment:a.png)", id="attached", attachments={"a.png": {"image/png": "iVBORw0KGgo="}})
    shown = "display({'application/x-unknown': 'a', 'application/json': {'a': 1}, 'text/plain': 'x'}, raw=True)"
    empty = new_notebook(cells=[])
    foreign = new_notebook(metadata={"kernelspec": {"name": "not-there", "display_name": "x"}}, cells=[FIRST])
    for name, notebook in (("empty", empty), ("foreign", foreign)):
        (book / f"{name}.ipynb").write_text(course.text(notebook), encoding="utf-8")
    three = nbformat.v3.new_notebook(worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("print(3 * 7)")])])
    (book / "three.ipynb").write_text(nbformat.v3.writes_json(three), encoding="utf-8")
    good = [
        book / "empty.ipynb",
        book / "foreign.ipynb",
        book / "three.ipynb",
        old_notebook(book / "old.ipynb", 0, "print(6 * 7)"),
        old_notebook(book / "older.ipynb", 4, "print(6 * 7)"),
        old_notebook(book / f"{'긴' * 80}.ipynb", 4, "print(6 * 7)"),
        lesson(book, "07_rich", picture, new_raw_cell("raw", id="raw"), new_code_cell(shown, id="shown")),
        lesson(book, "08_half", new_code_cell(f"print({broken}, '\\udc80')", id="half"), new_markdown_cell("\ud83d", id="end")),
    ]
    bad = [
        old_notebook(book / "old_bad.ipynb", 2, "print(1)", "raise ValueError('first')"),
        lesson(book, "raises", new_code_cell(f"raise ValueError({broken})", id="raises")),
    ]
    strange = book / "strange.ipynb"
    strange.write_text(json.dumps({"cells": [{"cell_type": "code"}, {}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    source = old_notebook(book / "source.ipynb", 4, "print(1) # \ud83d")

    done = run(folder, [*bad, *good, strange, source], PYTHONIOENCODING="cp949", PYTHONUTF8="0")

    assert done.returncode == 1, done.stderr
    assert "tools/lessons.py" not in done.stderr  # in a traceback
    failed = failures(done)
    assert "FAILED old_bad, cell 2: ValueError: first" in failed
    assert [line for line in failed if line.startswith("FAILED raises, cell 1 [raises]: ")]
    assert [line for line in failed if line.startswith("FAILED source, cell 1: UnicodeEncodeError")]
    assert [line for line in failed if line.startswith("FAILED strange: not a readable notebook")]
    assert not {path.stem for path in good} & {line.split()[1].rstrip(":,") for line in failed}
    for path in good:
        assert page(folder, path.stem)
    for name in ("old", "older"):
        assert ">42\n<" in page(folder, name)
    assert ">21\n<" in page(folder, "three")
    assert "\\ud83d" in page(folder, "08_half")
    assert "ValueError" in page(folder, "raises")
    assert "print" in page(folder, "source")
    assert len([link for link in links(page(folder, "index")) if link.endswith(".html") and "/" not in link]) >= len(good) + 3


ODD_NAMES = ["50% of #1?", 'it\'s "quoted" & <b>', "한국어 수업", "a+b=c;d", "index", "..dots", "-x", "100%25"]


def test_links_reach_pages_of_any_name(folder):
    book = folder / "book"
    paths = [lesson(book, name, FIRST) for name in ODD_NAMES]
    others = folder / "other"
    others.mkdir()
    paths += [lesson(others, name, FIRST) for name in (ODD_NAMES[0], "INDEX")]
    ways = [
        *(
            "[a](02_plain.ipynb)",
            "[a](02_plain.ipynb#What-is-it?)",
            "[a](./02_plain.ipynb 'title')",
            "[a][ref]\n\n[ref]: 02_plain.ipynb",
        ),
        *('<a class="x" href="02_plain.ipynb">a</a>', "<a href='02_plain.ipynb'>a</a>", "<a href=02_plain.ipynb>a</a>"),
        *("[a](50%25%20of%20%231%3F.ipynb)", "[a](<한국어 수업.ipynb>)", "[a](../other/50%25%20of%20%231%3F.ipynb)"),
        *("[a](index.ipynb)", "[a](../book/100%2525.ipynb#x)", "[a](not_run.ipynb)", "[a](../data/table.csv)"),
        *("[a](https://example.org/x.ipynb#y)", "<a href='https://[no'>a</a>", "`[a](02_plain.ipynb)`"),
    ]
    cells = [new_markdown_cell(way, id=f"way-{number}") for number, way in enumerate(ways)]
    paths += [lesson(book, "02_plain", FIRST), lesson(book, "01_links", *cells)]

    done = run(folder, [*paths, paths[0]])

    assert done.returncode == 0, done.stderr
    assert f"{len(paths)} lessons, 0 failed" in done.stdout
    names = {"50-of-1", "50-of-1-2", "it-s-quoted-b", "한국어-수업", "a-b-c-d", "index-2", "INDEX-3", "dots", "x", "100-25"}
    assert pages_of(folder) == names | {"02_plain", "01_links"}
    assert f"50-of-1-2 ({others / '50% of #1?.ipynb'})" in done.stdout
    listed = {unquote(link) for link in links(page(folder, "index"))}
    assert {f"{name}.html" for name in pages_of(folder)} <= listed

    article = page(folder, "01_links").partition("<article")[2].partition("</article>")[0]
    led = [link for link in links(article) if not link.startswith(("#", "https:"))]
    led = [(unquote(urlsplit(link).path), unquote(urlsplit(link).fragment)) for link in led]
    plain = [("02_plain.html", "")]
    expected = [*plain, ("02_plain.html", "What-is-it?"), *plain * 5, ("50-of-1.html", ""), ("한국어-수업.html", "")]
    expected += [("50-of-1-2.html", ""), ("index-2.html", ""), ("100-25.html", "x"), ("not_run.ipynb", "")]
    expected += [("../data/table.csv", "")]
    assert led == expected
    assert {"https://example.org/x.ipynb#y", "https://[no"} <= set(links(article))


def test_a_notebook_that_deletes_its_folder_has_a_page(folder):
    gone = new_code_cell("import os, shutil\nshutil.rmtree(os.getcwd())\nprint('gone')", id="gone")
    (folder / "alone").mkdir()
    paths = [lesson(folder / "alone", "01_gone", gone), lesson(folder / "book", "02_good", FIRST)]
    done = run(folder / "alone", paths, "--out", str(folder / "site"))
    assert done.returncode == 0, done.stderr
    assert "gone" in page(folder, "01_gone")
    assert "still here" in page(folder, "02_good")


def test_a_place_where_nothing_can_be_written_is_named(folder):
    path = lesson(folder / "book", "01_good", FIRST)
    done = run(folder, [path], "--out", path / "site")
    assert done.returncode == 1
    assert "the site could not be written" in done.stderr
    # No traceback of the tool. (A kernel may print one of its own: it starts anew where another took its port.)
    assert 'lessons.py", line' not in done.stderr


def test_without_a_site_nothing_is_written(folder):
    path = lesson(folder / "book", "01_good", FIRST)
    done = run(folder, [path], "--no-site")
    assert done.returncode == 0, done.stderr
    assert "1 lessons, 0 failed" in done.stdout
    assert sorted(file.name for file in folder.iterdir()) == ["book"]


def test_outputs_of_another_code_are_not_shown():
    now = new_notebook(cells=[new_markdown_cell("Now."), new_code_cell("print(1)", id="cell")])
    ran = new_notebook(
        cells=[new_markdown_cell("Before."), new_code_cell("print(1)", id="cell")], metadata={"course": {"a": 1}}
    )
    ran.cells[1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    pages.take_outputs(now, ran)
    assert now.cells[0].source == "Now."
    assert now.cells[1].outputs == ran.cells[1].outputs
    now.cells[1].source, now.cells[1].outputs = "print(2)", []
    pages.take_outputs(now, ran)
    assert now.cells[1].outputs == []
