"""The files of a WordPiece tokenizer, read as transformers reads them, and what is guessed where they say nothing."""

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from ctcd_jax.data.wordpiece import SPECIAL_TOKENS, wordpiece
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import is_lfs_pointer, read_json

CONFIG = "tokenizer_config.json"
FILES = ("tokenizer.json", "vocab.txt", CONFIG, "special_tokens_map.json", "added_tokens.json")
"""All that is read of a tokenizer."""

# What transformers calls special tokens beyond BERT's own, formerly and now.
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
# tokenizer_config.json's name of each setting of BertNormalizer that it can hold.
_NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# From this share of the words on, capitals (or accents) are what the vocabulary was made with, not a few added words.
_HABIT = 0.01

Warn = Callable[[str], None]


def read_directory(directory: Path, warn: Warn) -> Tokenizer:
    """Reads `tokenizer.json`, else `vocab.txt`, and the tokens that were added beside it.

    Raises:
      UserError: neither is there, or a file is damaged.
    """
    if (directory / "tokenizer.json").is_file():
        return read_tokenizer_json(directory / "tokenizer.json", warn)
    if (directory / "vocab.txt").is_file():
        return read_vocabulary_file(directory / "vocab.txt", warn)
    raise UserError(f"tokenizer {directory}: neither tokenizer.json nor vocab.txt in it")


def read_tokenizer_json(path: Path, warn: Warn) -> Tokenizer:
    """Reads a `tokenizer.json`; `warn` is called with a line where the `tokenizer_config.json` beside it disagrees.

    Raises:
      UserError: a file is damaged.
    """
    data = _read_bytes(path)
    try:
        content = json.loads(data.decode("utf-8-sig"))
        for token in content.get("added_tokens") or []:
            # Ours stand for nothing in a text; whoever adds one has texts with it in them.
            token["special"] = token["content"] in SPECIAL_TOKENS.values()
        tokenizer = Tokenizer.from_str(json.dumps(content))
        for token in content.get("added_tokens") or []:
            if tokenizer.token_to_id(token["content"]) != token["id"]:
                raise ValueError(f"'{token['content']}' does not get its id {token['id']}")
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"tokenizer {path}: not a tokenizer.json ({first_line(error)}); fetch it again") from error
    settings = read_settings(path.parent)
    normalizer = content.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        for name, field in _NORMALIZER_FIELDS.items():
            if name in settings and settings[name] != normalizer.get(field):
                warn(
                    f"{path}: {field} is {normalizer.get(field)}, but {name} in {CONFIG} is {settings[name]}; "
                    f"{path.name} is followed"
                )
    _add_tokens(tokenizer, path.parent, settings)
    return tokenizer


def read_vocabulary_file(path: Path, warn: Warn) -> Tokenizer:
    """Reads a token a line, and the settings and added tokens that lie beside.

    Where no setting says whether text is lower-cased and its accents are stripped, the vocabulary's own words do, and
    `warn` is called with a line about it.

    Raises:
      UserError: a file is damaged.
    """
    try:
        text = _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"tokenizer {path}: no text in UTF-8 (byte {error.start}); give one token a line") from error
    if "\0" in text:
        raise UserError(f"tokenizer {path}: not a text but a binary file; give one token a line")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    tokens = [line.rstrip(" \t") for line in lines]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        twice = next(n for n, token in enumerate(tokens) if vocabulary[token] != n)
        warn(
            f"{path}: {len(tokens) - len(vocabulary)} tokens are there more than once, '{tokens[twice]}' in lines "
            f"{twice + 1} and {vocabulary[tokens[twice]] + 1}; the last id counts, as in transformers"
        )
    if "" in vocabulary:
        warn(f"{path}: line {vocabulary[''] + 1} is blank; its id stands for nothing")
    settings = read_settings(path.parent)
    lowercase, strip_accents = _casing(path, tokens, settings, warn)
    tokenizer = wordpiece(vocabulary, lowercase, strip_accents, settings.get("tokenize_chinese_chars", True))
    _add_tokens(tokenizer, path.parent, settings)
    return tokenizer


def read_settings(directory: Path) -> dict:
    """Returns what `tokenizer_config.json` and, under it, `special_tokens_map.json` say; {} without them.

    Raises:
      UserError: a file is damaged, or a setting is not of its kind.
    """
    settings: dict = {}
    for file in ("special_tokens_map.json", CONFIG):
        if (directory / file).is_file():
            settings |= read_json(directory / file, "fetch it again, or remove it if its settings are BERT's")
    for name in _NORMALIZER_FIELDS:
        kinds = (bool, type(None)) if name == "strip_accents" else (bool,)
        if name in settings and not isinstance(settings[name], kinds):
            raise UserError(f"{directory / CONFIG}: {name} is {settings[name]!r}; write true or false")
    return settings


