"""What concerns all parts of a corpus together, between reading them and writing their rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.data.hashing import HASH_RANGE
from ctcd_jax.data.parts import MAX_VALIDATION_SENTENCES, ReadPart, sentence_hash
from ctcd_jax.data.recipe import DOCUMENTS, SENTENCES, Recipe
from ctcd_jax.data.validation import HeldOut, ValidationPool
from ctcd_jax.errors import UserError

TOKENIZER_SENTENCES = 5_000_000
"""A tokenizer is trained on at most about so many of the sentences, an even sample of them."""


MAX_INVALID = 0.02
"""Of a source's lines. Stray bytes are a line in thousands; of text in another encoding, most lines of most languages
are no UTF-8, and what is left of them is no text to learn from."""

LEAST_EXPECTED = 1e-3
"""Where nothing is held out by chance, one document is, unless fewer than this were to be expected: that is a slip."""


@dataclass
class PartTotals:
    """What all parts together say.

    Attributes:
      held_out: the documents; none, if there are so few that chance held out none.
      sources: of each source the Counter of documents, sentences, kept, lines and invalid_lines.
      dropped: sentences by reason.
    """

    held_out: Sequence[HeldOut]
    sources: Sequence[Counter[str]]
    dropped: Counter[str]


def merge(reads: Sequence[ReadPart], recipe: Recipe, source_count: int) -> PartTotals:
    """Adds up what the parts say, and chooses the held-out documents.

    Args:
      reads: what was kept of each part.
      recipe: how much is to be held out.
      source_count: sources of the recipe.

    Raises:
      UserError: a source without text, or nothing kept, to hold out or left to train on.
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
    _check_held_out(recipe, len(held_out), training)
    dropped["validation_surplus"] += pool.surplus
    return PartTotals(held_out, sources, dropped)


def _check_held_out(recipe: Recipe, held_out: int, training: Counter[str]) -> None:
    """Raises UserError if one of the splits has to be empty."""
    unit, units = recipe.validation_by, training[recipe.validation_by]
    if held_out + training["documents"] == 1 and unit == DOCUMENTS:
        raise UserError(
            f"--validation {recipe.validation}: there is only one document with sentences to keep, and one is held out"
            " or trained on as a whole; separate the documents (in text files by blank lines), or hold out single"
            " sentences with --validation-by sentences"
        )
    if held_out + training["sentences"] == 1 and unit == SENTENCES:
        raise UserError(
            f"--validation {recipe.validation}: there is only one sentence to keep, and it is held out or trained on;"
            " give more text (if every line is a sentence, say so with lines=sentences)"
        )
    if not held_out and (units < 2 or units * recipe.validation < LEAST_EXPECTED):
        raise UserError(f"--validation {recipe.validation}: none of the {units:,} {unit} was held out; raise it")
    if not units:
        raise UserError(f"--validation {recipe.validation}: nothing is left to train on; lower it")


def check_utf8(
    recipe: Recipe, reads: Sequence[ReadPart], sources: Sequence[Counter[str]], strict: bool, warn: Callable
) -> None:
    """Says of each source how many of its lines were no UTF-8.

    Args:
      recipe: which names the sources.
      reads: what was found in each part.
      sources: counts of each source, "lines" and "invalid_lines" among them.
      strict: whether one such line is an error.
      warn: called with a line about each source that has some.

    Raises:
      UserError: more than `MAX_INVALID` of a source's lines are; if strict, any is.
    """
    for number, (spec, counts) in enumerate(zip(recipe.sources, sources, strict=True)):
        found = [tuple(rest) for read in reads for source, *rest in read.invalid if source == number]
        if not found:
            continue
        invalid, share = counts["invalid_lines"], counts["invalid_lines"] / max(1, counts["lines"])
        name, count, first = max(found, key=lambda file: file[1])
        what = (
            f"source '{spec}': {invalid:,} of {counts['lines']:,} lines ({share:.2%}) are not UTF-8; most of them,"
            f" {count:,}, are in {name} (the first is {first})"
        )
        convert = "convert it with `iconv -f ISO-8859-1 -t UTF-8 FILE > NEW`, or from whatever it is"
        if strict or share > MAX_INVALID:
            drop = "" if strict else "; `iconv -f UTF-8 -t UTF-8 -c` leaves out what is none"
            raise UserError(f"{what}; {convert}{drop}")
        warn(f"{what}; their bad bytes became U+FFFD; {convert}")


def counted(dropped: Mapping[str, int]) -> str:
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


class HeldOutFilter:
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
