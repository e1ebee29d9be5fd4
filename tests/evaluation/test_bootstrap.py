import numpy as np
import pytest

from ctcd_jax.evaluation.scores import weighted_scores
from ctcd_jax.evaluation.tables.bootstrap import resampled_scores
from tests.evaluation import libraries

# A resample may hold one class only; the scores are compared there too.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

BINARY = ("accuracy", "f1", "f1_macro", "matthews")
CORRELATIONS = ("pearson", "spearman")


def assert_equal_to_the_libraries(metrics, labels, predictions, counts):
    """Holds every resample against scikit-learn's and SciPy's value for the examples written out."""
    found = weighted_scores(metrics, labels, predictions, counts)
    for run, guesses in enumerate(predictions):
        for index, times in enumerate(counts):
            expected = libraries.scores(metrics, np.repeat(labels, times), np.repeat(guesses, times))
            got = {metric: found[metric][run, index] for metric in metrics}
            assert got == pytest.approx(expected, abs=1e-12)


def draws(rng, size, resamples):
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples)


@pytest.mark.parametrize("size", [3, 40])
def test_binary_metrics_equal_scikit_learns(size):
    rng = np.random.default_rng(size)
    labels, predictions = rng.integers(2, size=size), rng.integers(2, size=(3, size))
    assert_equal_to_the_libraries(BINARY, labels, predictions, draws(rng, size, 30))


def test_metrics_of_several_classes_equal_scikit_learns():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(4, size=50), rng.integers(4, size=(3, 50))
    predictions[2] = labels
    metrics = ("accuracy", "f1_macro", "matthews")
    assert_equal_to_the_libraries(metrics, labels, predictions, draws(rng, 50, 30))
    # Of few examples a resample lacks the labels of a class, its predictions or both.
    assert_equal_to_the_libraries(metrics, labels[:6], predictions[:, :6], draws(rng, 6, 30))


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
