"""Rows -> files: raw and short-lived while a part of a corpus is made, then the corpus's `.npy` shards."""

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ctcd_jax.artifacts.corpora import Shard
from ctcd_jax.data.packing import Row, segment_ids
from ctcd_jax.files import file_sha256

SHARD_ROWS = 2**20

_BUFFER_ROWS = 4096
_COPY_ROWS = 2**16


def token_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """Returns the narrowest of uint16 and uint32 that holds every id."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


class RowWriter:
    """Writes rows to raw files `L00128.rows`, a row into the shortest of `lengths` that holds it, and counts them.

    After `close`, which writes `rows.json` and `frequencies.npy`, `RowFiles` reads them.
    """

    def __init__(self, directory: Path, lengths: Sequence[int], vocab_size: int, specials: dict[str, int]):
        self._directory, self._specials = directory, specials
        self._dtype = token_dtype(vocab_size)
        self._pending: dict[int, list[list[int]]] = {length: [] for length in sorted(lengths)}
        self._cut: dict[int, list[int]] = {length: [] for length in self._pending}
        self._count = dict.fromkeys(self._pending, 0)
        self._frequencies = np.zeros(vocab_size, np.int64)
        self._row_tokens = np.zeros(max(lengths) + 1, np.int64)
        self._segment_tokens = np.zeros(max(lengths) + 1, np.int64)

    def add(self, row: Row) -> None:
        """Appends a row; it must fit the longest length."""
        length = next(length for length in self._pending if len(row.ids) <= length)
        if row.cut:
            self._cut[length].append(self._count[length])
        self._count[length] += 1
        self._pending[length].append(row.ids)
        if len(self._pending[length]) == _BUFFER_ROWS:
            self._flush(length)

    def close(self) -> None:
        """Writes what is left, and the counts."""
        for length in self._pending:
            self._flush(length)
        np.save(self._directory / "frequencies.npy", self._frequencies)
        counts = {
            "rows": self._count,
            "cut_rows": self._cut,
            "row_tokens": self._row_tokens.tolist(),
            "segment_tokens": self._segment_tokens.tolist(),
        }
        (self._directory / "rows.json").write_text(json.dumps(counts), encoding="utf-8")

    def _flush(self, length: int) -> None:
        rows = self._pending[length]
        if not rows:
            return
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), self._dtype, sizes.sum())
        matrix = np.full((len(rows), length), self._specials["pad"], self._dtype)
        matrix[np.arange(length) < sizes[:, None]] = ids
        with open(self._directory / _raw_name(length), "ab") as file:
            file.write(matrix.data)
        segment_tokens = np.bincount(segment_ids(ids, self._specials))[1:]
        self._frequencies += np.bincount(ids, minlength=len(self._frequencies))
        self._row_tokens += np.bincount(sizes, minlength=len(self._row_tokens))
        self._segment_tokens += np.bincount(segment_tokens, minlength=len(self._segment_tokens))
        rows.clear()


class RowFiles:
    """What a `RowWriter` left in a directory.

    Attributes:
      rows: {length: rows of that length}.
      cut_rows: {length: the rows of that length with part of a sentence only}.
      row_tokens: int64[n], how many rows have so many ids, padding apart.
      segment_tokens: int64[n], how many segments ([CLS] to [SEP]) have so many ids.
      frequencies: int64[vocab_size], how often each id was written, padding apart.
    """

    def __init__(self, directory: Path):
        counts = json.loads((directory / "rows.json").read_text(encoding="utf-8"))
        self.rows = {int(length): count for length, count in counts["rows"].items()}
        self.cut_rows = {int(length): rows for length, rows in counts["cut_rows"].items()}
        self.row_tokens = np.asarray(counts["row_tokens"], np.int64)
        self.segment_tokens = np.asarray(counts["segment_tokens"], np.int64)
        self.frequencies = np.load(directory / "frequencies.npy")
        self._directory = directory

    def read(self, length: int) -> Iterable[np.ndarray]:
        """Yields the rows of one length, uint16 or uint32[n, length], some tens of thousands at a time."""
        if not self.rows[length]:
            return
        dtype = token_dtype(len(self.frequencies))
        with open(self._directory / _raw_name(length), "rb") as file:
            while (ids := np.fromfile(file, dtype, _COPY_ROWS * length)).size:
                yield ids.reshape(-1, length)


class SplitFiles:
    """One split of a corpus: the rows of its parts, in their order."""

    def __init__(self, parts: Sequence[RowFiles]):
        self._parts = parts
        self.frequencies = _sum([part.frequencies for part in parts])
        self.row_tokens = _sum([part.row_tokens for part in parts])
        self.segment_tokens = _sum([part.segment_tokens for part in parts])
        self.rows = {length: sum(part.rows[length] for part in parts) for length in parts[0].rows}

    @property
    def padding(self) -> float:
        """The share of positions that are padding."""
        return 1 - int(self.frequencies.sum()) / sum(length * rows for length, rows in self.rows.items())

    @property
    def cut_rows(self) -> list[int]:
        """The rows with part of a sentence only, numbered in the order of the shards."""
        cut, first = [], 0
        for length in self.rows:
            for part in self._parts:
                cut += [first + row for row in part.cut_rows[length]]
                first += part.rows[length]
        return cut

    def write(self, directory: Path, split: str) -> list[Shard]:
        """Writes `SPLIT-[L064-]00000.npy`, lengths ascending; returns the record of each file for the manifest."""
        shards: list[Shard] = []
        for length, total in self.rows.items():
            group = f"L{length:03d}-" if len(self.rows) > 1 else ""
            chunks = (rows for part in self._parts for rows in part.read(length))
            rest = np.empty((0, length), token_dtype(len(self.frequencies)))
            for number, first in enumerate(range(0, total, SHARD_ROWS)):
                path = directory / f"{split}-{group}{number:05d}.npy"
                count = min(SHARD_ROWS, total - first)
                with open(path, "wb") as file:
                    header = {"descr": rest.dtype.str, "fortran_order": False, "shape": (count, length)}
                    np.lib.format.write_array_header_1_0(file, header)
                    missing = count
                    while missing:
                        if not len(rest):
                            rest = next(chunks)
                        file.write(rest[:missing].data)
                        rest, missing = rest[missing:], missing - min(missing, len(rest))
                shards.append({"file": path.name, "rows": count, "length": length, "sha256": file_sha256(path)})
        return shards


def _sum(counts: Sequence[np.ndarray]) -> np.ndarray:
    return np.sum(counts, axis=0)


def _raw_name(length: int) -> str:
    return f"L{length:05d}.rows"
