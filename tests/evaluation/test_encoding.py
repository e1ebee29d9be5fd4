"""What the cells of a task share: its tokens, known by content, and no more memory than is allowed."""

import json
import shutil

import numpy as np
import pytest

from ctcd_jax.evaluation import encoding
from ctcd_jax.evaluation.encoding import encode, encode_task, load_tokenizer
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.files import Split
from ctcd_jax.evaluation.tasks.tasks import TASKS


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(encoding, "_cache", {})


def pairs(count, word="cat"):
    return Split(
        ([f"the {word} " * (n % 5) for n in range(count)], ["a red house"] * count), [n % 2 for n in range(count)]
    )


def task(word="cat"):
    return TaskData(TASKS["mrpc"], pairs(23, word), (pairs(7, word),))


def test_rows_are_the_tokenizers_whatever_the_chunks(models, monkeypatch):
    monkeypatch.setattr(encoding, "_ROWS", 5)
    split = pairs(23)
    rows = encode(models[0], split, 10)
    expected = load_tokenizer(models[0])(*split.sentences, truncation=True, max_length=10)
    assert len(rows) == 23
    assert list(rows) == [
        {**{key: values[row] for key, values in expected.items()}, "labels": row % 2} for row in range(23)
    ]
    assert set(rows[0]) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert rows.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]
    # Five tokens and one [SEP] or two of what follows: 3 + 2 * (n % 5) + 3 tokens, more than ten from n % 5 = 3 on.
    assert rows.cut == sum(n % 5 >= 3 for n in range(23))


def test_the_same_by_content_is_tokenised_once(models, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(encoding, "encode", lambda *arguments: calls.append(arguments) or encode(*arguments))
    first = encode_task(models[0], task(), 16)
    assert [len(rows) for rows in first] == [23, 7]
    assert encode_task(models[0], task(), 16) is first
    moved = shutil.copytree(models[0], tmp_path / "moved")
    assert encode_task(moved, task(), 16) is first
    assert len(calls) == 2
    file = moved / "tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))
    for other in ((models[0], task("dog"), 16), (models[0], task(), 15), (moved, task(), 16)):
        assert encode_task(*other) is not first
    assert len(calls) == 8
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    encode_task(moved, task(), 16)  # a config may decide the kind of tokenizer
    assert len(calls) == 10


def test_what_was_used_longest_ago_is_given_up(models, monkeypatch):
    def kept():
        return {longest for *_, longest in encoding._cache}

    size = sum(rows.nbytes for rows in encode_task(models[0], task(), 32))
    monkeypatch.setattr(encoding, "CACHE_BYTES", 2 * size)
    for longest in (31, 32, 30):
        encode_task(models[0], task(), longest)
    assert kept() == {32, 30}
    monkeypatch.setattr(encoding, "CACHE_BYTES", size - 1)  # less than one takes: it is in use
    encode_task(models[0], task(), 29)
    assert kept() == {29}


def test_arrays_are_as_narrow_as_their_values_allow(models):
    rows = encode(models[0], pairs(9), 16)
    assert {flat.dtype for flat in rows.values.values()} == {np.dtype(np.uint8)}  # a vocabulary below 256


def test_pairs_are_joined_as_the_models_own_tokenizer_joins_them(tmp_path):
    """RoBERTa's way: no token types, two separators between the texts, and byte pairs."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaTokenizer

    learnt = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learnt.train_from_iterator(["the cat sees a red house"], vocab_size=280, special_tokens=special)
    learnt.save_model(str(tmp_path))
    RobertaTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    RobertaConfig().save_pretrained(tmp_path)
    (row,) = encode(tmp_path, Split((["the cat"], ["a house"]), [1]), 64)
    first, second = (learnt.encode(text).ids for text in ("the cat", "a house"))
    start, end = learnt.token_to_id("<s>"), learnt.token_to_id("</s>")
    assert row["input_ids"] == [start, *first, end, end, *second, end]
    assert set(row) == {"input_ids", "attention_mask", "labels"}
