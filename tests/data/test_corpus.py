import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest

from ctcd_jax.cli import main
from ctcd_jax.data import Corpus, prepare, tokenizer_hash
from ctcd_jax.data.corpus import read_manifest
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


def test_what_a_corpus_holds_is_known_wherever_its_text_and_its_tokenizer_lay(library, vocabulary, make, tmp_path):
    shutil.copytree(library, tmp_path / "library")
    shutil.copy(vocabulary, tmp_path / "vocab.txt")
    here = Corpus(make())
    there = Corpus(make(f"text:{tmp_path}/library/**/*.txt", tokenizer=str(tmp_path / "vocab.txt")))
    assert here.hash != there.hash
    assert here.content_hash == there.content_hash
    others = {Corpus(make(**other)).content_hash for other in ({"length": 40}, {"seed": 1}, {"vocab_size": 300})}
    assert len(others - {here.content_hash}) == 3


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


DAMAGES = {
    "recipe is missing": lambda manifest: manifest.pop("recipe"),
    "recipe is no object": lambda manifest: manifest.update(recipe=3),
    "recipe.packing is 'pack'": lambda manifest: manifest["recipe"].update(packing="pack"),
    "recipe.length is '48' and no count": lambda manifest: manifest["recipe"].update(length="48"),
    "sources is no list": lambda manifest: manifest.update(sources={}),
    "sources[0].kept is missing": lambda manifest: manifest["sources"][0].pop("kept"),
    "splits.validation is missing": lambda manifest: manifest["splits"].pop("validation"),
    "splits.train.padding is None and no number": lambda manifest: manifest["splits"]["train"].update(padding=None),
    "dropped.duplicates is -1 and no count": lambda manifest: manifest["dropped"].update(duplicates=-1),
    "tokenizer.hash is 3 and no string": lambda manifest: manifest["tokenizer"].update(hash=3),
    "tokenizer.special_ids.unk is missing": lambda manifest: manifest["tokenizer"]["special_ids"].pop("unk"),
    "its vocabulary has not": lambda manifest: manifest["token_frequencies"].pop(),
    "shards.train[0].sha256 is missing": lambda manifest: manifest["shards"]["train"][0].pop("sha256"),
    "token_frequencies[2] is 1.5 and no count": lambda manifest: manifest["token_frequencies"].__setitem__(2, 1.5),
    "row_tokens[0] is None and no count": lambda manifest: manifest["row_tokens"].__setitem__(0, None),
    "validation_cut_rows is missing": lambda manifest: manifest.pop("validation_cut_rows"),
}


@pytest.mark.parametrize(("what", "damage"), DAMAGES.items())
def test_a_damaged_manifest_is_one_line_for_everybody(copy, what, damage, capsys):
    manifest = json.loads((copy / "corpus.json").read_text())
    again = [manifest["recipe"]["sources"], copy]
    options = {name: manifest["recipe"][name] for name in ("tokenizer", "length", "validation")}
    damage(manifest)
    (copy / "corpus.json").write_text(json.dumps(manifest))
    for read in (Corpus.open, lambda _: prepare(*again, **options), lambda _: read_manifest(copy)):
        with pytest.raises(UserError) as caught:
            read(copy)
        assert str(caught.value).startswith(f"{copy}/corpus.json: damaged ({what}")
        assert str(caught.value).endswith("; prepare the corpus again")
    assert main(["inspect", str(copy)]) == 2
    assert capsys.readouterr().err == f"ctcd inspect: {caught.value}\n"


def test_a_shard_cut_short_is_one_line(copy):
    path = copy / "train-00000.npy"
    for size in (0, 40, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(UserError, match=r"train-00000\.npy: damaged \(.*; prepare the corpus again"):
            Corpus.open(copy, verify=False).shards("train")


def test_a_corpus_is_found_in_the_home_directory(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert Corpus.open("~/copy").directory == copy
