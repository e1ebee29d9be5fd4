"""The interval of an accuracy on minimal pairs, and what it says of chance."""

import numpy as np
import pytest
from scipy.stats import binomtest

from ctcd_jax.artifacts.pairs import Pairs, summarised


def test_the_interval_of_one_paradigm_is_wilsons():
    for correct, pairs in ((0, 7), (6, 10), (500, 1000), (40, 40)):
        theirs = binomtest(correct, pairs).proportion_ci(method="wilson")
        own = summarised([{"pairs": pairs, "correct": correct, "ties": 0}])
        assert (own.accuracy, own.low, own.high) == pytest.approx((correct / pairs, theirs.low, theirs.high), abs=1e-6)


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.array([0.5, 0.97, 0.8, 0.2])
    held = 0
    for _ in range(2000):
        correct = rng.binomial(60, truth).tolist()
        own = summarised([{"pairs": 60, "correct": count, "ties": 0} for count in correct])
        held += own.low <= truth.mean() <= own.high
    assert 1870 <= held <= 1950


def test_chance_in_words():
    ends = ((0.4, 0.5), (0.51, 0.6), (0.3, 0.49))
    assert [Pairs(sum(each) / 2, *each, 1, 60).against_chance for each in ends] == ["at chance", "", "below chance"]
