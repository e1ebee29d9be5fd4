"""Batches, each a pure function of (corpus, seed, step): no state to save, and any process can make any batch.

An epoch's order is a bijection computed index by index (a Feistel network), not a shuffled array: the memory is the
batch's.
"""

import hashlib
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from ctcd_jax.data.corpus import Corpus
from ctcd_jax.errors import UserError

_ROUNDS = 4
_PREFETCH = 4  # batches made ahead


def permute(indices: np.ndarray, size: int, *key: str | int) -> np.ndarray:
    """Returns int64[n]: where a pseudo-random bijection of [0, size) sends each index.

    A Feistel network permutes the next power of four; an index that leaves [0, size) goes through it again until it is
    back inside (cycle walking), which keeps the bijection.

    Args:
      indices: int[n], in [0, size).
      size: of the range.
      key: what chooses the bijection.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    round_keys = np.frombuffer(digest, "<u8")[:_ROUNDS]

    def network(values: np.ndarray) -> np.ndarray:
        left, right = values >> half, values & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        return (left << half) | right

    values = network(np.asarray(indices, np.uint64))
    while (outside := values >= size).any():
        values[outside] = network(values[outside])
    return values.astype(np.int64)


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class TrainBatches:
    """The training batches: `batches[step]` is {"input_ids": int32[batch_size / process_count, length]}, any step >= 0.

    An epoch is all rows but `left_out`, each once: those of each length in a new order, the shorter lengths first, cut
    into batches, which come in a new order, too. Where two lengths meet, the shorter rows are filled up with [PAD]. A
    process reads only its own contiguous part of the global batch.

    Attributes:
      steps_per_epoch: batches of an epoch.
      left_out: rows of an epoch that do not fill a batch, 0 to batch_size - 1: others in each epoch.
    """

    def __init__(self, corpus: Corpus, batch_size: int, seed: int, *, process_index: int = 0, process_count: int = 1):
        """Takes `batch_size` rows a batch over all processes.

        Raises:
          UserError: if there are fewer rows than a batch has, or the processes cannot share a batch evenly.
        """
        self._part = _process_part(batch_size, process_index, process_count)
        self._corpus, self._batch_size, self._seed = corpus, batch_size, seed
        self._lengths = corpus.lengths("train")
        self._counts = [corpus.rows("train", length) for length in self._lengths]
        self.steps_per_epoch, self.left_out = divmod(sum(self._counts), batch_size)
        if not self.steps_per_epoch:
            rows = zip(self._lengths, self._counts, strict=True)
            counts = ", ".join(f"{count:,} of length {length}" for length, count in rows)
            raise UserError(
                f"data.batch_size {batch_size}: {corpus.directory} has fewer training rows ({counts}); lower it"
            )

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        epoch, position = divmod(int(step), self.steps_per_epoch)
        batch = int(permute(np.array([position]), self.steps_per_epoch, self._seed, epoch, "batches")[0])
        ends = np.cumsum(self._visited(epoch))
        first = batch * self._batch_size
        places = np.arange(first + self._part.start, first + self._part.stop)
        groups = np.searchsorted(ends, places, side="right")
        # The whole batch's longest, which need not be among this process's rows.
        longest = int(np.searchsorted(ends, first + self._batch_size - 1, side="right"))
        if groups[0] == longest:  # rows of one length
            return {"input_ids": self._rows(longest, places, ends, epoch)}
        input_ids = np.full((len(places), self._lengths[longest]), self._corpus.special_ids["pad"], np.int32)
        for group in np.unique(groups):
            mine = groups == group
            input_ids[mine, : self._lengths[group]] = self._rows(group, places[mine], ends, epoch)
        return {"input_ids": input_ids}

    def _rows(self, group: int, places: np.ndarray, ends: np.ndarray, epoch: int) -> np.ndarray:
        length, first = self._lengths[group], ends[group - 1] if group else 0
        rows = permute(places - first, self._counts[group], self._seed, epoch, length)
        return self._corpus.read("train", length, rows)

    def _visited(self, epoch: int) -> list[int]:
        """Returns how many rows of each length an epoch visits.

        What is left out goes round all rows, from epoch to epoch, so that no length is left out twice in a row.
        """
        total, start, visited = sum(self._counts), 0, []
        out = epoch * self.left_out % total
        for count in self._counts:
            # The end of the round is its beginning: there, the range that is left out lies a round earlier, too.
            ranges = ((at, at + self.left_out) for at in (out, out - total))
            left = sum(max(0, min(stop, start + count) - max(begin, start)) for begin, stop in ranges)
            visited.append(count - left)
            start += count
        return visited


class ValidationBatches:
    """All validation rows once, by length and in order.

    A batch is {"input_ids": int32[b, length], "rows": int32[b]} with b = batch_size / process_count.
    `rows` numbers a row in the split. The last batch of each length is filled up with rows of [PAD] alone, numbered
    past the split's end.
    """

    def __init__(self, corpus: Corpus, batch_size: int, *, process_index: int = 0, process_count: int = 1):
        """Takes `batch_size` rows a batch over all processes.

        Raises:
          UserError: if the processes cannot share a batch evenly.
        """
        self._part = _process_part(batch_size, process_index, process_count)
        self._corpus, self._batch_size = corpus, batch_size
        counts = [(length, corpus.rows("validation", length)) for length in corpus.lengths("validation")]
        firsts = accumulate((count for _, count in counts), initial=0)
        self._batches = [
            (length, count, first, start)
            for (length, count), first in zip(counts, firsts, strict=False)
            for start in range(0, count, batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        length, count, first, start = self._batches[index]
        rows = np.arange(start + self._part.start, start + self._part.stop)
        real = rows < count
        input_ids = np.full((len(rows), length), self._corpus.special_ids["pad"], np.int32)
        input_ids[real] = self._corpus.read("validation", length, rows[real])
        total = self._corpus.rows("validation")
        return {"input_ids": input_ids, "rows": np.where(real, first + rows, total + rows - count).astype(np.int32)}


def prefetch(batches, start: int, stop: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields (step, batches[step]) for steps in [start, stop), a few of them made ahead in a thread.

    Args:
      batches: indexed by step, each a dict of arrays.
      start, stop: the first step, and the one after the last.
    """
    import grain  # a second to import, and it brings jax: not for those who only prepare

    steps = grain.MapDataset.range(start, stop).map(lambda step: (int(step), batches[step]))
    yield from steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH))


def _process_part(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"data.batch_size {batch_size}: must be a positive multiple of the {process_count} processes")
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)
