"""Token ids of sentences -> rows of at most `length` ids: three ways, each within one input file.

`sentence`  one sentence a row, [CLS] s [SEP], cut off at the row's end; very short ones are dropped.
`packed`    several whole sentences a row, each in its own [CLS] s [SEP]; only one longer than a row is cut, into rows.
`full`      running text of one document, one [CLS] ... [SEP] a row, nothing between the sentences.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

MIN_ROW_TOKENS = 12
"""Below this, specials included, `sentence` drops a row (as DistilBERT's script does) and `full` a document's last."""

LENGTH_STEP = 32
"""`sentence` rows go to files whose lengths are multiples of this."""

_OPEN_ROWS = 64


class Row(NamedTuple):
    """`ids` with their specials, without padding; `cut`: part of a sentence is not in this row."""

    ids: list[int]
    cut: bool


Documents = Iterable[Sequence[list[int]]]
"""An input file: for each document the ids of its sentences, without specials, none empty."""

Packer = Callable[[Documents, int, int, int, Counter[str]], Iterator[Row]]
"""(documents, length, cls, sep, dropped) -> rows; what is left out is counted in `dropped` by reason."""


def segment_ids(ids, specials: Mapping[str, int]):
    """Returns int[..., L]: 1, 2, ... for the segments of each row, every one from its [CLS] on; 0 for padding.

    Args:
      ids: [..., L], of NumPy or JAX, before any is masked.
      specials: ids of "cls" and "pad", at least.
    """
    return (ids == specials["cls"]).cumsum(axis=-1) * (ids != specials["pad"])


def pack_sentence(documents: Documents, length: int, cls: int, sep: int, dropped: Counter[str]) -> Iterator[Row]:
    """One sentence a row. Arguments as for `pack_full`."""
    for sentence in (sentence for document in documents for sentence in document):
        if len(sentence) + 2 < MIN_ROW_TOKENS:
            dropped["short_sentences"] += 1
        else:
            yield Row([cls, *sentence[: length - 2], sep], cut=len(sentence) > length - 2)


def pack_packed(documents: Documents, length: int, cls: int, sep: int, dropped: Counter[str]) -> Iterator[Row]:
    """Best fit: a segment goes into the open row it fills best; the fullest of more than 64 open rows is closed.

    Arguments as for `pack_full`.
    """
    open_rows: list[
        tuple[int, int, Row]
    ] = []  # (free, serial number, row), sorted; the serial number keeps rows out of the comparison
    serial = 0
    for sentence in (sentence for document in documents for sentence in document):
        cut = len(sentence) > length - 2
        for start in range(0, len(sentence), length - 2):
            segment = [cls, *sentence[start : start + length - 2], sep]
            fit = bisect_left(open_rows, (len(segment),))
            free, number, row = open_rows.pop(fit) if fit < len(open_rows) else (length, serial, Row([], cut=False))
            serial += 1
            insort(open_rows, (free - len(segment), number, Row(row.ids + segment, row.cut or cut)))
            if len(open_rows) > _OPEN_ROWS or open_rows[0][0] < 3:
                yield open_rows.pop(0)[2]
    yield from (row for _, _, row in open_rows)


def pack_full(documents: Documents, length: int, cls: int, sep: int, dropped: Counter[str]) -> Iterator[Row]:
    """Running text of one document a row.

    Args:
      documents: each a list of sentences, which are lists of ids without specials.
      length: ids a row, at most, [CLS] and [SEP] included.
      cls, sep: ids of these tokens.
      dropped: counts, by reason, what is too short for a row.
    """
    for document in documents:
        ids = [token for sentence in document for token in sentence]
        ends = _running_ends(document)
        for start in range(0, len(ids), length - 2):
            stop = min(start + length - 2, len(ids))
            if stop - start + 2 < MIN_ROW_TOKENS:
                dropped["short_document_ends"] += 1
            else:
                yield Row([cls, *ids[start:stop], sep], cut=not {start, stop} <= ends)


def row_lengths(packing: str, length: int) -> list[int]:
    """Returns the lengths a corpus's rows may have, ascending; the last is `length`."""
    return [*range(LENGTH_STEP, length, LENGTH_STEP), length] if packing == "sentence" else [length]


def _running_ends(document: Sequence[list[int]]) -> set[int]:
    ends = {0}
    total = 0
    for sentence in document:
        total += len(sentence)
        ends.add(total)
    return ends


PACKERS: dict[str, Packer] = {"sentence": pack_sentence, "packed": pack_packed, "full": pack_full}
