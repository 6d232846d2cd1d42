"""A class that does everything in its own way, graded by the command: nobody loses a point, each row says what was odd."""

import csv
import io
import unicodedata
import zipfile

import nbformat
import pytest

from tests.homework import toy
from tests.homework.conftest import Run, make_course

LONG = "김" * 100
LONGER = "김" * 99 + "이"
ROSTER = ["Kim Minji", "이서연", LONG, LONGER, "zip", "R&D/Park", "pdf", "=SUM(1)", "null", "bad time", "absent", "three"]
GRADED = ["Kim Minji", "이서연", LONG, "zip", "R&D/Park", "'=SUM(1)", "null", "bad time", "three"]


def zipped(*ways: str) -> bytes:
    """A zip of notebooks of which the last is right."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as made:
        for way in ways:
            made.writestr(way, nbformat.writes(toy.answered(toy.RIGHT if way == ways[-1] else toy.WRONG)))
    return raw.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory, bubblewrap) -> Run:
    run = make_course(tmp_path_factory.mktemp("odd"))
    right = nbformat.writes(toy.answered()).encode()
    with_null = toy.answered()
    toy.cell(with_null, "why").source = "So\0 it is."
    files = {
        "ＫＩＭ  minji.IPYNB": right,
        unicodedata.normalize("NFD", "이서연") + ".ipynb.json": right,
        "class.zip": zipped(f"{LONG}_1_assignsubmission_file/hw.ipynb"),  # no file system takes this name
        "zip.zip": zipped("deep/hw.ipynb"),
        "three.zip": zipped("0.ipynb", "1.ipynb", "2.ipynb"),
        "R_D_Park.ipynb": right,
        "pdf.pdf": b"%PDF",
        "=SUM(1).ipynb": right,
        "null.ipynb": nbformat.writes(with_null).encode(),
        "bad time.ipynb": right,
        "somebody else.ipynb": right,
        "notes.py": b"pass",
    }
    for way, content in files.items():
        (run.inbox / way).parent.mkdir(exist_ok=True)
        (run.inbox / way).write_bytes(content)
    rows = [
        ["번호", "student"],
        *([str(number), name] for number, name in enumerate(ROSTER)),
        ["x"],
        ["12", "<i>"],
        ["13", "ABSENT"],
    ]
    (run.inbox.parent / "roster.csv").write_bytes("\r\n".join(map(";".join, rows)).encode("cp949"))
    times = [
        ["student", "timestamp"],
        ["BAD TIME", "2026-12-01 18:00 KST"],
        ["kim minji", "2026-12-01 10:00 +0900"],
        ["nobody", "-"],
    ]
    (run.inbox.parent / "times.csv").write_text("\n".join(map(",".join, times)))
    options = ["--roster", "roster.csv", "--timestamps", "times.csv"]
    run.options = [str(run.inbox.parent / word) if word.endswith("csv") else word for word in options]
    run.grade(*run.options, "--due", "2026-12-01 18:00 Asia/Seoul")
    return run


@pytest.mark.parametrize("name", GRADED)
def test_everybody_has_all_points(run, name):
    assert run.table.loc[name, list(toy.POINTS)].to_dict() == toy.POINTS


def test_everybody_has_one_row(run):
    assert sorted(run.table.index) == sorted([*GRADED, LONGER, "pdf", "absent", "somebody else"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Kim Minji", ""),
        ("zip", "handed in as zip.zip/deep/hw.ipynb"),
        ("three", "handed in as three.zip, which holds 3 notebooks: three.zip/0.ipynb, three.zip/1.ipynb, three.zip/2.ipynb"),
        ("pdf", "handed in, but not a notebook: pdf.pdf"),
        ("null", "null characters were taken out"),
        ("bad time", "the time in times.csv is not understood"),
        ("absent", "nothing was handed in"),
        (LONGER, "nothing was handed in"),
        ("somebody else", "this name is not on the roster"),
        ("이서연", "handed in as 이서연.ipynb.json"),
    ],
)
def test_what_was_odd_is_said(run, name, words):
    notes = run.table.loc[name, "notes"]
    assert words in notes
    assert bool(words) == bool(notes)


def test_what_is_nobodys_is_said(run):
    said = run.done.stderr
    assert "notes.py" in said
    assert "row 14: too few columns" in said
    assert "row 15: '<i>'" in said
    assert "row 16: 'ABSENT' is on the list already" in said
    assert "times of students who are not found: nobody" in said
    assert "Traceback" not in said
    assert "Warning" not in said


def test_the_table_opens_in_excel(run):
    raw = (run.out / "grades.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfstudent,")
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"))))
    assert {len(row) for row in rows} == {8}


def test_the_reason_is_on_the_page_as_plain_text(run):
    assert "not a notebook: pdf.pdf" in run.feedback("pdf")


def test_another_spelling_later_is_the_same_student(run):
    """Without the class list, names are those of the files; who was graded keeps the row, and the grades given by hand."""
    before = sorted(path.name for path in (run.out / "autograded").iterdir())
    (run.inbox / "ＫＩＭ  minji.IPYNB").rename(run.inbox / "kim minji.ipynb")
    done = run.grade()
    assert "0 of them now" in done.stdout
    assert sorted(path.name for path in (run.out / "autograded").iterdir()) == before


@pytest.mark.parametrize("due", ["2026", "18:00", "2026-12-01 18:00 KST", "tomorrow"])
def test_a_vague_due_time_is_refused(run, capsys, due):
    assert run.main("--due", due) == 2
    assert "write it as in" in capsys.readouterr().err
