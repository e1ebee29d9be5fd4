"""What a prepared corpus says of itself in corpus.json."""

import os
import re
from typing import Any, NotRequired, TypedDict

MANIFEST, TOKENIZER = "corpus.json", "tokenizer"  # a run keeps a copy of the tokenizer by the same name
FORMAT = 1


class SplitCounts(TypedDict):
    """One of `splits`."""

    documents: int
    sentences: int
    rows: int
    tokens: int  # without padding
    padding: float  # share of the ids
    unknown: float  # share of [UNK] among the tokens
    cut_rows: int  # with part of a sentence only


class SourceCounts(TypedDict):
    """One of `sources`: counts, and what tells the source's version."""

    source: str  # SPEC, as it was given
    files: int
    documents: int
    sentences: int
    kept: int  # sentences
    lines: NotRequired[int]  # of text files
    invalid_lines: NotRequired[int]  # that were not UTF-8
    rows: NotRequired[int]  # of a table or a data set
    name: NotRequired[str]  # of a TensorFlow data set, with its version
    revision: NotRequired[str]  # commit, of a data set on the hub
    packages: NotRequired[dict[str, str]]  # of docstrings: their versions
    modules_skipped: NotRequired[int]  # of docstrings: that do not parse


class TokenizerFacts(TypedDict):
    """`tokenizer`."""

    hash: str  # SHA-256 (hex), see `data.tokenizer.tokenizer_hash`
    vocab_size: int
    special_ids: dict[str, int]  # of pad, unk, cls, sep and mask


class Shard(TypedDict):
    """A file of rows."""

    file: str  # below the corpus
    rows: int
    length: int  # ids a row
    sha256: str  # hex, of the file


class ManifestSummary(TypedDict):
    """corpus.json without what is long: what a run and an export remember of it."""

    format: int
    recipe: dict[str, Any]  # every field of `data.recipe.Recipe`
    sources: list[SourceCounts]
    splits: dict[str, SplitCounts]  # of train and validation
    dropped: dict[str, int]  # by reason, those that occurred: sentences (of `short_document_ends`, rows)
    tokenizer: TokenizerFacts
    versions: dict[str, str]  # of the libraries that decide what comes out


class Manifest(ManifestSummary):
    """corpus.json."""

    shards: dict[str, list[Shard]]  # by split
    row_tokens: list[int]  # [n]: training rows with n tokens
    segment_tokens: list[int]  # [n]: training segments, [CLS] to [SEP], with n tokens
    validation_cut_rows: list[int]  # numbers of the validation rows with part of a sentence only
    token_frequencies: list[int]  # [id], in the training rows, without padding


def source_name(spec: str) -> str:
    """Returns what a source is called without the place it lies in: "text: novels.txt" of "text:/data/novels.txt".

    Args:
      spec: KIND:LOCATION[,key=value ...], as it was given.
    """
    kind, _, location = re.split(r",\w+=", spec)[0].partition(":")
    if kind in ("hf", "tfds") and not location.startswith(("/", "~", ".")):
        return f"{kind}: {location}"
    return f"{kind}: {os.path.basename(location.rstrip('/'))}" if location else kind
