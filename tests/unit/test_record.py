import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from course_utils import record
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
        ([1, math.inf], {"each_at_least": 1}, False),
        ([1, -math.inf], {"mean_at_most": 1}, False),
    ],
)
def test_a_claim_holds_when_all_its_bounds_are_met(values, bounds, holds):
    assert Claim("gain", "gain", dict(enumerate(values)), **bounds).holds is holds


def test_the_rule_names_every_bound():
    claim = Claim("gain", "gain", {0: 1}, each_at_least=0, each_at_most=2, mean_at_least=0.5, mean_at_most=1.5)
    words = "at least 0 in each run and at most 2 in each run and at least 0.5 on average and at most 1.5 on average"
    assert claim.rule == words


def test_mean_spread_and_interval_are_those_of_scipy():
    values = [0.1, 0.25, 0.4, 0.2]
    claim = Claim("gain", "gain", dict(enumerate(values)), mean_at_least=0)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (claim.mean, claim.sd, claim.n) == pytest.approx((np.mean(values), np.std(values, ddof=1), 4))
    assert claim.interval == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("bounds", "margin"),
    [
        ({"mean_at_least": 1}, 1),
        ({"each_at_least": 1}, 1),  # though a run lies right on it: the mean is measured
        ({"mean_at_least": 4}, -2),
        ({"each_at_most": 5}, 3),
        ({"mean_at_most": 1.5}, -0.5),
        ({"mean_at_least": -8, "mean_at_most": 6}, 4),
        ({"mean_at_least": -2, "each_at_most": 6}, 4),
    ],
)
def test_the_margin_is_the_distance_to_the_nearest_bound_in_standard_deviations(bounds, margin):
    assert Claim("gain", "gain", {0: 1, 1: 2, 2: 3}, **bounds).margin == pytest.approx(margin)


@pytest.mark.parametrize(
    ("values", "bounds"),
    [([1, 2], {}), ([1], {"each_at_least": 0}), ([1, 1], {"each_at_least": 0}), ([1, NAN], {"mean_at_least": 0})],
)
def test_without_bound_or_spread_there_is_no_margin(values, bounds):
    assert math.isnan(Claim("gain", "gain", dict(enumerate(values)), **bounds).margin)


@pytest.mark.usefixtures("cpu_profile")
def test_a_student_reads_what_was_found_what_the_lesson_says_and_whether_it_holds(capsys):
    claims = Claims("01")
    claims.add("gain", "gain", {0: 5, 1: 6, 2: 7}, mean_at_least=3)
    claims.add("loss", "loss", {0: 3}, each_at_most=4)
    assert capsys.readouterr().out.splitlines() == [
        "gain: 6 on average over 3 runs (95 % interval 3.52 to 8.48). The lesson says at least 3 on average: that holds.",
        "loss: 3 in one run. The lesson says at most 4 in each run: that holds.",
    ]


@pytest.mark.usefixtures("cpu_profile")
def test_a_student_whose_result_differs_is_told_and_goes_on(capsys):
    claims = Claims("01")
    claims.add("gain", "gain in points", {0: 5, 1: 6, 2: 7}, each_at_least=6)
    said = capsys.readouterr().out
    assert said == (
        "gain in points: 6 on average over 3 runs (95 % interval 3.52 to 8.48). The lesson says at least 6 in each run: "
        "not so here, with 5 to 7. If you changed something above, that may be the reason.\n"
    )
    assert [claim.verdict for claim in claims.made] == ["does not hold"]


