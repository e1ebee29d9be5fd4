"""WordPiece: train one, load one, save one as transformers expects it, and tell whether two are the same."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import huggingface_hub
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ctcd_jax.data.hub_access import check_reachable
from ctcd_jax.errors import UserError

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

_ALPHABET = 1000
_BATCH_SENTENCES = 4096
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def load_tokenizer(spec: str | Path) -> Tokenizer:
    """Loads a WordPiece tokenizer from a `vocab.txt`, a directory (`tokenizer.json`, else `vocab.txt`) or the hub.

    Special tokens that stand literally in a text are text to it, and it neither cuts nor pads.

    Raises:
      UserError: if nothing is there, it is not a WordPiece, or one of `SPECIAL_TOKENS` is missing.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        tokenizer = _from_directory(path)
    elif path.is_file():
        tokenizer = _from_vocabulary_file(path)
    elif _HUB_ID.fullmatch(str(spec)) and path.suffix not in {".txt", ".json"}:
        tokenizer = _from_hub(str(spec))
    else:
        raise UserError(f"tokenizer {spec}: no such file; give a vocab.txt, a tokenizer directory or a hub id")
    if not isinstance(tokenizer.model, models.WordPiece):
        raise UserError(f"tokenizer {spec}: a {type(tokenizer.model).__name__} model; BERT needs a WordPiece")
    missing = [token for token in SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise UserError(
            f"tokenizer {spec}: {', '.join(missing)} not in the vocabulary; add {', '.join(SPECIAL_TOKENS.values())}"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the ids of `pad`, `unk`, `cls`, `sep` and `mask`."""
    return {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS.items()}


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Returns one more than the largest id."""
    return max(tokenizer.get_vocab().values()) + 1


def train_wordpiece(passes: Callable[[], Iterable[str]], vocab_size: int, cased: bool = False) -> Tokenizer:
    """Trains a BERT WordPiece of at most `vocab_size` tokens on the sentences of `passes()`, called twice.

    The trainer numbers the continuing characters (`##x`) in the order of a hash map and breaks ties by these numbers:
    two runs on the same text give two vocabularies (huggingface/tokenizers#1794). So a first pass, which merges
    nothing, finds the characters, and the second is given them in order.

    Raises:
      UserError: if `vocab_size` does not hold the characters of the text.
    """
    characters: Counter[str] = Counter()

    def counted() -> Iterable[str]:
        for sentence in passes():
            characters.update(sentence)
            yield sentence

    continuing = {token for token in _train(counted(), cased, vocab_size=0) if token.startswith("##")}
    alphabet = _alphabet(characters, vocab_size, cased)
    fixed = [*SPECIAL_TOKENS.values(), *sorted(token for token in continuing if token[2:] in alphabet)]
    if len(fixed) + len(alphabet) > vocab_size:
        raise UserError(
            f"--vocab-size {vocab_size}: this text's characters alone take {len(fixed) + len(alphabet)}; raise it"
        )
    merged = _train(
        passes(),
        cased,
        vocab_size=vocab_size,
        special_tokens=fixed,
        initial_alphabet=sorted(alphabet),
        limit_alphabet=len(alphabet),
    )
    return wordpiece(merged, lowercase=not cased)


def wordpiece(vocabulary: Mapping[str, int], lowercase: bool = True) -> Tokenizer:
    """Returns BERT's tokenizer with this vocabulary (token -> id)."""
    tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token=SPECIAL_TOKENS["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if all(token in vocabulary for token in SPECIAL_TOKENS.values()):
        cls, sep = SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"]
        tokenizer.post_processor = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.encode_special_tokens = True
    return tokenizer


def tokenize(
    documents: Iterable[Sequence[str]],
    tokenizer: Tokenizer,
    max_unknown: float,
    dropped: Counter[str],
    count: Callable[[int], None],
) -> Iterator[list[list[int]]]:
    """Yields for each document the ids of its sentences, without specials.

    A sentence without tokens is dropped, and one with more than the share `max_unknown` of [UNK]; `dropped` counts them
    by reason. `count` is told how many sentences have been done. Documents are encoded many at a time, because the
    tokenizer spreads a batch over the cores.
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
    """Writes `tokenizer.json` and `tokenizer_config.json`, which transformers reads as a `BertTokenizer`."""
    directory.mkdir(parents=True, exist_ok=True)
    # (The library's own reading and writing of files wants names that are UTF-8.)
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    config = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        **{f"{name}_token": token for name, token in SPECIAL_TOKENS.items()},
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def tokenizer_hash(directory: str | Path) -> str:
    """Returns what identifies the token ids of the tokenizer in `directory` (`tokenizer.json`, else `vocab.txt`).

    It is the SHA-256 of the JSON `[vocabulary, normalizer]`: the pairs `[id, token]` by id, and the settings of the
    normaliser as `tokenizer.json` spells them, keys sorted. Truncation, padding and templates do not change an id and
    are not in it.

    Raises:
      UserError: as `load_tokenizer`.
    """
    tokenizer = load_tokenizer(directory)
    vocabulary = sorted((number, token) for token, number in tokenizer.get_vocab().items())
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    return hashlib.sha256(json.dumps([vocabulary, normalizer], sort_keys=True).encode()).hexdigest()


def _from_directory(directory: Path) -> Tokenizer:
    if (directory / "tokenizer.json").is_file():
        return _from_json(directory / "tokenizer.json")
    if (directory / "vocab.txt").is_file():
        return _from_vocabulary_file(directory / "vocab.txt")
    raise UserError(f"tokenizer {directory}: neither tokenizer.json nor vocab.txt in it")


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"tokenizer {path}: not a tokenizer.json ({error})") from error


def _from_vocabulary_file(path: Path) -> Tokenizer:
    """Reads a token a line; cased only if a `tokenizer_config.json` beside it says so."""
    config = path.with_name("tokenizer_config.json")
    lowercase = json.loads(config.read_text(encoding="utf-8")).get("do_lower_case", True) if config.is_file() else True
    tokens = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return wordpiece({token: number for number, token in enumerate(tokens)}, lowercase)


def _from_hub(name: str) -> Tokenizer:
    cached = huggingface_hub.try_to_load_from_cache(name, "tokenizer.json")
    if isinstance(cached, str):
        return _from_json(Path(cached))
    try:
        check_reachable()
    except OSError as error:
        raise UserError(
            f"tokenizer {name}: no such file or directory here, and the hub cannot be reached ({error})"
        ) from error
    try:
        return Tokenizer.from_pretrained(name)
    except Exception as error:  # whatever the hub's client raises
        raise UserError(f"tokenizer {name}: not on the hub with a tokenizer.json ({type(error).__name__})") from error


def _document_batches(documents: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_SENTENCES:
            yield batch
            batch, size = [], 0
    yield batch


def _train(sentences: Iterable[str], cased: bool, **options) -> dict[str, int]:
    tokenizer = wordpiece({SPECIAL_TOKENS["unk"]: 0}, lowercase=not cased)
    tokenizer.train_from_iterator(sentences, trainers.WordPieceTrainer(show_progress=False, **options))
    return tokenizer.get_vocab()


def _alphabet(characters: Counter[str], vocab_size: int, cased: bool) -> set[str]:
    """Returns the most frequent characters after normalisation: at most 1,000, and fewer in a small vocabulary."""
    normalizer = normalizers.BertNormalizer(lowercase=not cased)
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        for part in normalizer.normalize_str(character).replace(" ", ""):
            counts[part] += count
    limit = min(_ALPHABET, max(64, vocab_size // 16))
    return set(sorted(counts, key=lambda part: (-counts[part], part))[:limit])
