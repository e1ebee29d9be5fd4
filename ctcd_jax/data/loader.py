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
    """Returns int64[n]: where a pseudo-random bijection of [0, size), chosen by `key`, sends `indices`, int[n].

    A Feistel network permutes the next power of four; an index that leaves [0, size) goes through it again until it is
    back inside (cycle walking), which keeps the bijection.
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

    Each epoch visits every row once in a new order, but for the rows of each length that do not fill a batch; a batch
    is of one length. A process reads only its own contiguous part of the global batch.
    """

    def __init__(self, corpus: Corpus, batch_size: int, seed: int, *, process_index: int = 0, process_count: int = 1):
        """Takes `batch_size` rows a batch over all processes.

        Raises:
          UserError: if no length has a batch's worth of rows, or the processes cannot share a batch evenly.
        """
        self._part = _process_part(batch_size, process_index, process_count)
        self._corpus, self._batch_size, self._seed = corpus, batch_size, seed
        self._lengths = corpus.lengths("train")
        self._ends = list(accumulate(corpus.rows("train", length) // batch_size for length in self._lengths))
        self.steps_per_epoch = self._ends[-1]
        if not self.steps_per_epoch:
            rows = {length: corpus.rows("train", length) for length in self._lengths}
            counts = ", ".join(f"{count} of length {length}" for length, count in rows.items())
            raise UserError(
                f"data.batch_size {batch_size}: {corpus.directory} has fewer training rows ({counts}); lower it"
            )

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        epoch, position = divmod(int(step), self.steps_per_epoch)
        batch = int(permute(np.array([position]), self.steps_per_epoch, self._seed, epoch, "batches")[0])
        group = next(group for group, end in enumerate(self._ends) if batch < end)
        length = self._lengths[group]
        first = (batch - (self._ends[group - 1] if group else 0)) * self._batch_size
        places = np.arange(first + self._part.start, first + self._part.stop)
        rows = permute(places, self._corpus.rows("train", length), self._seed, epoch, length)
        return {"input_ids": self._corpus.read("train", length, rows)}


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
    """Yields (step, batches[step]) for steps in [start, stop), a few of them made ahead in a thread."""
    import grain  # a second to import, and it brings jax: not for those who only prepare

    steps = grain.MapDataset.range(start, stop).map(lambda step: (int(step), batches[step]))
    yield from steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH))


def _process_part(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"data.batch_size {batch_size}: must be a positive multiple of the {process_count} processes")
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)
