"""A corpus's counts -> the numbers worth looking at. Pure functions of `corpus.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_BINS, MOST_BINS = 8, 12
SHOWN_TOKENS = 10
RARE = (10, 100)
COVERAGE = (50, 90, 99)
CURVE_POINTS = 160


@dataclass(frozen=True)
class Bar:
    """What is counted in the bin of all n with `first` <= n <= `last`, and `share`, the height of its bar."""

    first: int
    last: int
    count: int
    share: float

    @property
    def label(self) -> str:
        """The bin in words, e.g. "17–32"."""
        return f"{self.first}–{self.last}" if self.last > self.first else f"{self.first}"


@dataclass(frozen=True)
class Lengths:
    """How long rows, or segments, are.

    Attributes:
      bars: how many have so many tokens, and which share of all.
      total, mean, median: of all of them.
    """

    bars: Sequence[Bar]
    total: int
    mean: float
    median: int


@dataclass(frozen=True)
class Positions:
    """How often the position embeddings are trained.

    Attributes:
      bars: uses of a bin's positions, and how often one is used on average, relative to position 0.
      trained: int64[length], [p] is how often position p is used in an epoch.
    """

    bars: Sequence[Bar]
    trained: np.ndarray

    @property
    def last_ratio(self) -> float:
        """How often the last position is trained, relative to position 0."""
        return float(self.trained[-1] / self.trained[0])

    @property
    def never(self) -> int:
        """How many positions are never trained; they are the last ones."""
        return int((self.trained == 0).sum())


@dataclass(frozen=True)
class Vocabulary:
    """How often the ids occur in the training rows. Ordinary ids are all but the five special ones.

    Attributes:
      size, ordinary: ids in all, and ordinary ones.
      never: ordinary ids that do not occur.
      rarer: {n: ordinary ids that occur fewer than n times, never included}.
      unknown: the share of the text's tokens, [CLS] and [SEP] apart, that is [UNK].
      frequent, rarest: (id, count) of ordinary ids; the rarest of those that occur.
      coverage: {percent: how few ordinary ids make up this much of the ordinary tokens}.
      curve: (rank, count) of the ordinary ids that occur, evenly spread over the logarithm of the rank.
    """

    size: int
    ordinary: int
    never: int
    rarer: Mapping[int, int]
    unknown: float
    frequent: Sequence[tuple[int, int]]
    rarest: Sequence[tuple[int, int]]
    coverage: Mapping[int, int]
    curve: Sequence[tuple[int, int]]


def token_lengths(counted: Sequence[int]) -> Lengths:
    """Describes `counted`, int[length + 1]: [n] is how many rows or segments have n tokens; there is at least one."""
    counts = np.asarray(counted, np.int64)
    total = int(counts.sum())
    bars = []
    for first, last in bins(len(counts) - 1):
        here = int(counts[first : last + 1].sum())
        bars.append(Bar(first, last, here, here / total))
    mean = float(counts @ np.arange(len(counts))) / total
    median = int(np.searchsorted(counts.cumsum(), (total + 1) // 2))
    return Lengths(bars, total, mean, median)


def trained_positions(segment_tokens: Sequence[int]) -> Positions:
    """Describes the use of positions 0 ... length - 1, which start again with each segment.

    Position p is used by the segments of more than p tokens; `segment_tokens`, int[length + 1], counts them by size.
    """
    at_least = np.asarray(segment_tokens, np.int64)[::-1].cumsum()[::-1]
    trained = at_least[1:]
    bars = []
    for first, last in bins(len(trained)):
        here = trained[first - 1 : last]  # a segment of n tokens ends at position n - 1
        bars.append(Bar(first - 1, last - 1, int(here.sum()), float(here.mean() / trained[0])))
    return Positions(bars, trained)


def bins(length: int) -> list[tuple[int, int]]:
    """Returns bins (first, last) over 1 ... length: equal ones, 8 to 12 of them, if the length can be divided so."""
    narrowest = math.ceil(length / MOST_BINS)
    widths = range(length // FEWEST_BINS, narrowest - 1, -1)
    width = next((width for width in widths if length % width == 0), narrowest)
    return [(first, min(first + width - 1, length)) for first in range(1, length + 1, width)]


def vocabulary(frequencies: np.ndarray, special_ids: Mapping[str, int]) -> Vocabulary:
    """Describes `frequencies`, int64[V], of which padding is not counted."""
    ordinary = np.setdiff1d(np.arange(len(frequencies)), list(special_ids.values()))
    counts = frequencies[ordinary]
    order = np.lexsort((ordinary, -counts))
    ids, counts = ordinary[order], counts[order]  # the most frequent first, then by id
    seen = int((counts > 0).sum())
    ids_seen, counts_seen = ids[:seen], counts[:seen]
    rarest = np.lexsort((ids_seen, counts_seen))[:SHOWN_TOKENS]
    unknown, text = int(frequencies[special_ids["unk"]]), int(counts.sum())
    return Vocabulary(
        size=len(frequencies),
        ordinary=len(ordinary),
        never=len(ordinary) - seen,
        rarer={limit: int((counts < limit).sum()) for limit in RARE},
        unknown=unknown / max(1, text + unknown),
        frequent=_pairs(ids_seen[:SHOWN_TOKENS], counts_seen),
        rarest=_pairs(ids_seen[rarest], counts_seen[rarest]),
        coverage=_coverage(counts_seen),
        curve=_curve(counts_seen),
    )


def _pairs(ids: np.ndarray, counts: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(ids.tolist(), counts.tolist(), strict=False))


def _coverage(counts: np.ndarray) -> dict[int, int]:
    cumulative = counts.cumsum()
    total = int(counts.sum())
    places = {percent: int(np.searchsorted(100 * cumulative, percent * total)) + 1 for percent in COVERAGE}
    return {percent: min(place, len(counts)) for percent, place in places.items()}


def _curve(counts: np.ndarray) -> list[tuple[int, int]]:
    if not len(counts):
        return []
    ranks = np.unique(np.geomspace(1, len(counts), CURVE_POINTS).round().astype(int))
    return _pairs(ranks, counts[ranks - 1])
