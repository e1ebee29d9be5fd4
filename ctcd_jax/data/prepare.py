"""Text -> a prepared corpus: a directory with `corpus.json`, `tokenizer/`, `train-*.npy` and `validation-*.npy`.

The text is streamed several times instead of kept: once to hold documents out, twice if a tokenizer is trained, once to
write rows. Everything that decides is in the recipe; the same recipe over the same text gives the same bytes.
"""

import importlib.metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from ctcd_jax.data.corpus import FORMAT, MANIFEST, read_manifest
from ctcd_jax.data.packing import PACKERS
from ctcd_jax.data.progress import watch
from ctcd_jax.data.rows import training_documents, write_rows
from ctcd_jax.data.sentences import Sampling
from ctcd_jax.data.shards import ShardWriter
from ctcd_jax.data.sources import Document, Source, open_source
from ctcd_jax.data.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    special_ids,
    tokenizer_hash,
    train_wordpiece,
    vocabulary_size,
)
from ctcd_jax.data.validation import HeldOut, ValidationPool
from ctcd_jax.errors import UserError, did_you_mean

VOCAB_SIZE = 30_522
MAX_VALIDATION_SENTENCES = 20_000
MIN_LENGTH = 8


def prepare(
    sources: Sequence[str],
    out: str | Path,
    *,
    length: int = 128,
    packing: str = "packed",
    every: int = 1,
    seed: int = 0,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    validation: float = 0.01,
    log: Callable[[str], None] = print,
) -> dict:
    """Prepares a corpus in `out` and returns its manifest, the content of `corpus.json`.

    Args:
      sources: SPECs, see `ctcd_jax.data.sources`.
      out: The directory to make. If it holds a corpus of the same recipe, nothing is done.
      length: Ids a row, specials included.
      packing: `sentence`, `packed` or `full`, see `ctcd_jax.data.packing`.
      every: Keep one sentence in `every`, each by its own draw.
      seed: Of the draws.
      tokenizer: A `vocab.txt`, a tokenizer directory or a hub id; by default one is trained.
      vocab_size: Of the tokenizer to train; 30,522 by default.
      validation: The share of documents held out; of their sentences 20,000 at most are used.
      log: Is given lines of progress.

    Raises:
      UserError: if an argument, a source or `out` does not do. Nothing half-written is left, whatever goes wrong.
    """
    recipe = _recipe(sources, length, packing, every, seed, tokenizer, vocab_size, validation)
    out = Path(out)
    if out.exists():
        return _already_prepared(out, recipe, log)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made ({error.strerror}); choose another directory") from error
    try:
        manifest = _prepare(partial, recipe, log)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for split, counts in manifest["splits"].items():
        log(f"{split}: {counts['rows']:,} rows, {counts['tokens']:,} tokens, {counts['padding']:.1%} padding")
    return manifest


def _recipe(sources, length, packing, every, seed, tokenizer, vocab_size, validation) -> dict:
    if not sources:
        raise UserError("--source: give at least one, e.g. --source 'text:DIR/*.txt.xz'")
    if packing not in PACKERS:
        raise UserError(f"--packing: unknown {packing!r}{did_you_mean(packing, PACKERS)}")
    if length < MIN_LENGTH:
        raise UserError(f"--length {length}: a row needs at least {MIN_LENGTH} tokens")
    if every < 1:
        raise UserError(f"--every {every}: give 1 to keep every sentence, k to keep one in k")
    if not 0 < validation < 1:
        raise UserError(f"--validation {validation}: give a share of the documents between 0 and 1, e.g. 0.01")
    if tokenizer is not None and vocab_size is not None:
        raise UserError("--vocab-size: it is for training a tokenizer; leave it out or leave --tokenizer out")
    return {
        "sources": list(sources),
        "length": length,
        "packing": packing,
        "every": every,
        "seed": seed,
        "tokenizer": tokenizer,
        "vocab_size": VOCAB_SIZE if tokenizer is None and vocab_size is None else vocab_size,
        "validation": validation,
    }


def _already_prepared(out: Path, recipe: dict, log: Callable[[str], None]) -> dict:
    if not (out / MANIFEST).is_file():
        raise UserError(f"--out {out}: exists and is not a prepared corpus; choose another directory")
    manifest = read_manifest(out)
    for name, value in recipe.items():
        there = manifest["recipe"].get(name)
        if there != value:
            raise UserError(
                f"--out {out}: was prepared with {name} = {there}, not {value}; choose another directory or delete it"
            )
    log(f"{out}: already prepared")
    return manifest


def _prepare(directory: Path, recipe: dict, log: Callable[[str], None]) -> dict:
    sampling = Sampling(recipe["seed"], recipe["every"], recipe["validation"])
    tokenizer = recipe["tokenizer"] and load_tokenizer(recipe["tokenizer"])
    log(f"opening {', '.join(recipe['sources'])}")
    sources = [open_source(spec, log) for spec in recipe["sources"]]
    scan = _scan(sources, sampling, log)
    _check_scan(scan, recipe)
    if not tokenizer:
        tokenizer = train_wordpiece(lambda: _training_sentences(sources, sampling, log), recipe["vocab_size"])
    save_tokenizer(tokenizer, directory / "tokenizer", recipe["length"])
    writers = write_rows(
        directory,
        [file for source in sources for file in source.files],
        scan.held_out,
        sampling=sampling,
        tokenizer=tokenizer,
        packing=recipe["packing"],
        length=recipe["length"],
        dropped=scan.dropped,
        log=log,
    )
    for split, writer in writers.items():
        if not writer.rows:
            raise UserError(
                f"--packing {recipe['packing']}: not one {split} row came out; the sentences are too short for it"
            )
    manifest = _manifest(recipe, sources, scan, tokenizer, tokenizer_hash(directory / "tokenizer"), writers)
    (directory / MANIFEST).write_text(_manifest_json(manifest), encoding="utf-8")
    return manifest


