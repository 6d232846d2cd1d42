"""Claims of a lesson: measured values per seed, the rule they must meet, and a JSON file that keeps both."""

import json
import math
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from course_utils import experiment, runtime, valid
from course_utils.files import say, write_text

if TYPE_CHECKING:
    import pandas as pd

_START = time.perf_counter()
# What a bound is called in words, and the side of it on which the values must lie.
_BOUNDS = {
    "each_at_least": ("at least {:g} in each run", 1),
    "each_at_most": ("at most {:g} in each run", -1),
    "mean_at_least": ("at least {:g} on average", 1),
    "mean_at_most": ("at most {:g} on average", -1),
}


@dataclass(frozen=True)
class Claim:
    """A statement with a value per seed and the least that must hold; without a bound, an effect that is not shown.

    Attributes:
        name: short key, unique in the lesson, such as ``"early-stopping"``.
        statement: what the values are, such as ``"test accuracy, dropout − plain"``.
        values: value per seed (or other repetition).
        each_at_least, each_at_most, mean_at_least, mean_at_most: bounds; ``None`` where there is none.
    """

    name: str
    statement: str
    values: dict[int, float]
    each_at_least: float | None = None
    each_at_most: float | None = None
    mean_at_least: float | None = None
    mean_at_most: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that there are, by name."""
        return {name: getattr(self, name) for name in _BOUNDS if getattr(self, name) is not None}

    @property
    def rule(self) -> str:
        """The bounds in words.

        >>> Claim("gain", "gain in accuracy", {0: 0.1}, mean_at_least=0.08).rule
        'at least 0.08 on average'
        """
        return " and ".join(_BOUNDS[name][0].format(bound) for name, bound in self.bounds.items())

    @property
    def n(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean of the values; NaN where one is not finite."""
        return experiment.interval(self.values.values()).mean

    @property
    def sd(self) -> float:
        """Standard deviation of the values; NaN for a single one, or where one is not finite."""
        known = self.n > 1 and all(map(math.isfinite, self.values.values()))
        return statistics.stdev(self.values.values()) if known else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean, by Student's t; NaN for a single value."""
        return experiment.interval(self.values.values())[1:]

    @property
    def margin(self) -> float:
        """Distance of the mean from the nearest bound, in standard deviations of the values.

        Bounds on each run and on the mean are measured alike. It is negative where the mean lies on the wrong side, and NaN
        where there is nothing to measure: no bound, one run, or equal values.

        >>> Claim("gain", "gain in points", {0: 1, 1: 2, 2: 3}, mean_at_least=0).margin
        2.0
        """
        if not self.bounds or not self.sd > 0:
            return math.nan
        return min(_BOUNDS[name][1] * (self.mean - bound) / self.sd for name, bound in self.bounds.items())

    @property
    def holds(self) -> bool:
        """Whether all bounds are met; a value that is not finite meets none."""
        mean, values = self.mean, list(self.values.values())
        judged = {name: values if name.startswith("each") else [mean] for name in self.bounds}
        return all(
            math.isfinite(value) and (value >= bound if _BOUNDS[name][1] > 0 else value <= bound)
            for name, bound in self.bounds.items()
            for value in judged[name]
        )

    @property
    def verdict(self) -> str:
        """``"holds"``, ``"does not hold"``, or ``"not shown"`` where there is no bound."""
        if not self.bounds:
            return "not shown"
        return "holds" if self.holds else "does not hold"

    @property
    def found(self) -> str:
        """What was measured, in words.

        >>> Claim("gain", "gain in accuracy", {0: 0.1, 1: 0.2, 2: 0.3}).found
        'gain in accuracy: 0.2 on average over 3 runs (95 % interval -0.0484 to 0.448)'
        """
        if self.n == 1:
            return f"{self.statement}: {self.mean:.3g} in one run"
        low, high = self.interval
        return f"{self.statement}: {self.mean:.3g} on average over {self.n} runs (95 % interval {low:.3g} to {high:.3g})"


