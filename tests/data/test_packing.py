from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.data.packing import PACKERS, pack_full, pack_packed, pack_sentence, row_lengths, segment_ids

CLS, SEP = 1, 2


@pytest.fixture
def documents():
    """Twenty documents of sentences of 1 to 40 tokens; every token is different, so each can be traced."""
    random = np.random.default_rng(0)
    tokens = iter(range(10, 1_000_000))
    return [
        [[next(tokens) for _ in range(random.integers(1, 41))] for _ in range(random.integers(1, 30))]
        for _ in range(20)
    ]


def pack(packer, documents, length):
    dropped = Counter()
    rows = list(packer(iter(documents), length, CLS, SEP, dropped))
    assert all(3 <= len(row.ids) <= length for row in rows)
    return rows, dropped


def segments(ids):
    """Splits a row by its specials, insisting that nothing is outside [CLS] ... [SEP]."""
    found = []
    while ids:
        assert ids[0] == CLS
        end = ids.index(SEP)
        found.append(ids[1:end])
        ids = ids[end + 1 :]
    return found


def test_packed_rows_hold_every_sentence_once_and_whole(documents):
    rows, dropped = pack(pack_packed, documents, 64)
    found = sorted(segment for row in rows for segment in segments(row.ids))
    assert found == sorted(sentence for document in documents for sentence in document)
    assert not dropped
    assert not any(row.cut for row in rows)


def test_packed_cuts_only_what_is_longer_than_a_row(documents):
    length = 20
    rows, _ = pack(pack_packed, documents, length)
    expected, pieces_of_cut = [], []
    for sentence in (sentence for document in documents for sentence in document):
        pieces = [sentence[i : i + length - 2] for i in range(0, len(sentence), length - 2)]
        expected += pieces
        pieces_of_cut += pieces if len(pieces) > 1 else []
    assert sorted(segment for row in rows for segment in segments(row.ids)) == sorted(expected)
    assert all(row.cut == any(segment in pieces_of_cut for segment in segments(row.ids)) for row in rows)


def test_packed_rows_are_full():
    random = np.random.default_rng(1)
    sentences = [[9] * int(n) for n in random.gamma(3.0, 8.0, 20_000) + 3]  # about as long as those of a novel
    rows, _ = pack(pack_packed, [sentences], 128)
    assert sum(len(row.ids) for row in rows) / (128 * len(rows)) > 0.97


def test_a_segment_goes_where_it_fits_exactly():
    sizes = [18, 14, 16, 8, 12, 10]  # with specials 20, 16, 18, 10, 14, 12: three rows of two, and only so
    rows, _ = pack(pack_packed, [[[9] * n for n in sizes]], 30)
    assert sorted(len(row.ids) for row in rows) == [30, 30, 30]


def test_one_sentence_a_row_is_cut_off_and_short_ones_are_dropped(documents):
    rows, dropped = pack(pack_sentence, documents, 32)
    sentences = [sentence for document in documents for sentence in document]
    long_enough = [sentence for sentence in sentences if len(sentence) + 2 > 11]  # DistilBERT's rule
    assert [row.ids for row in rows] == [[CLS, *sentence[:30], SEP] for sentence in long_enough]
    assert [row.cut for row in rows] == [len(sentence) > 30 for sentence in long_enough]
    assert dropped == {"short_sentences": len(sentences) - len(long_enough)}


def test_full_rows_run_on_within_a_document_and_not_beyond(documents):
    rows, dropped = pack(pack_full, documents, 32)
    expected = []
    for document in documents:
        running = [token for sentence in document for token in sentence]
        expected += [running[i : i + 30] for i in range(0, len(running), 30)]
    kept = [piece for piece in expected if len(piece) >= 10]
    assert [row.ids for row in rows] == [[CLS, *piece, SEP] for piece in kept]
    assert dropped == {"short_document_ends": len(expected) - len(kept)} or len(expected) == len(kept)


def test_full_tells_which_rows_cut_a_sentence():
    rows, _ = pack(pack_full, [[[3] * 10, [4] * 20, [5] * 10, [6] * 10, [7] * 20]], 32)
    assert [row.cut for row in rows] == [False, True, True]


@pytest.mark.parametrize("packing", PACKERS)
def test_no_document_makes_no_row(packing):
    assert pack(PACKERS[packing], [], 32)[0] == []
    assert pack(PACKERS[packing], [[]], 32)[0] == []


def test_only_rows_of_single_sentences_come_in_several_lengths():
    assert row_lengths("sentence", 128) == [32, 64, 96, 128]
    assert row_lengths("sentence", 48) == [32, 48]
    assert row_lengths("packed", 128) == row_lengths("full", 128) == [128]


def test_segments_begin_with_cls_and_padding_is_in_none():
    pad, cls, sep = 0, 2, 3
    rows = [[cls, 7, sep, cls, 8, 9, sep, pad], [cls, 7, 7, 7, 7, 7, 7, sep]]
    expected = [[1, 1, 1, 2, 2, 2, 2, 0], [1] * 8]
    for array in (np.array(rows, np.uint16), jnp.array(rows)):
        assert segment_ids(array, {"pad": pad, "cls": cls}).tolist() == expected
