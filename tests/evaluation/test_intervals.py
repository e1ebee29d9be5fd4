import itertools

import numpy as np
import pytest
from scipy import stats

from ctcd_jax.evaluation.scores import weighted_scores
from ctcd_jax.evaluation.tables.bootstrap import resampled_scores
from ctcd_jax.evaluation.tables.intervals import (
    EXAMPLES,
    FINETUNING,
    PRETRAINING,
    half_width,
    interval,
    interval_words,
    p_value,
    shared_variance,
)


def test_over_seeds_alone_it_is_scipys_paired_t_interval():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    found = interval((first - second)[None])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.covers == (FINETUNING,)
    # One fine-tuning for each pre-training: the same interval, of what else may come out.
    turned = interval((first - second)[:, None])
    assert (turned.low, turned.high) == pytest.approx((expected.low, expected.high))
    assert turned.covers == (PRETRAINING,)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_the_p_value_over_one_kind_of_seeds_is_scipys(shape):
    first, second = np.random.default_rng(7).normal(size=(2, 5)) + np.array([[0.8], [0]])
    expected = stats.ttest_rel(first, second).pvalue
    assert p_value((first - second).reshape(shape)) == pytest.approx(expected, rel=1e-6)


def test_at_the_level_of_its_p_value_an_interval_ends_at_0():
    rng = np.random.default_rng(8)
    differences, drawn = rng.normal(1, 0.5, size=(3, 4)), rng.normal(0, 0.3, size=(3, 4, 200))
    p = p_value(differences, drawn, 80)
    assert 1e-4 < p < 0.2
    found = interval(differences, drawn, 80, 1 - p)
    assert (found.low, found.high) == pytest.approx((0, 2 * differences.mean()), abs=1e-6)


def test_over_pretrainings_it_is_the_t_interval_of_their_means_when_finetunings_share_nothing():
    # Each row has the same mean deviation in no common direction: columns have equal means.
    differences = np.array([[1.0, 3.0], [6.0, 4.0], [3.0, 3.0]])
    expected = stats.t(2).ppf(0.975) * np.std([2, 5, 3], ddof=1) / np.sqrt(3)
    found = interval(differences)
    assert found.high - found.low == pytest.approx(2 * expected)
    assert found.covers == (PRETRAINING, FINETUNING)


def test_a_finetuning_seed_that_favours_one_model_after_every_pretraining_widens_it_as_far_as_itself():
    # Nothing but a column effect: the pre-trainings agree, so only the columns' t interval is left.
    found = interval(np.tile([1.0, 2.0, 6.0], (4, 1)))
    expected = stats.t.interval(0.95, 2, loc=3, scale=stats.sem([1, 2, 6]))
    assert (found.low, found.high) == pytest.approx(expected)


def test_of_one_seed_it_is_the_t_interval_over_examples():
    rng = np.random.default_rng(1)
    right = rng.random((2, 200)) < np.array([[0.8], [0.7]])
    scores = resampled_scores(["accuracy"], np.ones(200), right.astype(float), rng, 20_000)["accuracy"]
    gaps = right[0].astype(float) - right[1]
    expected = stats.t.interval(0.95, 199, loc=gaps.mean(), scale=stats.sem(gaps))
    found = interval(gaps.mean().reshape(1, 1), (scores[0] - scores[1])[None, None], 200)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.002)
    assert found.covers == (EXAMPLES,)
    assert interval(np.ones((1, 1))) is None


def test_seeds_that_agree_by_chance_do_not_make_it_narrower_than_the_examples_do():
    # Two seeds with the same difference, which the examples move in opposite ways a little more often than not.
    drawn = np.random.default_rng(4).normal(size=(1, 2, 100_000))
    drawn -= 0.2 * drawn.mean(axis=1, keepdims=True)
    found = interval(np.ones((1, 2)), drawn, 50)
    reach = stats.t(49).ppf(0.975) * drawn.mean(axis=(0, 1)).std() * np.sqrt(50 / 49)
    assert (found.low, found.high) == pytest.approx((1 - reach, 1 + reach))
    assert interval(np.ones((1, 2))) is None


def test_what_seeds_share_is_the_mean_covariance_of_two_of_them():
    values = np.random.default_rng(2).normal(size=(4, 50)) + np.random.default_rng(3).normal(size=50)
    covariance = np.cov(values, ddof=0)
    expected = np.mean([covariance[a, b] for a, b in itertools.combinations(range(4), 2)])
    assert shared_variance(values) == pytest.approx(expected)
    assert shared_variance(values[:1]) == pytest.approx(np.var(values[0]))
    assert shared_variance(np.array([[1.0, -1.0], [-1.0, 1.0]])) == 0  # no variance is negative


# Coverage. A thousand trials have a standard error of 0.7 points at 95 %, so that 93 % is three of them below.
TRIALS = 1000
LOW = 0.93


def high(units):
    """Few seeds leave more than is claimed, for the sake of those whose variance looks small by chance."""
    return 1.0 if units < 4 else 0.985


