"""Paired differences against SciPy's own tests and against simulation."""

import numpy as np
import pytest
from scipy import stats

from ctcd_jax.studies.finetuned import _common
from ctcd_jax.studies.statistics import detectable_errors, holm, paired, stricter


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


def test_comparisons_without_a_result_count_in_the_family():
    """What is finished first is not judged more mildly than the whole: its p values only fall when others come in."""
    assert holm([0.01, None, None, 0.02]) == [pytest.approx(0.04), None, None, pytest.approx(0.06)]
    whole = holm([0.01, 0.5, 0.9, 0.02])
    assert [whole[0], whole[3]] == pytest.approx([0.04, 0.06])


def test_what_would_be_seen_among_all_is_seen_whatever_the_others_say():
    count, comparisons = 5, 16
    shift = detectable_errors(count) * stricter(count, comparisons) / count**0.5
    samples = np.random.default_rng(0).normal(shift, 1, size=(20_000, count))
    p = stats.ttest_1samp(samples, 0, axis=1).pvalue
    others = [1.0] * (comparisons - 1)
    assert np.mean([holm([each, *others])[0] < 0.05 for each in p]) == pytest.approx(0.8, abs=0.012)
    assert stricter(count, 1) == 1


def test_pre_training_seeds_are_kept_before_fine_tuning_seeds():
    def common(whole):
        return _common(
            {(f"m{s}", "rte", t) for s, has in whole.items() for t in has}, ["rte"], [{s: f"m{s}" for s in whole}]
        )

    assert common({1: {0, 1, 2}, 2: {0}}) == ([1, 2], [0])
    assert common({1: {0, 1, 2}, 2: {0, 1, 3}, 3: {0, 1, 3}, 4: {2}}) == ([1, 2, 3], [0, 1])


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        ([], ([1, 2, 3], [0, 1])),
        ([("a2", "rte", 0), ("a2", "rte", 1)], ([1, 3], [0, 1])),  # a model without any cell of a task
        ([("a2", "rte", 0), ("b1", "cola", 0)], ([1, 2, 3], [1])),  # cells of one fine-tuning seed
        ([("a2", "rte", 0)], ([1, 3], [0, 1])),
        ([(f"{m}{s}", "rte", 0) for m in "ab" for s in (1, 2, 3)], ([1, 2, 3], [1])),
        ([(f"{m}{s}", "rte", t) for m in "ab" for s in (1, 2, 3) for t in (0, 1)], ([], [])),
    ],
)
def test_a_failed_cell_takes_no_more_away_than_it_must(lost, kept):
    models = [{seed: f"{name}{seed}" for seed in (1, 2, 3)} for name in "ab"]
    rows = {(of[seed], task, tuning) for of in models for seed in of for task in ("cola", "rte") for tuning in (0, 1)}
    assert _common(rows - set(lost), ["cola", "rte"], models) == kept
