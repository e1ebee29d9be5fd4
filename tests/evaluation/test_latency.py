import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.latency import flops_per_token, latency, load_encoder, time_rounds


@pytest.fixture(scope="module")
def measured(models, tmp_path_factory):
    lines, out = [], tmp_path_factory.mktemp("latency") / "latency.json"
    result = latency(models, out=out, batch_size=2, length=500, repeats=3, log=lines.append)
    return result, json.loads(out.read_text()), lines


def test_flops_agree_with_pytorchs_own_count(models):
    for directory in models:
        encoder = BertModel.from_pretrained(directory, add_pooling_layer=False, attn_implementation="eager").eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            encoder(input_ids=torch.ones(3, 16, dtype=torch.long))
        assert flops_per_token(load_encoder(directory), length=16) * 3 * 16 == counter.get_total_flops()


def test_linear_layers_seen_by_hooks_give_the_same_count(models):
    encoder, seen = load_encoder(models[0]), []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, args, out: seen.append(2 * args[0].shape[-1] * out.shape[-1]))
    encoder(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert len(seen) == 2 * 6
    assert flops_per_token(encoder, length=10) - flops_per_token(encoder, length=0) == 2 * 4 * 10 * 32
    assert flops_per_token(encoder, length=0) == sum(seen)


def test_parameters_are_those_of_the_encoder_alone(models, measured):
    for directory, model in zip(models, measured[0]["models"], strict=True):
        encoder = BertModel.from_pretrained(directory, add_pooling_layer=False)
        assert model["parameters"] == sum(parameter.numel() for parameter in encoder.parameters())
        assert model["stored_parameters"] > model["parameters"]
        assert model["bytes"] == (directory / "model.safetensors").stat().st_size


def test_the_file_holds_the_result_and_its_figures_agree(measured):
    result, written, lines = measured
    assert written == result
    assert (result["format"], result["reference"], result["rounds"]) == (1, "teacher", 3)
    assert result["length"] == 32  # of 500: as many positions as the models have
    for model in result["models"]:
        assert 0 < model["median_ms"] <= model["p95_ms"]
        assert model["sequences_per_second"] == pytest.approx(2 / (model["median_ms"] / 1000))
    assert result["models"][0]["speedup"] == 1
    _, head, *rows = lines[0].splitlines()
    assert len({len(line) for line in (head, *rows)}) == 1
    assert [row.split()[0] for row in rows] == ["teacher", "student"]


def test_rounds_interleave_the_models_forwards_and_backwards():
    calls = []

    class Recorder(torch.nn.Module):
        device = torch.device("cpu")
        config = type("Config", (), {"vocab_size": 7})

        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, input_ids):
            assert input_ids.shape == (2, 5)
            assert int(input_ids.max()) < 7
            calls.append(self.name)

    seconds = time_rounds({"a": Recorder("a"), "b": Recorder("b")}, batch_size=2, length=5, rounds=3)
    assert "".join(calls) == "abba" * 3
    assert {name: values.shape for name, values in seconds.items()} == {"a": (3,), "b": (3,)}
    assert all(np.all(values > 0) for values in seconds.values())


def test_a_count_below_one_is_refused(models):
    with pytest.raises(UserError, match="repeats 0"):
        latency(models, repeats=0)
