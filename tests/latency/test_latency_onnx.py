"""ONNX Runtime: one exported file for all shapes, the outputs of PyTorch, or one line that says why not."""

import hashlib
import importlib.util
import json

import numpy as np
import pytest
import torch

from ctcd_jax.errors import UserError
from ctcd_jax.latency import latency
from ctcd_jax.latency.encoders import load_encoder
from ctcd_jax.latency.onnx_runtime import check, padded_batch, session

has_onnx = all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not has_onnx, reason="the onnx extra is not installed")


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    from ctcd_jax.latency.onnx_runtime import export

    path = tmp_path_factory.mktemp("onnx") / "teacher.onnx"
    export("teacher", load_encoder(models[0]), path)
    return path


@needs_onnx
def test_one_onnx_file_serves_every_batch_size_and_length_with_padding(models, exported):
    encoder = load_encoder(models[0])
    for shape in ((1, 1), (1, 32), (7, 9), (32, 32)):
        ids, mask = padded_batch(encoder, *shape)
        with torch.inference_mode():
            expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        (found,) = session(exported).run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-5)
        tokens = [abs(found - expected)[place] for place in zip(*np.nonzero(mask.numpy()), strict=True)]
        assert check("teacher", encoder, session(exported), [shape]) == np.max(tokens)


@needs_onnx
def test_outputs_that_differ_from_pytorchs_are_refused(models, exported):
    encoder = load_encoder(models[0])
    with torch.no_grad():
        encoder.encoder.layer[1].output.LayerNorm.bias[3] += 0.01
    with pytest.raises(UserError, match=r"^--runtime onnx: the last hidden state of teacher differs .* by 1.0e-02"):
        check("teacher", encoder, session(exported), [(2, 8)])
    with torch.no_grad():
        encoder.encoder.layer[1].output.LayerNorm.bias[3] = float("nan")
    with pytest.raises(UserError, match=r"by nan, more than"):
        check("teacher", encoder, session(exported), [(2, 8)])


@needs_onnx
def test_a_session_has_the_threads_of_the_setting(exported):
    assert session(exported, threads=2).get_session_options().intra_op_num_threads == 2


@needs_onnx
def test_onnx_is_measured_and_the_file_that_was_checked_is_kept_with_its_difference(models, tmp_path):
    out, kept = tmp_path / "latency.json", tmp_path / "onnx" / "student.onnx"
    options = {"runtimes": ["onnx"], "devices": ["cpu"], "batch_sizes": [2, 1], "lengths": [8], "threads": [1, 2]}
    latency(models[1:], out=out, rounds=2, keep_onnx=kept.parent, log=print, **options)
    written = json.loads(out.read_text())
    assert [(row["runtime"], row["threads"], row["batch_size"]) for row in written["measurements"]] == [
        ("onnx", 1, 2),
        ("onnx", 1, 1),
        ("onnx", 2, 2),
        ("onnx", 2, 1),
    ]
    assert list(written["onnx_differences"]) == ["student"]
    assert 0 < written["onnx_differences"]["student"] < 1e-5
    assert written["onnx_files"] == {
        "student": {"file": str(kept), "sha256": hashlib.sha256(kept.read_bytes()).hexdigest()}
    }
    shapes = [(2, 8), (1, 8)]
    assert check("student", load_encoder(models[1]), session(kept), shapes) == written["onnx_differences"]["student"]


def test_the_batch_outputs_are_compared_on_is_padded(models):
    ids, mask = padded_batch(load_encoder(models[0]), 4, 8)
    assert mask.tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
    ]
    assert torch.equal(ids == 0, mask == 0)


def test_a_package_that_is_not_installed_is_named_with_the_extra(models, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxruntime" else find(name, *a))
    with pytest.raises(UserError, match=r"^--runtime onnx: onnxruntime is not .*: pip install 'ctcd-jax\[onnx\]'$"):
        latency(models, runtimes=["onnx"], devices=["cpu"])
