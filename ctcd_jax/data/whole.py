"""What concerns all parts of a corpus together, between reading them and writing their rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.data.hashing import HASH_RANGE
from ctcd_jax.data.parts import MAX_VALIDATION_SENTENCES, ReadPart, sentence_hash
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.data.validation import HeldOut, ValidationPool
from ctcd_jax.errors import UserError

TOKENIZER_SENTENCES = 5_000_000
"""A tokenizer is trained on at most about so many of the sentences, an even sample of them."""


@dataclass
class Whole:
    """What all parts together say: `sources` counts documents, sentences, kept and invalid_lines of each source."""

    held_out: Sequence[HeldOut]
    sources: Sequence[Counter[str]]
    dropped: Counter[str]


def merge(reads: Sequence[ReadPart], recipe: Recipe, source_count: int) -> Whole:
    """Adds up what the parts say, and chooses the held-out documents.

    Raises:
      UserError: a source without text, or nothing kept, held out or left to train on.
    """
    pool = ValidationPool(MAX_VALIDATION_SENTENCES)
    sources = [Counter(documents=0, sentences=0, kept=0) for _ in range(source_count)]
    training, dropped = Counter(), Counter()
    for read in reads:
        pool.merge(read.pool)
        training.update(read.training)
        dropped.update(read.dropped)
        for source, counts in read.sources.items():
            sources[source].update(counts)
    for spec, counts in zip(recipe.sources, sources, strict=True):
        if not counts["sentences"]:
            raise UserError(f"source '{spec}': no text in it")
    total = sum(sources, Counter())
    if not total["kept"]:
        raise UserError(
            f"--every {recipe.every}: none of the {total['sentences']:,} sentences was kept ({counted(dropped)});"
            " ask for more of them"
        )
    held_out = pool.documents()
    if not held_out:
        raise UserError(
            f"--validation {recipe.validation}: none of the {total['documents']:,} documents was held out; raise it"
        )
    if not training["sentences"]:
        raise UserError(f"--validation {recipe.validation}: nothing is left to train on; lower it")
    dropped["validation_surplus"] += pool.surplus
    return Whole(held_out, sources, dropped)


def counted(dropped: Counter[str]) -> str:
    """Returns the reasons and their counts in words."""
    return ", ".join(f"{reason.replace('_', ' ')}: {count:,}" for reason, count in sorted(dropped.items()))


def tokenizer_sentences(reads: Sequence[ReadPart], duplicates: Path | None) -> Iterator[str]:
    """Yields the training sentences, an even sample of `TOKENIZER_SENTENCES` of them if there are more."""
    total = sum(read.training["sentences"] for read in reads)
    limit = min(HASH_RANGE - 1, HASH_RANGE * TOKENIZER_SENTENCES // total)
    first = 0
    for read in reads:
        count = read.training["sentences"]
        leave = np.asarray(read.hashes) > np.uint64(limit)
        if duplicates:
            leave |= np.load(duplicates, mmap_mode="r")[first : first + count]
        for documents in read.files(leave):
            for sentences in documents:
                yield from sentences
        first += count


class Unseen:
    """Takes from held-out documents the sentences that training has, and, if asked, those that occurred before."""

    def __init__(
        self, held_out: Sequence[HeldOut], reads: Sequence[ReadPart], deduplicate: bool, dropped: Counter[str]
    ):
        hashes = {sentence_hash(sentence) for document in held_out for sentence in document.sentences}
        wanted = np.sort(np.fromiter(hashes, np.uint64, len(hashes)))
        found = np.zeros(len(wanted), bool)
        for read in reads:
            places = np.minimum(np.searchsorted(wanted, read.hashes), len(wanted) - 1)
            found[places[wanted[places] == read.hashes]] = True
        self._in_training = set(wanted[found].tolist())
        self._before: set[int] | None = set() if deduplicate else None
        self._dropped = dropped

    def documents(self, held_out: Iterable[HeldOut]) -> Iterator[list[str]]:
        """Yields the documents that still have sentences."""
        for document in held_out:
            if sentences := [sentence for sentence in document.sentences if self._keeps(sentence_hash(sentence))]:
                yield sentences

    def _keeps(self, sentence: int) -> bool:
        if sentence in self._in_training:
            self._dropped["validation_in_training"] += 1
        elif self._before is not None and sentence in self._before:
            self._dropped["duplicates"] += 1
        else:
            if self._before is not None:
                self._before.add(sentence)
            return True
        return False