@pytest.mark.usefixtures("cpu_profile")
def test_where_lessons_are_judged_a_claim_that_does_not_hold_stops_the_lesson(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_JUDGE", "1")
    claims = Claims("01")
    claims.add("gain", "gain in accuracy", {0: 0.1, 1: 0.2}, each_at_least=0.1)
    with pytest.raises(AssertionError, match=r"'loss' of lesson 01 does not hold: .0: 3.0.: at most 2 in each run"):
        claims.add("loss", "loss", {0: 3}, each_at_most=2)
    assert "not so here" in capsys.readouterr().out


@pytest.mark.parametrize("judge", ["", "1"])
def test_under_the_ci_profile_nothing_is_judged(monkeypatch, capsys, judge):
    monkeypatch.setenv("COURSE_JUDGE", judge)
    Claims("01").add("gain", "gain", {0: 0.0}, each_at_least=0.1)
    assert capsys.readouterr().out == (
        "gain: 0 in one run. The lesson says at least 0.1 in each run; not judged under profile ci, whose runs are too short.\n"
    )


@pytest.mark.usefixtures("cpu_profile")
def test_an_effect_without_an_honest_bound_is_measured_and_never_judged(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_JUDGE", "1")
    claims = Claims("01")
    claims.not_shown("gain", "gain in points", {0: -1, 1: 1})
    assert capsys.readouterr().out == (
        "gain in points: 0 on average over 2 runs (95 % interval -12.7 to 12.7). "
        "Not shown: this differs too much from seed to seed for the lesson to claim it.\n"
    )
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    claims.save()
    (saved,) = json.loads((tmp_path / "cpu" / "01.json").read_text(encoding="utf-8"))["claims"]
    assert (saved["verdict"], saved["rule"], saved["margin"], saved["n"]) == ("not shown", "", None, 2)
    assert saved["interval"] == pytest.approx([-12.706, 12.706], abs=1e-3)
    with pytest.raises(ValueError, match="'gain' is made twice"):
        claims.not_shown("gain", "gain", {0: 1})
    with pytest.raises(ValueError, match="'loss' needs at least one value"):
        claims.not_shown("loss", "loss", {})


@pytest.mark.parametrize("profile", ["ci", "cpu"])
def test_claims_without_values_bounds_or_a_name_of_their_own_are_refused(monkeypatch, profile):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    claims = Claims("01")
    with pytest.raises(ValueError, match="'gain' needs at least one value"):
        claims.add("gain", "gain", {}, each_at_least=0)
    with pytest.raises(ValueError, match="'gain' needs a bound"):
        claims.add("gain", "gain", {0: 1})
    with pytest.raises(ValueError, match=r"'gain' has two values for a seed: \[3, 3, 4\]"):
        claims.add("gain", "gain", pd.Series([1.0, 2.0, 3.0], index=[3, 3, 4]), each_at_least=0)
    with pytest.raises(TypeError, match="at_leest"):
        claims.add("gain", "gain", {0: 1}, at_leest=0)
    claims.add("gain", "gain", {0: 1}, each_at_least=0)
    for bound in (NAN, math.inf, -math.inf, "0"):
        with pytest.raises(ValueError, match=r"each_at_least of claim 'loss' is .*; a bound is a finite number"):
            claims.add("loss", "loss", {0: 1}, each_at_least=bound)
    for values in ([1.0, 2.0], {"plain": 1.0}, {0: None}, 3):
        with pytest.raises(ValueError, match=r"values of claim 'loss' are .*; give a number for each seed"):
            claims.add("loss", "loss", values, each_at_least=0)
    assert [claim.name for claim in claims.made] == ["gain"]


@pytest.mark.parametrize("variable", ["COURSE_JUDGE", "COURSE_RESULTS"])
def test_where_lessons_are_judged_or_recorded_a_name_is_taken_once(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    claims = Claims("01")
    claims.add("gain", "gain", {0: 1}, each_at_least=0)
    with pytest.raises(ValueError, match="'gain' is made twice in lesson 01"):
        claims.add("gain", "gain again", {0: 1}, each_at_least=0)


@pytest.mark.usefixtures("cpu_profile")
def test_a_student_may_run_a_claims_cell_again(capsys):
    claims = Claims("01")
    for value in (1, 5):  # a number above it was changed
        claims.add("gain", "gain", {0: value}, each_at_least=3)
        claims.not_shown("loss", "loss", {0: value})
    assert [(claim.name, claim.values) for claim in claims.made] == [("gain", {0: 5}), ("loss", {0: 5})]
    assert "not so here" in capsys.readouterr().out


@pytest.mark.usefixtures("cpu_profile")
def test_the_file_holds_all_claims_also_the_one_that_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    monkeypatch.setenv("COURSE_JUDGE", "1")
    claims = Claims("01")
    claims.add("gain", "gain in accuracy", {3: 0.25, 4: 0.5}, each_at_least=0.1)
    claims.add("loss", "loss", {3: 3}, mean_at_most=2)
    claims.save()
    path = tmp_path / "cpu" / "01.json"
    assert capsys.readouterr().out.splitlines()[-1] == f"2 claims written to {path}."
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content) == {"lesson", "profile", "seconds", "processor", "threads", "versions", "claims"}
    assert (content["lesson"], content["profile"]) == ("01", "cpu")
    assert 0 <= content["seconds"] < 3600
    gain, loss = content["claims"]
    assert gain["values"] == {"3": 0.25, "4": 0.5}
    assert (gain["verdict"], gain["rule"]) == ("holds", "at least 0.1 in each run")
    assert (gain["each_at_least"], gain["each_at_most"], gain["mean"], gain["n"]) == (0.1, None, 0.375, 2)
    assert (gain["sd"], gain["margin"]) == pytest.approx((0.17678, 0.275 / 0.17678), rel=1e-4)
    assert (loss["verdict"], loss["rule"]) == ("does not hold", "at most 2 on average")
    assert (loss["sd"], loss["margin"], loss["interval"]) == (None, None, [None, None])
    header, read = record.read(path)
    assert header == {key: value for key, value in content.items() if key != "claims"}
    assert read == claims.made


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_kept_as_null(tmp_path, value):
    claim = Claim("loss", "loss", {0: 1.0, 1: value, 2: math.inf}, each_at_most=2)
    assert claim.found == "loss: nan on average over 3 runs (95 % interval nan to nan)"
    record.write(tmp_path / "01.json", {"lesson": "01"}, [claim])
    text = (tmp_path / "01.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    _, (claim,) = record.read(tmp_path / "01.json")
    assert math.isnan(claim.values[1])
    assert claim.verdict == json.loads(text)["claims"][0]["verdict"] == "does not hold"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"claims": []}', '{"claims": {}', '{"claims": [{}]}', '{"claims": [{"values": [1]}]}', "{}"]
)
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "01.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"01\.json is no record of claims"):
        record.read(path)


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
    assert (saved["each_at_least"], saved["mean_at_most"], saved["each_at_most"], saved["verdict"]) == (0.0, 2.0, None, "holds")


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
