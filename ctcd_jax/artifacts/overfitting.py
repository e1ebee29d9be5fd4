"""Whether a member learns its corpus by heart: better on what it trains on, worse on what is held out."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# So many evaluations after the best one, and so much worse: less than that is noise.
EVALUATIONS, RISE = 3, 0.01


class _Lowest(NamedTuple):
    step: int
    loss: float  # validation, nats
    trained: float  # training loss at the time, nats
    since: int = 0  # evaluations after it


def teach_each_other(edges: Iterable[tuple[str, str]]) -> bool:
    """Whether any two members teach each other, by (source, target) of the edges."""
    pairs = set(edges)
    return any((target, source) in pairs for source, target in pairs)


class Overfitting:
    """Follows the lines of a run and says once what it sees, of the first member that overfits."""

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = (), taught: bool = False):
        """Begins to follow a run.

        Args:
          earlier: lines of metrics.jsonl of the sessions before: what they have said is not said again.
          taught: whether members teach each other already.
        """
        self._advice = ", more text" if taught else ", more text, or members that teach each other (ctcd)"
        self._trained: dict[str, float] = {}  # latest training loss
        self._lowest: dict[str, _Lowest] = {}
        self._said = False
        for line in earlier:
            self.take(line)

    @property
    def lowest(self) -> dict[str, float]:
        """The lowest validation loss so far of each member that was trained before it, nats."""
        return {member: lowest.loss for member, lowest in self._lowest.items()}

    def take(self, line: Mapping[str, Any]) -> str | None:
        """Takes the next line of metrics.jsonl, and returns what there is to say after it."""
        for member, figures in line.get("members", {}).items():
            loss = figures.get("hard")
            if loss is None or not math.isfinite(loss):
                continue
            if line["kind"] == "train":
                self._trained[member] = loss
            elif (said := self._evaluated(member, line["step"], loss)) and not self._said:
                self._said = True
                return said
        return None

    def _evaluated(self, member: str, step: int, loss: float) -> str | None:
        trained, lowest = self._trained.get(member), self._lowest.get(member)
        if trained is None:
            return None
        if lowest is None or loss < lowest.loss:
            self._lowest[member] = _Lowest(step, loss, trained)
            return None
        lowest = self._lowest[member] = lowest._replace(since=lowest.since + 1)
        if lowest.since < EVALUATIONS or loss <= (1 + RISE) * lowest.loss or trained >= lowest.trained:
            return None
        return (
            f"'{member}' overfits: from step {lowest.step:,} to {step:,} its validation loss rose from "
            f"{lowest.loss:.3f} to {loss:.3f}, while its training loss fell from {lowest.trained:.3f} to "
            f"{trained:.3f}. What helps: `ctcd export --step best` (train.keep_best), fewer steps "
            f"(train.early_stopping), optimizer.weight_decay=0.1{self._advice}"
        )
