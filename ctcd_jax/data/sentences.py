"""Sentences, and the draws that decide what becomes of each.

Splitting is sentencex's, whose rules are inside its wheel. Measured on 6 MB of Wikipedia, one core: sentencex
86 MB/s, blingfire 15.5 MB/s (and its Linux library is x86-64 only). They agree on 94 % of the paragraphs. Where they
differ, sentencex keeps a quotation of several sentences in one piece (a longer sentence, never a torn one) and now and
then cuts after a name that ends in "!"; blingfire cuts inside quotations, and runs on where the space after a full stop
is missing. sentencex slows down on lines of more than about 100 kB: a line is meant to be a sentence or a paragraph.

Every draw is a hash of what it is about, so it depends neither on the order of the files nor on what else is in them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sentencex

from ctcd_jax.data.hashing import HASH_RANGE, hash64
from ctcd_jax.data.sources.base import Document


def split_sentences(paragraph: str, language: str = "en") -> list[str]:
    """Returns the sentences of `paragraph`, each without surrounding and with single inner white space, none empty."""
    segments = sentencex.segment(language, paragraph)  # pyright: ignore[reportAttributeAccessIssue]  compiled, no stubs
    return _cleaned(segments)


def document_sentences(document: Document, language: str, sentence_lines: bool) -> Iterator[str]:
    """Yields the sentences of a document.

    Args:
      document: the text, in paragraphs.
      language: whose rules split paragraphs into sentences.
      sentence_lines: whether each line is a sentence; then nothing is split.
    """
    if sentence_lines:
        yield from _cleaned(document.paragraphs)
    else:
        for paragraph in document.paragraphs:
            yield from split_sentences(paragraph, language)


def _cleaned(pieces: Iterable[str]) -> list[str]:
    return [sentence for piece in pieces if (sentence := " ".join(piece.split()))]


@dataclass(frozen=True)
class Sampling:
    """Keeps one sentence in `every` and holds out the share `validation` of the documents, or of the sentences.

    Where `bound` is given, what is held out has a draw below it, whatever the share.
    """

    seed: int
    every: int
    validation: float
    bound: int | None = None

    def keeps(self, document: Document, sentence: int, share: float = 1.0) -> bool:
        """Whether a sentence is kept.

        Args:
          document: that it is part of.
          sentence: its number there.
          share: the probability with which sentences of its source are kept, besides `every`.
        """
        if self.every == share == 1:
            return True
        draw = hash64("sentence", self.seed, document.path, document.number, sentence)
        return draw * self.every < share * HASH_RANGE

    def holdout_draw(self, document: Document, sentence: int | None = None) -> int:
        """Returns the draw in [0, 2**64) by which `document`, or a sentence of it by number, is held out or not."""
        if sentence is None:
            return hash64("document", self.seed, document.path, document.number)
        return hash64("held-out sentence", self.seed, document.path, document.number, sentence)

    def holds_out(self, document: Document, sentence: int | None = None) -> bool:
        """Whether `document`, or a sentence of it by number, belongs to validation."""
        bound = self.validation * HASH_RANGE if self.bound is None else self.bound
        return self.holdout_draw(document, sentence) < bound
