"""Bootstrap resamples of fine-tuned scores over development examples, in NumPy.

Every resample draws N of the N examples with replacement, the same for all models and seeds, so that differences are
paired and what seeds share for answering the same examples can be told (`intervals`).
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
_ENTRIES = 1 << 18  # of a temporary array: 2 MB, which a cache holds


def resampled_scores(
    metrics: Sequence[str],
    labels: np.ndarray,
    predictions: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> dict[str, np.ndarray]:
    """Returns {metric: float[runs, resamples]}.

    Args:
      metrics: as for `scores.score`.
      labels: [N], class ids or scores.
      predictions: [runs, N].
    """
    size = len(labels)
    # Examples with the same label and the same predictions are interchangeable: counting the kinds is enough, and with
    # two or three classes they are few.
    kinds, kind = np.unique(np.vstack([labels, predictions]), axis=1, return_inverse=True)
    kind = kind.reshape(-1)
    width = kinds.shape[1]
    chunk = max(1, _ENTRIES // size)
    parts = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = kind[rng.integers(size, size=(rows, size), dtype=np.int32)] + width * np.arange(rows)[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=rows * width).reshape(rows, width)
        parts.append(weighted_scores(metrics, kinds[0], kinds[1:], counts))
    return {metric: np.concatenate([part[metric] for part in parts], axis=1) for metric in metrics}


def weighted_scores(
    metrics: Sequence[str], labels: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns {metric: float[runs, C]}, as `scores.score` has it when example i stands `counts[c, i]` times.

    Args:
      labels: [N].
      predictions: [runs, N].
      counts: int[C, N], in every row one example or more.
    """
    counts = counts.astype(np.float64)
    functions = {
        "accuracy": _accuracy,
        "f1": _f1,
        "matthews": _matthews,
        "pearson": _pearson,
        "spearman": _spearman,
    }
    return {metric: functions[metric](labels, predictions, counts) for metric in metrics}


def _accuracy(labels, predictions, counts):
    return (predictions == labels) @ counts.T / counts.sum(axis=1)


def _f1(labels, predictions, counts):
    hits = ((predictions == 1) & (labels == 1)) @ counts.T
    return _ratio(2 * hits, (predictions == 1) @ counts.T + counts @ (labels == 1))


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
    # Rounding leaves a constant some spread: what was drawn tells it.
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
    """0 where it is undefined, as in `scores.score`."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
