"""What a trained vocabulary holds: the characters of the text, as many as fit, and nothing of damaged words."""

import random

import pytest

from ctcd_jax.data.wordpiece import train_wordpiece
from ctcd_jax.errors import UserError

PLAIN = [f"The lighthouse keeper number {n} saw {n * n} ships." for n in range(60)]


def train(text, vocab_size=300, **options):
    """Returns (tokenizer, log lines, warnings)."""
    log, warned = [], []
    return train_wordpiece(lambda: text, vocab_size, log=log.append, warn=warned.append, **options), log, warned


def unknown(tokenizer, text):
    return sum(encoding.tokens.count("[UNK]") for encoding in tokenizer.encode_batch(text, add_special_tokens=False))


@pytest.fixture(scope="module")
def ideographs():
    rng = random.Random(0)
    return ["".join(chr(0x4E00 + rng.randrange(1500)) for _ in range(24)) for _ in range(800)]


def test_every_character_of_a_text_of_many_gets_its_id(ideographs):
    tokenizer, log, warned = train(ideographs, 6000)
    assert unknown(tokenizer, ideographs) == 0
    assert tokenizer.get_vocab_size() == 5 + 1500  # an ideograph is a word: it never continues one
    assert log == ["1,500 of 1,500 characters have ids, 100.0000% of the text (1,500 make up 99.99%; --vocab-size 6000 "
                   "has room for 1,500)"]  # fmt: skip
    assert not warned


def test_characters_come_before_words_and_want_of_room_is_said(ideographs):
    tokenizer, _, warned = train([*ideographs, *PLAIN], 1600)
    assert unknown(tokenizer, ideographs) == 0
    (line,) = warned
    assert line.startswith("--vocab-size 1600: the 1,5")
    assert "characters that make up 99.99% of the text take 1,5" in line
    assert line.endswith("would leave room for words")
    advised = int(line.split("; ")[1].split()[0])
    assert not train([*ideographs, *PLAIN], advised)[2]


def test_as_many_characters_as_fit_where_not_all_do(ideographs):
    tokenizer, log, (line,) = train(ideographs, 1450)
    assert tokenizer.get_vocab_size() == 1450
    assert "need 1,505 ids; 3010 would leave room" in line
    assert log[0].startswith("1,445 of 1,500 characters have ids, 9")


def test_too_small_for_most_of_the_text_is_an_error(ideographs):
    with pytest.raises(UserError, match="--vocab-size 900: this text's characters alone take 1505; raise it to 3010"):
        train(ideographs, 900)


def test_a_text_without_words_is_an_error():
    with pytest.raises(UserError, match="no words to train a tokenizer on"):
        train([" ", "\ufffd\ufffd\x00"])


LETTERS = [chr(0x10D0 + n) for n in range(32)] + [chr(0x561 + n) for n in range(32)]  # no more than a floor of 64


def test_a_character_that_occurs_once_in_a_large_text_takes_no_id():
    rare = [chr(0x4E00 + n) for n in range(40)]
    tokenizer, log, _ = train([*(letter * 20 for letter in LETTERS * 400), *rare], 400)
    assert log[0].startswith("64 of 104 characters have ids, 99.992")
    assert tokenizer.token_to_id(rare[0]) is None


def test_words_that_will_be_unknown_leave_no_trace_in_the_vocabulary():
    rng = random.Random(1)
    long_words = ["".join(rng.choices("bcdfghjklmnpqrstvwxz", k=200)) for _ in range(20)]
    expected = train(PLAIN)[0].get_vocab()
    damaged = [f"{sentence[:-1]} {word}." for sentence, word in zip(PLAIN, long_words * 3, strict=True)]
    tokenizer, _, warned = train(damaged)
    assert tokenizer.get_vocab() == expected
    assert warned == ["60 words of more than 100 characters are left out of the vocabulary: [UNK] each"]


def test_a_word_of_just_100_characters_is_learnt():
    word = "ab" * 50
    tokenizer, _, warned = train([word] * 3)
    assert tokenizer.encode(word, add_special_tokens=False).tokens == [word]
    assert not warned


def test_what_the_normaliser_drops_shapes_nothing():
    damaged = [sentence.replace("keeper", "kee\ufffdper\x07\u200b") for sentence in PLAIN]
    assert train(damaged)[0].get_vocab() == train(PLAIN)[0].get_vocab()


def test_a_word_with_a_character_without_id_is_not_learnt_without_it():
    """The trainer would skip the character and learn a word that is in no text."""
    first, second = LETTERS[:2]
    tokenizer, _, _ = train([*(letter * 20 for letter in LETTERS * 400), f"{first}q{second}"], 400)
    assert tokenizer.token_to_id("q") is None
    assert not [token for token in tokenizer.get_vocab() if first in token and second in token]


def test_accents_are_kept_where_asked_and_in_capitals_as_always():
    text = ["Möchte möchte mochte Brücke"] * 30
    words = {
        options: set(train(text, 200, cased=options[0], strip_accents=options[1])[0].get_vocab())
        for options in ((False, None), (False, False), (True, None))
    }
    assert {"mochte", "brucke"} <= words[False, None]
    assert not {"möchte", "Möchte"} & words[False, None]
    assert {"möchte", "mochte", "brücke"} <= words[False, False]
    assert {"möchte", "Möchte", "mochte", "Brücke"} <= words[True, None]


def test_a_sentence_of_korean_becomes_longer_in_the_normaliser():
    """Forty syllables are 120 characters once they are taken apart: more than a word may have."""
    text = ["한" * 40] * 5 + ["한국 한국"] * 5
    tokenizer, _, warned = train(text, 100)
    assert len(warned) == 1
    assert warned[0].startswith("5 words of more than 100")
    assert len(max(tokenizer.get_vocab(), key=len)) <= 8
