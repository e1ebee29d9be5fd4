"""The files of a tokenizer are read as transformers reads them, and what they do not say is guessed aloud."""

import json

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer

from ctcd_jax.data.tokenizer import load_tokenizer, save_tokenizer, tokenizer_hash, vocabulary_size, wordpiece
from ctcd_jax.errors import UserError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß.<>"
WORDS = ["möchte", "mochte", "brücke", "keeper", "the", "語"]
TOKENS = [*SPECIALS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TEXT = "The keeper möchte Covid19 <ent> covid19 語語 über die Brücke. <dom> MOCHTE"


@pytest.fixture
def directory(tmp_path):
    """Returns a function that writes files, a list as lines and a dict as JSON, and returns their directory."""

    def write(**files):
        for name, content in files.items():
            path = tmp_path / ({"vocab": "vocab.txt"}.get(name) or f"{name}.json")
            if isinstance(content, list):
                content = "\n".join(content) + "\n"
            if isinstance(content, dict):
                content = json.dumps(content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def loaded(path):
    """Returns (tokenizer, warnings)."""
    warned = []
    return load_tokenizer(path, warn=warned.append), warned


def ids(tokenizer, text=TEXT):
    return tokenizer.encode(text, add_special_tokens=False).ids


SETTINGS = [
    {"do_lower_case": True},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "tokenize_chinese_chars": False},
    {"do_lower_case": True, "strip_accents": None, "unk_token": {"__type": "AddedToken", "content": "[UNK]"}},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_beside_a_vocabulary_are_those_of_transformers(settings, directory, tmp_path):
    ours = loaded(directory(vocab=TOKENS, tokenizer_config=settings))[0]
    theirs = BertTokenizer.from_pretrained(tmp_path)
    assert ids(ours) == theirs.encode(TEXT, add_special_tokens=False)


ADDED = [
    {"added_tokens": {"covid19": len(TOKENS) + 1, "<ent>": len(TOKENS)}},
    {"added_tokens": {"<ent>": len(TOKENS)}, "special_tokens_map": {"additional_special_tokens": ["<dom>"]}},
    {"tokenizer_config": {"do_lower_case": True, "extra_special_tokens": ["<dom>"]}},
    {
        "tokenizer_config": {
            "do_lower_case": True,
            "added_tokens_decoder": {
                "0": {"content": "[PAD]", "special": True, "normalized": False},
                str(len(TOKENS)): {"content": "<ent>", "special": True, "normalized": False},
                str(len(TOKENS) + 1): {"content": "covid19", "special": False, "normalized": True, "lstrip": True},
            },
        }
    },
]


@pytest.mark.parametrize("files", ADDED, ids=range(len(ADDED)))
def test_added_tokens_are_those_of_transformers(files, directory, tmp_path):
    ours = loaded(directory(vocab=TOKENS, **{"tokenizer_config": {"do_lower_case": True}} | files))[0]
    theirs = BertTokenizer.from_pretrained(tmp_path)
    assert vocabulary_size(ours) == len(theirs) > len(TOKENS)
    assert ids(ours) == theirs.encode(TEXT, add_special_tokens=False)
    assert max(ids(ours)) >= len(TOKENS)


def test_added_tokens_are_part_of_what_the_hash_identifies(directory, tmp_path):
    config = {"do_lower_case": True}
    before = tokenizer_hash(directory(vocab=[*TOKENS, "<ent>"], tokenizer_config=config))
    after = tokenizer_hash(directory(vocab=TOKENS, added_tokens={"<ent>": len(TOKENS)}))
    assert before != after  # the same tokens, but only an added one is found in a text
    assert len(load_tokenizer(tmp_path).get_vocab()) == len(TOKENS) + 1


def bert(**changes):
    tokenizer = wordpiece({token: number for number, token in enumerate(TOKENS)})
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def with_model(**changes):
    content = json.loads(bert().to_str())
    content["model"] |= changes
    return Tokenizer.from_str(json.dumps(content))


def with_added():
    tokenizer = bert()
    tokenizer.add_tokens(["<ent>", "covid19"])
    return tokenizer


KINDS = {
    "none": lambda: bert(normalizer=None),
    "sequence": lambda: bert(
        normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    ),
    "lowercase": lambda: bert(normalizer=normalizers.Lowercase()),
    "unclean": lambda: bert(normalizer=normalizers.BertNormalizer(clean_text=False)),
    "whitespace": lambda: bert(pre_tokenizer=pre_tokenizers.Whitespace()),
    "split": lambda: bert(pre_tokenizer=pre_tokenizers.Split(Regex(r"\s+"), "removed")),
    "no pre-tokenizer": lambda: bert(pre_tokenizer=None),
    "no template": lambda: bert(normalizer=normalizers.Lowercase(), post_processor=None),
    "prefix": lambda: with_model(continuing_subword_prefix="@@"),
    "short words": lambda: with_model(max_input_chars_per_word=5),
    "added": with_added,
    "keep accents": lambda: bert(normalizer=normalizers.BertNormalizer(strip_accents=False)),
    "no ideographs": lambda: bert(normalizer=normalizers.BertNormalizer(handle_chinese_chars=False)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_makes_the_same_ids_of_what_is_saved(kind, tmp_path):
    KINDS[kind]().save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    save_tokenizer(ours, tmp_path / "saved", max_length=48)
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "bert"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.encode(TEXT, add_special_tokens=False) == ids(ours)
    assert ids(load_tokenizer(tmp_path / "saved")) == ids(ours)
    pair = theirs("the keeper", "the")
    assert pair["input_ids"] == [2, *ids(ours, "the keeper"), 3, *ids(ours, "the"), 3]
    assert pair["token_type_ids"][-2:] == [1, 1]
    assert (theirs.pad_token_id, theirs.mask_token_id, theirs.model_max_length) == (0, 4, 48)
    assert tokenizer_hash(tmp_path / "saved") == tokenizer_hash(tmp_path)


def test_whatever_decides_ids_is_in_the_hash(tmp_path):
    hashes = set()
    for kind, make in KINDS.items():
        (tmp_path / kind).mkdir()
        make().save(str(tmp_path / kind / "tokenizer.json"))
        hashes.add(tokenizer_hash(tmp_path / kind))
    assert len(hashes) == len(KINDS) - 1  # "no template" is "lowercase": a template changes no id
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    hashes.add(tokenizer_hash(tmp_path))
    assert len(hashes) == len(KINDS)


def test_a_cased_vocabulary_without_settings_is_not_lower_cased(directory):
    ours, warned = loaded(directory(vocab=[*TOKENS, "The", "Keeper"]))
    assert ours.encode("The", add_special_tokens=False).tokens == ["The"]
    assert len(warned) == 1
    assert "2 words have capitals, such as 'The', so it is not" in warned[0]


def test_a_vocabulary_with_accents_without_settings_keeps_them(directory):
    ours, warned = loaded(directory(vocab=TOKENS))
    assert ours.encode("Möchte", add_special_tokens=False).tokens == ["möchte"]
    assert len(warned) == 1
    assert "such as 'möchte', so they are not" in warned[0]


def test_words_that_can_never_occur_are_said(directory):
    few = [*SPECIALS, *(chr(97 + n % 26) * (n // 26 + 1) for n in range(500)), "COVID"]
    ours, warned = loaded(directory(vocab=few))
    assert ours.encode("AA", add_special_tokens=False).tokens == ["aa"]
    assert warned == [f"{directory()}/vocab.txt: 1 words have capitals, such as 'COVID'; lower-cased text has none"]
    assert len(loaded(directory(vocab=TOKENS, tokenizer_config={"do_lower_case": True}))[1]) == 1


def test_a_tokenizer_json_that_its_settings_contradict_is_followed_and_said(directory):
    ours, warned = loaded(directory(tokenizer=bert().to_str(), tokenizer_config={"do_lower_case": False}))
    assert ours.encode("THE", add_special_tokens=False).tokens == ["the"]
    assert len(warned) == 1
    assert "lowercase is True, but do_lower_case in tokenizer_config.json is False" in warned[0]


@pytest.mark.parametrize(
    "lines",
    [
        "\ufeff" + "\n".join(TOKENS),
        "\r\n".join(TOKENS) + "\r\n",
        "\n".join(TOKENS) + "\n\n",
        "\n".join(f"{token} " for token in TOKENS),
    ],
    ids=["byte-order mark", "CRLF", "blank lines at the end", "trailing spaces"],
)
def test_a_vocabulary_of_any_editor_is_the_same(lines, directory):
    path = directory(vocab=lines, tokenizer_config="\ufeff" + '{"do_lower_case": true}') / "vocab.txt"
    assert load_tokenizer(path, warn=lambda line: None).get_vocab() == {token: n for n, token in enumerate(TOKENS)}


def test_lines_that_stand_for_nothing_keep_their_ids_and_are_said(directory):
    ours, warned = loaded(directory(vocab=[*SPECIALS, "the", "", "keeper", "the", "x"]))
    assert ids(ours, "the keeper x") == [8, 7, 9]
    assert any(
        "1 tokens are there more than once, 'the' in lines 6 and 9; the last id counts" in line for line in warned
    )
    assert any("line 7 is blank" in line for line in warned)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 231508\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab": b""}, r"vocab\.txt: empty; fetch it again"),
        ({"vocab": b"\n\n"}, r"vocab\.txt: empty"),
        ({"vocab": bytes(range(256))}, r"vocab\.txt: no text in UTF-8 \(byte 128\)"),
        ({"vocab": b"a\0\0b\n"}, r"vocab\.txt: not a text but a binary file"),
        ({"vocab": POINTER}, r"vocab\.txt: a Git LFS pointer, not the file itself; run `git lfs pull`"),
        ({"tokenizer": POINTER}, r"tokenizer\.json: a Git LFS pointer"),
        ({"tokenizer": b""}, r"tokenizer\.json: empty"),
        ({"tokenizer": bert().to_str()[:500]}, r"tokenizer\.json: not a tokenizer\.json \(Unterminated"),
        ({"tokenizer": "[]"}, r"tokenizer\.json: not a tokenizer\.json"),
        ({"tokenizer": bert().to_str().replace('"id":3', '"id":9')}, r"'\[SEP\]' does not get its id 9"),
        ({"tokenizer": with_model(unk_token="the").to_str()}, r"unk_token is 'the', but only '\[UNK\]'"),
        ({"tokenizer_config": "{"}, r"tokenizer_config\.json: damaged"),
        ({"tokenizer_config": {"do_lower_case": "no"}}, "do_lower_case is 'no'; write true or false"),
        ({"tokenizer_config": {"mask_token": "<mask>"}}, r"mask_token is '<mask>', but only '\[MASK\]' is supported"),
        ({"tokenizer_config": {"word_tokenizer_type": "mecab"}}, "word_tokenizer_type is 'mecab', but only 'basic'"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, r"tokenizer_config\.json: added tokens that cannot be"),
        ({"special_tokens_map": {"unk_token": {"content": "<unk>"}}}, "unk_token is '<unk>'"),
        ({"added_tokens": {"<ent>": 500}}, rf"'<ent>' has id 500, but in the tokenizer it would be {len(TOKENS)}"),
        ({"added_tokens": {"the": 7}}, "'the' has id 7, but in the tokenizer it would be 9"),
        ({"added_tokens": {"<ent>": "x"}}, r"added_tokens\.json: added tokens that cannot be read"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(files, message, directory):
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(directory(**{"vocab": TOKENS} | files), warn=lambda line: None)
    assert "\n" not in str(caught.value)
