"""Cases and their rows."""

import numpy as np

from ctcd_jax.benchmarks import workload
from ctcd_jax.benchmarks.workload import SPECIAL_IDS, Case

SMOKE = Case(preset="smoke", rows=4, length=64)


def test_a_case_goes_through_a_command_line():
    case = Case("oneway", "paper", 8, 256, "bfloat16", "attended", 0.0, "dense", "xla", True, 512, "gpu")
    assert Case.read(case.written()) == case
    experiment = workload.experiment(case)
    assert experiment.cohort.positions == "attended"
    assert (experiment.batch_size, experiment.models["teacher"].hidden) == (8, 768)
    train = experiment.train
    assert (train.dtype, train.attention, train.remat, train.loss_chunk) == ("bfloat16", "xla", True, 512)
    assert workload.batch(case)["input_ids"].shape == (8, 256)


def test_objectives():
    assert Case(loss="dense", remat=True, dtype="float32").objective == Case().objective
    assert Case(positions="attended").objective != Case().objective != Case(dropout=0.0).objective


def test_rows_look_packed():
    ids = workload.batch(SMOKE)["input_ids"]
    assert ids.shape == (4, 64)
    assert (ids[:, 0] == SPECIAL_IDS["cls"]).all()
    np.testing.assert_array_equal((ids == SPECIAL_IDS["cls"]).sum(1), (ids == SPECIAL_IDS["sep"]).sum(1))
    assert (ids == SPECIAL_IDS["cls"]).sum() > 4
    counts = workload.counts(workload.experiment(SMOKE), ids)
    assert counts["tokens"] == (ids != SPECIAL_IDS["pad"]).sum()
    assert 0.1 < counts["predicted"] / counts["tokens"] < 0.16


def test_the_loader_gives_such_rows():
    batches = workload.loader(SMOKE)
    first, second = batches[0]["input_ids"], batches[1]["input_ids"]
    assert first.shape == second.shape == (4, 64)
    assert first.dtype == np.int32
    assert (first != second).any()
    assert (first[:, 0] == SPECIAL_IDS["cls"]).all()
