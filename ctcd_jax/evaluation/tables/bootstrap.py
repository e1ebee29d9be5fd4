"""Bootstrap resamples of fine-tuned scores over development examples, in NumPy.

Every resample draws N of the N examples with replacement, the same for all models and seeds, so that differences are
paired and what seeds share for answering the same examples can be told (`intervals`).
"""

from collections.abc import Sequence

import numpy as np

from ctcd_jax.evaluation.scores import weighted_scores

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
