"""The lab bench: what a lesson's comparison says is what SciPy and a loop by hand say."""

import contextlib
import io
import math
import random
import traceback
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from course_utils import data, experiment, models, runtime, train
from course_utils.history import History
from course_utils.techniques import mixing


def fake(seed, shift):
    return {"accuracy": 0.5 + shift + 0.01 * seed, "loss": 2.0 - shift}


@pytest.fixture
def scores():
    return experiment.over_seeds(fake, {"plain": 0.0, "mixup": 0.2}, [3, 1, 2], progress=False)


def noted(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


# --- over_seeds --------------------------------------------------------------------------------------------------------------


def test_every_condition_runs_with_every_seed_and_a_seed_is_whole_before_the_next_begins():
    calls = []

    def run(seed, value):
        calls.append((seed, value))
        return {"score": float(seed)}

    transform = object()
    experiment.over_seeds(run, {"plain": None, "mixup": transform}, [5, 0], progress=False)
    assert calls == [(5, None), (5, transform), (0, None), (0, transform)]
    calls.clear()
    rates = experiment.over_seeds(run, [1e-3, 0.1], [7], progress=False)
    assert calls == [(7, 1e-3), (7, 0.1)]
    assert rates.conditions == [1e-3, 0.1]


def test_the_runs_are_those_of_a_loop_by_hand():
    clothes = data.load("fashion-small")
    few, held = clothes.train.first(96), clothes.val.first(64)

    def train_and_test(seed, batch_transform):
        model = models.fresh(models.MLP, seed, in_features=784, num_classes=10, hidden=(8,))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = data.shuffled(few, seed, as_float)
        history = train.fit(model, loader, optimizer=optimizer, epochs=2, batch_transform=batch_transform)
        accuracy = train.evaluate(model, data.in_order(held, as_float)).accuracy
        return {"accuracy": accuracy, "history": history, "model": model}

    techniques = {"plain": None, "mixup": mixing.mixup(1.0, 10)}
    scores = experiment.over_seeds(train_and_test, techniques, [0, 1], progress=False)
    for name, transform in techniques.items():
        for seed in (0, 1):
            runtime.seed_everything(seed)
            model = models.MLP(784, 10, hidden=(8,))
            order = torch.Generator().manual_seed(seed)
            loader = data.TensorLoader(*few, 64, shuffle=True, generator=order, batch_transform=as_float)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            train.fit(model, loader, optimizer=optimizer, epochs=2, batch_transform=transform, progress=False)
            accuracy = train.evaluate(model, data.TensorLoader(*held, 1000, batch_transform=as_float)).accuracy
            assert scores[name, seed]["accuracy"] == accuracy
            for ours, theirs in zip(scores[name, seed]["model"].parameters(), model.parameters(), strict=True):
                assert torch.equal(ours, theirs)
    curves = scores.curves("train_loss")
    assert curves.index.tolist() == [1, 2]
    assert curves["mixup", 1].tolist() == scores["mixup", 1]["history"].frame.train_loss.tolist()


def as_float(x, y):
    return x.float() / 255, y


def test_a_run_starts_from_its_seed_whatever_ran_before():
    def draws(seed, count):
        return {"torch": torch.rand(count)[0], "numpy": np.random.rand(count)[0], "python": random.random()}  # noqa: NPY002

    one = experiment.over_seeds(draws, [1, 50], [4, 9], progress=False)
    other = experiment.over_seeds(draws, [50, 1], [9, 4], progress=False)
    for seed in (4, 9):
        assert one[1, seed] == one[50, seed] == other[1, seed]
    assert one[1, 4] != one[1, 9]


def test_one_bar_names_condition_and_seed_and_hides_those_within():
    def run(seed, _):
        for _ in runtime.progress(range(3), "inner"):
            pass
        return {"score": seed}

    with redirect_stdout(io.StringIO()) as shown:
        experiment.over_seeds(run, ["plain", "mixup"], [0, 1])
        list(runtime.progress(range(3), "afterwards"))
    for words in ("experiment", "plain, seed 0", "mixup, seed 1", "4/4", "afterwards"):
        assert words in shown.getvalue()
    assert "inner" not in shown.getvalue()
    with redirect_stdout(io.StringIO()) as shown:
        experiment.over_seeds(run, ["plain"], [0], progress=False)
    assert shown.getvalue() == ""


def test_an_error_says_which_run_it_was():
    def run(seed, rate):
        if (seed, rate) == (1, 0.5):
            raise ArithmeticError("diverged")
        return {"score": 0.0}

    with pytest.raises(ArithmeticError, match="diverged") as caught:
        experiment.over_seeds(run, [0.1, 0.5], [0, 1], progress=False)
    assert "condition 0.5 with seed 1" in noted(caught.value)
    with redirect_stdout(io.StringIO()) as shown:
        list(runtime.progress(range(3), "afterwards"))
    assert "afterwards" in shown.getvalue()


@pytest.mark.parametrize(
    ("conditions", "seeds", "words"),
    [
        ({}, [0], "no condition"),
        ([], [0], "no condition"),
        ("plain", [0], "give a dict"),
        (3, [0], "give a dict"),
        ([None], [0], "name it"),
        ([{"lr": 1}], [0], "name it"),
        ([0.1, 0.1], [0], "two of condition 0.1"),
        ({"1": "a", 1: "b"}, [0], "two of condition 1"),
        ([1, True], [0], r"two of condition True \(1 and True\)"),
        ([1, 1.0], [0], "two of condition 1"),
        (["plain"], [], "no seed"),
        (["plain"], [0, 1, 0], "two of seed 0"),
        (["plain"], [0.5], r"seeds\[0\] is 0.5"),
        (["plain"], 3, "seeds is 3"),
        (["plain"], [-1], "from 0 to 4294967295"),
        (["plain"], [0, 2**32], r"seeds\[1\] is 4294967296"),
    ],
)
def test_conditions_and_seeds_that_make_no_experiment_are_refused_before_the_first_run(conditions, seeds, words):
    def never(seed, condition):
        raise AssertionError

    with pytest.raises(ValueError, match=words):
        experiment.over_seeds(never, conditions, seeds, progress=False)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([None], "run returned nothing"),
        ([0.9], "must return a dict"),
        ([{}], "must return a dict"),
        ([{3: 0.9}], "named 3"),
        ([{"seed": 3}], "named 'seed'"),
        ([{"n": 3}], "named 'n'"),
        ([{"accuracy": 0.9}, {"acc": 0.9}], "every run returns the same names"),
        ([{"accuracy": 0.9}, {"accuracy": 0.9, "loss": 1.0}], "every run returns the same names"),
        ([{"accuracy": 0.9}, {"accuracy": None}], r"something else as 'accuracy' \(None\), and before a number"),
        ([{"accuracy": 0.9}, {"accuracy": History()}], "learning curves as 'accuracy'"),
    ],
)
def test_what_a_run_may_not_return_is_refused_at_once(found, words):
    given = iter(found)
    with pytest.raises(ValueError, match=words) as caught:
        experiment.over_seeds(lambda seed, name: next(given), ["plain"], [0, 1, 2], progress=False)
    assert f"condition 'plain' with seed {len(found) - 1}" in noted(caught.value)


