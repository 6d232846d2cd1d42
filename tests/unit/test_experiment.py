"""The lab bench: what a lesson's comparison says is what SciPy and a loop by hand say."""

import math

import numpy as np
import pytest
from scipy import stats

from course_utils import experiment


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
