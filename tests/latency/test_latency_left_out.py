"""`ctcd latency`: a model that cannot be run is left out, and the others are measured."""

import hashlib
import json
import re
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModel

from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.latency import latency, onnx_runtime
from ctcd_jax.latency.encoders import load_encoder, positions
from ctcd_jax.latency.onnx_runtime import TOLERANCE, check

SMALL = {"vocab_size": 18, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 64, "max_position_embeddings": 32}
FAMILIES = {
    "deberta-v2": SMALL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "squeezebert": SMALL | {"embedding_size": 32},
    "layoutlm": SMALL,
    "xlnet": {"vocab_size": 18, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64},
}
OPTIONS = {"batch_sizes": [1], "lengths": [8], "devices": ["cpu"], "rounds": 1}


def save(directory, family, **settings):
    AutoModel.from_config(AutoConfig.for_model(family, **settings)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def bros(tmp_path_factory):
    """A model that loads, and cannot be run on text alone."""
    return save(tmp_path_factory.mktemp("other") / "bros", "bros", **SMALL)


def test_families_with_ways_of_their_own_are_measured(models, tmp_path):
    others = [save(tmp_path / family, family, **settings) for family, settings in FAMILIES.items()]
    result = latency([models[0], *others], **OPTIONS, log=lambda _: None)
    assert [row["model"] for row in result["measurements"]] == ["teacher", *FAMILIES]
    assert "left_out" not in result
    assert positions(load_encoder(others[-1])) is None  # XLNet has no most


def test_a_pooler_that_is_taken_out_changes_nothing_else(tmp_path):
    directory = save(tmp_path / "squeezebert", "squeezebert", **FAMILIES["squeezebert"])
    whole, encoder = AutoModel.from_pretrained(directory).eval(), load_encoder(directory)
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(encoder(ids).last_hidden_state, whole(ids).last_hidden_state)
    count = sum(parameter.numel() for parameter in whole.parameters())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count - 32 * 32 - 32


def test_one_that_cannot_be_run_is_left_out_and_the_next_is_the_reference(models, bros, tmp_path, capsys):
    out = tmp_path / "latency.json"
    names = [part for directory in (bros, *models) for part in ("--model", str(directory))]
    options = ["--batch-size", "1", "--length", "8", "--rounds", "1"]
    assert main(["latency", *names, *options, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    reason = "it cannot be run (ValueError: You have to specify bbox)"
    assert written["left_out"] == [{"model": "bros", "runtime": None, "reason": reason}]
    assert written["reference"] == "teacher"
    assert [row["model"] for row in written["measurements"]] == ["teacher", "student"]
    assert written["measurements"][0]["speedup"] == 1
    assert capsys.readouterr().err.splitlines() == [
        f"WARNING: bros: left out: {reason}",
        "WARNING: the speed-ups are over teacher, for bros is left out",
    ]


def test_one_whose_weights_do_not_fit_its_config_is_left_out(models, tmp_path):
    save(tmp_path / "odd", "bert", **SMALL)
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    warned = []
    result = latency([*models, tmp_path / "odd"], **OPTIONS, log=lambda _: None, warn=warned.append)
    assert len(result["measurements"]) == 2
    assert [line.partition(": ")[0] for line in warned] == ["odd"]


def test_weights_that_are_no_numbers_and_layers_without_end_are_left_out(models, tmp_path):
    wild, endless = (shutil.copytree(models[0], tmp_path / name) for name in ("wild", "endless"))
    model = AutoModel.from_pretrained(wild)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7, 3] = torch.nan
    model.save_pretrained(wild)
    config = json.loads((endless / "config.json").read_text())
    (endless / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**7}))
    left_out = latency([models[0], wild, endless], log=lambda _: None, warn=lambda _: None, **OPTIONS)["left_out"]
    assert [entry["model"] for entry in left_out] == ["wild", "endless"]
    assert "1 of its arrays hold values that are not finite, the first: embeddings.word" in left_out[0]["reason"]
    assert "num_hidden_layers is 10000000" in left_out[1]["reason"]