def test_numbers_of_every_kind_are_measures_and_anything_else_is_kept():
    model, history = torch.nn.Linear(1, 1), History([{"train_loss": 1.0}])
    numbers = {
        "float": 0.5,
        "whole": 2,
        "yes": True,
        "tensor": torch.tensor(0.25, requires_grad=True),
        "numpy": np.float32(0.5),
        "array": np.array(3),
        "count": torch.tensor(7),
    }
    others = {"model": model, "history": history, "words": "a text", "many": torch.zeros(1), "none": None}
    found = experiment.over_seeds(lambda seed, name: numbers | others, ["plain"], [0], progress=False)
    assert found.measures == list(numbers)
    assert found.table.drop(columns=["condition", "seed"]).iloc[0].tolist() == [0.5, 2.0, 1.0, 0.25, 0.5, 3.0, 7.0]
    assert found["plain", 0]["model"] is model
    assert found["plain", 0]["words"] == "a text"


def test_a_measure_is_kept_as_it_was_when_its_run_ended():
    total = torch.zeros((), requires_grad=True)

    def run(seed, _):
        with torch.no_grad():
            total.add_(1)
        return {"own": total, "loss": total * 2}

    found = experiment.over_seeds(run, ["plain"], [0, 1, 2], progress=False)
    assert found.by_seed("own")["plain"].tolist() == [1, 2, 3]
    assert not isinstance(found["plain", 0]["loss"], torch.Tensor)  # it would keep the graph of its gradient


# --- what is read from the results -------------------------------------------------------------------------------------------


def test_the_table_has_a_row_per_run(scores):
    rows = [("plain", 3, 0.53, 2.0), ("plain", 1, 0.51, 2.0), ("plain", 2, 0.52, 2.0)]
    rows += [("mixup", 3, 0.73, 1.8), ("mixup", 1, 0.71, 1.8), ("mixup", 2, 0.72, 1.8)]
    pd.testing.assert_frame_equal(scores.table, pd.DataFrame(rows, columns=["condition", "seed", "accuracy", "loss"]))
    wide = scores.by_seed("accuracy")
    assert wide.columns.tolist() == ["plain", "mixup"]
    assert wide.index.tolist() == [3, 1, 2]
    assert wide.loc[1, "mixup"] == pytest.approx(0.71)


