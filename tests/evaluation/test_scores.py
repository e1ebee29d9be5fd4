import math

import numpy as np
import pytest

from ctcd_jax.evaluation.scores import majority, majority_share, score
from tests.evaluation import libraries

LABELS = [1, 1, 1, 0, 0, 1, 0, 0]
GUESSES = [1, 1, 0, 0, 1, 1, 0, 1]


def assert_equal_to_the_libraries(metrics, labels, predictions):
    expected = libraries.scores(metrics, labels, predictions)
    assert score(metrics, labels, predictions) == pytest.approx(expected, abs=1e-12)


def test_classification_metrics_against_the_confusion_matrix():
    tp, fp, fn, tn = 3, 2, 1, 2  # counted by hand from the two lists
    values = score(("accuracy", "f1", "matthews"), LABELS, GUESSES)
    assert values["accuracy"] == pytest.approx((tp + tn) / 8)
    assert values["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert values["matthews"] == pytest.approx(matthews)


def test_macro_f1_by_hand():
    # F1 of the classes: 2 * 1 / (1 + 2), 2 * 1 / (2 + 2), and 0 of the class that is only ever predicted.
    assert score(("f1_macro",), [0, 0, 1, 1], [0, 1, 1, 2]) == {"f1_macro": pytest.approx((2 / 3 + 1 / 2 + 0) / 3)}
    # One answer for everything: 2 * 3 / (4 + 3) of the class, 0 of the other.
    assert majority(("f1_macro",), [0, 1, 1, 1])["f1_macro"] == pytest.approx(3 / 7)


def test_correlations_against_their_definitions():
    labels, predictions = [1.0, 2.0, 3.0, 5.0], [1.0, 3.0, 2.0, 30.0]
    mean_l, mean_p = 2.75, 9.0
    covariance = sum((a - mean_l) * (b - mean_p) for a, b in zip(labels, predictions, strict=True))
    norm = math.sqrt(sum((a - mean_l) ** 2 for a in labels) * sum((b - mean_p) ** 2 for b in predictions))
    values = score(("pearson", "spearman"), labels, predictions)
    assert values["pearson"] == pytest.approx(covariance / norm)
    # Two neighbours swapped: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert values["spearman"] == pytest.approx(1 - 12 / 60)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        (LABELS, GUESSES),
        (LABELS, LABELS),
        (LABELS, [0] * 8),  # constant
        (LABELS, [1] * 8),
        ([1] * 8, GUESSES),  # one class
        ([0] * 8, [0] * 8),  # the class of F1 is empty
        ([0, 0, 1, 1], [1, 1, 0, 0]),
        ([1], [1]),
    ],
)
def test_classes_score_as_in_scikit_learn(labels, predictions):
    metrics = ("accuracy", "f1", "f1_macro", "matthews")
    assert score(metrics, labels, predictions) == pytest.approx(
        libraries.scores(metrics, labels, predictions), abs=1e-12
    )


def test_three_classes_one_of_them_never_seen_score_as_in_scikit_learn():
    labels, predictions = [0, 0, 1, 1, 0, 1], [0, 2, 1, 2, 0, 0]
    metrics = ("accuracy", "f1_macro", "matthews")
    assert score(metrics, labels, predictions) == pytest.approx(
        libraries.scores(metrics, labels, predictions), abs=1e-12
    )


@pytest.mark.parametrize("size", [2, 3, 1500])
def test_float32_outputs_correlate_as_in_scipy(size):
    rng = np.random.default_rng(size)
    labels = (5 * rng.random(size)).round(1)
    predictions = (labels + rng.normal(size=size)).astype(np.float32)
    metrics = ("pearson", "spearman")
    assert score(metrics, labels, predictions) == pytest.approx(
        libraries.scores(metrics, labels, predictions), abs=1e-12
    )


def test_a_constant_prediction_scores_zero_and_not_nan():
    assert score(("pearson", "spearman"), [1.0, 2.0], [3.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}
    assert score(("f1", "matthews"), [1, 0], [0, 0]) == {"f1": 0.0, "matthews": 0.0}


def test_majority_share():
    assert majority_share([0, 1, 1, 2]) == 0.5


def test_the_majority_by_every_metric():
    # MRPC's development set: 279 of 408 are paraphrases; always saying so has precision 279/408 and recall 1.
    labels = [1] * 279 + [0] * 129
    assert majority(("f1", "accuracy", "matthews"), labels) == {
        "f1": pytest.approx(2 * 279 / (279 + 408)),
        "accuracy": pytest.approx(279 / 408),
        "matthews": 0.0,
    }
    assert majority(("f1",), labels)["f1"] == pytest.approx(0.8122, abs=5e-5)
    assert majority(("pearson", "spearman"), [0.0, 2.5, 5.0]) == {"pearson": 0.0, "spearman": 0.0}
    assert majority(("f1", "accuracy"), [0, 1]) == {"f1": pytest.approx(2 / 3), "accuracy": 0.5}  # of equals the last
