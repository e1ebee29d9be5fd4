"""`ctcd latency` in eager PyTorch: what it counts, times, writes and refuses."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.latency import latency, running
from ctcd_jax.latency.encoders import flops_per_token, load_encoder, positions, random_ids
from ctcd_jax.latency.settings import Setting, grid
from ctcd_jax.latency.table import block, heading, unsteady
from ctcd_jax.latency.timing import statistics, time_rounds

HIDDEN, FEED_FORWARD = 32, 64  # of the models in conftest.py
LAYER = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * FEED_FORWARD  # weights of a layer's matrices
SMALL = {
    "vocab_size": 18,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": FEED_FORWARD,
}


@pytest.fixture(scope="module")
def measured(models, tmp_path_factory):
    lines, out = [], tmp_path_factory.mktemp("latency") / "new" / "latency.json"
    result = latency(models, out=out, batch_sizes=[2, 1], lengths=[8, 16], rounds=3, log=lines.append)
    return result, json.loads(out.read_text()), "\n".join(lines)


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory):
    """A DistilBERT without a tokenizer, whose config has names of its own for the sizes."""
    directory = tmp_path_factory.mktemp("other") / "distilbert"
    config = DistilBertConfig(
        vocab_size=18, dim=HIDDEN, n_layers=2, n_heads=2, hidden_dim=FEED_FORWARD, max_position_embeddings=32
    )
    DistilBertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture
def timed(monkeypatch):
    """Replaces the timing by one call of every model; collects (threads, {model: output}) of each setting."""
    seen = []

    def once(calls, rounds, **_):
        seen.append((torch.get_num_threads(), {name: call().last_hidden_state for name, call in calls.items()}))
        return {name: np.ones(rounds) for name in calls}

    monkeypatch.setattr(running, "time_rounds", once)
    return seen


# What a model is made of.


def test_flops_are_those_counted_by_hand(models):
    for directory, layers in zip(models, (2, 1), strict=True):
        assert flops_per_token(load_encoder(directory), length=16) == layers * (2 * LAYER + 4 * 16 * HIDDEN)


def test_linear_layers_seen_by_hooks_and_two_attention_products_give_the_same_count(models):
    encoder, seen = load_encoder(models[0]), []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, args, out: seen.append(2 * args[0].shape[-1] * out.shape[-1]))
    flops = flops_per_token(encoder, length=10)
    assert len(seen) == 2 * 6
    assert flops == sum(seen) + 2 * 4 * 10 * HIDDEN


def test_layers_that_share_weights_cost_as_often_as_they_run():
    encoder = AlbertModel(AlbertConfig(embedding_size=16, **SMALL), add_pooling_layer=False).eval()
    assert flops_per_token(encoder, length=16) == 2 * 16 * HIDDEN + 2 * (2 * LAYER + 4 * 16 * HIDDEN)


def test_parameters_are_those_of_the_encoder_alone(models, measured):
    for directory, model in zip(models, measured[0]["models"], strict=True):
        encoder = BertModel.from_pretrained(directory, add_pooling_layer=False)
        assert model["parameters"] == sum(parameter.numel() for parameter in encoder.parameters())
        assert model["stored_parameters"] > model["parameters"]
        assert model["bytes"] == (directory / "model.safetensors").stat().st_size
        assert model["weights"] == hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def test_an_encoder_that_is_no_bert_and_has_no_tokenizer_is_measured_beside_one(models, distilbert):
    result = latency([models[0], distilbert], batch_sizes=[1], lengths=[16], rounds=2, log=lambda line: None)
    teacher, other = result["models"]
    assert other["parameters"] == sum(p.numel() for p in DistilBertModel.from_pretrained(distilbert).parameters())
    assert other["flops_per_token"] == teacher["flops_per_token"] == {"16": 2 * (2 * LAYER + 4 * 16 * HIDDEN)}
    assert [row["model"] for row in result["measurements"]] == ["teacher", "distilbert"]
    assert all(row["p50_ms"] > 0 for row in result["measurements"])


def test_positions_that_roberta_keeps_for_padding_are_not_offered():
    encoder = RobertaModel(RobertaConfig(max_position_embeddings=34, pad_token_id=1, **SMALL)).eval()
    assert positions(encoder) == 32
    encoder(input_ids=random_ids([encoder], 1, 32))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(input_ids=random_ids([encoder], 1, 33))


def test_ids_are_known_to_every_model_and_no_ones_padding():
    sizes = ((9, 0), (30, 3))
    encoders = [RobertaModel(RobertaConfig(**SMALL | {"vocab_size": n}, pad_token_id=p)) for n, p in sizes]
    assert set(random_ids(encoders, 40, 20).flatten().tolist()) == {1, 2, 4, 5, 6, 7, 8}


# What is timed.


def test_the_grid_is_every_combination_once_and_starts_with_eager_and_what_was_named_first():
    settings = grid(
        devices=["cpu", "cuda"],
        threads=[2, 1],
        runtimes=["onnx", "eager"],
        dtype="float32",
        lengths=[64, 32],
        batch_sizes=[8, 1, 8],
    )
    assert settings[:3] == [
        Setting("cpu", 2, "eager", "float32", 8, 64),
        Setting("cpu", 2, "eager", "float32", 1, 64),
        Setting("cpu", 2, "eager", "float32", 8, 32),
    ]
    on_cpu = [setting for setting in settings if setting.device == "cpu"]
    assert len(on_cpu) == len(set(on_cpu)) == 2 * 2 * 2 * 2
    on_gpu = [setting for setting in settings if setting.device == "cuda"]
    assert len(on_gpu) == len(set(on_gpu)) == 2 * 2
    assert {(setting.threads, setting.runtime) for setting in on_gpu} == {(None, "eager")}


def test_rounds_interleave_the_models_forwards_and_backwards():
    calls, waits = [], []
    seconds = time_rounds(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=3,
        synchronize=lambda: waits.append(len(calls)),
    )
    assert "".join(calls) == "abba" * 3  # three rounds to warm up, three that count
    assert waits == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12]
    assert {name: values.shape for name, values in seconds.items()} == {"a": (3,), "b": (3,)}
    assert all(np.all(values > 0) for values in seconds.values())


def test_a_speed_up_is_the_median_of_ratios_within_a_round():
    # Ratios 2, 1, 3. The ratio of the medians would be 4 / 2, that of the means 12 / 7.
    figures = statistics(np.array([1.0, 4.0, 2.0]), np.array([2.0, 4.0, 6.0]), batch_size=8, length=16)
    expected = {"p50_ms": 2000, "p95_ms": 3800, "sequences_per_second": 4, "tokens_per_second": 64, "speedup": 2}
    assert figures == pytest.approx(expected)


def test_threads_are_set_while_a_setting_is_timed_and_then_put_back(models, timed):
    before = torch.get_num_threads()
    result = latency(models, devices=["cpu"], threads=[before + 1, 1], batch_sizes=[1], rounds=1, log=lambda line: None)
    assert [threads for threads, _ in timed] == [before + 1, 1]
    assert [row["threads"] for row in result["measurements"]] == [before + 1, before + 1, 1, 1]
    assert torch.get_num_threads() == before


def test_the_dtype_is_that_of_weights_and_outputs(models, timed):
    result = latency(models, dtype="bfloat16", batch_sizes=[3], lengths=[7], rounds=1, log=lambda line: None)
    ((_, outputs),) = timed
    assert {(output.dtype, output.shape) for output in outputs.values()} == {(torch.bfloat16, (3, 7, HIDDEN))}
    assert {row["dtype"] for row in result["measurements"]} == {"bfloat16"}


# What is written and said.


def test_the_file_holds_the_result_and_its_figures_agree(measured):
    result, written, _ = measured
    assert written == result
    assert set(result) == {"format", "torch", "cpu", "rounds", "reference", "models", "measurements"}
    assert (result["format"], result["reference"], result["rounds"]) == (2, "teacher", 3)
    assert [list(model["flops_per_token"]) for model in result["models"]] == [["8", "16"]] * 2
    assert len(result["measurements"]) == 2 * 2 * 2
    for row in result["measurements"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["sequences_per_second"] == pytest.approx(row["batch_size"] / (row["p50_ms"] / 1000))
        assert row["tokens_per_second"] == pytest.approx(row["length"] * row["sequences_per_second"])
        assert row["speedup"] == 1 or row["model"] == "student"
    first = {key: result["measurements"][0][key] for key in ("device", "threads", "runtime", "dtype")}
    if not torch.cuda.is_available():
        assert first == {"device": "cpu", "threads": torch.get_num_threads(), "runtime": "eager", "dtype": "float32"}
    assert (result["measurements"][0]["batch_size"], result["measurements"][0]["length"]) == (2, 8)


def test_a_block_a_setting_is_said(measured):
    _, _, said = measured
    titles = re.findall(r"eager float32, (.*)", said)
    assert titles == [
        "2 sequences of 8 tokens",
        "1 sequence of 8 tokens",
        "2 sequences of 16 tokens",
        "1 sequence of 16 tokens",
    ]
    assert re.findall(r"^(\w+) .*x$", said, re.MULTILINE) == ["teacher", "student"] * 4
    assert "speed-up over teacher" in said


def test_text_fits_120_columns_and_its_columns_line_up(measured):
    name, row = "some/where/" + 60 * "x", measured[0]["measurements"][0]
    large = row | {"model": name, "p50_ms": 123456.7, "p95_ms": 123456.7, "sequences_per_second": 1e6}
    lines = block("title", [row, large | {"tokens_per_second": 1e8}], {"teacher": 10**6, name: 10**9}).splitlines()[2:]
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].startswith("…xxxx")
    model = measured[0]["models"][0] | {"name": name, "parameters": 10**9, "stored_parameters": 10**9, "bytes": 10**10}
    said = heading(measured[0] | {"models": [model], "cpu": "Some CPU @ 2.00GHz"}).splitlines()
    assert max(len(line) for line in [*lines, *said]) <= 120


def test_figures_that_swing_are_said_to():
    calm, swinging = {"p50_ms": 1.0, "p95_ms": 1.9}, {"p50_ms": 1.0, "p95_ms": 2.1}
    assert unsteady([calm, calm]) is None
    assert "1 of 2 measurements" in unsteady([calm, swinging])


def test_the_command_line_takes_lists(models, tmp_path, capsys):
    options = "--batch-size 1,2 --length 8,16 --threads 1 --device cpu --runtime eager --dtype float32 --rounds 1"
    names = [part for directory in models for part in ("--model", str(directory))]
    assert main(["latency", *names, "--out", str(tmp_path / "l.json"), *options.split()]) == 0
    rows = json.loads((tmp_path / "l.json").read_text())["measurements"]
    assert [(row["length"], row["batch_size"]) for row in rows[::2]] == [(8, 1), (8, 2), (16, 1), (16, 2)]
    with pytest.raises(SystemExit):
        main(["latency", *names, "--length", "8,long"])
    assert "--length: long is not a whole number" in capsys.readouterr().err


# What cannot be.


def test_without_a_length_it_is_the_longest_that_all_models_take_and_said(models, export_model, tmp_path, timed):
    lines, short = [], export_model(tmp_path / "short", positions=12)
    result = latency([*models, short], batch_sizes=[1], rounds=1, log=lines.append)
    assert {row["length"] for row in result["measurements"]} == {12}
    assert "12 tokens a sequence, not 128: short has no more positions" in lines


def test_a_length_beyond_a_models_positions_is_refused(models, export_model, tmp_path):
    short = export_model(tmp_path / "short", positions=12)
    with pytest.raises(UserError, match=r"^--length 16: short has 12 positions .*short/config.json\); give 12 or less"):
        latency([*models, short], lengths=[8, 16])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "--rounds 0: give 1 or more"),
        ({"batch_sizes": [8, 0]}, "--batch-size 0: give 1 or more"),
        ({"lengths": [-1]}, "--length -1: give 1 or more"),
        ({"threads": [0]}, "--threads 0: give 1 or more"),
        ({"batch_sizes": []}, "--batch-size 0: give 1 or more"),
        ({"runtimes": ["eager", "onx"]}, "--runtime onx: no such choice (did you mean 'onnx'?)"),
        ({"devices": ["abacus"]}, "--device abacus: no such choice (known: cpu, cuda)"),
        ({"dtype": "int8"}, "--dtype int8: no such choice"),
        ({"dtype": "float16", "devices": ["cpu"], "runtimes": ["onnx"]}, "--dtype float16: ONNX Runtime is measured"),
    ],
)
def test_what_cannot_be_measured_is_one_line(models, options, said):
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        latency(models, **options)


def test_a_gpu_that_is_not_there_is_refused(models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^--device cuda: PyTorch sees no GPU here"):
        latency(models, devices=["cpu", "cuda"])


@pytest.mark.parametrize(
    ("options", "said"), [({"threads": [1]}, "--threads"), ({"runtimes": ["onnx"]}, "--runtime onnx")]
)
def test_what_only_a_cpu_has_is_refused_on_a_gpu_alone(models, monkeypatch, options, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match=rf"^{said}: .*; add --device cpu"):
        latency(models, **options)


def test_too_little_memory_is_one_line(models, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(running, "time_rounds", full)
    with pytest.raises(UserError, match=r"^--batch-size 32, --length 32: too much for the memory"):
        latency(models, log=lambda line: None)


def test_a_model_that_is_no_encoder_of_text_or_cannot_be_loaded_is_refused(models, tmp_path):
    T5Model(T5Config(vocab_size=18, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "t5"
    )
    with pytest.raises(UserError, match=r"^--model .*t5: a t5 is no encoder of text"):
        latency([tmp_path / "t5"])
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(UserError, match=r"^--model .*t5: transformers cannot load it"):
        latency([tmp_path / "t5"])
    (tmp_path / "t5" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model.safetensors"):
        latency([tmp_path / "t5"])


def test_a_directory_is_not_taken_for_the_file_to_write(models, tmp_path):
    with pytest.raises(UserError, match=r"^--out .*: a directory; give a file, such as .*latency.json"):
        latency(models, out=tmp_path)
