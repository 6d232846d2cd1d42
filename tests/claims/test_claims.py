"""The recorded measurements support the claims: those in results/, or those that `make claims` has just made."""

import json
import os
import re
from pathlib import Path

import pytest

from course_utils.record import Claim
from tests.claims.floors import FLOORS

ROOT = Path(__file__).parent.parent.parent
RESULTS = Path(os.environ.get("COURSE_RESULTS", ROOT / "results")) / "cpu"
# Judged over repetitions of their own, so not once per seed.
DRAWS = {"polynomial-order": 20, "polynomial-training": 20}


def lessons_with_claims() -> list[str]:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [path.stem.partition("_")[0] for path in notebooks if "claims.add(" in path.read_text(encoding="utf-8")]


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> list[str]:
    return [word for word in request.config.getoption("--lessons").split(",") if word]


@pytest.fixture(params=lessons_with_claims())
def record(request: pytest.FixtureRequest, asked: list[str]) -> dict:
    if asked and request.param not in asked:
        pytest.skip(f"lesson {request.param} was not asked for")
    path = RESULTS / f"{request.param}.json"
    assert path.exists(), f"{path} is missing: run `make claims LESSON={request.param}`"
    return json.loads(path.read_text(encoding="utf-8"))


def claims_of(record: dict) -> list[Claim]:
    fields = Claim.__dataclass_fields__
    return [
        Claim(**{k: v for k, v in claim.items() if k in fields} | {"values": {int(s): v for s, v in claim["values"].items()}})
        for claim in record["claims"]
    ]


def test_every_lesson_has_claims():
    assert lessons_with_claims() == sorted(FLOORS)


def test_claims_hold(record):
    for claim, written in zip(claims_of(record), record["claims"], strict=True):
        assert claim.holds, f"{claim.name}: {claim.values}, asked: {claim.rule}"
        assert written["holds"]
        assert written["rule"] == claim.rule


def test_claims_ask_at_least_as_much_as_the_floors(record):
    claims = {claim.name: claim for claim in claims_of(record)}
    for name, bounds in FLOORS[record["lesson"]].items():
        assert name in claims, f"the claim {name} is gone from lesson {record['lesson']}"
        for bound, floor in bounds.items():
            asked = getattr(claims[name], bound)
            assert asked is not None, f"{name} no longer asks {bound}"
            assert asked >= floor if bound.endswith("least") else asked <= floor, (
                f"{name}: {bound} {asked} is looser than {floor}"
            )


def test_measured_over_enough_repetitions_and_with_its_circumstances(record):
    for claim in claims_of(record):
        assert len(claim.values) >= DRAWS.get(claim.name, 3), claim.name
    assert record["profile"] == "cpu"
    assert record["seconds"] > 0
    assert {"processor", "threads"} <= set(record)
    assert {"python", "torch", "torchvision"} <= set(record["versions"])


def test_recorded_claims_are_those_of_the_notebook(record):
    (path,) = (ROOT / "notebooks").glob(f"{record['lesson']}_*.ipynb")
    source = "".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    # A name may be made in a loop, as in f"transfer-{method}".
    names = re.findall(r'claims\.add\(\s*f?"([^"]+)"', source)
    patterns = {name: re.compile(re.sub(r"\\{.+?\\}", ".+", re.escape(name))) for name in names}
    recorded = [claim["name"] for claim in record["claims"]]
    cure = f"run `make claims LESSON={record['lesson']}`"
    assert len(names) == source.count("claims.add(")
    assert [name for name in recorded if not any(p.fullmatch(name) for p in patterns.values())] == [], cure
    assert [name for name, p in patterns.items() if not any(map(p.fullmatch, recorded))] == [], cure
