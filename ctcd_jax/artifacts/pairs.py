"""Minimal pairs: how often a model finds the good sentence the likelier, and whether that is more than chance."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.scoring import PairScore

CHANCE = 0.5
NORMAL = 1.959964  # standard errors to either side of a 95 % interval


@dataclass(frozen=True)
class Pairs:
    """An accuracy in [0, 1] with the ends of its 95 % interval, over so many paradigms and pairs."""

    accuracy: float
    low: float
    high: float
    paradigms: int
    pairs: int

    @property
    def against_chance(self) -> str:
        """Where the interval does not lie above chance: "at chance" or "below chance"; else ""."""
        if self.low > CHANCE:
            return ""
        return "at chance" if self.high >= CHANCE else "below chance"


def scores_of(weights: str | None, artifacts: Artifacts) -> list[PairScore]:
    """Returns the lines of every probe.jsonl about these weights, each paradigm of the same pairs once."""
    lines = [line for found in artifacts.probes.values() for line in found if line["weights"] == weights]
    return list({(line["paradigm"], line["data"]): line for line in reversed(lines)}.values())[::-1]


def summarised(lines: Sequence[PairScore]) -> Pairs | None:
    """Returns the mean over paradigms, as BLiMP has it (Warstadt et al. 2020); ties are half right.

    The interval is over pairs, the paradigms being those there are: the half-widths of Wilson's intervals of the
    paradigms, added in quadrature (Zou and Donner 2008): of one paradigm it is Wilson's. None without lines.
    """
    if not lines:
        return None
    shares = [(line["correct"] + line["ties"] / 2) / line["pairs"] for line in lines]
    mean, pairs = statistics.fmean(shares), sum(line["pairs"] for line in lines)
    ends = [_wilson(share, line["pairs"]) for share, line in zip(shares, lines, strict=True)]
    below = math.hypot(*(share - low for share, (low, _) in zip(shares, ends, strict=True))) / len(lines)
    above = math.hypot(*(high - share for share, (_, high) in zip(shares, ends, strict=True))) / len(lines)
    return Pairs(mean, mean - below, mean + above, len(lines), pairs)


def _wilson(share: float, count: int) -> tuple[float, float]:
    square = NORMAL**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
