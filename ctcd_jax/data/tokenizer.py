"""WordPiece tokenizers: load one, save one as transformers expects it, and tell whether two are the same."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from tokenizers import Tokenizer, models

from ctcd_jax.data.hub_access import check_reachable
from ctcd_jax.data.tokenizer_files import (
    CONFIG,
    FILES,
    check_settings,
    normalizer_settings,
    read_directory,
    read_tokenizer_json,
    read_vocabulary_file,
)
from ctcd_jax.data.wordpiece import (  # noqa: F401  whoever needs a tokenizer finds everything here
    LONGEST_WORD,
    SPECIAL_TOKENS,
    pair_template,
    train_wordpiece,
    wordpiece,
)
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import json_sha256, read_json, write_json, write_whole

_BATCH_SENTENCES = 4096
_NOTHING_THERE = "tokenizer {}: no such file; give a vocab.txt, a tokenizer directory or a hub id"
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?:@[\w./-]+)?")  # ID[@REVISION]


def load_tokenizer(spec: str | Path, warn: Callable[[str], None] = warn) -> Tokenizer:
    """Loads a WordPiece tokenizer from a `vocab.txt`, a `tokenizer.json`, a directory with one of them, or the hub.

    BERT's special tokens that stand literally in a text are text to it, and it neither cuts nor pads.

    Args:
      warn: called with a line about each guess and each contradiction in the files.

    Raises:
      UserError: if nothing is there, a file is damaged, it is not a WordPiece, or one of `SPECIAL_TOKENS` is missing.
    """
    path = Path(spec)
    if not path.exists():
        path = Path(os.path.expanduser(spec))  # Path.expanduser raises where there is no such home
    if not path.exists():
        if not _HUB_ID.fullmatch(str(spec)) or path.suffix in {".txt", ".json"}:
            raise UserError(_NOTHING_THERE.format(spec))
        path = _hub_directory(str(spec))
    if path.is_dir():
        tokenizer = read_directory(path, warn)
    else:
        tokenizer = (read_tokenizer_json if path.suffix == ".json" else read_vocabulary_file)(path, warn)
    if not isinstance(tokenizer.model, models.WordPiece):
        raise UserError(f"tokenizer {spec}: a {type(tokenizer.model).__name__} model; BERT needs a WordPiece")
    check_settings(path if path.is_dir() else path.parent)
    missing = [token for token in SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise UserError(
            f"tokenizer {spec}: {', '.join(missing)} not in the vocabulary; add {', '.join(SPECIAL_TOKENS.values())}"
        )
    if tokenizer.model.unk_token != SPECIAL_TOKENS["unk"]:
        raise UserError(
            f"tokenizer {spec}: unk_token is '{tokenizer.model.unk_token}', but only '{SPECIAL_TOKENS['unk']}' is "
            "supported; change it in tokenizer.json"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the ids of `pad`, `unk`, `cls`, `sep` and `mask`."""
    ids = {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS.items()}
    return cast("dict[str, int]", ids)  # `load_tokenizer` gives none without them


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Returns one more than the largest id."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenize(
    documents: Iterable[Sequence[str]],
    tokenizer: Tokenizer,
    max_unknown: float,
    dropped: Counter[str],
    count: Callable[[int], None],
) -> Iterator[list[list[int]]]:
    """Yields for each document the ids of its sentences, without specials.

    A sentence without tokens, or with too many [UNK], is dropped. Documents are encoded many at a time, because the
    tokenizer spreads a batch over the cores.

    Args:
      documents: each a sequence of sentences.
      tokenizer: of the corpus.
      max_unknown: the greatest share of a sentence's tokens that may be [UNK].
      dropped: counts the dropped sentences by reason.
      count: called with numbers of sentences that are done.
    """
    unknown = special_ids(tokenizer)["unk"]

    def keeps(ids: list[int]) -> bool:
        if not ids:
            dropped["no_tokens"] += 1
        elif ids.count(unknown) > max_unknown * len(ids):
            dropped["too_many_unknown"] += 1
        else:
            return True
        return False

    for batch in _document_batches(documents):
        sentences = [sentence for document in batch for sentence in document]
        encodings = iter(tokenizer.encode_batch_fast(sentences, add_special_tokens=False))
        for document in batch:
            yield [ids for _ in document if keeps(ids := next(encodings).ids)]
        count(len(sentences))


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`, from which transformers makes the same ids.

    It makes a `BertTokenizer` of the vocabulary and the settings alone. A tokenizer that departs from BERT's is
    therefore declared a `PreTrainedTokenizerFast`, which is all that `tokenizer.json` says.

    Args:
      tokenizer: to write.
      directory: made if it is not there.
      max_length: tokens that the model takes, specials included.
    """
    directory.mkdir(parents=True, exist_ok=True)
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    is_bert = normalizer.get("type") == "BertNormalizer"
    plain = is_bert and normalizer["clean_text"] and not _departures(tokenizer).keys() - {"added_tokens"}
    if not plain:
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.post_processor = pair_template(tokenizer)
    # The library's own writing of files wants names that are UTF-8.
    write_whole(directory / "tokenizer.json", tokenizer.to_str(pretty=True))
    config = {
        "tokenizer_class": "BertTokenizer" if plain else "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **(normalizer_settings(normalizer) if is_bert else {}),
        **{f"{name}_token": token for name, token in SPECIAL_TOKENS.items()},
    }
    write_json(directory / CONFIG, config)


def set_max_length(directory: Path, max_length: int) -> None:
    """Changes how many tokens a saved tokenizer says that its model takes, specials included."""
    config = read_json(directory / CONFIG, "prepare the corpus again")
    write_json(directory / CONFIG, config | {"model_max_length": max_length})


def tokenizer_hash(directory: str | Path) -> str:
    """Returns what identifies the token ids of the tokenizer in `directory` (`tokenizer.json`, else `vocab.txt`).

    It is the SHA-256 of the JSON `[vocabulary, normalizer]`: the pairs `[id, token]` by id, and the settings of the
    normaliser as `tokenizer.json` spells them, keys sorted. Whatever else decides an id is as in BERT, or follows as a
    third item with the departures alone: `pre_tokenizer`, `continuing_subword_prefix`, `max_input_chars_per_word` and
    `added_tokens`. Truncation, padding and templates do not change an id and are not in it.

    Raises:
      UserError: as `load_tokenizer`.
    """
    tokenizer = load_tokenizer(directory, warn=lambda line: None)
    vocabulary = sorted((number, token) for token, number in tokenizer.get_vocab().items())
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    departures = _departures(tokenizer)
    content = [vocabulary, normalizer, *([departures] if departures else [])]
    return json_sha256(content)


def _departures(tokenizer: Tokenizer) -> dict:
    """Returns what decides ids apart from vocabulary and normaliser, and is not as in BERT."""
    content = json.loads(tokenizer.to_str())
    bert = {"continuing_subword_prefix": "##", "max_input_chars_per_word": LONGEST_WORD}
    departures = {name: content["model"][name] for name in bert if content["model"][name] != bert[name]}
    if content["pre_tokenizer"] != {"type": "BertPreTokenizer"}:
        departures["pre_tokenizer"] = content["pre_tokenizer"]
    added = [token for token in content["added_tokens"] if token["content"] not in SPECIAL_TOKENS.values()]
    return departures | ({"added_tokens": added} if added else {})


def _hub_directory(name: str) -> Path:
    """Returns the local directory of a model on the hub, with the files of its tokenizer."""
    model, _, revision = name.partition("@")
    revision = revision or None
    try:
        cached = huggingface_hub.try_to_load_from_cache(model, "tokenizer.json", revision=revision)
    except HFValidationError as error:
        raise UserError(_NOTHING_THERE.format(name)) from error
    if isinstance(cached, str):
        return Path(cached).parent
    try:
        check_reachable()
    except OSError as error:
        raise UserError(
            f"tokenizer {name}: no such file or directory here, and the hub cannot be reached ({error})"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # whatever the hub's client raises
        raise UserError(f"tokenizer {name}: not to be had from the hub ({first_line(error)})") from error


def _document_batches(documents: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_SENTENCES:
            yield batch
            batch, size = [], 0
    yield batch
