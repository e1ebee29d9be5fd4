"""A prepared corpus, opened: its manifest, and its rows as memory maps."""

import hashlib
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ctcd_jax.artifacts.corpora import FORMAT, MANIFEST, TOKENIZER, Manifest, Shard
from ctcd_jax.data.packing import PACKERS
from ctcd_jax.data.shape import Optional, problem
from ctcd_jax.data.tokenizer import SPECIAL_TOKENS, tokenizer_hash
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import file_sha256, is_inside, json_sha256, read_json
from ctcd_jax.stores import fetched

ROW_DTYPES = (np.uint16, np.uint32)
_SHARD = {"file": str, "rows": int, "length": int}
_ROWS = {
    "recipe": {"length": int},
    "tokenizer": {"vocab_size": int, "special_ids": dict.fromkeys(SPECIAL_TOKENS, int)},
    "shards": {"train": [_SHARD], "validation": [_SHARD]},
    "token_frequencies": [int],
}
"""What the rows are read by."""

_SPLIT = {"documents": int, "sentences": int, "rows": int, "tokens": int, "padding": float}
_WHOLE = {
    "recipe": {
        "sources": [str],
        "length": int,
        "packing": set(PACKERS),
        "every": int,
        "seed": float,
        "tokenizer": None,
        "validation": float,
    },
    "sources": [
        {"source": str, "files": int, "documents": int, "sentences": int, "kept": int, "invalid_lines": Optional(int)}
    ],
    "splits": {"train": _SPLIT, "validation": _SPLIT},
    "dropped": Mapping,
    "tokenizer": {"hash": str, "vocab_size": int, "special_ids": dict.fromkeys(SPECIAL_TOKENS, int)},
    "shards": {split: [_SHARD | {"sha256": str}] for split in ("train", "validation")},
    "row_tokens": Optional([int]),
    "segment_tokens": Optional([int]),
    "validation_cut_rows": [int],
    "token_frequencies": [int],
}
"""What all commands together read of it."""


def read_manifest(directory: Path, shape: Mapping = _WHOLE) -> Manifest:
    """Reads `corpus.json`, of which `shape` is needed.

    Raises:
      UserError: if it is not there, not JSON, of a format this version does not know, or damaged, on purpose or not: a
        shard that would lie elsewhere is not looked at.
    """
    if not directory.is_dir():
        raise UserError(f"corpus {directory}: no such directory; make it with `ctcd prepare --out {directory}`")
    path = directory / MANIFEST
    manifest = read_json(path, "make the corpus with `ctcd prepare`")
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise UserError(f"{path}: format {found!r:.60}, and this version reads {FORMAT}; prepare the corpus again")
    _check_shape(manifest, shape, path)
    size, ids = manifest["tokenizer"]["vocab_size"], manifest["tokenizer"]["special_ids"]
    if len(manifest["token_frequencies"]) != size or max(ids[name] for name in SPECIAL_TOKENS) >= size:
        raise UserError(f"{path}: damaged (its vocabulary has not {size} tokens everywhere); prepare the corpus again")
    for shard in (shard for shards in manifest["shards"].values() for shard in shards):
        if not is_inside(shard["file"]):
            raise UserError(f"{path}: a shard is {shard['file']!r:.60}, and no file of the corpus; prepare it again")
    return cast("Manifest", manifest)


def _check_shape(manifest: Mapping, shape: Mapping, path: Path) -> None:
    if found := problem(manifest, shape):
        raise UserError(f"{path}: damaged ({found}); prepare the corpus again")


