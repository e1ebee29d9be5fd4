"""Confidence intervals of a difference between two models over few seeds and many examples, and their words.

What is estimated is the difference expected over seeds and over the population of examples. All seeds answer the same
examples, so what the sample of examples happens to favour is common to all seeds and not in their scatter: the variance
of the mean over seeds is that of the seeds, divided by their number, and the covariance that two seeds have for having
the same examples (Obuchowski and Rockette 1995). With pre-training and fine-tuning seeds, a fine-tuning seed is common
to all pre-trainings in the same way.

Each part has its own degrees of freedom, few for seeds. Half-widths of their t intervals, added in quadrature, cover at
least what they claim whatever the ratio of the variances (Banerjee 1961). Satterthwaite's degrees of freedom do not: in
simulation they covered as little as 87 % with two seeds and 92 % with three. The percentile bootstrap over seeds covers
50 % with two seeds, 74 % with three, 84 % with five where seeds make the scatter. Here it is 94 to 99 % in all that
`test_intervals.py` tries (accuracy, F1, Matthews and correlations; seeds that scatter from not at all to far more than
examples; one level of seeds and two), with four seeds or more at most 98 %.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ctcd_jax.evaluation.tables.bootstrap import RESAMPLES

LEVEL = 0.95
PRETRAINING, FINETUNING, EXAMPLES = "pre-training seeds", "fine-tuning seeds", "development examples"
SOURCES = (PRETRAINING, FINETUNING, EXAMPLES)


@dataclass(frozen=True)
class Interval:
    """Ends in the unit of the differences; `covers` names those of `SOURCES` whose chance it takes into account."""

    low: float
    high: float
    covers: tuple[str, ...]


def interval(
    differences: np.ndarray, resampled: np.ndarray | None = None, examples: int = 0, level: float = LEVEL
) -> Interval | None:
    """Returns the interval of the mean of paired differences, None where it cannot be estimated.

    That is where there are no resamples, and a single seed or all with the same difference: scores are counts of
    examples, so that two seeds agree by chance now and then.

    Args:
      differences: float[P, F], the first model's score less the second's, by pre-training and fine-tuning seed.
      resampled: float[P, F, resamples], the same when the examples are drawn again, the same draws for all; None
        without predictions: the interval then does not cover examples.
      examples: how many there are, with `resampled`.
      level: how often it is to hold the truth.
    """
    pretrainings, finetunings = differences.shape
    covers = (pretrainings > 1, finetunings > 1, resampled is not None)
    if not any(covers) or (resampled is None and np.ptp(differences) == 0):
        return None
    scale = examples / max(1, examples - 1)  # a bootstrap's variance is (N - 1) / N of the unbiased one
    mean, half = float(differences.mean()), float(half_width(differences, resampled, scale, examples, level))
    names = tuple(name for name, covered in zip(SOURCES, covers, strict=True) if covered)
    return Interval(mean - half, mean + half, names)


def p_value(differences: np.ndarray, resampled: np.ndarray | None = None, examples: int = 0) -> float:
    """Returns the p value, two-sided, of a mean of 0: 1 less the level of the `interval` that ends there.

    Args:
      differences, resampled, examples: as for `interval`, which these have.
    """
    low, high = 0.0, 1.0  # of the level: the interval of the first does not hold 0, that of the second does
    for _ in range(40):
        level = (low + high) / 2
        found = interval(differences, resampled, examples, level)
        if found is not None and found.low <= 0 <= found.high:
            high = level
        else:
            low = level
    return 1 - high


def half_width(
    differences: np.ndarray, drawn: np.ndarray | None, scale: float, examples: int, level: float = LEVEL
) -> np.ndarray:
    """Returns float[...], half the width of the interval of each mean.

    It is never below that of the examples alone: few seeds may scatter less than the examples in them, by chance.

    Args:
      differences: float[..., P, F].
      drawn: float[..., P, F, draws], whose covariances over the draws are, `scale` times, those for the sample of
        examples; None: these are not covered.
      scale: factor of these covariances.
      examples: from how many they were estimated.
      level: of the intervals.
    """
    pretrainings, finetunings = differences.shape[-2:]
    units = _units(differences[..., None])[..., 0]
    count = units.shape[-1]
    square = np.zeros(differences.shape[:-2])
    if count > 1:
        square = square + t_quantile(count - 1, level) ** 2 * units.var(axis=-1, ddof=1) / count
    if min(pretrainings, finetunings) > 1:
        common = shared_variance(differences) / (finetunings - 1)  # of the mean over seeds; unbiased
        square = square + t_quantile(finetunings - 1, level) ** 2 * common
    if drawn is not None:
        reach = t_quantile(max(1, examples - 1), level) ** 2 * scale
        alone = drawn.mean(axis=(-3, -2)).var(axis=-1)
        square = np.maximum(square + reach * shared_variance(_units(drawn)), reach * alone)
    return np.sqrt(square)


def shared_variance(values: np.ndarray) -> np.ndarray:
    """Returns float[...], the mean covariance over the draws of two units, 0 where negative; of one unit its variance.

    Args:
      values: float[..., units, draws].
    """
    units = values.shape[-2]
    if units == 1:
        return values[..., 0, :].var(axis=-1)
    together = values.sum(axis=-2).var(axis=-1) - values.var(axis=-1).sum(axis=-1)
    return np.maximum(together / (units * (units - 1)), 0)


def interval_words(covers: Collection[str]) -> str:
    """Says what the intervals are that cover these of `SOURCES`, how they come about, and what they do not cover."""
    named = [name for name in SOURCES if name in covers]
    seeds = any(name != EXAMPLES for name in named)
    parts = ["a t interval over the seeds' paired differences"] if seeds else []
    if EXAMPLES in covers:
        common = " for what the seeds have in common" if seeds else ""
        parts.append(f"a paired bootstrap over examples ({RESAMPLES:,} resamples){common}")
    words = [
        f"In brackets {100 * LEVEL:g} % intervals of the difference to expect of other {_and(named)}: {_and(parts)}"
        f"{', half-widths added in quadrature' if len(parts) > 1 else ''}."
    ]
    if len(parts) > 1:
        words.append("In simulation they held the truth 94 to 99 % of the time, with two seeds to ten.")
    missed = ["pre-training, for each model was pre-trained once"] if PRETRAINING not in covers else []
    missed += [f"other {name}" for name in (FINETUNING, EXAMPLES) if name not in covers]
    words.append(
        f"They do not cover {', nor '.join([*missed, 'the choice of settings'])}, and are not widened for being many."
    )
    return " ".join(words)


def _units(values: np.ndarray) -> np.ndarray:
    """[..., units, draws] of [..., P, F, draws]: a unit is a pre-training, or a fine-tuning if there is only one."""
    return values.mean(axis=-2) if values.shape[-3] > 1 else values.squeeze(-3)


def t_quantile(degrees: int, level: float) -> float:
    """Returns half the width of an interval of a level in standard errors, by Student's t."""
    from scipy import special

    return float(special.stdtrit(degrees, (1 + level) / 2))


def _and(names: Collection[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
