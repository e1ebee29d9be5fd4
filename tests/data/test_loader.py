import json
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ctcd_jax.data import TrainBatches, ValidationBatches, prefetch
from ctcd_jax.data.loader import permute
from ctcd_jax.errors import UserError


def rows_of(batches):
    return [row.tobytes() for batch in batches for row in batch["input_ids"]]


def unpadded(rows):
    """The bytes of rows without the [PAD], 0 here, at their ends."""
    return [np.trim_zeros(np.frombuffer(row, np.int32), "b").tobytes() for row in rows]


class Numbered:
    """A corpus whose rows are [length, number, ...] without [PAD]: {length: rows}."""

    directory, special_ids = "corpus", {"pad": 0}

    def __init__(self, counts):
        self.counts = counts

    def lengths(self, split):
        return sorted(self.counts)

    def rows(self, split, length=None):
        return self.counts[length] if length else sum(self.counts.values())

    def read(self, split, length, rows):
        ids = np.full((len(rows), length), length, np.int32)
        ids[:, 1] = 1 + rows
        return ids


def visited(batches, epoch):
    """The rows of an epoch, (length, number), in order."""
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return [tuple(row[:2].tolist()) for step in steps for row in batches[step]["input_ids"]]


def every_row(corpus, split):
    return [row.astype(np.int32).tobytes() for shard in corpus.shards(split) for row in shard]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 17, 64, 65, 100, 1023, 4097])
def test_permute_is_a_bijection(size):
    places = permute(np.arange(size), size, "key")
    assert sorted(places.tolist()) == list(range(size))
    if size > 1000:
        assert (places == np.arange(size)).sum() < 10
        assert (permute(np.arange(size), size, "other") == places).sum() < 10
        assert abs(np.corrcoef(places, np.arange(size))[0, 1]) < 0.1