def test_if_none_can_be_run_it_is_one_line(bros, tmp_path, capsys):
    other = save(tmp_path / "other", "bros", **SMALL)
    assert main(["latency", "--model", str(bros), "--model", str(other)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"ctcd latency: --model {bros}: it cannot be run (ValueError: You have to specify bbox); "
        "1 more cannot be measured either"
    )


def test_without_the_reference_in_a_runtime_there_are_no_speed_ups(models, monkeypatch):
    compiled, warned, lines = [], [], []
    monkeypatch.setattr(torch, "compile", lambda encoder, **_: compiled.append(encoder) or encoder)
    monkeypatch.setattr("ctcd_jax.latency.runtimes.check_compiler", lambda device: None)
    monkeypatch.setattr("ctcd_jax.latency.runtimes._compile", lambda name, call: 1 // (name != "teacher"))
    result = latency(models, **OPTIONS, runtimes=["eager", "compile"], log=lines.append, warn=warned.append)
    assert [(row["runtime"], row["model"], row["speedup"] is None) for row in result["measurements"]] == [
        ("eager", "teacher", False),
        ("eager", "student", False),
        ("compile", "student", True),
    ]
    assert [(entry["model"], entry["runtime"]) for entry in result["left_out"]] == [("teacher", "compile")]
    assert warned[0].startswith("teacher: left out of compile: it cannot be run (ZeroDivisionError")
    assert "setting 2 of 2: no speed-ups, for teacher is left out of compile" in lines


# ONNX.


class Shifted:
    """A session whose outputs are off by one at padding, and by `tokens` elsewhere."""

    def __init__(self, encoder, tokens):
        self.encoder, self.tokens = encoder, tokens

    def get_inputs(self):
        return [type("Input", (), {"name": name}) for name in ("input_ids", "attention_mask")]

    def run(self, _, inputs):
        given = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.inference_mode():
            hidden = self.encoder(**given).last_hidden_state
        shift = torch.where(given["attention_mask"] == 1, self.tokens, 1.0)
        return [(hidden + shift[..., None]).numpy()]


def test_what_stands_at_padding_is_not_compared(models):
    encoder = load_encoder(models[0])
    assert check("teacher", encoder, Shifted(encoder, 0.0), [(4, 8)]) == 0
    with pytest.raises(UserError, match=r"differs from PyTorch's by 2\.0e-03"):
        check("teacher", encoder, Shifted(encoder, 2 * TOLERANCE), [(4, 8)])


def test_a_model_that_cannot_be_exported_is_left_out_of_onnx_alone(models, tmp_path, monkeypatch):
    def export(name, encoder, path):
        if name == "teacher":
            raise UserError(f"--runtime onnx: {name} cannot be exported to ONNX (\x1b[96mno\x1b[0m)")
        path.write_bytes(b"a graph")

    monkeypatch.setattr("ctcd_jax.latency.measure.require_onnx", lambda: None)
    monkeypatch.setattr(onnx_runtime, "export", export)
    monkeypatch.setattr(onnx_runtime, "session", lambda path, threads=1: path)
    monkeypatch.setattr(onnx_runtime, "check", lambda *_: 1e-6)
    monkeypatch.setattr(onnx_runtime, "onnx_calls", lambda files, *_: {name: lambda: None for name in files})
    keep, warned = tmp_path / "new" / "kept", []
    result = latency(
        models, **OPTIONS, runtimes=["onnx", "eager"], keep_onnx=keep, log=lambda _: None, warn=warned.append
    )
    digest = hashlib.sha256(b"a graph").hexdigest()
    assert result["onnx_files"] == {"student": {"file": str(keep / "student.onnx"), "sha256": digest}}
    assert [path.name for path in keep.iterdir()] == ["student.onnx"]
    assert warned == ["teacher: left out of onnx: teacher cannot be exported to ONNX (no)"]
    assert [(row["runtime"], row["model"]) for row in result["measurements"]] == [
        ("eager", "teacher"),
        ("eager", "student"),
        ("onnx", "student"),
    ]


def test_there_is_no_onnx_file_to_keep_without_onnx(models, tmp_path, capsys):
    line = ["latency", "--model", str(models[0]), "--keep-onnx", str(tmp_path / "kept")]
    assert main(line) == 2
    assert re.search(r"--keep-onnx .*kept: needs --runtime onnx", capsys.readouterr().err)
    assert not (tmp_path / "kept").exists()


def test_memory_that_gives_out_is_no_fault_of_the_model(models, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("ctcd_jax.latency.running.time_rounds", fail)
    with pytest.raises(UserError, match="--batch-size 1, --length 8: too much for the memory; give less"):
        latency(models, **OPTIONS, log=lambda _: None)
