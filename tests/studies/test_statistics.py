"""Paired differences against SciPy's own tests and against simulation."""

import numpy as np
import pytest
from scipy import stats

from ctcd_jax.studies.statistics import detectable_errors, holm, paired


def test_the_interval_and_p_are_those_of_a_paired_t_test():
    ours, theirs = np.random.default_rng(0).normal(size=(2, 7))
    found = paired(ours - theirs)
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    assert (found.mean, found.p) == pytest.approx((np.mean(ours - theirs), expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("count", [3, 5, 10])
def test_what_would_be_seen_is_seen_in_eight_of_ten(count):
    rng = np.random.default_rng(count)
    shift = detectable_errors(count) / count**0.5  # in standard deviations
    samples = rng.normal(shift, 1, size=(20_000, count))
    assert np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.012)


def test_one_seed_says_nothing_and_equal_differences_are_certain():
    assert paired([0.3]) is None
    same = paired([0.25, 0.25, 0.25])
    assert (same.low, same.high, same.p, same.detectable) == (0.25, 0.25, 0.0, 0.0)
    assert paired([0.0, 0.0]).p == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