def test_permute_reaches_beyond_32_bits():
    size = 2**40 + 1
    indices = np.arange(0, size, size // 1000)
    places = permute(indices, size, 1)
    assert len(set(places.tolist())) == len(indices)
    assert places.max() < size
    assert places.max() > 2**39


def test_permute_spreads_evenly_over_keys():
    """Chi-square of 10 cells, 9 degrees of freedom: below 33.7 with probability 0.9999."""
    counts = Counter(int(permute(np.array([0]), 10, "seed", key)[0]) for key in range(2000))
    assert sum((counts[cell] - 200) ** 2 / 200 for cell in range(10)) < 33.7


@pytest.mark.parametrize("corpus", ["packed", "grouped"])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_an_epoch_visits_each_row_at_most_once(corpus, batch_size, request):
    corpus = request.getfixturevalue(corpus)
    batches = TrainBatches(corpus, batch_size, seed=3)
    expected = Counter(unpadded(every_row(corpus, "train")))
    used = corpus.rows("train") // batch_size * batch_size
    assert batches.steps_per_epoch == used // batch_size
    assert batches.left_out == corpus.rows("train") - used
    orders = []
    for epoch in range(2):
        seen = rows_of(batches[epoch * batches.steps_per_epoch + i] for i in range(batches.steps_per_epoch))
        lengths, seen = [len(row) for row in seen], unpadded(seen)
        assert len(seen) == used
        assert Counter(seen) <= expected
        orders.append((seen, lengths))
    orders, lengths = zip(*orders, strict=True)
    batches_of_rows = [{frozenset(order[i : i + batch_size]) for i in range(0, used, batch_size)} for order in orders]
    if batch_size > 1:
        assert len(batches_of_rows[0] & batches_of_rows[1]) < 0.1 * batches.steps_per_epoch
    elif len(corpus.lengths("train")) > 1:
        assert lengths[0] != lengths[1]
    assert orders[0] != orders[1]


def test_the_order_of_rows_of_one_length_is_that_of_earlier_runs():
    """A run that is resumed must go on with the rows it would have had."""
    batches = TrainBatches(Numbered({8: 10}), 4, seed=3)
    assert [[number for _, number in visited(batches, epoch)] for epoch in range(3)] == [
        [5, 6, 1, 4, 3, 10, 7, 9],
        [6, 1, 2, 7, 9, 4, 3, 10],
        [6, 2, 4, 5, 1, 9, 7, 8],
    ]
    batches = TrainBatches(Numbered({8: 1000}), 100, seed=1)
    assert [batches[step]["input_ids"][:3, 1].tolist() for step in (0, 9, 25)] == [
        [487, 616, 248],
        [751, 282, 717],
        [604, 442, 266],
    ]


LENGTHS = [{4: 3, 8: 50, 16: 5}, {4: 1, 6: 1, 8: 1, 16: 13}, {8: 40, 16: 16, 32: 23}, {4: 16, 8: 15}, {8: 47}]


@pytest.mark.parametrize("counts", LENGTHS, ids=str)
def test_rows_of_a_length_that_fills_no_batch_are_trained_too(counts):
    """Each epoch has all rows but what fills no batch, each once; nobody is left out for long."""
    batches = TrainBatches(Numbered(counts), 16, seed=5)
    every = {(length, 1 + number) for length, count in counts.items() for number in range(count)}
    waited = Counter(every)
    for epoch in range(40):
        seen = visited(batches, epoch)
        assert len(seen) == len(set(seen)) == batches.steps_per_epoch * 16
        assert set(seen) < every or not batches.left_out
        assert len(every) - len(seen) == batches.left_out < 16
        for length in counts:  # a whole length waits one epoch at most
            gone = not any(row[0] == length for row in seen)
            assert not gone or any(row[0] == length for row in visited(batches, epoch + 1))
        for row in every:
            waited[row] = 0 if row in set(seen) else waited[row] + 1
        assert max(waited.values()) <= 9
    assert visited(batches, 0) != visited(batches, 1)


@pytest.mark.parametrize("counts", LENGTHS, ids=str)
def test_shorter_rows_of_a_batch_are_filled_up_with_pad(counts):
    batches = TrainBatches(Numbered(counts), 16, seed=5)
    mixed = 0
    for step in range(20):
        ids = batches[step]["input_ids"]
        assert ids.shape[1] == ids[:, 0].max()  # as long as its longest row
        for row in ids:
            np.testing.assert_array_equal(row[2:], np.where(np.arange(2, len(row)) < row[0], row[0], 0))
        mixed += len(set(ids[:, 0].tolist())) > 1
    assert mixed <= 20 * (len(counts) - 1) / batches.steps_per_epoch + len(counts)
    assert mixed or len(counts) == 1
    parts = [TrainBatches(Numbered(counts), 16, seed=5, process_index=i, process_count=8) for i in range(8)]
    for step in range(20):
        joined = np.concatenate([part[step]["input_ids"] for part in parts])
        np.testing.assert_array_equal(joined, batches[step]["input_ids"])


def test_a_batch_depends_on_corpus_seed_and_step_alone(grouped):
    forward = [TrainBatches(grouped, 4, seed=1)[step]["input_ids"] for step in range(60)]
    batches = pickle.loads(pickle.dumps(TrainBatches(grouped, 4, seed=1)))
    for step in reversed(range(60)):
        np.testing.assert_array_equal(batches[step]["input_ids"], forward[step])
    other = TrainBatches(grouped, 4, seed=2)
    assert any(other[step]["input_ids"].tobytes() != forward[step].tobytes() for step in range(3))
    assert forward[0].dtype == np.int32
    assert {ids.shape for ids in forward} == {(4, 32), (4, 48)}


@pytest.mark.parametrize("corpus", ["packed", "grouped"])
def test_the_parts_of_the_processes_make_the_global_batch(corpus, request):
    corpus = request.getfixturevalue(corpus)
    whole = TrainBatches(corpus, 8, seed=0)
    parts = [TrainBatches(corpus, 8, seed=0, process_index=i, process_count=4) for i in range(4)]
    for step in (0, 5, 2 * whole.steps_per_epoch + 1):
        joined = np.concatenate([part[step]["input_ids"] for part in parts])
        np.testing.assert_array_equal(joined, whole[step]["input_ids"])
    whole = ValidationBatches(corpus, 8)
    parts = [ValidationBatches(corpus, 8, process_index=i, process_count=2) for i in range(2)]
    for i in range(len(whole)):
        for key in ("input_ids", "rows"):
            np.testing.assert_array_equal(np.concatenate([part[i][key] for part in parts]), whole[i][key])


@pytest.mark.parametrize("corpus", ["packed", "grouped"])
@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_validation_covers_every_row_once(corpus, batch_size, request):
    corpus = request.getfixturevalue(corpus)
    batches = ValidationBatches(corpus, batch_size)
    every = every_row(corpus, "validation")
    seen = {}
    for i in range(len(batches)):
        batch = batches[i]
        assert batch["input_ids"].shape == (batch_size, batch["input_ids"].shape[1])
        assert batch["input_ids"].dtype == batch["rows"].dtype == np.int32
        for number, ids in zip(batch["rows"].tolist(), batch["input_ids"], strict=True):
            if number < len(every):
                assert number not in seen
                seen[number] = ids.tobytes()
            else:
                assert not ids.any()  # [PAD] is 0 here
    assert [seen[number] for number in range(len(every))] == every
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_prefetch_gives_the_batches_of_these_steps(packed):
    batches = TrainBatches(packed, 4, seed=0)
    fetched = list(prefetch(batches, 7, 12))
    assert [step for step, _ in fetched] == [7, 8, 9, 10, 11]
    for step, batch in fetched:
        np.testing.assert_array_equal(batch["input_ids"], batches[step]["input_ids"])


def test_a_corpus_smaller_than_a_batch_is_an_error(packed, grouped):
    with pytest.raises(UserError, match=r"data\.batch_size 5000: .* fewer training rows \(\d+ of length 48\)"):
        TrainBatches(packed, 5000, seed=0)
    with pytest.raises(UserError, match=r"of length 32, \d+ of length 48"):
        TrainBatches(grouped, 5000, seed=0)


def test_processes_that_cannot_share_a_batch_are_an_error(packed):
    for batches in (lambda: TrainBatches(packed, 6, seed=0, process_count=4), lambda: ValidationBatches(packed, 0)):
        with pytest.raises(UserError, match=r"data\.batch_size \d: must be a positive multiple"):
            batches()


LARGE = """
import sys
from ctcd_jax.data import Corpus, TrainBatches

def kilobytes(kind):
    return int(next(line for line in open("/proc/self/status") if line.startswith(kind)).split()[1])

batches = TrainBatches(Corpus(sys.argv[1]), 128, seed=0)
batches[0]
before = kilobytes("RssAnon"), kilobytes("RssFile")
for step in range(1000, 501_000, 5000):  # 100 batches from all over the epoch
    batches[step]
print(kilobytes("RssAnon") - before[0], kilobytes("RssFile") - before[1])
"""


def test_a_hundred_million_rows_take_no_more_memory_than_a_few(tmp_path):
    rows, length = 100_000_000, 128
    np.lib.format.open_memmap(tmp_path / "train-00000.npy", "w+", np.uint16, (rows, length))  # 26 GB, all of it a hole
    manifest = {
        "format": 1,
        "recipe": {"length": length},
        "tokenizer": {"vocab_size": 1, "special_ids": dict.fromkeys(("pad", "unk", "cls", "sep", "mask"), 0)},
        "token_frequencies": [0],
        "shards": {"train": [{"file": "train-00000.npy", "rows": rows, "length": length}], "validation": []},
    }
    (tmp_path / "corpus.json").write_text(json.dumps(manifest))
    command = [sys.executable, "-c", LARGE, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
    own, mapped = map(int, said.split())
    assert own < 4_000  # kB; an order of all rows would take 400 MB
    assert mapped < 100 * 128 * 2 * 4  # two pages a row at most: nothing was read ahead
