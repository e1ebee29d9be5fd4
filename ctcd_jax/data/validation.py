"""The held-out documents: at most so many sentences, chosen fairly however many documents there are.

Where single sentences are held out, each comes as a document of its own, and those of one document are joined at last.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple


class HeldOut(NamedTuple):
    """What is held out: where it came from, (source, file, document[, sentence]) by number, and its sentences."""

    place: tuple[int, ...]
    sentences: Sequence[str]

    @property
    def file(self) -> tuple[int, int]:
        """The numbers of its source and its input file."""
        return self.place[0], self.place[1]


@dataclass
class ValidationPool:
    """Keeps the documents with the smallest draws, up to `limit` sentences; the last of them is cut to fit.

    What does not fit goes neither here nor into training. Memory: the limit and one document.

    Attributes:
      offered: sentences offered so far.
    """

    limit: int
    offered: int = 0
    _total: int = 0
    _heap: list[tuple[int, HeldOut]] = field(default_factory=list)  # by -draw: the largest draw on top

    def offer(self, draw: int, document: HeldOut) -> None:
        """Takes `document`, and gives up those of larger draws that the limit no longer has room for."""
        heapq.heappush(self._heap, (-draw, document))
        self.offered += len(document.sentences)
        self._total += len(document.sentences)
        while self._total - len(self._heap[0][1].sentences) >= self.limit:
            _, evicted = heapq.heappop(self._heap)
            self._total -= len(evicted.sentences)

    def merge(self, other: "ValidationPool") -> None:
        """Takes what another pool was offered, as if it had been offered here."""
        evicted = other.offered - other._total
        for draw, document in other._heap:
            self.offer(-draw, document)
        self.offered += evicted

    @property
    def surplus(self) -> int:
        """How many sentences did not fit."""
        return max(0, self.offered - self.limit)

    def documents(self) -> list[HeldOut]:
        """Returns what was kept, in the order of the input."""
        kept = [document for _, document in self._heap]
        excess = max(0, self._total - self.limit)
        if excess:
            kept[0] = HeldOut(kept[0].place, kept[0].sentences[:-excess])
        documents = groupby(sorted(kept), key=lambda held_out: held_out.place[:3])
        return [HeldOut(place, [text for part in parts for text in part.sentences]) for place, parts in documents]

    def to_json(self) -> dict:
        """Returns what `from_json` makes the same pool of."""
        return {
            "limit": self.limit,
            "offered": self.offered,
            "documents": [[-draw, *document] for draw, document in sorted(self._heap)],
        }

    @classmethod
    def from_json(cls, content: dict) -> "ValidationPool":
        """Returns the pool that `to_json` described."""
        pool = cls(content["limit"])
        for draw, place, sentences in content["documents"]:
            pool.offer(draw, HeldOut(tuple(place), sentences))
        pool.offered = content["offered"]
        return pool
