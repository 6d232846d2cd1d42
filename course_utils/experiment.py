"""The form of an experiment: every condition with every seed, a tidy table, paired differences with their interval."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from course_utils import valid


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
        ValueError: no values, one that is no number, or ``confidence`` outside its range.

    >>> mean, low, high = interval([0.02, 0.03, 0.01])
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.02, -0.005, 0.045)
    """
    confidence = valid.number(confidence, "confidence", "it lies above 0 and below 1", valid.ABOVE_0, valid.BELOW_1)
    try:
        numbers = [float(value) for value in (values.values() if isinstance(values, Mapping) else values)]
    except (TypeError, ValueError):
        raise ValueError(f"values are {values!r}; give one number for each seed.") from None
    if not numbers:
        raise ValueError("there are no values; give one number for each seed, one at least.")
    if not all(map(math.isfinite, numbers)):
        return Interval(math.nan, math.nan, math.nan)
    mean = statistics.fmean(numbers)
    if len(numbers) == 1:
        return Interval(mean, math.nan, math.nan)
    from scipy.special import stdtrit  # the quantile of Student's t, without the second that `scipy.stats` takes to import

    degrees = len(numbers) - 1
    half = float(stdtrit(degrees, (1 + confidence) / 2)) * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half)
