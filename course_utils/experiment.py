"""The form of every comparison: each condition with each seed, a table with a row per run, differences seed by seed.

    def train_and_test(seed, batch_transform):
        model = models.fresh(models.SmallCNN, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        train.fit(model, data.shuffled(few, seed), optimizer=optimizer, epochs=20, batch_transform=batch_transform)
        return {"accuracy": train.evaluate(model, test_loader).accuracy}

    techniques = {"plain": None, "mixup": mixing.mixup(1.0, num_classes)}
    scores = experiment.over_seeds(train_and_test, techniques, seeds)
    scores.summary()
    scores.difference("mixup", "plain")

It knows no technique and no measure. Lesson 00 builds it: runs in a loop by hand, then the same by `over_seeds`.
"""

import contextlib
import difflib
import math
import numbers
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from course_utils import runtime, valid
from course_utils.history import History

if TYPE_CHECKING:
    import pandas as pd

Name = str | float  # of a condition: text, or a number such as a learning rate
Share = TypeVar("Share", float, "pd.Series")


def over_seeds(
    run: Callable[[int, Any], Mapping[str, Any]],
    conditions: Mapping[Name, Any] | Iterable[Name],
    seeds: Iterable[int],
    *,
    progress: bool = True,
) -> "Results":
    """Call ``run(seed, condition)`` for every condition with every seed, under one progress bar (lesson 00).

    All conditions of a seed run before the next seed begins. Before each run all generators are seeded
    (`runtime.seed_everything`), and bars of training within it are hidden. An error or an interrupt loses the runs before it;
    to keep those of hours, join one seed after the other: ``runs |= over_seeds(run, conditions, [seed]).runs``, then
    ``Results(runs)``.

    Args:
        run: returns a dict. Numbers in it (also booleans, and tensors and arrays with no dimension) are measures; a
            `history.History` or a frame is learning curves; anything else, such as the network, is kept as it is. Every run
            returns the same names.
        conditions: from the name of a condition to the value that ``run`` gets for it, as it is; or several numbers or words,
            such as learning rates, each its own name. Every seed gets the same object: what changes in a run, such as a
            network, is made in ``run``.
        seeds: different whole numbers from 0 to 2**32 - 1; one at least.
        progress: show the bar.

    Raises:
        ValueError: no condition or seed, one that is there twice, or runs that do not return what is said above. Whatever
            ``run`` raises has a note with the condition and the seed.

    >>> scores = over_seeds(lambda seed, rate: {"score": rate + seed / 10}, [0.5, 1.0], seeds=[0, 1, 2], progress=False)
    >>> scores.difference(1.0, 0.5)
    1.0 − 0.5, score: +0.500 (95 % interval +0.500 to +0.500, 3 seeds)
    """
    named = _named(conditions)
    seeds = valid.whole_numbers(seeds, "seeds", 0, 2**32 - 1)
    runs: dict[tuple[Name, int], dict[str, Any]] = {}
    jobs = [(name, seed) for seed in _different(seeds, "seed") for name in named]
    with runtime.progress(description="experiment", total=len(jobs), show=progress) as bar, runtime.without_bars():
        for name, seed in jobs:
            bar.set_postfix_str(f"{name}, seed {seed}")
            runtime.seed_everything(seed)
            with _noted(name, seed):
                found = run(seed, named[name])
                _same_kinds(found, next(iter(runs.values()), found))  # now, and not when hours have passed
            # Numbers as they are now: a tensor may change later, and would keep the graph of its gradient in memory.
            runs[name, seed] = {key: _plain(value) for key, value in found.items()}
            bar.update()
        bar.set_postfix_str("")
    return Results({(name, seed): runs[name, seed] for name in named for seed in seeds})


