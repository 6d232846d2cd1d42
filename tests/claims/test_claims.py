"""The recorded measurements support what lessons claim: the records in results/, which `make claims` makes."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from course_utils import record
from course_utils.record import Claim

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
course, claims = importlib.import_module("course"), importlib.import_module("claims")
LESSONS = {course.number(path): path for path in course.lessons() if claims.stated(path)}
RUNS = 10
FIRM = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.05, 4: 0.95}


@pytest.fixture(params=LESSONS)
def path(request: pytest.FixtureRequest) -> Path:
    found = ROOT / "results" / "cpu" / f"{request.param}.json"
    assert found.exists(), f"{found} is missing: run `make claims LESSON={request.param}`"
    return found


def test_every_lesson_but_the_homework_has_claims():
    lessons = [path for path in course.lessons() if not course.is_homework(course.read(path))]
    assert list(LESSONS) == [course.number(path) for path in lessons]
    assert len(lessons) >= 13


def test_claims_hold_are_firm_and_can_fail(path):
    assert list(claims.complaints(path, firm=True)) == []


def test_the_record_holds_what_the_lesson_states(path):
    _, recorded = record.read(path)
    stated = claims.stated(LESSONS[path.stem])
    cure = f"run `make claims LESSON={path.stem}`, or where only bounds changed: python tools/claims.py --rejudge"
    assert [replace(claim, values={}) for claim in recorded] == stated, cure


def test_what_follows_from_values_and_bounds_is_recorded(path, tmp_path):
    record.write(tmp_path / path.name, *record.read(path))
    assert json.loads((tmp_path / path.name).read_text(encoding="utf-8")) == json.loads(path.read_text(encoding="utf-8"))


def test_measured_over_ten_seeds_and_with_its_circumstances(path):
    header, recorded = record.read(path)
    assert {claim.name: claim.n for claim in recorded if claim.n < RUNS} == {}
    assert header["profile"] == "cpu"
    assert header["seconds"] > 0
    assert {"processor", "threads"} <= set(header)
    assert {"python", "torch", "torchvision"} <= set(header["versions"])


def test_what_is_meant_is_still_there_and_still_needs_a_reason():
    for key in claims.MEANT:
        number, name = key.split("/")
        (claim,) = (claim for claim in record.read(ROOT / "results" / "cpu" / f"{number}.json")[1] if claim.name == name)
        assert claims.weakness(claim), f"{key} is firm by now: take it out of MEANT"


@pytest.mark.parametrize(
    ("values", "bounds", "words"),
    [
        (FIRM, {"mean_at_least": 0.5}, ""),
        (FIRM, {"each_at_most": 1.5}, ""),
        (FIRM, {}, ""),
        (FIRM, {"mean_at_least": 0.8}, "closer than 3"),
        (FIRM, {"mean_at_least": 0.5, "mean_at_most": 1.2}, "closer than 3"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, {"each_at_least": 1}, "equal on every seed"),
        ({0: 1e-16, 1: 0.0, 2: 2e-16}, {"each_at_most": 1e-12}, "nothing but rounding"),
        (FIRM, {"mean_at_least": -0.1}, "the other side of zero"),
        (FIRM, {"mean_at_most": 20}, "out of reach"),
        (FIRM, {"mean_at_least": 0.05}, "out of reach"),
    ],
)
def test_a_claim_that_is_close_or_cannot_fail_is_named(values, bounds, words):
    reason = claims.weakness(Claim("gain", "gain", values, **bounds))
    assert words in reason
    assert bool(reason) == bool(words)


def lesson(folder: Path, *cells: str) -> Path:
    path = folder / "01_fitting.ipynb"
    nb = course.nbformat.v4
    path.write_text(course.text(nb.new_notebook(cells=[nb.new_code_cell(cell) for cell in cells])), encoding="utf-8")
    return path


def test_claims_are_read_from_a_lesson_that_is_not_run(tmp_path):
    path = lesson(
        tmp_path,
        'raise SystemExit\nclaims.add("gain", "gain in points", values, mean_at_least=-0.5)',
        'claims.not_shown("loss", "lower loss", other["loss"])\nclaims.save()',
    )
    assert claims.stated(path) == [
        Claim("gain", "gain in points", {}, mean_at_least=-0.5),
        Claim("loss", "lower loss", {}),
    ]
    with pytest.raises(SystemExit, match=r"01_fitting\.ipynb, cell .*write out name, statement and bounds"):
        claims.stated(lesson(tmp_path, 'claims.add("gain", "gain", values, **bounds)'))
    twice = 'claims.add("gain", "gain", values, mean_at_least=1)'
    with pytest.raises(SystemExit, match=r"01_fitting\.ipynb, cell .*'gain' is made twice"):
        claims.stated(lesson(tmp_path, twice, twice))
    with pytest.raises(SystemExit, match=r"01_fitting\.ipynb, cell .*Python does not read it"):
        claims.stated(lesson(tmp_path, twice + "\nfor"))
    assert len(claims.stated(lesson(tmp_path, "%matplotlib inline\n" + twice))) == 1


def test_a_record_is_judged_by_the_bounds_that_the_lesson_states_now(tmp_path):
    path = tmp_path / "01.json"
    record.write(path, {"lesson": "01"}, [Claim("gain", "gain", FIRM, mean_at_least=0.5), Claim("old", "old", FIRM)])
    changes = list(claims.rejudge(lesson(tmp_path, 'claims.add("gain", "gain", values, mean_at_least=1.2)'), path))
    assert changes == [
        "01/old: no longer claimed",
        "01/gain: gain: at least 1.2 on average (was gain: at least 0.5 on average): does not hold",
    ]
    assert next(claims.complaints(path, firm=False)).endswith("asked: at least 1.2 on average: DOES NOT HOLD")
    before = path.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"lesson 01: new was not measured: run `make claims LESSON=01`"):
        list(claims.rejudge(lesson(tmp_path, 'claims.add("new", "new", values, mean_at_least=1)'), path))
    assert path.read_text(encoding="utf-8") == before


def test_margins_are_shown_closest_first_and_what_is_not_shown_last(tmp_path):
    made = [Claim("far", "f", FIRM, mean_at_least=0.5), Claim("none", "n", FIRM), Claim("near", "c", FIRM, mean_at_least=0.9)]
    record.write(tmp_path / "01.json", {"lesson": "01"}, made)
    head, *rows = claims.margins([tmp_path / "01.json"]).splitlines()
    assert head.split()[:2] == ["lesson/name", "mean"]
    assert [row.split()[0] for row in rows] == ["01/near", "01/far", "01/none"]
    assert "closer than 3 standard deviations" in rows[0]
    assert rows[1].split()[4] == f"{0.5 / Claim('far', 'f', FIRM).sd:.1f}"
    assert rows[2].endswith("not shown")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command on two lessons of its own; its status or last words, and what it says."""
    made = [tmp_path / "00_start.ipynb", tmp_path / "01_fitting.ipynb"]
    for path in made:
        lesson(tmp_path, 'claims.add("gain", "gain", values, mean_at_least=0.7)').rename(path)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "lessons", lambda: made)

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["claims.py", *options])
        with pytest.raises(SystemExit) as end:
            claims.main()
        return end.value.code, "".join(capsys.readouterr())

    return call


