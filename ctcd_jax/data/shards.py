"""Rows -> `.npy` files, and the record of each that goes into the manifest."""

import hashlib
from pathlib import Path

import numpy as np

from ctcd_jax.data.packing import Row

SHARD_ROWS = 262_144


def token_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """Returns the narrowest of uint16 and uint32 that holds every id."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardWriter:
    """Writes the rows of one split to `SPLIT-[L000-]00000.npy`, a row into the shortest of `lengths` that holds it.

    After `close`: `shards`, the record of each file; `frequencies`, int64[vocab_size], how often each id was written,
    padding apart; `cut_rows`, the rows with part of a sentence only, numbered in the order of `shards`.
    """

    def __init__(self, directory: Path, split: str, lengths: list[int], vocab_size: int, pad: int):
        self.shards: list[dict] = []
        self.cut_rows: list[int] = []
        self.frequencies = np.zeros(vocab_size, np.int64)
        self._directory, self._split, self._pad = directory, split, pad
        self._dtype = token_dtype(vocab_size)
        self._pending: dict[int, list[np.ndarray]] = {length: [] for length in sorted(lengths)}
        self._count = dict.fromkeys(self._pending, 0)
        self._cut: dict[int, list[int]] = {length: [] for length in self._pending}

    def add(self, row: Row) -> None:
        """Appends a row; it must fit the longest length."""
        length = next(length for length in self._pending if len(row.ids) <= length)
        self._pending[length].append(np.asarray(row.ids, self._dtype))
        if row.cut:
            self._cut[length].append(self._count[length])
        self._count[length] += 1
        if len(self._pending[length]) == SHARD_ROWS:
            self._flush(length)

    def close(self) -> None:
        """Writes what is left, and puts the shards in order of their length."""
        first = 0
        for length, rows in self._pending.items():
            if rows:
                self._flush(length)
            self.cut_rows += [first + row for row in self._cut[length]]
            first += self._count[length]
        self.shards.sort(key=lambda shard: (shard["length"], shard["file"]))

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return sum(self._count.values())

    @property
    def cells(self) -> int:
        """Ids these rows take on disk, padding included."""
        return sum(length * count for length, count in self._count.items())

    def _flush(self, length: int) -> None:
        rows = self._pending[length]
        matrix = np.full((len(rows), length), self._pad, self._dtype)
        for target, row in zip(matrix, rows, strict=True):
            target[: len(row)] = row
        self.frequencies += np.bincount(np.concatenate(rows), minlength=len(self.frequencies))
        number = sum(shard["length"] == length for shard in self.shards)
        group = f"L{length:03d}-" if len(self._pending) > 1 else ""
        path = self._directory / f"{self._split}-{group}{number:05d}.npy"
        np.save(path, matrix)
        self.shards.append({"file": path.name, "rows": len(rows), "length": length, "sha256": file_sha256(path)})
        rows.clear()
