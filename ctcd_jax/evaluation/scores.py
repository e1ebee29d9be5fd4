"""The paper's GLUE metrics, of many runs and many resamples of the examples at once."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def score(
    metrics: Sequence[str], labels: Sequence[float] | np.ndarray, predictions: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """Returns {metric: value}: accuracy and F1 in [0, 1], the others in [-1, 1]; 0 where undefined.

    Args:
      metrics: names out of accuracy, f1 (of class 1), f1_macro (its mean over the classes that are some
        example's label or prediction), matthews, pearson, spearman.
      labels: int[N] class ids, or float[N] for the correlations; N is 1 or more.
      predictions: the same, as the model has it.
    """
    ones = np.ones((1, len(labels)))
    values = weighted_scores(metrics, np.asarray(labels), np.asarray(predictions)[None], ones)
    return {metric: float(values[metric][0, 0]) for metric in metrics}


def majority_share(labels: Sequence[float]) -> float:
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


def weighted_scores(
    metrics: Sequence[str], labels: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns {metric: float[runs, C]}, of each run as if example i stood `counts[c, i]` times.

    Args:
      metrics, labels: as for `score`.
      predictions: [runs, N].
      counts: int[C, N], in every row one example or more.
    """
    labels, predictions, counts = (np.asarray(values, np.float64) for values in (labels, predictions, counts))
    functions = {
        "accuracy": _accuracy,
        "f1": _f1,
        "f1_macro": _f1_macro,
        "matthews": _matthews,
        "pearson": _pearson,
        "spearman": _spearman,
    }
    return {metric: functions[metric](labels, predictions, counts) for metric in metrics}


def _accuracy(labels, predictions, counts):
    return (predictions == labels) @ counts.T / counts.sum(axis=1)


def _f1(labels, predictions, counts):
    return _ratio(*_f1_parts(1, labels, predictions, counts))


def _f1_macro(labels, predictions, counts):
    total = classes = 0
    for label in np.union1d(labels, predictions):
        hits, there = _f1_parts(label, labels, predictions, counts)
        total, classes = total + _ratio(hits, there), classes + (there > 0)
    return total / classes


def _f1_parts(label, labels, predictions, counts):
    """F1 of a class as numerator and denominator, each float[runs, C]."""
    hits = ((predictions == label) & (labels == label)) @ counts.T
    return 2 * hits, (predictions == label) @ counts.T + counts @ (labels == label)


def _matthews(labels, predictions, counts):
    # The form for any number of classes (Gorodkin 2004), as in scikit-learn.
    total = counts.sum(axis=1)
    covariance = total * ((predictions == labels) @ counts.T)
    actual_free, guessed_free = total**2, np.tile(total**2, (len(predictions), 1))
    for label in np.union1d(labels, predictions):
        actual, guessed = counts @ (labels == label), (predictions == label) @ counts.T
        covariance -= actual * guessed
        actual_free = actual_free - actual**2
        guessed_free -= guessed**2
    return _ratio(covariance, np.sqrt(actual_free) * np.sqrt(guessed_free))


def _pearson(labels, predictions, counts):
    total = counts.sum(axis=1)
    x, y = labels - labels.mean(), predictions - predictions.mean(axis=1, keepdims=True)
    mean_x, mean_y = counts @ x / total, y @ counts.T / total
    covariance = (x * y) @ counts.T / total - mean_x * mean_y
    spread_x = np.sqrt(np.maximum(counts @ x**2 / total - mean_x**2, 0))
    spread_y = np.sqrt(np.maximum(y**2 @ counts.T / total - mean_y**2, 0))
    # Rounding leaves a constant some spread: what was drawn decides.
    varies = _varies(labels, counts) & np.stack([_varies(values, counts) for values in predictions])
    return np.clip(_ratio(covariance, np.where(varies, spread_x * spread_y, 0)), -1, 1)


def _spearman(labels, predictions, counts):
    x = _centred_ranks(labels, counts)
    weighted_x = counts * x
    spread_x = np.sqrt(_inner(weighted_x, x))
    values = []
    for guesses in predictions:
        y = _centred_ranks(guesses, counts)
        values.append(_ratio(_inner(weighted_x, y), spread_x * np.sqrt(_inner(counts * y, y))))
    return np.stack(values)


def _centred_ranks(values, counts):
    """float[C, N]: mid-ranks among the examples drawn, less their mean; exact, for ranks are halves of integers."""
    order = np.argsort(values, kind="stable")
    _, first, group = np.unique(values[order], return_index=True, return_inverse=True)
    size = np.add.reduceat(counts[:, order], first, axis=1)
    ranks = np.cumsum(size, axis=1) - (size - 1) / 2 - (counts.sum(axis=1, keepdims=True) + 1) / 2
    place = np.empty_like(order)
    place[order] = group
    return ranks[:, place]


def _varies(values, counts):
    lowest = np.where(counts > 0, values, np.inf).min(axis=1)
    return lowest < np.where(counts > 0, values, -np.inf).max(axis=1)


def _inner(a, b):
    return np.einsum("cn,cn->c", a, b)


def _ratio(top, bottom):
    """0 where it is undefined: scikit-learn has it so, and a collapsed model's constant correlates with nothing."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