@dataclass
class _Scan:
    """What one pass over the text found."""

    held_out: Sequence[HeldOut]
    sources: Sequence[Counter[str]]  # of each source: documents, sentences, kept
    training: Counter[str]  # documents, sentences
    dropped: Counter[str]  # sentences by reason; the later stages add theirs


def _scan(sources: Sequence[Source], sampling: Sampling, log: Callable[[str], None]) -> _Scan:
    """Counts the sentences and holds documents out. Documents none of whose sentences is sampled count as not there."""
    pool = ValidationPool(MAX_VALIDATION_SENTENCES)
    counts = [Counter(documents=0, sentences=0, kept=0) for _ in sources]
    training: Counter[str] = Counter(documents=0, sentences=0)
    for place, document in watch(_placed_documents(sources), "reading", "documents", log):
        draws = list(sampling.draws(document))
        kept = [sentence for keep, sentence in draws if keep]
        counts[place[0]].update(documents=1, sentences=len(draws), kept=len(kept))
        if kept and sampling.holds_out(document):
            pool.offer(sampling.holdout_draw(document), HeldOut(place, kept))
        elif kept:
            training.update(documents=1, sentences=len(kept))
    total = sum(counts, Counter())
    dropped = Counter(not_sampled=total["sentences"] - total["kept"], validation_surplus=pool.surplus)
    return _Scan(pool.documents(), counts, training, dropped)


def _placed_documents(sources: Sequence[Source]) -> Iterator[tuple[tuple[int, int, int], Document]]:
    for s, source in enumerate(sources):
        for f, file in enumerate(source.files):
            for d, document in enumerate(file.documents()):
                yield (s, f, d), document


def _check_scan(scan: _Scan, recipe: dict) -> None:
    for spec, counts in zip(recipe["sources"], scan.sources, strict=True):
        if not counts["sentences"]:
            raise UserError(f"source {spec!r}: no text in it")
    total = sum(scan.sources, Counter())
    if not total["kept"]:
        raise UserError(f"--every {recipe['every']}: none of the {total['sentences']:,} sentences was kept; lower it")
    if not scan.held_out:
        raise UserError(
            f"--validation {recipe['validation']}: none of the {total['documents']:,} documents was held out; raise it"
        )
    if not scan.training["sentences"]:
        raise UserError(f"--validation {recipe['validation']}: nothing is left to train on; lower it")


def _training_sentences(sources: Sequence[Source], sampling: Sampling, log: Callable[[str], None]) -> Iterator[str]:
    documents = (
        document for source in sources for file in source.files for document in training_documents(file, sampling)
    )
    for sentences in watch(documents, "training the tokenizer", "documents", log):
        yield from sentences


def _manifest(
    recipe: dict,
    sources: Sequence[Source],
    scan: _Scan,
    tokenizer: Tokenizer,
    hash_: str,
    writers: dict[str, ShardWriter],
) -> dict:
    held_out = {
        "documents": len(scan.held_out),
        "sentences": sum(len(document.sentences) for document in scan.held_out),
    }
    held_out["sentences"] -= scan.dropped["validation_in_training"]
    splits = {}
    for split, counts in (("train", scan.training), ("validation", held_out)):
        tokens = int(writers[split].frequencies.sum())
        cells = writers[split].cells
        splits[split] = {
            **counts,
            "rows": writers[split].rows,
            "tokens": tokens,
            "padding": round(1 - tokens / cells, 6),
        }
    return {
        "format": FORMAT,
        "recipe": recipe,
        "sources": [
            {"source": source.spec, "files": len(source.files), **counts, **source.details}
            for source, counts in zip(sources, scan.sources, strict=True)
        ],
        "splits": splits,
        "dropped": {reason: count for reason, count in sorted(scan.dropped.items()) if count},
        "tokenizer": {"hash": hash_, "vocab_size": vocabulary_size(tokenizer), "special_ids": special_ids(tokenizer)},
        "versions": {name: importlib.metadata.version(name) for name in ("sentencex", "tokenizers")},
        "shards": {split: writer.shards for split, writer in writers.items()},
        "validation_cut_rows": writers["validation"].cut_rows,
        "token_frequencies": writers["train"].frequencies.tolist(),
    }


def _manifest_json(manifest: dict) -> str:
    """Indented, but the long lists of numbers on one line each."""
    long = ("validation_cut_rows", "token_frequencies")
    text = json.dumps(manifest | {name: f"@{name}@" for name in long}, indent=2)
    for name in long:
        text = text.replace(f'"@{name}@"', json.dumps(manifest[name]))
    return text + "\n"