class Corpus:
    """A prepared corpus. Shards are mapped on first use, and again after unpickling.

    Attributes:
      directory: Where it lies.
      manifest: `corpus.json`.
      hash: SHA-256 of the bytes of `corpus.json`, which holds every shard's own: what a run remembers its corpus by.
      token_frequencies: int64[vocab_size], how often each id occurs in the training rows, specials included, padding
      not.
    """

    def __init__(self, directory: str | Path):
        """See `open`, which checks the files, too."""
        self.directory = fetched(os.path.expanduser(directory))
        self.manifest = read_manifest(self.directory, _ROWS)
        self.hash = hashlib.sha256((self.directory / MANIFEST).read_bytes()).hexdigest()
        self.token_frequencies = np.asarray(self.manifest["token_frequencies"], np.int64)
        self._maps: dict[str, np.memmap] = {}

    @classmethod
    def open(cls, directory: str | Path, verify: bool = True) -> "Corpus":
        """Opens a prepared corpus, and does `verify` unless told not to.

        Raises:
          UserError: if there is none, its format is unknown, or a file is missing or has changed.
        """
        corpus = cls(directory)
        _check_shape(corpus.manifest, _WHOLE, corpus.directory / MANIFEST)
        for shard in corpus._all_shards():
            if not (path := corpus.directory / shard["file"]).is_file():
                raise UserError(f"{path}: missing; prepare the corpus again")
        if verify:
            corpus.verify()
        return corpus

    def verify(self, index: int = 0, count: int = 1) -> None:
        """Reads every `count`-th file of rows once, from the `index`-th, and compares checksums; and the tokenizer's.

        Raises:
          UserError: one has changed.
        """
        for shard in self._all_shards()[index::count]:
            path = self.directory / shard["file"]
            if file_sha256(path) != shard["sha256"]:
                raise UserError(f"{path}: its checksum is not the one in {MANIFEST}; prepare the corpus again")
            if (largest := int(self._open_rows(shard).max(initial=0))) >= self.vocab_size:
                raise UserError(
                    f"{path}: id {largest} is none of the {self.vocab_size:,} tokens; prepare the corpus again"
                )
        if tokenizer_hash(self.tokenizer_directory) != self.tokenizer_hash:
            raise UserError(
                f"{self.tokenizer_directory}: not the tokenizer the corpus was made with; prepare the corpus again"
            )

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self.manifest["tokenizer"]["vocab_size"]

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of `pad`, `unk`, `cls`, `sep` and `mask`."""
        return self.manifest["tokenizer"]["special_ids"]

    @property
    def tokenizer_directory(self) -> Path:
        """What `transformers.AutoTokenizer.from_pretrained` reads."""
        return self.directory / TOKENIZER

    @property
    def tokenizer_hash(self) -> str:
        """See `ctcd_jax.data.tokenizer.tokenizer_hash`."""
        return self.manifest["tokenizer"]["hash"]

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of all rows' checksums and the tokenizer's: equal wherever the text lay that it was made of."""
        rows = {
            split: [[shard["length"], shard["sha256"]] for shard in shards]
            for split, shards in self.manifest["shards"].items()
        }
        return json_sha256([self.tokenizer_hash, rows])

    @property
    def max_length(self) -> int:
        """Ids of the longest row."""
        return self.manifest["recipe"]["length"]

    def lengths(self, split: str) -> list[int]:
        """Returns the lengths rows of `split` have, ascending."""
        return sorted({shard["length"] for shard in self.manifest["shards"][split]})

    def rows(self, split: str, length: int | None = None) -> int:
        """Returns how many rows `split` has, of one length or of all."""
        return sum(shard["rows"] for shard in self.manifest["shards"][split] if length in (None, shard["length"]))

    def shards(self, split: str, length: int | None = None) -> list[np.memmap]:
        """Returns the memory-mapped shards of `split`, each uint16 or uint32[rows, length], of one length or of all."""
        return [self._map(shard) for shard in self.manifest["shards"][split] if length in (None, shard["length"])]

    def read(self, split: str, length: int, rows: np.ndarray) -> np.ndarray:
        """Returns int32[n, length], rows of a split by their numbers.

        Args:
          split: "train" or "validation".
          length: of the rows, in tokens.
          rows: int[n], numbers among the split's rows of this length, over the shards in order.
        """
        ids = np.empty((len(rows), length), np.int32)
        first = 0
        for shard in self.shards(split, length):
            here = (rows >= first) & (rows < first + len(shard))
            ids[here] = shard[rows[here] - first]
            first += len(shard)
        return ids

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_maps": {}}

    def _map(self, shard: Shard) -> np.memmap:
        if shard["file"] not in self._maps:
            rows = self._open_rows(shard)
            if hasattr(mmap, "MADV_RANDOM"):  # rows come in no order: what lies around one would be read for nothing
                cast("Any", rows)._mmap.madvise(mmap.MADV_RANDOM)
            self._maps[shard["file"]] = rows
        return self._maps[shard["file"]]

    def _open_rows(self, shard: Shard) -> np.memmap:
        path = self.directory / shard["file"]
        try:
            rows = np.lib.format.open_memmap(path, mode="r")
        except (ValueError, EOFError, OverflowError, TypeError, IndexError) as error:
            raise UserError(f"{path}: damaged ({first_line(error)}); prepare the corpus again") from error
        if rows.shape != (shard["rows"], shard["length"]) or rows.dtype not in ROW_DTYPES:
            said = f"{shard['rows']} rows of {shard['length']} ids"
            raise UserError(f"{path}: {rows.dtype}{list(rows.shape)}, not {said}; prepare the corpus again")
        return rows

    def _all_shards(self) -> list[Shard]:
        return [shard for shards in self.manifest["shards"].values() for shard in shards]
