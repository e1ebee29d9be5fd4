"""BERT's WordPiece tokenizer: built from a vocabulary, and a vocabulary trained on text, the same in every process."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import cast

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ctcd_jax.errors import UserError, warn

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
LONGEST_WORD = 100
"""Characters: WordPiece makes [UNK] of a longer word."""

COVERAGE = 0.9999
"""The share of the text's characters whose ids a trained vocabulary holds, as far as they fit into it."""

_LEAST_COVERAGE = 0.9
# However few characters cover the text: rare ones get ids, too, where they take little of the vocabulary.
_ROOMY = 1000
# Ideographs, which the normaliser sets apart as words of their own, end a run. A syllable of Hangul becomes three
# characters, so this is the shortest run that the normaliser can make longer than LONGEST_WORD.
_LONG_RUN = r"[^\s\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]{34}"


def wordpiece(
    vocabulary: Mapping[str, int],
    lowercase: bool = True,
    strip_accents: bool | None = None,
    handle_chinese_chars: bool = True,
) -> Tokenizer:
    """Returns BERT's tokenizer with this vocabulary.

    Args:
      vocabulary: token -> id.
      lowercase: whether words are lower-cased.
      strip_accents: None: as `lowercase`.
      handle_chinese_chars: whether each ideograph is a word.
    """
    tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token=SPECIAL_TOKENS["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if all(token in vocabulary for token in SPECIAL_TOKENS.values()):
        tokenizer.post_processor = pair_template(tokenizer)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.encode_special_tokens = True
    return tokenizer


def pair_template(tokenizer: Tokenizer) -> processors.PostProcessor:
    """Returns what puts [CLS] and [SEP] around a sentence and between two."""
    sep, cls = (
        (token, cast("int", tokenizer.token_to_id(token))) for token in (SPECIAL_TOKENS["sep"], SPECIAL_TOKENS["cls"])
    )
    return processors.BertProcessing(sep, cls)


def train_wordpiece(
    passes: Callable[[], Iterable[str]],
    vocab_size: int,
    cased: bool = False,
    strip_accents: bool | None = None,
    log: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = warn,
) -> Tokenizer:
    """Trains a BERT WordPiece.

    The characters come first, the most frequent ones that make up `COVERAGE` of the text or, if these do not fit, as
    many as do: a missing character makes [UNK] of its words, a missing word is only a longer row. What the tokenizer
    will make [UNK] of has no part in the training: words of more than `LONGEST_WORD` characters, and those with a
    character that has no id.

    The trainer numbers the continuing characters (`##x`) in the order of a hash map and breaks ties by these numbers:
    two runs on the same text give two vocabularies (huggingface/tokenizers#1794). So a first pass, which merges
    nothing, finds the characters, and the second is given them in order.

    Args:
      passes: returns the sentences from the first one on; called twice.
      vocab_size: tokens at most.
      cased: whether words keep their case.
      strip_accents: None: as not `cased`.
      log: called with a line about how many characters have ids, and how much of the text that is.
      warn: called with a line about what was cut for want of room or because of its length.

    Raises:
      UserError: if `vocab_size` does not hold the characters of most of the text.
    """
    blank = wordpiece({SPECIAL_TOKENS["unk"]: 0}, not cased, strip_accents)
    characters: Counter[str] = Counter()
    too_long = 0

    def short_words() -> Iterator[str]:
        nonlocal too_long
        for sentence in passes():
            if long_run.search(sentence):
                words = _words(blank, sentence)
                short = [word for word in words if len(word) <= LONGEST_WORD]
                too_long += len(words) - len(short)
                sentence = " ".join(short)
            characters.update(sentence)
            yield sentence

    long_run = re.compile(_LONG_RUN)
    continuing = {token[2:] for token in _train(blank, short_words(), vocab_size=0) if token.startswith("##")}
    if too_long:
        warn(f"{too_long:,} words of more than {LONGEST_WORD} characters are left out of the vocabulary: [UNK] each")
    normalized = {character: _normalized(blank, character) for character in characters}
    alphabet = _alphabet(characters, normalized, continuing, vocab_size, log, warn)

    rare = [character for character, parts in normalized.items() if not alphabet.issuperset(parts)]
    left_out = re.compile("|".join([*([f"[{re.escape(''.join(rare))}]"] if rare else []), _LONG_RUN]))

    def known_words() -> Iterator[str]:
        for sentence in passes():
            if left_out.search(sentence):
                words = (word for word in _words(blank, sentence) if len(word) <= LONGEST_WORD)
                sentence = " ".join(word for word in words if alphabet.issuperset(word))
            yield sentence

    merged = _train(
        blank,
        known_words(),
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS.values(), *(f"##{part}" for part in sorted(alphabet & continuing))],
        initial_alphabet=sorted(alphabet),
        limit_alphabet=len(alphabet),
    )
    return wordpiece(merged, not cased, strip_accents)


def _train(blank: Tokenizer, sentences: Iterable[str], **options) -> dict[str, int]:
    tokenizer = Tokenizer.from_str(blank.to_str())
    tokenizer.train_from_iterator(sentences, trainers.WordPieceTrainer(show_progress=False, **options))
    return tokenizer.get_vocab()


def _words(blank: Tokenizer, sentence: str) -> list[str]:
    return [word for word, _ in blank.pre_tokenizer.pre_tokenize_str(blank.normalizer.normalize_str(sentence))]


def _normalized(blank: Tokenizer, character: str) -> str:
    """What the normaliser leaves of a character: nothing of spaces and of what is invalid."""
    return blank.normalizer.normalize_str(character).replace(" ", "")


def _alphabet(
    characters: Counter[str],
    normalized: Mapping[str, str],
    continuing: set[str],
    vocab_size: int,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> set[str]:
    """Returns the characters that get ids, see `train_wordpiece`."""
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        for part in normalized[character]:
            counts[part] += count
    if not counts:
        raise UserError("the text has no words to train a tokenizer on; look at it, or give a --tokenizer")
    by_frequency = sorted(counts, key=lambda part: (-counts[part], part))
    covered = list(accumulate(counts[part] for part in by_frequency))  # occurrences, by the number of characters
    ids = list(accumulate((1 + (part in continuing) for part in by_frequency), initial=len(SPECIAL_TOKENS)))
    total = counts.total()
    wanted = bisect_left(covered, COVERAGE * total) + 1
    fitting = bisect_right(ids, vocab_size) - 1
    if fitting < wanted and (fitting < 1 or covered[fitting - 1] < _LEAST_COVERAGE * total):
        raise UserError(
            f"--vocab-size {vocab_size}: this text's characters alone take {ids[wanted]}; raise it to {2 * ids[wanted]}"
        )
    count = min(fitting, max(wanted, min(_ROOMY, max(64, vocab_size // 16))), len(by_frequency))
    if 2 * ids[wanted] > vocab_size:
        room = f"take {ids[wanted]:,} of its ids" if wanted <= fitting else f"need {ids[wanted]:,} ids"
        warn(
            f"--vocab-size {vocab_size}: the {wanted:,} characters that make up {COVERAGE:.2%} of the text {room}; "
            f"{2 * ids[wanted]} would leave room for words"
        )
    log(
        f"{count:,} of {len(by_frequency):,} characters have ids, {covered[count - 1] / total:.4%} of the text "
        f"({wanted:,} make up {COVERAGE:.2%}; --vocab-size {vocab_size} has room for {fitting:,})"
    )
    return set(by_frequency[:count])
