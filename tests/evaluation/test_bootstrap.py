import numpy as np
import pytest

from ctcd_jax.evaluation.bootstrap import interval, resampled_scores, seed_weights, weighted_scores
from ctcd_jax.evaluation.scores import score

# A resample may hold one class only; the scores are compared there too.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

BINARY = ("accuracy", "f1", "matthews")
CORRELATIONS = ("pearson", "spearman")


def assert_equal_to_the_libraries(metrics, labels, predictions, counts):
    """Holds every resample against scikit-learn's and SciPy's value for the examples written out."""
    found = weighted_scores(metrics, labels, predictions, counts)
    for run, guesses in enumerate(predictions):
        for index, times in enumerate(counts):
            expected = score(metrics, np.repeat(labels, times), np.repeat(guesses, times))
            got = {metric: found[metric][run, index] for metric in metrics}
            assert got == pytest.approx(expected, abs=1e-12)


def draws(rng, size, resamples):
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples)


@pytest.mark.parametrize("size", [3, 40])
def test_binary_metrics_equal_scikit_learns(size):
    rng = np.random.default_rng(size)
    labels, predictions = rng.integers(2, size=size), rng.integers(2, size=(3, size))
    assert_equal_to_the_libraries(BINARY, labels, predictions, draws(rng, size, 30))


def test_accuracy_and_matthews_of_several_classes_equal_scikit_learns():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(4, size=50), rng.integers(4, size=(3, 50))
    predictions[2] = labels
    assert_equal_to_the_libraries(("accuracy", "matthews"), labels, predictions, draws(rng, 50, 30))


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_correlations_equal_scipys_with_ties_and_without(decimals):
    rng = np.random.default_rng(decimals)
    labels = (5 * rng.random(30)).round(decimals)
    predictions = (labels + rng.normal(size=(3, 30))).round(decimals)
    predictions[2] = -predictions[2]
    assert_equal_to_the_libraries(CORRELATIONS, labels, predictions, draws(rng, 30, 30))


def test_what_has_no_value_is_zero_as_in_the_scores():
    counts = np.array([[1, 1, 1, 1], [2, 2, 0, 0], [0, 0, 4, 0], [0, 0, 1, 3]])
    labels = np.array([0, 0, 1, 1])
    assert_equal_to_the_libraries(BINARY, labels, np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]]), counts)
    # Resamples 2 to 4 draw labels, guesses or both that are constant, of values that binary fractions only round.
    scores, guesses = np.array([0.3, 0.3, 2.2, 2.2]), np.array([[1.1, 1.1, 1.1, 1.1], [0.7, 0.7, 2.0, 3.0]])
    assert_equal_to_the_libraries(CORRELATIONS, scores, guesses, counts)


def test_a_nearly_constant_output_still_correlates_as_in_scipy():
    rng = np.random.default_rng(0)
    labels = rng.random(20)
    predictions = (2.5 + 1e-6 * rng.random((1, 20))).astype(np.float32)
    assert_equal_to_the_libraries(CORRELATIONS, labels, predictions, np.ones((1, 20), dtype=int))


def test_two_examples_are_drawn_as_two_coins_fall():
    # Right, wrong: 0, 1 or 2 right draws with chances 1/4, 1/2, 1/4. The second run is the other way round.
    labels, predictions = np.array([0, 1]), np.array([[0, 0], [1, 1]])
    scores = resampled_scores(["accuracy"], labels, predictions, np.random.default_rng(0), 4000)["accuracy"]
    for value, share in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)):
        assert np.mean(scores[0] == value) == pytest.approx(share, abs=0.03)
    np.testing.assert_array_equal(scores[0], 1 - scores[1])  # both runs have the same draws


def test_resamples_scatter_as_the_binomial_formula_says_whatever_the_chunks():
    rng = np.random.default_rng(0)
    labels = np.zeros(3000, dtype=int)
    predictions = (np.arange(3000) >= 2100).astype(int)[None]  # 70 % right; 2,000 resamples take 23 chunks
    scores = resampled_scores(["accuracy"], labels, predictions, rng, 2000)["accuracy"]
    assert scores.shape == (1, 2000)
    assert scores.mean() == pytest.approx(0.7, abs=0.001)
    assert scores.std() == pytest.approx(np.sqrt(0.7 * 0.3 / 3000), rel=0.06)


def test_seeds_are_drawn_with_replacement():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(seed_weights(1, rng, 5), np.ones((5, 1)))
    weights = seed_weights(2, rng, 4000)
    np.testing.assert_array_equal(weights.sum(axis=1), 1)
    for value, share in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)):
        assert np.mean(weights[:, 0] == value) == pytest.approx(share, abs=0.03)


def test_the_interval_leaves_two_and_a_half_per_cent_at_either_end():
    assert interval(np.arange(1001.0)[::-1]) == pytest.approx((25, 975))


@pytest.mark.parametrize(
    ("seeds", "luck", "low", "high"),
    # Seeds that hardly differ; that make most of the scatter (standard deviation 5.8 points); and only three of those.
    # The notes under the table say what comes out.
    [(5, 0.02, 0.95, 0.995), (5, 0.1, 0.86, 0.92), (3, 0.1, 0.76, 0.86)],
)
def test_intervals_hold_the_true_difference_as_often_as_the_notes_say(seeds, luck, low, high):
    # One model is right 5 points more often. Examples differ in difficulty and seeds in luck; two thirds of the answers
    # come from a draw that models and seeds have in common, so pairing matters.
    rng = np.random.default_rng(1)
    examples, resamples, trials = 400, 300, 400
    held = 0
    for _ in range(trials):
        chance = np.array([0.7, 0.65])[:, None, None] + rng.uniform(-0.15, 0.15, (1, 1, examples))
        chance = chance + rng.uniform(-luck, luck, (2, seeds, 1))
        common, own = rng.random((1, 1, examples)), rng.random((2, seeds, examples))
        right = (np.where(rng.random(examples) < 2 / 3, common, own) < chance).reshape(-1, examples)
        scores = resampled_scores(["accuracy"], np.ones(examples), right.astype(float), rng, resamples)["accuracy"]
        first, second = scores.reshape(2, seeds, resamples)
        ends = interval((seed_weights(seeds, rng, resamples).T * (first - second)).sum(axis=0))
        held += ends[0] <= 0.05 <= ends[1]
    assert low <= held / trials <= high