def check_settings(directory: Path) -> None:
    """Raises UserError where the settings ask for what this project's tokenizers do not do."""
    settings = read_settings(directory)
    for name, token in SPECIAL_TOKENS.items():
        theirs = settings.get(f"{name}_token")
        if theirs is not None and _content(theirs) != token:
            raise UserError(
                f"tokenizer {directory}: {name}_token is '{_content(theirs)}', but only '{token}' is supported; "
                "rename it in the vocabulary and the settings"
            )
    for name, plain in (("word_tokenizer_type", "basic"), ("subword_tokenizer_type", "wordpiece")):
        if settings.get(name, plain) != plain:
            raise UserError(f"tokenizer {directory}: {name} is '{settings[name]}', but only '{plain}' is supported")


def normalizer_settings(normalizer: Mapping) -> dict:
    """Returns how `tokenizer_config.json` spells the settings of a BertNormalizer."""
    return {name: normalizer[field] for name, field in _NORMALIZER_FIELDS.items()}


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if is_lfs_pointer(path):
        raise UserError(f"tokenizer {path}: a Git LFS pointer, not the file itself; run `git lfs pull` there")
    if not data.strip():
        raise UserError(f"tokenizer {path}: empty; fetch it again")
    return data


def _casing(path: Path, tokens: Sequence[str], settings: Mapping, warn: Warn) -> tuple[bool, bool | None]:
    """Returns (lowercase, strip_accents) as the settings say or, where they do not, as the vocabulary's words look."""
    words = [token for token in tokens if not token.startswith(("##", "["))]
    capitals = [word for word in words if word != word.lower()]
    accented = [word for word in words if any(map(unicodedata.combining, unicodedata.normalize("NFD", word)))]
    stated = "do_lower_case" in settings
    lowercase = settings["do_lower_case"] if stated else len(capitals) <= _HABIT * len(words)
    if not lowercase and not stated:
        warn(
            f"{path}: nothing says whether text is lower-cased; {len(capitals):,} words have capitals, such as "
            f"'{capitals[0]}', so it is not (do_lower_case in a {CONFIG} beside it decides)"
        )
    elif lowercase and capitals:
        warn(f"{path}: {len(capitals):,} words have capitals, such as '{capitals[0]}'; lower-cased text has none")
    if not lowercase or "strip_accents" in settings:
        return lowercase, settings.get("strip_accents")
    if not stated and len(accented) > _HABIT * len(words):
        warn(
            f"{path}: nothing says whether accents are stripped; {len(accented):,} words have some, such as "
            f"'{accented[0]}', so they are not (strip_accents in a {CONFIG} beside it decides)"
        )
        return lowercase, False
    if accented:
        warn(f"{path}: {len(accented):,} words have accents, such as '{accented[0]}'; text stripped of them has none")
    return lowercase, None


def _add_tokens(tokenizer: Tokenizer, directory: Path, settings: Mapping) -> None:
    """Adds the tokens that lie beside the vocabulary, each with the id that is written there."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for file, number, token in _added_tokens(directory, settings):
        if token.content in known:
            continue
        at = tokenizer.token_to_id(token.content)
        following = max(tokenizer.get_vocab().values()) + 1 if at is None else at
        if number not in (None, following):
            raise UserError(
                f"{directory / file}: '{token.content}' has id {number}, but in the tokenizer it would be {following}; "
                "ids must follow the vocabulary's without a gap"
            )
        tokenizer.add_tokens([token])
        known.add(token.content)


def _added_tokens(directory: Path, settings: Mapping) -> Iterator[tuple[str, int | None, AddedToken]]:
    """Yields (file, id if it is written there, token) by id, none of them special: texts contain them."""
    listed, path = settings.get("added_tokens_decoder"), directory / "added_tokens.json"
    file = path.name if listed is None else CONFIG
    beside = read_json(path, "fetch it again, or remove it") if listed is None and path.is_file() else {}
    try:
        numbered = [(number, token) for token, number in beside.items()] if listed is None else listed.items()
        ordered = sorted(((int(number), token) for number, token in numbered), key=lambda pair: pair[0])
        extra = [token for name in _EXTRA for token in _listed(settings.get(name))]
        for number, token in (*ordered, *((None, token) for token in extra)):
            flags = token if isinstance(token, dict) else {"content": token, "normalized": number is not None}
            names = ("content", "single_word", "lstrip", "rstrip", "normalized")
            made = AddedToken(**{name: flags[name] for name in names if name in flags}, special=False)
            if made.content not in SPECIAL_TOKENS.values():
                yield file, number, made
    except (OverflowError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{directory / file}: added tokens that cannot be read ({error}); fetch it again") from error


def _listed(tokens: Sequence | Mapping | None) -> Sequence:
    if isinstance(tokens, str):
        raise TypeError(f"{tokens!r} is no list")
    return list(tokens.values()) if isinstance(tokens, Mapping) else tokens or []


def _content(token: str | Mapping) -> str | None:
    return token.get("content") if isinstance(token, Mapping) else token