def test_the_summary_is_mean_and_sample_standard_deviation_in_the_given_order(scores):
    assert scores.summary().to_dict("index") == {
        "plain": {"accuracy": "0.520 ± 0.010", "loss": "2.000 ± 0.000", "n": 3},
        "mixup": {"accuracy": "0.720 ± 0.010", "loss": "1.800 ± 0.000", "n": 3},
    }
    assert scores.summary("loss").columns.tolist() == ["loss", "n"]
    assert "0.720 ± 0.010" in scores._repr_html_()
    assert "0.720 ± 0.010" in repr(scores)


def test_the_chance_of_the_test_split_stands_beside_the_spread(scores):
    table = scores.summary("accuracy", test_samples=1000)
    assert table.columns.tolist() == ["accuracy", "accuracy, test split", "n"]
    error = experiment.standard_error(0.72, 1000)
    assert table.loc["mixup"].tolist() == ["0.720 ± 0.010", f"± {error:.3f}", 3]
    with pytest.raises(ValueError, match=r"loss is .*with test_samples, a measure lies between 0 and 1"):
        scores.summary(test_samples=1000)
    with pytest.raises(ValueError, match="samples is 0"):
        scores.summary("accuracy", test_samples=0)


def test_a_single_seed_has_no_spread_and_no_interval():
    found = experiment.over_seeds(fake, {"plain": 0.0, "mixup": 0.2}, [0], progress=False)
    assert found.summary("accuracy").loc["mixup"].tolist() == ["0.700", 1]
    assert repr(found.difference("mixup", "plain", "accuracy")) == "mixup − plain, accuracy: +0.200 (1 seed: no interval)"


def test_large_and_tiny_numbers_are_shown_with_as_many_digits_as_they_need():
    sizes = {"small": 3.2e-5, "usual": 0.5, "large": 1234.5}
    found = experiment.over_seeds(
        lambda seed, name: {k: v * (1 + seed) for k, v in sizes.items()}, ["a"], [0, 1], progress=False
    )
    assert found.summary().loc["a", list(sizes)].tolist() == ["0.0000480 ± 0.0000226", "0.750 ± 0.354", "1851.8 ± 872.9"]


def test_a_difference_is_paired_and_its_interval_is_scipys():
    rng = np.random.default_rng(0)
    drawn = {(name, seed): rng.normal(0.8, 0.1) for seed in range(8) for name in ("plain", "mixup")}
    found = experiment.over_seeds(
        lambda seed, name: {"accuracy": drawn[name, seed]}, ["plain", "mixup"], range(8), progress=False
    )
    ours = found.difference("plain", "mixup")
    pairs = [[drawn[name, seed] for seed in range(8)] for name in ("plain", "mixup")]
    theirs = stats.ttest_rel(*pairs).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.mean == pytest.approx(np.subtract(*pairs).mean())
    assert ours.n == 8
    assert ours.per_seed.index.tolist() == list(range(8))
    numbers = [f"{value:+.3f}".replace("-", "−") for value in (ours.mean, theirs.low, theirs.high)]
    line = "plain − mixup, accuracy: {} (95 % interval {} to {}, 8 seeds)".format(*numbers)
    assert repr(ours) == str(ours) == line
    assert "−" in numbers[1]


def test_a_large_value_takes_no_digits_from_a_small_one():
    values = {"good": 0.3, "diverged": 2500.0}
    found = experiment.over_seeds(lambda seed, name: {"loss": values[name] * (1 + seed)}, list(values), [0, 1], progress=False)
    assert found.summary()["loss"].tolist() == ["0.450 ± 0.212", "3750.0 ± 1767.8"]
    values["diverged"] = 2.5e30
    found = experiment.over_seeds(lambda seed, name: {"loss": values[name]}, list(values), [0, 1], progress=False)
    assert found.summary().loc["diverged", "loss"] == "2.500e+30 ± 0.000e+00"
    assert "loss: −2.500e+30 (95 %" in repr(found.difference("good", "diverged"))


