import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest

from ctcd_jax.data import Corpus, tokenizer_hash
from ctcd_jax.errors import UserError


def test_a_corpus_says_what_it_is(packed, grouped):
    assert packed.max_length == 48
    assert packed.lengths("train") == [48]
    assert grouped.lengths("train") == [32, 48]
    assert packed.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert packed.tokenizer_hash == tokenizer_hash(packed.tokenizer_directory) == grouped.tokenizer_hash
    assert packed.hash == hashlib.sha256((packed.directory / "corpus.json").read_bytes()).hexdigest() != grouped.hash
    assert packed.token_frequencies.shape == (packed.vocab_size,)
    assert packed.token_frequencies.dtype == np.int64
    assert all(isinstance(shard, np.memmap) for shard in packed.shards("train"))
    assert grouped.rows("train") == sum(grouped.rows("train", length) for length in (32, 48))


def test_a_row_goes_into_the_shortest_length_that_holds_it(grouped):
    short, long = (np.concatenate(grouped.shards("train", length)) for length in (32, 48))
    assert short.shape[1] == 32
    assert (long != 0).sum(axis=1).min() > 32


def test_rows_are_read_over_several_shards(make, monkeypatch):
    from ctcd_jax.data import shards

    monkeypatch.setattr(shards, "SHARD_ROWS", 50)
    corpus = Corpus.open(make())
    mapped = corpus.shards("train")
    assert [len(shard) for shard in mapped[:-1]] == [50] * (len(mapped) - 1)
    assert len(mapped) > 1
    rows = np.array([corpus.rows("train") - 1, 0, 49, 50, 0])
    ids = corpus.read("train", 48, rows)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, np.concatenate(mapped)[rows])


def test_ids_are_stored_as_narrow_as_the_vocabulary_allows():
    from ctcd_jax.data.shards import token_dtype

    assert [token_dtype(size) for size in (30_522, 65_536, 65_537)] == [np.uint16, np.uint16, np.uint32]


def test_it_can_be_sent_to_another_process(packed):
    unused = len(pickle.dumps(Corpus(packed.directory)))
    packed.shards("train")
    again = pickle.loads(pickle.dumps(packed))
    assert len(pickle.dumps(packed)) == unused  # no rows in it
    np.testing.assert_array_equal(again.shards("train")[0], packed.shards("train")[0])


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed.directory, tmp_path / "copy")


def test_a_missing_corpus_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        Corpus.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"corpus\.json: no such file; make the corpus with"):
        Corpus.open(tmp_path)


def test_an_unknown_format_is_refused(copy):
    manifest = json.loads((copy / "corpus.json").read_text())
    contents = {json.dumps(manifest | {"format": 2}): "format 2, and this version reads 1", "[]": "not a JSON object",
                "{}": "format None", "{": "damaged"}  # fmt: skip
    for content, message in contents.items():
        (copy / "corpus.json").write_text(content)
        with pytest.raises(UserError, match=rf"corpus\.json: {message}"):
            Corpus.open(copy)


def test_a_changed_or_missing_shard_is_named(copy):
    path = copy / "train-00000.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.npy: its checksum .* prepare the corpus again"):
        Corpus.open(copy)
    Corpus.open(copy, verify=False)
    path.unlink()
    with pytest.raises(UserError, match=r"train-00000\.npy: missing"):
        Corpus.open(copy, verify=False)


def test_another_tokenizer_is_noticed(copy):
    path = copy / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace('"river"', '"rivers"'))
    with pytest.raises(UserError, match="not the tokenizer the corpus was made with"):
        Corpus.open(copy)
