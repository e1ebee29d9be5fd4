"""Differences of two models that were trained from the same seeds: their interval, and what would have been seen.

A seed fixes first weights, the order of the rows, the masks and dropout, for both models; what it does to both drops
out of the difference. So the differences of the seeds are what scatters, and a t interval over them covers what other
seeds would give. The held-out rows and their masks are the same for all models and seeds: intervals do not cover other
text, which is why there are several corpora.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctcd_jax.evaluation.tables.intervals import LEVEL, t_quantile

POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """Of paired differences.

    Attributes:
      mean: of them.
      low, high: ends of the t interval of it, at `LEVEL`.
      p: two-sided, of the paired t-test against 0.
      detectable: the smallest true difference that a study of as many seeds finds significant with probability `POWER`,
        if differences scatter as these do and it is the only comparison.
    """

    mean: float
    low: float
    high: float
    p: float
    detectable: float


def signed_by_seed(terms: Sequence[tuple[Mapping[int, float], int]]) -> dict[int, float]:
    """Returns {seed: signed sum}, of the seeds that all terms, ({seed: value}, sign), have."""
    seeds = sorted(set.intersection(*(set(of) for of, _ in terms)))
    return {seed: sum(sign * of[seed] for of, sign in terms) for seed in seeds}


def paired(differences: Sequence[float]) -> Paired | None:
    """Returns what can be said of the mean of paired differences; None for fewer than two."""
    from scipy import stats

    count = len(differences)
    if count < 2:
        return None
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / count**0.5
    half = t_quantile(count - 1, LEVEL) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return Paired(mean, mean - half, mean + half, p, error * detectable_errors(count))


def stricter(count: int, comparisons: int) -> float:
    """Returns how much larger than `detectable` a difference has to be to be seen whatever other comparisons say.

    Holm's procedure asks of the smallest p value of all that it is below the significance level by their number.

    Args:
      count: number of seeds.
      comparisons: their number, this one included.
    """
    return detectable_errors(count, 1 - (1 - LEVEL) / comparisons) / detectable_errors(count)


@functools.cache
def detectable_errors(count: int, level: float = LEVEL) -> float:
    """Returns, in standard errors, the true difference that a two-sided paired t-test sees with probability `POWER`.

    The estimated deviation scatters, too: the mean is over its quantiles. (With few seeds the sum of two quantiles of t
    would be too small, and SciPy's noncentral t is no number.)

    Args:
      count: number of seeds.
      level: 1 less the significance level of the test.
    """
    from scipy import optimize, stats

    degrees = count - 1
    critical = t_quantile(degrees, level)
    deviations = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, degrees) / degrees)

    def lacking(shift: float) -> float:
        seen = stats.norm.cdf(shift - critical * deviations) + stats.norm.cdf(-shift - critical * deviations)
        return float(seen.mean()) - POWER

    root: Any = optimize.brentq(lacking, 0.0, 2.0 * critical)
    return float(root)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for being many (Holm 1979): with these, the chance of any false one stays bounded.

    All that is going to be compared counts, with results or without: else what is finished first would be judged more
    mildly than the whole, and a verdict could be taken back.

    Args:
      p_values: of all comparisons, None where there is no result yet, and in what is returned.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    highest, count = 0.0, len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (count - rank) * p))
        adjusted[index] = highest
    return adjusted