@dataclass
class Claims:
    """The claims of one lesson, in the order in which they are made.

    >>> claims = Claims("01")
    >>> claims.add("gain", "gain in points", {0: 5, 1: 6, 2: 7}, mean_at_least=3)
    gain in points: 6 on average over 3 runs (95 % interval 3.52 to 8.48). The lesson says at least 3 on average: that holds.
    """

    lesson: str
    made: list[Claim] = field(default_factory=list)

    def add(self, name: str, statement: str, values: "dict[int, float] | pd.Series", **bounds: float) -> None:
        """Make a claim and say whether it holds.

        One that does not hold is said, and the notebook goes on: who changes a number gets another result. It stops the lesson
        where lessons are judged (``COURSE_JUDGE`` is set, as `make lessons` does), but not while claims are recorded: all of
        them are then, and the test that reads the file fails. Under the ``ci`` profile, whose runs are too short, none is
        judged.

        Args:
            name, statement, values, bounds: see `Claim`; ``values`` may be a series with the seeds as its index.

        Raises:
            ValueError: no values, two values for a seed, no bound, one that is not finite, or a name that is taken where
                lessons are judged or recorded. Elsewhere the claim takes the place of the other: its cell ran again.
            AssertionError: the claim does not hold where lessons are judged.
        """
        claim = self._made(name, statement, values, bounds)
        if not claim.rule:
            raise ValueError(f"claim {name!r} needs a bound, such as mean_at_least=0.")
        self._keep(claim)
        said = f"{claim.found}. The lesson says {claim.rule}"
        if runtime.profile() == "ci":
            say(f"{said}; not judged under profile ci, whose runs are too short.")
        elif claim.holds:
            say(f"{said}: that holds.")
        else:
            low, high = min(claim.values.values()), max(claim.values.values())
            say(f"{said}: not so here, with {low:.3g} to {high:.3g}. If you changed something above, that may be the reason.")
            if os.environ.get("COURSE_JUDGE") and not os.environ.get("COURSE_RESULTS"):
                raise AssertionError(f"claim {name!r} of lesson {self.lesson} does not hold: {claim.values}: {claim.rule}")

    def not_shown(self, name: str, statement: str, values: "dict[int, float] | pd.Series") -> None:
        """Report an effect that no honest bound can hold: seeds differ too much. It is measured and kept, and never judged.

        Args:
            name, statement, values: see `Claim`.

        Raises:
            ValueError: no values, two values for a seed, or a name that is taken, as for `add`.
        """
        claim = self._made(name, statement, values, {})
        self._keep(claim)
        say(f"{claim.found}. Not shown: this differs too much from seed to seed for the lesson to claim it.")

    def _made(self, name: str, statement: str, values: "dict[int, float] | pd.Series", bounds: dict) -> Claim:
        try:
            measured = {int(seed): float(value) for seed, value in values.items()}
        except (AttributeError, TypeError, ValueError):
            shown = f"{values!r}"[:80]
            raise ValueError(
                f"values of claim {name!r} are {shown}; give a number for each seed, such as {{0: 0.5}}."
            ) from None
        if not measured:
            raise ValueError(f"claim {name!r} needs at least one value.")
        if len(measured) < len(values):
            raise ValueError(f"claim {name!r} has two values for a seed: {list(values.keys())}. Give each seed one value.")
        for key, bound in bounds.items():
            if bound is not None:
                bounds[key] = valid.number(bound, f"{key} of claim {name!r}", "a bound is a finite number")
        return Claim(name, statement, measured, **bounds)

    def _keep(self, claim: Claim) -> None:
        names = [other.name for other in self.made]
        if claim.name not in names:
            self.made.append(claim)
        elif os.environ.get("COURSE_JUDGE") or os.environ.get("COURSE_RESULTS"):
            raise ValueError(f"claim {claim.name!r} is made twice in lesson {self.lesson}.")
        else:
            self.made[names.index(claim.name)] = claim

    def save(self) -> None:
        """Write the claims to ``$COURSE_RESULTS/<profile>/<lesson>.json``; without that variable, or above rank 0, nothing."""
        folder = os.environ.get("COURSE_RESULTS")
        if not folder:
            say(f"{len(self.made)} claims measured (kept in a file by `make claims LESSON={self.lesson}`).")
            return
        if runtime.rank() > 0:
            return
        path = Path(folder) / runtime.profile() / f"{self.lesson}.json"
        seconds = round(time.perf_counter() - _START, 1)
        header = {"lesson": self.lesson, "profile": runtime.profile(), "seconds": seconds, **machine()}
        write(path, header, self.made)
        say(f"{len(self.made)} claims written to {path}.")


def write(path: Path, header: dict, claims: list[Claim]) -> None:
    """Write a record: how it was measured (``header``), and each claim with what follows from its values and bounds."""
    content = {**header, "claims": [_written(claim) for claim in claims]}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> tuple[dict, list[Claim]]:
    """Read a record: its header, and its claims.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not a record, or half of one.
    """
    names = {attribute.name for attribute in fields(Claim)}
    claims = []
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        header["lesson"]  # without it nobody could say whose claims they are
        for saved in header.pop("claims"):
            given = {name: value for name, value in saved.items() if name in names}
            values = {int(seed): math.nan if value is None else float(value) for seed, value in saved["values"].items()}
            claims.append(Claim(**{**given, "values": values}))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record of claims ({type(error).__name__}: {error}): restore it, or measure them again."
        ) from error
    return header, claims


def _written(claim: Claim) -> dict:
    """A claim as its record holds it; what is not a number is null, which JSON has, and NaN is not."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    derived: dict[str, Any] = {"mean": finite(claim.mean), "sd": finite(claim.sd)}
    derived |= {"interval": [finite(end) for end in claim.interval], "n": claim.n, "margin": finite(claim.margin)}
    derived |= {"rule": claim.rule, "verdict": claim.verdict}
    values = {seed: finite(value) for seed, value in claim.values.items()}
    return asdict(claim) | {"values": values} | derived


def machine() -> dict:
    """Processor, threads and versions, as measurements need beside them."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn")
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    }


def _processor() -> str:
    if runtime.profile() == "gpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
