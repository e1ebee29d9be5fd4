"""The PyTorch peer against the training step itself: the ratio of their times compares the same objective."""

import jax
import numpy as np
import pytest
from transformers import BertForMaskedLM

from ctcd_jax.benchmarks import workload
from ctcd_jax.benchmarks.peers.eager import EagerCTCD, as_tensors, model
from ctcd_jax.models.huggingface import save_pretrained
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.sharding import make_mesh, place_rows


def test_loss_and_update_are_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(workload, "default_dtype", lambda: "float32")
    experiment, batch = workload.experiment("ctcd", "smoke", dropout=0.0), workload.batch("smoke")
    mesh = make_mesh(devices=jax.devices()[:1])
    state = init_state(experiment, mesh)
    models = {}
    for name, member in state.members.items():
        save_pretrained(tmp_path / name, experiment.models[name], member.params)
        models[name] = BertForMaskedLM.from_pretrained(tmp_path / name)
    peer = EagerCTCD(experiment, models)
    step = make_train_step(experiment, workload.MASKER, mesh)
    # The second loss is equal only if the first update was: gradients, clipping and AdamW.
    for number in range(2):
        state, result = step(state, {}, place_rows(batch, mesh))
        theirs = peer.step(as_tensors(workload.masked(experiment, batch["input_ids"], number)))
        assert theirs == pytest.approx(float(result["loss"]), abs=1e-5)


def test_dropout_and_shape_reach_the_model():
    config = workload.experiment("ctcd", "smoke").models["teacher"]
    made = model(config)
    assert made.config.hidden_dropout_prob == made.config.attention_probs_dropout_prob == 0.1
    assert (made.config.num_hidden_layers, made.config.vocab_size) == (2, workload.VOCABULARY)
    assert EagerCTCD(workload.experiment("ctcd", "smoke"), {"teacher": made, "student": model(config)}).teacher.training


def test_rows_look_packed():
    ids = workload.batch("smoke")["input_ids"]
    special = workload.SPECIAL_IDS
    assert ids.shape == (workload.ROWS, 64)
    assert (ids[:, 0] == special["cls"]).all()
    np.testing.assert_array_equal((ids == special["cls"]).sum(1), (ids == special["sep"]).sum(1))
    assert (ids == special["cls"]).sum() > workload.ROWS
    counts = workload.counts(workload.experiment("student", "smoke"), ids)
    assert counts["tokens"] == (ids != special["pad"]).sum()
    assert 0.1 < counts["predicted"] / counts["tokens"] < 0.16