class Results:
    """What the runs of an experiment gave: ``results[condition, seed]`` is what ``run`` returned.

    A measure that is not finite, as after a diverged run, is never left out: its mean is not finite either.

    Args:
        runs: from condition and seed to the dict of that run, as a loop by hand may have filled it, or as two experiments
            with the same seeds give it: ``Results(scores.runs | more_scores.runs)``.

    Raises:
        ValueError: no runs, a condition that lacks a seed, or names, seeds or dicts that `over_seeds` would refuse.
    """

    def __init__(self, runs: Mapping[tuple[Name, int], Mapping[str, Any]]) -> None:
        if not runs:
            raise ValueError("there are no runs: give one for each condition and seed.")
        self.runs: dict[tuple[Name, int], Mapping[str, Any]] = {}
        for key, found in runs.items():
            if not isinstance(key, tuple) or len(key) != 2:
                raise ValueError(f"a run is kept as {key!r}; keep it by condition and seed, such as runs['plain', 0].")
            name, seed = key[0], valid.whole_number(key[1], f"the seed of condition {key[0]!r}", 0, 2**32 - 1)
            if (name, seed) in self.runs:  # tensors are different keys, whatever their values
                raise ValueError(f"there are two runs of condition {name!r} with seed {seed}.")
            self.runs[name, seed] = found
        self.conditions = list(_named(dict.fromkeys(name for name, _ in self.runs)))
        self.seeds = list(dict.fromkeys(seed for _, seed in self.runs))
        for name in self.conditions:
            for seed in self.seeds:
                if (name, seed) not in self.runs:
                    raise ValueError(
                        f"there is no run of condition {name!r} with seed {seed}: every condition needs every seed."
                    )
        first = next(iter(self.runs.values()))
        for (name, seed), found in self.runs.items():
            with _noted(name, seed):
                _same_kinds(found, first)
        kinds = _kinds(first)
        self.measures = [name for name, kind in kinds.items() if kind == "a number"]
        self._curves = [name for name, kind in kinds.items() if kind == "learning curves"]

    def __getitem__(self, condition_and_seed: tuple[Name, int]) -> Mapping[str, Any]:
        if condition_and_seed not in self.runs:
            raise KeyError(
                f"there is no run {condition_and_seed!r}; ask for a condition and a seed, such as {next(iter(self.runs))}."
            )
        return self.runs[condition_and_seed]

    @property
    def table(self) -> "pd.DataFrame":
        """A row per run, with the columns ``condition``, ``seed``, and one per measure."""
        import pandas as pd

        rows = []
        for (name, seed), found in self.runs.items():
            row: dict[str, Any] = {measure: _number(found[measure]) for measure in self.measures}
            rows.append({"condition": name, "seed": seed} | row)
        return pd.DataFrame(rows)

    def by_seed(self, measure: str | None = None) -> "pd.DataFrame":
        """One measure with a row per seed and a column per condition.

        Args:
            measure: may be left out where there is only one.

        Raises:
            ValueError: there is no such measure, or none was named and there are several.
        """
        import pandas as pd

        measure = self._measure(measure)
        columns = {}
        for name in self.conditions:
            columns[name] = [_number(self.runs[name, seed][measure]) for seed in self.seeds]
        return pd.DataFrame(columns, index=pd.Index(self.seeds, name="seed")).rename_axis(columns="condition")

    def summary(self, *measures: str, test_samples: int | None = None) -> "pd.DataFrame":
        """Mean ± standard deviation over the seeds: a row per condition, a column per measure, and ``n``, the number of seeds.

        The standard deviation says how far one run lies from another; of a single seed there is none. What it does not
        hold is the chance of the test split, which is the same for all seeds: ``scores.summary("accuracy",
        test_samples=1000)`` shows its `standard_error` beside it.

        Args:
            measures: the ones to show; all when there is none.
            test_samples: number of samples of the test split; only for measures that are shares of them, as accuracy is.

        Raises:
            ValueError: there is no such measure, or one with ``test_samples`` whose mean lies outside 0..1.
        """
        import pandas as pd

        shown = [self._measure(measure) for measure in measures] or self.measures or [self._measure(None)]
        columns = {}
        for measure in shown:
            wide = self.by_seed(measure)
            columns[measure] = [_mean_and_std(wide[name]) for name in self.conditions]
            if test_samples is not None:
                columns[f"{measure}, test split"] = [_test_error(wide[name], measure, test_samples) for name in self.conditions]
        index = pd.Index(self.conditions, name="condition")
        return pd.DataFrame(columns, index=index).assign(n=len(self.seeds))

    def difference(self, first: Name, second: Name, measure: str | None = None) -> "Difference":
        """First condition minus second, seed by seed: what both share, such as data and first weights, drops out.

        Args:
            first, second: names of two conditions.
            measure: may be left out where there is only one.

        Raises:
            ValueError: there is no such condition or measure, or the two conditions are the same.
        """
        wide = self.by_seed(measure)
        first, second = (_known(name, self.conditions, "condition") for name in (first, second))
        if first == second:
            raise ValueError(f"both conditions are {first!r}: a difference needs two.")
        per_seed = wide[first] - wide[second]
        return Difference(first, second, self._measure(measure), per_seed, *interval(per_seed))

    def frames(self, condition: Name, of: str | None = None) -> "dict[int, pd.DataFrame]":
        """Learning curves of one condition, from seed to a frame with a row per epoch.

        Args:
            condition: its name.
            of: name under which ``run`` returned the curves; may be left out where there is only one.

        Raises:
            ValueError: there is no such condition, or there are no such curves.
        """
        condition = _known(condition, self.conditions, "condition")
        of = self._only(of, self._curves, "learning curves", "a History or its frame")
        found = {}
        for seed in self.seeds:
            given = self.runs[condition, seed][of]
            found[seed] = given.frame if isinstance(given, History) else given
        return found

    def curves(self, column: str, of: str | None = None) -> "pd.DataFrame":
        """One column of the learning curves of all runs: a row per epoch, a column per condition and seed.

        A run that stopped early has NaN after its last epoch.

        Args:
            column: such as ``"val_accuracy"``.
            of: see `frames`.

        Raises:
            ValueError: there are no such curves, or no such column in them.
        """
        import pandas as pd

        found = {}
        for name in self.conditions:
            for seed, frame in self.frames(name, of).items():
                found[name, seed] = frame[_known(column, list(frame.columns), "column of learning curves")]
        return pd.concat(found, axis=1, names=["condition", "seed"])

    def _measure(self, measure: str | None) -> str:
        return self._only(measure, self.measures, "measure", "a number")

    def _only(self, name: str | None, names: list[str], what: str, kind: str) -> str:
        if name is not None and names:
            return _known(name, names, what)
        if len(names) == 1:
            return names[0]
        if not names:
            raise ValueError(f"there is no {what}: the dicts that the runs returned hold nothing that is {kind}.")
        raise ValueError(f"there are several of {what}; name one of {', '.join(names)}.")

    def __repr__(self) -> str:
        held = f"Results of {_count(self.conditions, 'condition')} with {_count(self.seeds, 'seed')}"
        return f"{held}\n{self.summary().to_string()}" if self.measures else f"{held}, without measures"

    def _repr_html_(self) -> str | None:
        return self.summary().to_html() if self.measures else None


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """One condition minus another, paired by seed; its text is one line that can be read.

    Attributes:
        first, second, measure: what was compared.
        per_seed: a series with the seeds as its index.
        mean, low, high: mean of the differences, and their 95 % interval by Student's t; NaN as in `interval`.
    """

    first: Name
    second: Name
    measure: str
    per_seed: "pd.Series"
    mean: float
    low: float
    high: float

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.per_seed)

    def __repr__(self) -> str:
        what = f"{self.first} − {self.second}, {self.measure}"
        if not math.isfinite(self.mean):
            return f"{what}: no mean, {_not_finite(self.per_seed)}"
        form = _form([value for value in (self.mean, self.low, self.high) if math.isfinite(value)])
        mean, low, high = (f"{value:+{form}}".replace("-", "−") for value in (self.mean, self.low, self.high))
        if self.n == 1:
            return f"{what}: {mean} (1 seed: no interval)"
        return f"{what}: {mean} (95 % interval {low} to {high}, {self.n} seeds)"


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval, in the unit of the values; a single value has NaN as bounds."""

    mean: float
    low: float
    high: float


def interval(values: Iterable[float] | Mapping[int, float], confidence: float = 0.95) -> Interval:
    """Mean of the values and its confidence interval by Student's t, which allows for few seeds.

    Args:
        values: one number per seed, one at least; of a mapping or a series, its values. One that is not finite makes all NaN.
        confidence: above 0 and below 1.

    Raises:
        ValueError: no values, one that is not a number, or ``confidence`` outside its range.

    >>> mean, low, high = interval([0.02, 0.03, 0.01])
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.02, -0.005, 0.045)
    """
    confidence = valid.number(confidence, "confidence", "it lies above 0 and below 1", valid.ABOVE_0, valid.BELOW_1)
    try:
        listed = [float(value) for value in (values.values() if isinstance(values, Mapping) else values)]
    except (TypeError, ValueError):
        raise ValueError(f"values are {values!r}; give one number for each seed.") from None
    if not listed:
        raise ValueError("there are no values; give one number for each seed, one at least.")
    if not all(map(math.isfinite, listed)):
        return Interval(math.nan, math.nan, math.nan)
    mean = statistics.fmean(listed)
    if len(listed) == 1:
        return Interval(mean, math.nan, math.nan)
    from scipy.special import stdtrit  # the quantile of Student's t, without the second that `scipy.stats` takes to import

    degrees = len(listed) - 1
    half = float(stdtrit(degrees, (1 + confidence) / 2)) * statistics.stdev(listed) / math.sqrt(len(listed))
    return Interval(mean, mean - half, mean + half)


def standard_error(share: Share, samples: int) -> Share:
    """Standard error of an accuracy that comes from the choice of the test images: sqrt(p (1 − p) / n); lesson 00.

    All seeds are tested on the same images, so the spread over seeds does not hold it, and more seeds do not make it
    smaller. `Results.summary` shows it beside the spread.

    Args:
        share: accuracy in 0..1, or a series of them.
        samples: number of test samples, at least 1.

    Raises:
        ValueError: a share outside 0..1, or no sample.

    >>> round(standard_error(0.9, samples=1000), 4)
    0.0095
    """
    samples = valid.whole_number(samples, "samples", 1)
    for value in np.ravel(share):
        valid.share(value, "share", "an accuracy")
    return (share * (1 - share) / samples) ** 0.5


# --- what runs give, and how numbers are written -----------------------------------------------------------------------------


def _named(conditions: Mapping[Name, Any] | Iterable[Name]) -> dict[Name, Any]:
    if isinstance(conditions, (str, bytes)) or not isinstance(conditions, Iterable):
        raise ValueError(f"conditions are {conditions!r}; give a dict from names to values, or a list of numbers or words.")
    names = list(conditions)
    for name in names:
        if not isinstance(name, (str, numbers.Real)):
            raise ValueError(f"a condition is {name!r}; name it: give a dict from names (text or numbers) to values.")
    _different(names, "condition")
    return dict(conditions) if isinstance(conditions, Mapping) else {name: name for name in names}


def _different(names: list, what: str) -> list:
    if not names:
        raise ValueError(f"there is no {what}; give one at least.")
    for place, name in enumerate(names):
        for other in names[:place]:
            if name == other or str(name) == str(other):  # a dict takes 1 and True for one key, a reader 1 and "1" for one name
                raise ValueError(f"there are two of {what} {name} ({other!r} and {name!r}); each must be there once.")
    return names


@contextlib.contextmanager
def _noted(name: Name, seed: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"This was the run of condition {name!r} with seed {seed}.")
        raise


def _kinds(found: Mapping[str, Any]) -> dict[str, str]:
    """From each name in what a run returned to what it is."""
    import pandas as pd

    if not isinstance(found, Mapping) or not found:
        shown = "nothing" if found is None else f"{found!r}"[:80]
        raise ValueError(f'run returned {shown}; it must return a dict, such as {{"accuracy": 0.9}}.')
    kinds = {}
    for name, value in found.items():
        if not isinstance(name, str) or name in ("condition", "seed", "n"):
            raise ValueError(f"run returned something named {name!r}; names are text other than 'condition', 'seed' and 'n'.")
        is_curves = isinstance(value, (History, pd.DataFrame))
        kinds[name] = "learning curves" if is_curves else "something else" if _number(value) is None else "a number"
    return kinds


def _same_kinds(found: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    kinds, expected = _kinds(found), _kinds(first)
    if kinds.keys() != expected.keys():
        raise ValueError(
            f"run returned {', '.join(kinds)}, and before {', '.join(expected)}: every run returns the same names."
        )
    for name, kind in kinds.items():
        if kind != expected[name]:
            raise ValueError(f"run returned {kind} as {name!r} ({found[name]!r:.60}), and before {expected[name]}.")


def _plain(value: Any) -> Any:
    is_one_number = isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0
    return value.item() if is_one_number else value


def _number(value: Any) -> float | None:
    value = _plain(value)
    return float(value) if isinstance(value, numbers.Real) else None


def _known(name: Any, names: list, what: str) -> Any:
    if name in names:
        return names[names.index(name)]  # 0.1 equals NumPy's float32 of it, and is another key of a dict
    close = difflib.get_close_matches(str(name), [str(known) for known in names], n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"there is no {what} {name!r}.{hint} Known: {', '.join(map(str, names))}.")


def _count(things: list, what: str) -> str:
    return f"{len(things)} {what}" if len(things) == 1 else f"{len(things)} {what}s"


def _mean_and_std(values: "pd.Series") -> str:
    if not np.isfinite(values).all():
        return _not_finite(values)
    form = _form(values)
    mean = f"{values.mean():{form}}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():{form}}"


def _test_error(shares: "pd.Series", measure: str, samples: int) -> str:
    if not np.isfinite(shares).all():
        return ""
    error = standard_error(valid.share(shares.mean(), measure, "with test_samples, a measure"), samples)
    return f"± {error:{_form([error])}}"


def _not_finite(values: "pd.Series") -> str:
    seeds = ", ".join(str(seed) for seed in values.index[~np.isfinite(values)])
    return f"not finite (seed {seeds})"


def _form(values: Iterable[float]) -> str:
    """How numbers are written: three decimals; fewer for large ones, more where three would show only zeros."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest >= 1e7:  # as of a loss that has diverged
        return ".3e"
    if largest >= 100:
        return ".1f"
    return ".3f" if largest >= 0.01 or largest == 0 else f".{2 - math.floor(math.log10(largest))}f"
