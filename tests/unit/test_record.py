import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from course_utils.record import Claim, Claims, machine

NAN = float("nan")


@pytest.fixture
def cpu_profile(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "cpu")


@pytest.mark.parametrize(
    ("values", "bounds", "holds"),
    [
        ([0.1, 0.2], {"each_at_least": 0.1}, True),
        ([0.09, 0.2], {"each_at_least": 0.1}, False),
        ([0.1, 0.2], {"each_at_most": 0.2}, True),
        ([0.1, 0.21], {"each_at_most": 0.2}, False),
        ([1, 3], {"mean_at_least": 2}, True),
        ([1, 2.9], {"mean_at_least": 2}, False),
        ([1, 3], {"mean_at_most": 2}, True),
        ([1, 3.1], {"mean_at_most": 2}, False),
        ([1, 3], {"mean_at_least": 2, "each_at_least": 2}, False),
        ([1, 3], {"mean_at_least": 2, "each_at_most": 2}, False),
        ([1, 3], {"mean_at_least": 1, "mean_at_most": 3, "each_at_least": 1, "each_at_most": 3}, True),
        ([0.0], {"each_at_least": 0}, True),
        *[([1, NAN], {bound: 1}, False) for bound in ("each_at_least", "each_at_most", "mean_at_least", "mean_at_most")],
    ],
)
def test_a_claim_holds_when_all_its_bounds_are_met(values, bounds, holds):
    assert Claim("gain", "gain", dict(enumerate(values)), **bounds).holds is holds


def test_the_rule_names_every_bound():
    claim = Claim("gain", "gain", {0: 1}, each_at_least=0, each_at_most=2, mean_at_least=0.5, mean_at_most=1.5)
    assert claim.rule == "each ≥ 0, each ≤ 2, mean ≥ 0.5, mean ≤ 1.5"


@pytest.mark.usefixtures("cpu_profile")
def test_a_claim_that_does_not_hold_stops_the_lesson(capsys):
    claims = Claims("01")
    claims.add("gain", "gain in accuracy", {0: 0.1, 1: 0.2}, each_at_least=0.1)
    with pytest.raises(AssertionError, match=r"'loss' of lesson 01 does not hold: .0: 3.0.*each ≤ 2"):
        claims.add("loss", "loss", {0: 3}, each_at_most=2)
    assert capsys.readouterr().out.splitlines() == [
        "gain: 0.15 (0.1 to 0.2 over 2 runs), asked: each ≥ 0.1 → holds",
        "loss: 3 (3 to 3 over 1 runs), asked: each ≤ 2 → DOES NOT HOLD",
    ]


def test_under_the_ci_profile_nothing_is_judged(capsys):
    Claims("01").add("gain", "gain", {0: 0.0}, each_at_least=0.1)
    assert capsys.readouterr().out.endswith("not judged under profile ci\n")


@pytest.mark.parametrize("profile", ["ci", "cpu"])
def test_claims_without_values_bounds_or_a_name_of_their_own_are_refused(monkeypatch, profile):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    claims = Claims("01")
    with pytest.raises(ValueError, match="at least one value and one bound"):
        claims.add("gain", "gain", {}, each_at_least=0)
    with pytest.raises(ValueError, match="at least one value and one bound"):
        claims.add("gain", "gain", {0: 1})
    with pytest.raises(ValueError, match=r"'gain' has two values for a seed: \[3, 3, 4\]"):
        claims.add("gain", "gain", pd.Series([1.0, 2.0, 3.0], index=[3, 3, 4]), each_at_least=0)
    with pytest.raises(TypeError, match="at_leest"):
        claims.add("gain", "gain", {0: 1}, at_leest=0)
    claims.add("gain", "gain", {0: 1}, each_at_least=0)
    with pytest.raises(ValueError, match="'gain' is made twice in lesson 01"):
        claims.add("gain", "gain again", {0: 1}, each_at_least=0)
    assert [claim.name for claim in claims.made] == ["gain"]


@pytest.mark.usefixtures("cpu_profile")
def test_the_file_holds_all_claims_also_the_one_that_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    claims = Claims("01")
    claims.add("gain", "gain in accuracy", {3: 0.25, 4: 0.5}, each_at_least=0.1)
    claims.add("loss", "loss", {3: 3}, mean_at_most=2)
    claims.save()
    path = tmp_path / "cpu" / "01.json"
    assert capsys.readouterr().out.splitlines()[-1] == f"2 claims written to {path}."
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content) == {"lesson", "profile", "seconds", "processor", "threads", "versions", "claims"}
    assert (content["lesson"], content["profile"]) == ("01", "cpu")
    assert content["seconds"] > 0
    gain, loss = content["claims"]
    assert gain["values"] == {"3": 0.25, "4": 0.5}
    assert (gain["holds"], gain["rule"], gain["each_at_least"], gain["each_at_most"]) == (True, "each ≥ 0.1", 0.1, None)
    assert (loss["holds"], loss["rule"]) == (False, "mean ≤ 2")


def test_a_new_file_replaces_the_old_one_and_leaves_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    for value in (1.0, 2.0):
        claims = Claims("01")
        claims.add("gain", "gain", {0: value}, each_at_least=0)
        claims.save()
    folder = tmp_path / "ci"
    assert [path.name for path in folder.iterdir()] == ["01.json"]
    assert json.loads((folder / "01.json").read_text(encoding="utf-8"))["claims"][0]["values"] == {"0": 2.0}


@pytest.mark.parametrize("number", [np.float32, np.float16, np.int64, torch.tensor, np.array, Fraction, int])
def test_values_and_bounds_of_any_kind_are_saved_as_numbers(monkeypatch, tmp_path, number):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    claims = Claims("01")
    bounds = {"each_at_least": number(0), "mean_at_most": number(2), "each_at_most": None}
    claims.add("gain", "gain", {3: number(1)}, **bounds)
    claims.save()
    (saved,) = json.loads((tmp_path / "ci" / "01.json").read_text(encoding="utf-8"))["claims"]
    assert saved["values"] == {"3": 1.0}
    assert (saved["each_at_least"], saved["mean_at_most"], saved["each_at_most"], saved["holds"]) == (0.0, 2.0, None, True)


def test_without_the_variable_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    claims = Claims("01")
    claims.add("gain", "gain", {0: 1}, each_at_least=0)
    claims.save()
    assert "make claims LESSON=01" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_machine_is_described():
    found = machine()
    assert found["processor"]
    assert found["threads"] >= 1
    assert set(found["versions"]) == {"python", "torch", "torchvision", "numpy", "scikit-learn"}