def test_what_is_not_finite_is_shown_and_never_left_out():
    values = {
        ("good", 0): 0.5,
        ("good", 1): 0.7,
        ("bad", 0): 0.4,
        ("bad", 1): math.nan,
        ("worse", 0): math.inf,
        ("worse", 1): 1,
    }
    found = experiment.over_seeds(lambda s, c: {"score": values[c, s]}, ["good", "bad", "worse"], [0, 1], progress=False)
    cells = found.summary()["score"].tolist()
    assert cells == ["0.600 ± 0.141", "not finite (seed 1)", "not finite (seed 0)"]
    assert found.summary(test_samples=100)["score, test split"].tolist() == ["± 0.049", "", ""]
    difference = found.difference("good", "bad")
    assert math.isnan(difference.mean)
    assert repr(difference) == "good − bad, score: no mean, not finite (seed 1)"
    assert difference.per_seed[0] == pytest.approx(0.1)
    nothing = experiment.over_seeds(lambda s, c: {"score": math.nan}, ["a"], [0, 1], progress=False)
    assert nothing.summary()["score"].tolist() == ["not finite (seed 0, 1)"]


def test_a_condition_may_be_a_number_of_numpy():
    found = experiment.over_seeds(
        lambda seed, rate: {"rate": rate, "history": History([{"train_loss": 1.0}])},
        np.array([0.1, 1.0], dtype=np.float32),
        [0],
        progress=False,
    )
    assert found.difference(1.0, 0.1).mean == pytest.approx(0.9)
    assert found.frames(0.1)[0].train_loss.tolist() == [1.0]


def test_a_word_that_is_not_there_gets_a_hint(scores):
    for ask, words in (
        (lambda: scores.summary("accurate"), "no measure 'accurate'. Did you mean 'accuracy'"),
        (lambda: scores.difference("mixup", "plain"), "several of measure; name one of accuracy, loss"),
        (lambda: scores.difference("mix", "plain", "loss"), "no condition 'mix'. Did you mean 'mixup'"),
        (lambda: scores.difference("plain", "plain", "loss"), "a difference needs two"),
        (lambda: scores.by_seed(), "several of measure"),
        (lambda: scores.curves("val_loss"), "hold nothing that is a History or its frame"),
    ):
        with pytest.raises(ValueError, match=words):
            ask()
    with pytest.raises(KeyError, match="ask for a condition and a seed"):
        scores["plain"]
    no_numbers = experiment.over_seeds(lambda seed, name: {"model": "m"}, ["a"], [0], progress=False)
    with pytest.raises(ValueError, match="hold nothing that is a number"):
        no_numbers.summary()
    assert "without measures" in repr(no_numbers)
    assert no_numbers._repr_html_() is None


def test_learning_curves_of_unequal_length_stand_side_by_side():
    def run(seed, epochs):
        rows = [{"train_loss": 1 / (epoch + 1), "val_loss": seed + epoch} for epoch in range(epochs)]
        return {"own": pd.DataFrame(rows, index=range(1, epochs + 1)), "history": History(rows)}

    found = experiment.over_seeds(run, [2, 3], [0, 1], progress=False)
    curves = found.curves("val_loss", of="history")
    assert curves.columns.tolist() == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert curves[3, 1].tolist() == [1, 2, 3]
    assert curves[2, 0].isna().tolist() == [False, False, True]
    pd.testing.assert_frame_equal(curves, found.curves("val_loss", of="own"), check_names=False)
    with pytest.raises(ValueError, match="several of learning curves; name one of own, history"):
        found.curves("val_loss")
    with pytest.raises(ValueError, match=r"no column of learning curves 'val_los'\. Did you mean 'val_loss'"):
        found.curves("val_los", of="own")


def test_a_loop_by_hand_may_fill_the_results():
    by_hand = {}
    for name, shift in {"plain": 0.0, "mixup": 0.2}.items():
        for seed in (3, 1, 2):
            by_hand[name, seed] = fake(seed, shift)
    ours = experiment.over_seeds(fake, {"plain": 0.0, "mixup": 0.2}, [3, 1, 2], progress=False)
    pd.testing.assert_frame_equal(experiment.Results(by_hand).table, ours.table)
    del by_hand["mixup", 1]
    with pytest.raises(ValueError, match="no run of condition 'mixup' with seed 1"):
        experiment.Results(by_hand)
    with pytest.raises(ValueError, match="there are no runs"):
        experiment.Results({})


