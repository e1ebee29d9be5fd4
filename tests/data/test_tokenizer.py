import hashlib
import json
import subprocess
import sys

import huggingface_hub
import pytest
from tokenizers import Tokenizer, models

from ctcd_jax.data.tokenizer import (
    SPECIAL_TOKENS,
    load_tokenizer,
    save_tokenizer,
    special_ids,
    tokenizer_hash,
    train_wordpiece,
    wordpiece,
)
from ctcd_jax.errors import UserError

TRAIN = """
import hashlib
from ctcd_jax.data.tokenizer import train_wordpiece
text = [f"Wörter {i * 7919 % 9973} and ties {i * i}, 語 {chr(0x4E00 + i)}{chr(0x400 + i % 200)}x" for i in range(1500)]
vocabulary = train_wordpiece(lambda: text, 600).get_vocab()
print(hashlib.sha256(repr(sorted(vocabulary.items())).encode()).hexdigest(), len(vocabulary))
"""


def test_training_gives_the_same_vocabulary_in_every_process():
    runs = [subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True) for _ in range(4)]
    assert len({run.stdout for run in runs}) == 1
    assert runs[0].stdout.split()[1] == "600"


def test_a_trained_vocabulary_starts_with_the_special_tokens_and_learns_words():
    tokenizer = train_wordpiece(lambda: ["The lighthouse keeper saw the lighthouse."] * 20, 150)
    assert special_ids(tokenizer) == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert tokenizer.encode("Lighthouse", add_special_tokens=False).tokens == ["lighthouse"]


def test_a_vocabulary_too_small_for_the_characters_is_an_error():
    with pytest.raises(UserError, match=r"--vocab-size 20: this text's characters alone take \d+"):
        train_wordpiece(lambda: ["The quick brown fox jumps over the lazy dog."], 20)


@pytest.fixture
def saved(vocabulary, tmp_path):
    directory = tmp_path / "tokenizer"
    save_tokenizer(load_tokenizer(vocabulary), directory, max_length=48)
    return directory


def test_transformers_loads_the_same_tokenizer(saved, vocabulary):
    import transformers

    theirs, ours = transformers.AutoTokenizer.from_pretrained(saved), load_tokenizer(saved)
    text = "The RIVER quietly watched; an öld   garden, 語 [x]."
    assert type(theirs).__name__ == "BertTokenizer"
    assert len(theirs) == len(vocabulary.read_text().splitlines())
    assert theirs.model_max_length == 48
    encoded = theirs(text, "After chapter two.")
    first = [2, *ours.encode(text, add_special_tokens=False).ids, 3]
    second = [*ours.encode("After chapter two.", add_special_tokens=False).ids, 3]
    assert encoded["input_ids"] == first + second
    assert encoded["token_type_ids"] == [0] * len(first) + [1] * len(second)


def test_a_special_token_in_the_text_is_text(saved, vocabulary):
    for tokenizer in (load_tokenizer(vocabulary), load_tokenizer(saved)):
        assert tokenizer.encode("[CLS]", add_special_tokens=False).tokens == ["[", "c", "##l", "##s", "]"]


def test_the_hash_is_of_ids_and_normaliser_alone(saved, vocabulary, tmp_path):
    tokens = vocabulary.read_text().splitlines()
    settings = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    content = [[[i, token] for i, token in enumerate(tokens)], settings | {"lowercase": True}]
    assert tokenizer_hash(saved) == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    only_vocabulary = tmp_path / "vocabulary"
    only_vocabulary.mkdir()
    (only_vocabulary / "vocab.txt").write_text(vocabulary.read_text())
    assert tokenizer_hash(only_vocabulary) == tokenizer_hash(saved)
    (only_vocabulary / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert tokenizer_hash(only_vocabulary) != tokenizer_hash(saved)
    (only_vocabulary / "tokenizer_config.json").unlink()
    (only_vocabulary / "vocab.txt").write_text("\n".join([*tokens[:-2], tokens[-1], tokens[-2]]))
    assert tokenizer_hash(only_vocabulary) != tokenizer_hash(saved)


def test_the_hash_survives_transformers(saved, tmp_path):
    import transformers

    transformers.AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path / "again")
    assert tokenizer_hash(tmp_path / "again") == tokenizer_hash(saved)


def test_errors_name_the_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\nword\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{}")
    (tmp_path / "bpe").mkdir()
    Tokenizer(models.BPE()).save(str(tmp_path / "bpe" / "tokenizer.json"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for spec, message in {
        tmp_path / "none" / "vocab.txt": "no such file",
        tmp_path / "empty": "neither tokenizer.json nor vocab.txt",
        tmp_path / "vocab.txt": r"\[SEP\], \[MASK\] not in the vocabulary",
        tmp_path / "bad": r"tokenizer\.json: not a tokenizer\.json",
        tmp_path / "bpe": "a BPE model; BERT needs a WordPiece",
        "../none": r"tokenizer \.\./none: no such file; give a vocab\.txt, a tokenizer directory or a hub id",
        "my--none": "tokenizer my--none: no such file",
        "somebody/no-such-model": "somebody/no-such-model: .* the hub cannot be reached",
    }.items():
        with pytest.raises(UserError, match=message):
            load_tokenizer(spec)


def test_a_tokenizer_of_the_hub_may_be_named_with_its_revision(tmp_path, monkeypatch):
    save_tokenizer(wordpiece({token: n for n, token in enumerate(SPECIAL_TOKENS.values())}, True), tmp_path, 8)
    cached = {("org/name", "tokenizer.json", revision): str(tmp_path / "tokenizer.json") for revision in ("v1", None)}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda name, file, revision: cached[name, file, revision]
    )
    expected = load_tokenizer(tmp_path).get_vocab()
    assert load_tokenizer("org/name@v1").get_vocab() == load_tokenizer("org/name").get_vocab() == expected


def test_a_cased_vocabulary_keeps_its_case():
    tokens = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Word", "word"])}
    assert wordpiece(tokens, lowercase=False).encode("Word", add_special_tokens=False).ids == [5]
    assert wordpiece(tokens).encode("Word", add_special_tokens=False).ids == [6]
