"""A few validation rows in words, masked as every run sees them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.data.packing import segment_ids

HIDDEN, RANDOM, KEPT = "hidden", "random", "kept"
"""What happens to a token that is predicted: [MASK] stands in its place, or a random token, or it stays."""


@dataclass(frozen=True)
class Token:
    """A token as the corpus has it. If it is predicted: `fate`, what happens to it, and `seen`, what the models see."""

    text: str
    special: bool = False
    fate: str = ""
    seen: str = ""


@dataclass(frozen=True)
class ExampleRow:
    """Row `number` of the validation split: its segments of tokens, and how much of `length` is padding."""

    number: int
    length: int
    segments: Sequence[Sequence[Token]]
    padding: int

    @property
    def summary(self) -> str:
        """The row in a few words."""
        tokens, segments = self.length - self.padding, len(self.segments)
        predicted = sum(bool(token.fate) for segment in self.segments for token in segment)
        return (
            f"row {self.number}: {tokens} tokens of {self.length}, {predicted} predicted, "
            f"{segments} segment{'' if segments == 1 else 's'}"
        )


class MaskedRows(Protocol):
    """Masked rows: `input_ids`, int[B, L], and `row_labels`, int[B, L], -100 where nothing is predicted."""

    @property
    def input_ids(self) -> Any: ...

    @property
    def row_labels(self) -> Any: ...


MaskRows = Callable[[Corpus, np.ndarray, np.ndarray], MaskedRows]
"""(corpus, input_ids int32[B, L], rows int32[B]) -> the masked rows; `training` knows how."""


def example_rows(corpus: Corpus, count: int, tokenizer: Tokenizer, mask_rows: MaskRows) -> list[ExampleRow]:
    """Returns validation rows spread evenly over the split, whose rows are in the order of length.

    Args:
      corpus: to take them from.
      count: rows wanted; all if there are fewer.
      tokenizer: of the corpus.
      mask_rows: masks them as validation does.
    """
    batches = ValidationBatches(corpus, 1)  # batch n is row n
    found = [batches[number] for number in spread(corpus.rows("validation"), count)]
    lengths = {batch["input_ids"].shape[1] for batch in found}
    rows = []
    for length in sorted(lengths):
        of_length = [batch for batch in found if batch["input_ids"].shape[1] == length]
        ids, places = (np.concatenate([batch[key] for batch in of_length]) for key in ("input_ids", "rows"))
        masked = mask_rows(corpus, ids, places)
        seen, labels = np.asarray(masked.input_ids), np.asarray(masked.row_labels)
        rows += [_example(corpus, tokenizer, *row) for row in zip(places.tolist(), ids, seen, labels, strict=True)]
    return rows


def spread(total: int, count: int) -> list[int]:
    """Returns `count` of the numbers below `total`, evenly spread over them; all where there are fewer."""
    count = min(count, total)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def token_text(tokenizer: Tokenizer, number: int) -> str:
    """Returns a token as it may be shown: what cannot be printed is replaced."""
    text = tokenizer.id_to_token(number) or f"[{number}]"  # a vocabulary may have gaps
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _example(
    corpus: Corpus, tokenizer: Tokenizer, number: int, ids: np.ndarray, seen: np.ndarray, labels: np.ndarray
) -> ExampleRow:
    real = ids != corpus.special_ids["pad"]
    tokens = _tokens(corpus, tokenizer, ids[real].tolist(), seen[real].tolist(), labels[real].tolist())
    segments: dict[int, list[Token]] = {}
    for segment, token in zip(segment_ids(ids, corpus.special_ids)[real], tokens, strict=True):
        segments.setdefault(segment, []).append(token)
    return ExampleRow(number, len(ids), list(segments.values()), len(ids) - int(real.sum()))


def _tokens(
    corpus: Corpus, tokenizer: Tokenizer, ids: Sequence[int], seen: Sequence[int], labels: Sequence[int]
) -> Iterator[Token]:
    specials = set(corpus.special_ids.values())
    for number, shown, label in zip(ids, seen, labels, strict=True):
        fate = ""
        if label >= 0:
            fate = KEPT if shown == number else HIDDEN if shown == corpus.special_ids["mask"] else RANDOM
        yield Token(
            token_text(tokenizer, number), number in specials, fate, token_text(tokenizer, shown) if fate else ""
        )