def test_seeds_of_a_loop_by_hand_may_be_tensors():
    runs = {(name, seed): {"score": float(seed)} for name in ("plain", "mixup") for seed in torch.arange(2)}
    found = experiment.Results(runs)
    assert found.seeds == [0, 1]
    assert found["mixup", 1]["score"] == found.runs["mixup", 1]["score"] == 1.0


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ({"ab": {"score": 1}}, "kept as 'ab'; keep it by condition and seed"),
        ({0: {"score": 1}}, "kept as 0;"),
        ({("plain", 0, 1): {"score": 1}}, "keep it by condition and seed"),
        ({(0, "plain"): {"score": 1}}, "the seed of condition 0 is 'plain'"),
        ({(None, 0): {"score": 1}}, "a condition is None; name it"),
        ({(("a", 1), 0): {"score": 1}}, "a condition is .*; name it"),
        ({("plain", torch.tensor(0)): {"score": 1}, ("plain", 0): {"score": 2}}, "two runs of condition 'plain' with seed 0"),
    ],
)
def test_runs_of_a_loop_by_hand_are_kept_by_condition_and_seed(runs, words):
    with pytest.raises(ValueError, match=words):
        experiment.Results(runs)


def test_a_joined_run_that_returned_other_names_is_named(scores):
    others = experiment.over_seeds(lambda seed, name: {"acc": 1}, ["cutmix"], [3, 1, 2], progress=False)
    with pytest.raises(ValueError, match="run returned acc, and before accuracy, loss") as caught:
        experiment.Results(scores.runs | others.runs)
    assert "condition 'cutmix' with seed 3" in noted(caught.value)


def test_one_seed_after_the_other_keeps_what_ran_before_an_error():
    runs = {}

    def run(seed, shift):
        if seed == 2:
            raise ArithmeticError("diverged")
        return fake(seed, shift)

    with contextlib.suppress(ArithmeticError):
        for seed in (0, 1, 2):
            runs |= experiment.over_seeds(run, {"plain": 0.0, "mixup": 0.2}, [seed], progress=False).runs
    found = experiment.Results(runs)
    assert found.seeds == [0, 1]
    whole = experiment.over_seeds(fake, {"plain": 0.0, "mixup": 0.2}, [0, 1], progress=False)
    pd.testing.assert_frame_equal(found.by_seed("loss"), whole.by_seed("loss"))


def test_two_experiments_with_the_same_seeds_become_one(scores):
    more = experiment.over_seeds(fake, {"cutmix": 0.1}, [3, 1, 2], progress=False)
    both = experiment.Results(scores.runs | more.runs)
    assert both.conditions == ["plain", "mixup", "cutmix"]
    assert both.difference("cutmix", "plain", "accuracy").mean == pytest.approx(0.1)
    others = experiment.over_seeds(fake, {"cutmix": 0.1}, [4], progress=False)
    with pytest.raises(ValueError, match="no run of condition 'plain' with seed 4"):
        experiment.Results(scores.runs | others.runs)


# --- intervals and standard errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_an_interval_is_scipys_for_a_mean_and_for_paired_differences(n, confidence):
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.8, 0.1, n), rng.normal(0.7, 0.2, n)
    theirs = stats.ttest_1samp(first, 0).confidence_interval(confidence)
    assert experiment.interval(first, confidence) == pytest.approx((first.mean(), theirs.low, theirs.high), rel=1e-10)
    theirs = stats.ttest_rel(first, second).confidence_interval(confidence)
    difference = first - second
    assert experiment.interval(difference, confidence) == pytest.approx((difference.mean(), theirs.low, theirs.high), rel=1e-9)


def test_an_interval_of_few_or_odd_values():
    assert experiment.interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    one = experiment.interval([0.5])
    assert one.mean == 0.5
    assert all(map(math.isnan, one[1:]))
    assert all(map(math.isnan, experiment.interval([0.5, math.nan])))
    assert experiment.interval({7: 1.0, 9: 3.0}) == experiment.interval([1.0, 3.0])
    for values, words in (([], "no values"), (["a"], "one number for each seed"), (3, "one number for each seed")):
        with pytest.raises(ValueError, match=words):
            experiment.interval(values)
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(ValueError, match="confidence"):
            experiment.interval([1.0, 2.0], confidence)


def test_the_standard_error_is_that_of_a_mean_of_rights_and_wrongs():
    right = np.random.default_rng(0).random(500) < 0.83
    assert experiment.standard_error(right.mean(), 500) == pytest.approx(stats.sem(right, ddof=0))
    shares = pd.Series({"plain": 0.5, "mixup": 1.0})
    assert experiment.standard_error(shares, 100).to_dict() == {"plain": 0.05, "mixup": 0.0}
    for share, samples in ((1.2, 100), (math.nan, 100), (-0.1, 100), (0.5, 0), (0.5, 2.5), (shares * 2, 100)):
        with pytest.raises(ValueError, match=r"share is|samples is"):
            experiment.standard_error(share, samples)