def test_a_record_that_is_missing_or_damaged_is_named(run, tmp_path):
    kept = tmp_path / "results" / "cpu"
    record.write(kept / "00.json", {"lesson": "00"}, [Claim("gain", "gain", FIRM, mean_at_least=0.5)])
    status, said = run("--margins")
    assert status == 1
    assert "lesson 01: there is no record" in said
    assert run("--margins", "--lesson", "00")[0] == 0
    (kept / "01.json").write_text('{"lesson": "01", "claims": [{"na', encoding="utf-8")
    status, said = run("--margins")
    assert "01.json is no record of claims" in status
    assert "make claims LESSON=01" in status


def test_what_was_judged_anew_is_said_though_the_next_record_is_damaged(run, tmp_path):
    kept = tmp_path / "results" / "cpu"
    record.write(kept / "00.json", {"lesson": "00"}, [Claim("gain", "gain", FIRM, mean_at_least=0.5)])
    (kept / "01.json").write_text("", encoding="utf-8")
    status, said = run("--rejudge")
    assert "01.json is no record of claims" in status
    assert "00/gain: gain: at least 0.7 on average (was gain: at least 0.5 on average): holds" in said


def test_seeds_that_no_lesson_could_read_are_refused_before_the_first_runs(run):
    for seeds in ("3 4", "3,,4", "-1", "a"):
        status, said = run(f"--seeds={seeds}")
        assert status == 2
        assert "write whole numbers with commas between" in said
