"""The paper's GLUE metrics, from scikit-learn and SciPy."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def score(metrics: Sequence[str], labels: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Returns {metric: value}; accuracy, f1 in [0, 1], matthews, pearson, spearman in [-1, 1].

    Args:
      metrics: names out of accuracy, f1 (of class 1), matthews, pearson, spearman.
      labels: int[N] class ids, or float[N] for the correlations.
      predictions: the same, as the model has it.
    """
    from scipy import stats
    from sklearn import metrics as sklearn

    functions = {
        "accuracy": sklearn.accuracy_score,
        "f1": lambda y, p: sklearn.f1_score(y, p, zero_division=0),
        "matthews": sklearn.matthews_corrcoef,
        "pearson": _correlation(stats.pearsonr),
        "spearman": _correlation(stats.spearmanr),
    }
    return {metric: float(functions[metric](labels, predictions)) for metric in metrics}


def majority_share(labels: Sequence[int]) -> float:
    """Returns the accuracy of always answering with the most frequent class of `labels`."""
    return Counter(labels).most_common(1)[0][1] / len(labels)


def majority(metrics: Sequence[str], labels: Sequence[float]) -> dict[str, float]:
    """Returns {metric: value} of one answer for everything, the baseline that a model has to beat.

    Of classes the answer is the most frequent of `labels` (the last of those equally frequent); of scores any constant,
    whose correlations are 0.

    Args:
      metrics, labels: as for `score`.
    """
    counts = Counter(labels)
    answer = max(counts, key=lambda label: (counts[label], label))
    return score(metrics, labels, [answer] * len(labels))


def _correlation(function):
    def value(labels, predictions):
        # Undefined for a constant, which a collapsed model predicts: 0, as scikit-learn has it for Matthews.
        return function(labels, predictions).statistic if np.ptp(predictions) and np.ptp(labels) else 0.0

    return value