@pytest.mark.parametrize("scatter", [0.0, 0.02, 0.06, 0.2])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("examples", [100, 1000])
def test_seeds_and_examples_hold_the_true_difference_of_accuracies(examples, seeds, scatter):
    # The first model has 5 points more. Examples favour one model or the other by up to 15 points and seeds by up to
    # `scatter`; half of the answers are drawn by the example, for all seeds and both models.
    rng = np.random.default_rng([examples, seeds, int(100 * scatter)])
    held = 0
    for trials in [100] * (TRIALS // 100):
        favour = rng.uniform(-0.15, 0.15, (trials, 2, 1, examples))
        luck = rng.uniform(-scatter, scatter, (trials, 2, seeds, 1))
        chance = np.array([0.65, 0.6])[:, None, None] + favour + luck
        common = rng.random((trials, 1, 1, examples), dtype=np.float32)
        own = rng.random((trials, 2, seeds, examples), dtype=np.float32)
        right = np.where(rng.random((trials, 1, 1, examples)) < 0.5, common, own) < chance
        gaps = (right[:, 0].astype(np.float32) - right[:, 1])[:, None]
        differences = gaps.mean(axis=-1, dtype=np.float64)
        half = half_width(differences, gaps, 1 / (examples - 1), examples)
        held += np.sum(np.abs(differences.mean(axis=(1, 2)) - 0.05) <= half)
    assert LOW <= held / TRIALS <= high(seeds)


def answers(metric, seeds, examples, scatter, rng):
    """(labels [N], predictions [2, S, N]) of two models, the first a little better, whose seeds differ in quality."""
    quality = np.array([1.0, 0.8])[:, None, None] + scatter * rng.standard_normal((2, seeds, 1))
    favour = rng.standard_normal((2, 1, examples)) + rng.standard_normal(examples)
    noise = favour / 2 + rng.standard_normal((2, seeds, examples))
    if metric in ("pearson", "spearman"):
        labels = rng.uniform(0, 5, examples)
        return labels, (quality * (labels - 2.5) + 2 * noise).astype(np.float32)
    labels = (rng.random(examples) < 0.68).astype(int)
    return labels, (quality * (2 * labels - 1) + noise > -0.3).astype(int)


def coverage(metric, seeds, examples, scatter, trials, resamples, rng):
    """How often the interval holds the difference expected at this number of examples, itself from 1,000 trials."""
    once = np.ones((1, examples))
    gaps = []
    for _ in range(1000):
        labels, predictions = answers(metric, seeds, examples, scatter, rng)
        scores = weighted_scores([metric], labels, predictions.reshape(-1, examples), once)[metric]
        gaps.append(np.subtract(*scores.reshape(2, seeds).mean(axis=1)))
    truth, held = np.mean(gaps), 0
    for _ in range(trials):
        labels, predictions = answers(metric, seeds, examples, scatter, rng)
        runs = predictions.reshape(-1, examples)
        first, second = weighted_scores([metric], labels, runs, once)[metric].reshape(2, 1, seeds)
        drawn = resampled_scores([metric], labels, runs, rng, resamples)[metric].reshape(2, 1, seeds, resamples)
        found = interval(first - second, drawn[0] - drawn[1], examples)
        held += found.low <= truth <= found.high
    return held / trials


@pytest.mark.parametrize("scatter", [0.0, 0.2])
@pytest.mark.parametrize("metric", ["f1", "matthews", "pearson"])
def test_other_metrics_are_held_by_resampling_the_predictions(metric, scatter):
    # 300 trials have a standard error of 1.26 points.
    assert coverage(metric, 3, 100, scatter, 300, 100, np.random.default_rng(0)) >= 0.912


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews", "pearson", "spearman"])
def test_every_metric_is_held_whatever_makes_the_scatter(metric, seeds, scatter):
    held = coverage(metric, seeds, 100, scatter, TRIALS, 200, np.random.default_rng(seeds))
    assert LOW <= held <= high(seeds)


@pytest.mark.parametrize(
    # Standard deviations of the pre-training, the fine-tuning seed whatever the pre-training, and both together; of an
    # example that all seeds answer alike, and of an answer of its own.
    "scatter",
    [(0, 0, 0, 1, 1), (0, 0, 0.3, 0, 1), (0.3, 0, 0.3, 1, 1), (0.3, 0.3, 0.3, 1, 1), (0.1, 0.3, 0.1, 2, 1)],
)
@pytest.mark.parametrize(("pretrainings", "finetunings"), [(2, 3), (3, 2), (5, 1), (5, 5), (10, 3)])
def test_two_levels_of_seeds_and_examples_hold_the_true_difference(pretrainings, finetunings, scatter):
    rng = np.random.default_rng([pretrainings, finetunings])
    pretraining, finetuning, both, example, own = scatter
    finetuning = finetuning if finetunings > 1 else 0  # what a single one has in common nobody can see
    shape, examples = (TRIALS, pretrainings, finetunings), 60
    seeds = pretraining * rng.standard_normal((TRIALS, pretrainings, 1)) + both * rng.standard_normal(shape)
    seeds += finetuning * rng.standard_normal((TRIALS, 1, finetunings))
    gaps = example * rng.standard_normal((TRIALS, 1, 1, examples)) + own * rng.standard_normal((*shape, examples))
    differences = seeds + gaps.mean(axis=-1)
    half = half_width(differences, gaps, 1 / (examples - 1), examples)
    held = np.mean(np.abs(differences.mean(axis=(1, 2))) <= half)
    assert LOW <= held <= high(min(pretrainings, finetunings if finetunings > 1 else pretrainings))


def test_the_words_name_what_is_covered_and_what_is_not():
    both = interval_words({FINETUNING, EXAMPLES})
    assert "95 % intervals of the difference to expect of other fine-tuning seeds and development examples" in both
    assert "94 to 99 %" in both
    assert "do not cover pre-training, for each model was pre-trained once, nor the choice of settings" in both
    seeds = interval_words({FINETUNING})
    assert "bootstrap" not in seeds
    assert "nor other development examples, nor the choice of settings" in seeds
    examples = interval_words({EXAMPLES})
    assert "t interval" not in examples
    assert "nor other fine-tuning seeds" in examples
    everything = interval_words({PRETRAINING, FINETUNING, EXAMPLES})
    assert "other pre-training seeds, fine-tuning seeds and development examples" in everything
    assert "They do not cover the choice of settings, and" in everything
