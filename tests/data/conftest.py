"""A small library of made-up text: twelve documents a file, every sentence different from every other."""

from itertools import count
from pathlib import Path

import pytest

from ctcd_jax.data import Corpus, prepare

NOUNS = ("river", "castle", "garden", "teacher", "student", "mountain", "letter", "engine", "window", "island")
VERBS = ("watched", "followed", "remembered", "carried", "painted", "repaired", "visited")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def sentence(number: int) -> str:
    """Sentence number `number`: of 13 to 15 tokens with specials, every third of 36 or more. No two are equal."""
    digits = " ".join(DIGITS[int(digit)] for digit in str(number))
    noun, verb, other = NOUNS[number % 10], VERBS[number % 7], NOUNS[(number * 7 + 3) % 10]
    clause = f"{noun} quietly {verb} an old {other} after chapter {digits}"
    return f"The {clause}." if number % 3 else f"The {clause}, the {clause}, and the {clause}."


def documents(numbers, size: int, sentences: int) -> str:
    """`size` documents of `sentences` sentences, one a line, blank lines between."""
    return "\n\n".join("\n".join(sentence(next(numbers)) for _ in range(sentences)) for _ in range(size)) + "\n"


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """a.txt, b.txt and sub/c.txt: 36 documents of 10 sentences."""
    root = tmp_path_factory.mktemp("library")
    (root / "sub").mkdir()
    numbers = count()
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (root / name).write_text(documents(numbers, 12, 10), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory) -> Path:
    """A vocab.txt that holds every word of the library, and its letters."""
    words = {word.strip(".,").lower() for number in range(400) for word in sentence(number).split()}
    letters = "abcdefghijklmnopqrstuvwxyz[].,"
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, *letters, *(f"##{x}" for x in letters), *sorted(words)]) + "\n")
    return path


@pytest.fixture(scope="session")
def make(library, vocabulary, tmp_path_factory):
    """Prepares the library (or other sources) with few words said; returns the directory."""

    def make(*sources: str, **options) -> Path:
        out = tmp_path_factory.mktemp("corpus") / "out"
        if "vocab_size" not in options:
            options = {"tokenizer": str(vocabulary)} | options
        options = {"length": 48, "validation": 0.2} | options
        prepare(sources or [f"text:{library}/**/*.txt"], out, **options, log=lambda line: None)
        return out

    return make


@pytest.fixture(scope="session")
def packed(make) -> Corpus:
    """The library, packed."""
    return Corpus.open(make())


@pytest.fixture(scope="session")
def grouped(make) -> Corpus:
    """The library, a sentence a row, in rows of 32 and of 48."""
    return Corpus.open(make(packing="sentence"))
