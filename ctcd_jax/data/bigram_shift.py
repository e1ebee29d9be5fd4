"""Bigram shift: was one pair of neighbouring words swapped? (Conneau et al. 2018, section 3.)

A labelled task made of a corpus's held-out sentences, for when no labelled data is at hand: it asks for word order,
which the masked language model has to know and a bag of words cannot, and no model has seen the sentences. The files
are shaped like CoLA's; beside them are minimal pairs for `ctcd probe`, which asks the same without fine-tuning.

    python -m ctcd_jax.data.bigram_shift --corpus DIR --out DIR
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from tokenizers import Tokenizer

from ctcd_jax.arguments import Parser, located
from ctcd_jax.arguments import number as number_in
from ctcd_jax.data.corpus import Corpus
from ctcd_jax.data.hashing import hash64
from ctcd_jax.data.packing import segment_ids
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.errors import UserError
from ctcd_jax.files import write_whole
from ctcd_jax.ranges import COUNT, Range

MIN_WORDS, MAX_WORDS = 5, 30
MIN_SENTENCES = 200
TRAIN_SHARE = 0.8
PAIRS = "bigram-shift.jsonl"

_FINAL = {".", "!", "?"}


def write_bigram_shift(
    corpus: Corpus, out: str | Path, *, train: int = 8000, dev: int = 1000, seed: int = 0
) -> dict[str, int]:
    """Writes `train.tsv`, `dev.tsv` and `bigram-shift.jsonl` to `out`; returns how many sentences the first two have.

    Their columns are source, label (1 untouched, 0 swapped), mark ("*" if swapped) and sentence, without a header.
    Labels alternate. A sentence is used once: whole or swapped, in one of them. If there are fewer than `train + dev`,
    all are used, one in five for dev. The pairs are the sentences of dev, each whole and swapped.

    Args:
      corpus: whose held-out sentences are taken.
      out: a directory; made if it is not there.
      train, dev: sentences wanted in each file.
      seed: of the choice, the order and the swaps.

    Raises:
      UserError: if a number does not do, the corpus has fewer than 200 fit sentences, or is packed `full`, which does
      not keep sentences apart.
    """
    for name, number, numbers in (("train", train, COUNT), ("dev", dev, COUNT), ("seed", seed, Range(whole=True))):
        numbers.check(f"--{name}", number)
    sentences = sorted(set(_held_out_sentences(corpus)), key=lambda words: (hash64("order", seed, *words), words))
    if len(sentences) < MIN_SENTENCES:
        raise UserError(
            f"corpus {corpus.directory}: {len(sentences)} fit held-out sentences, {MIN_SENTENCES} needed;"
            " prepare it with a larger --validation"
        )
    if len(sentences) < train + dev:
        train = int(TRAIN_SHARE * len(sentences))
        dev = len(sentences) - train
    examples = [_example(words, swapped=bool(i % 2), seed=seed) for i, words in enumerate(sentences[: train + dev])]
    out = Path(os.path.expanduser(out))
    out.mkdir(parents=True, exist_ok=True)
    for name, lines in (("train", examples[:train]), ("dev", examples[train:])):
        write_whole(out / f"{name}.tsv", "".join(f"{line}\n" for line in lines))
    pairs = [_pair(words, seed) for words in sentences[train : train + dev]]
    write_whole(out / PAIRS, "".join(json.dumps(pair) + "\n" for pair in pairs))
    return {"train": train, "dev": dev}


def swap_candidates(words: Sequence[str]) -> list[int]:
    """Returns every i for which words i and i + 1 are two different words, punctuation and numbers being none."""
    return [
        i
        for i, (word, following) in enumerate(pairwise(words))
        if word.isalpha() and following.isalpha() and word.lower() != following.lower()
    ]


def _held_out_sentences(corpus: Corpus) -> Iterator[tuple[str, ...]]:
    """Yields the words of each held-out sentence that is whole, 5 to 30 words long and fit to swap in."""
    if corpus.manifest["recipe"]["packing"] == "full":
        raise UserError(f"corpus {corpus.directory}: packing 'full' joins sentences; prepare it with --packing packed")
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    specials = corpus.special_ids
    cut = set(corpus.manifest["validation_cut_rows"])
    rows = (row for shard in corpus.shards("validation") for row in shard)
    for number, row in enumerate(rows):
        if number in cut:
            continue
        segments = segment_ids(row, specials) * ~np.isin(row, (specials["cls"], specials["sep"]))
        for segment in range(1, segments.max() + 1):
            ids = row[segments == segment]
            words = _words(ids, tokenizer)
            length = sum(word.isalnum() for word in words)
            if specials["unk"] in ids or not MIN_WORDS <= length <= MAX_WORDS:
                continue
            if words[-1] in _FINAL and swap_candidates(words):
                yield words


def _words(ids: np.ndarray, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Returns the words and marks of a sentence, its word pieces joined."""
    words: list[str] = []
    for token in (cast("str", tokenizer.id_to_token(number)) for number in ids.tolist()):  # ids that it gave
        if token.startswith("##") and words:
            words[-1] += token[2:]
        else:
            words.append(token)
    return tuple(words)


def _example(words: Sequence[str], swapped: bool, seed: int) -> str:
    text = " ".join(_swapped(words, seed) if swapped else words)
    return "\t".join(("ctcd", "0" if swapped else "1", "*" if swapped else "", text))


def _pair(words: Sequence[str], seed: int) -> dict[str, str]:
    named = {"UID": "bigram_shift", "linguistics_term": "word_order"}
    return {"sentence_good": " ".join(words), "sentence_bad": " ".join(_swapped(words, seed)), **named}


def _swapped(words: Sequence[str], seed: int) -> list[str]:
    swapped, candidates = list(words), swap_candidates(words)
    i = candidates[hash64("swap", seed, *words) % len(candidates)]
    swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
    return swapped


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = Parser(prog="python -m ctcd_jax.data.bigram_shift", description="Make the bigram-shift task.")
    parser.add_argument("--corpus", required=True, type=located, help="a prepared corpus")
    parser.add_argument("--out", required=True, type=located, help="where the files go")
    parser.add_argument("--train", type=number_in(COUNT), default=8000, help="sentences to train on (default: 8000)")
    parser.add_argument("--dev", type=number_in(COUNT), default=1000, help="sentences to score on (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        counts = write_bigram_shift(
            Corpus.open(options.corpus), options.out, train=options.train, dev=options.dev, seed=options.seed
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"--out {options.out}: cannot be written ({error.strerror}); choose another directory", file=sys.stderr)
        return 2
    print(f"{options.out}: {counts['train']:,} training and {counts['dev']:,} development sentences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
