"""Claims of a lesson: measured values per seed, the rule they must meet, and a JSON file that keeps both."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from course_utils import runtime
from course_utils.files import say, write_text

if TYPE_CHECKING:
    import pandas as pd

_START = time.perf_counter()


@dataclass(frozen=True)
class Claim:
    """A statement with a value per seed and the least that must hold.

    Attributes:
        name: short key, unique in the lesson, such as ``"early-stopping"``.
        statement: one sentence that says what the values are.
        values: value per seed (or other repetition).
        each_at_least, each_at_most, mean_at_least, mean_at_most: bounds asserted; ``None`` where there is none.
    """

    name: str
    statement: str
    values: dict[int, float]
    each_at_least: float | None = None
    each_at_most: float | None = None
    mean_at_least: float | None = None
    mean_at_most: float | None = None

    @property
    def rule(self) -> str:
        """The bounds in words.

        >>> Claim("gain", "gain in accuracy", {0: 0.1}, each_at_least=0.08).rule
        'each ≥ 0.08'
        """
        bounds = (
            ("each ≥", self.each_at_least),
            ("each ≤", self.each_at_most),
            ("mean ≥", self.mean_at_least),
            ("mean ≤", self.mean_at_most),
        )
        return ", ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)

    @property
    def holds(self) -> bool:
        """Whether all bounds are met; a value that is not a number meets none."""
        values = list(self.values.values())
        mean = sum(values) / len(values)
        return all(
            ok
            for bound, ok in (
                (self.each_at_least, self.each_at_least is not None and all(v >= self.each_at_least for v in values)),
                (self.each_at_most, self.each_at_most is not None and all(v <= self.each_at_most for v in values)),
                (self.mean_at_least, self.mean_at_least is not None and mean >= self.mean_at_least),
                (self.mean_at_most, self.mean_at_most is not None and mean <= self.mean_at_most),
            )
            if bound is not None
        )


@dataclass
class Claims:
    """The claims of one lesson, in the order in which they are made.

    >>> claims = Claims("01")
    >>> claims.add("gain", "gain in accuracy", {0: 0.10, 1: 0.12}, each_at_least=0.08)
    gain: 0.11 (0.1 to 0.12 over 2 runs), asked: each ≥ 0.08 → holds
    """

    lesson: str
    made: list[Claim] = field(default_factory=list)

    def add(self, name: str, statement: str, values: "dict[int, float] | pd.Series", **bounds: float) -> None:
        """Make a claim and say whether it holds. Under the ``ci`` profile it is measured and not judged: runs are too short.

        Args:
            name, statement, values, bounds: see `Claim`; ``values`` may be a series with the seeds as its index.

        Raises:
            ValueError: no values, two values for a seed, no bound, or a name that is taken.
            AssertionError: the claim does not hold (profiles ``cpu`` and ``gpu``).
        """
        measured = {int(seed): float(value) for seed, value in values.items()}
        if len(measured) < len(values):
            raise ValueError(f"claim {name!r} has two values for a seed: {list(values.keys())}. Give each seed one value.")
        asked = {key: None if bound is None else float(bound) for key, bound in bounds.items()}
        claim = Claim(name, statement, measured, **asked)
        if not claim.values or not claim.rule:
            raise ValueError(f"claim {name!r} needs at least one value and one bound.")
        if any(other.name == name for other in self.made):
            raise ValueError(f"claim {name!r} is made twice in lesson {self.lesson}.")
        self.made.append(claim)
        numbers = list(claim.values.values())
        judged = runtime.profile() != "ci"
        verdict = ("holds" if claim.holds else "DOES NOT HOLD") if judged else "not judged under profile ci"
        say(
            f"{name}: {sum(numbers) / len(numbers):.3g} ({min(numbers):.3g} to {max(numbers):.3g} over {len(numbers)} runs), "
            f"asked: {claim.rule} → {verdict}"
        )
        if judged and "COURSE_RESULTS" not in os.environ:
            # When claims are recorded, all of them are, also the ones that fail; the test that reads the file then fails.
            assert claim.holds, f"claim {name!r} of lesson {self.lesson} does not hold: {claim.values}, asked: {claim.rule}"

    def save(self) -> None:
        """Write the claims to ``$COURSE_RESULTS/<profile>/<lesson>.json``; without that variable, or above rank 0, nothing."""
        folder = os.environ.get("COURSE_RESULTS")
        if not folder:
            say(f"{len(self.made)} claims measured (kept in a file by `make claims LESSON={self.lesson}`).")
            return
        if runtime.rank() > 0:
            return
        path = Path(folder) / runtime.profile() / f"{self.lesson}.json"
        content = {
            "lesson": self.lesson,
            "profile": runtime.profile(),
            "seconds": round(time.perf_counter() - _START, 1),
            **machine(),
            "claims": [asdict(claim) | {"rule": claim.rule, "holds": claim.holds} for claim in self.made],
        }
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        say(f"{len(self.made)} claims written to {path}.")


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
