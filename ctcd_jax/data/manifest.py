"""`corpus.json`: everything about a corpus but its rows. No time, no host: the same corpus has the same manifest."""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from ctcd_jax.artifacts.corpora import FORMAT, Manifest, ManifestSummary, Shard, SourceCounts
from ctcd_jax.data.hashing import portable
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.data.shards import SplitFiles
from ctcd_jax.data.sources import Source
from ctcd_jax.data.tokenizer import load_tokenizer, special_ids, tokenizer_hash, vocabulary_size

_LONG = ("row_tokens", "segment_tokens", "validation_cut_rows", "token_frequencies")


def make_manifest(
    recipe: Recipe,
    sources: Sequence[tuple[Source, Counter[str]]],
    tokenizer: Path,
    splits: Mapping[str, tuple[SplitFiles, Counter[str]]],
    shards: dict[str, list[Shard]],
    dropped: Counter[str],
) -> Manifest:
    """Returns the content of `corpus.json`.

    Args:
      recipe: what was asked for.
      sources: each with its counts of documents, sentences, kept, lines and invalid_lines.
      tokenizer: its directory.
      splits: the rows of each split, and how many documents and sentences are in them.
      shards: the record of each file of each split.
      dropped: sentences by reason (and `short_document_ends`, which are rows).
    """
    loaded = load_tokenizer(tokenizer)
    specials = special_ids(loaded)
    train, validation = splits["train"][0], splits["validation"][0]
    return {
        "format": FORMAT,
        "recipe": recipe.recorded(),
        "sources": [
            cast("SourceCounts", {"source": portable(s.spec), "files": len(s.files), **counts, **s.details})
            for s, counts in sources
        ],
        "splits": {
            split: {
                "documents": kept["documents"],
                "sentences": kept["sentences"],
                "rows": sum(files.rows.values()),
                "tokens": int(files.frequencies.sum()),
                "padding": round(files.padding, 6),
                "unknown": round(unknown_share(files.frequencies, specials), 6),
                "cut_rows": len(files.cut_rows),
            }
            for split, (files, kept) in splits.items()
        },
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "tokenizer": {
            "hash": tokenizer_hash(tokenizer),
            "vocab_size": vocabulary_size(loaded),
            "special_ids": specials,
        },
        "versions": {name: importlib.metadata.version(name) for name in ("sentencex", "tokenizers")},
        "shards": shards,
        # Of the training rows: [n] is how many rows, and segments from [CLS] to [SEP], have n tokens.
        "row_tokens": train.row_tokens.tolist(),
        "segment_tokens": train.segment_tokens.tolist(),
        "validation_cut_rows": validation.cut_rows,
        "token_frequencies": train.frequencies.tolist(),
    }


def unknown_share(frequencies: np.ndarray, special_ids: Mapping[str, int]) -> float:
    """Returns which share of a text's tokens is [UNK]; `frequencies`, int[V], counts [CLS] and [SEP], too."""
    tokens = int(frequencies.sum()) - sum(int(frequencies[special_ids[name]]) for name in ("cls", "sep", "pad"))
    return int(frequencies[special_ids["unk"]]) / max(1, tokens)


def summary(manifest: Manifest) -> ManifestSummary:
    """Returns a manifest without what is long: the list of its files, and the counts by length and token."""
    short = {name: value for name, value in manifest.items() if name not in ("shards", *_LONG)}
    return cast("ManifestSummary", short)


def manifest_json(manifest: Manifest) -> str:
    """Indented, but the long lists of numbers on one line each."""
    text = json.dumps(manifest | {name: f"@{name}@" for name in _LONG}, indent=2)
    for name in _LONG:
        text = text.replace(f'"@{name}@"', json.dumps(manifest[name]))
    return text + "\n"
