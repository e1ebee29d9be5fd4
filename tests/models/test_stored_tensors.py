"""Checkpoints as people have them: in shards, in pickles, without a head, under older names. Each is written by PyTorch
and transformers, and compared with what these compute."""

import json
import os
import pickle

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel

from ctcd_jax.errors import UserError
from ctcd_jax.models import BertForMaskedLM as OurBert
from ctcd_jax.models.huggingface import load_pretrained, read_pretrained

SIZES = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
SIZES |= {"intermediate_size": 40, "max_position_embeddings": 20, "num_labels": 3}
IDS = np.random.default_rng(0).integers(1, 61, (3, 11))
TOLERANCE = 1e-4


def theirs(kind, seed=0):
    """A model with random values everywhere: zeros would hide a tensor that was not read."""
    torch.manual_seed(seed)
    model = kind(BertConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def logits(read):
    return np.asarray(OurBert(read.shape).apply({"params": read.params}, IDS, np.ones_like(IDS)))


def their_logits(model):
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(IDS.shape).long()).logits.numpy()


def in_shards(model, directory):
    model.save_pretrained(directory, max_shard_size="8KB")
    assert len(list(directory.glob("model-*-of-*.safetensors"))) > 2
    assert not (directory / "model.safetensors").exists()


def in_a_pickle(model, directory, **options):
    model.config.save_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin", **options)


def in_an_old_pickle(model, directory):
    """As PyTorch wrote it before 1.6, and as BERT's own checkpoints on the hub still are."""
    in_a_pickle(model, directory, _use_new_zipfile_serialization=False)


def in_shards_of_pickles(model, directory):
    model.config.save_pretrained(directory)
    tensors = model.state_dict()
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    places = {name: names[number % 2] for number, name in enumerate(tensors)}
    for file in names:
        torch.save({name: value for name, value in tensors.items() if places[name] == file}, directory / file)
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def wrapped(model, directory):
    """The state of a `DataParallel` model."""
    model.config.save_pretrained(directory)
    torch.save(torch.nn.DataParallel(model).state_dict(), directory / "pytorch_model.bin")


@pytest.mark.parametrize("write", [in_shards, in_a_pickle, in_an_old_pickle, in_shards_of_pickles, wrapped])
def test_weights_are_read_from_whatever_files_they_lie_in(tmp_path, write):
    model = theirs(BertForMaskedLM)
    write(model, tmp_path)
    read = read_pretrained(tmp_path)
    assert (read.fresh_head, read.left_out) == (False, ())
    np.testing.assert_allclose(logits(read), their_logits(model), atol=TOLERANCE)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], read.params)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("write", [in_shards, in_a_pickle])
def test_half_precision_becomes_float32_of_the_same_values(tmp_path, dtype, write):
    model = theirs(BertForMaskedLM).to(dtype)
    write(model, tmp_path)
    read = read_pretrained(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(read.params)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(logits(read), their_logits(model.float()), atol=TOLERANCE)


POOLER = ("bert.pooler.dense.bias", "bert.pooler.dense.weight")


def plain(model, directory):
    model.save_pretrained(directory)


def with_numbered_positions(model, directory):
    """As transformers before 4.31 saved them: numbers that nobody has learnt."""
    plain(model, directory)
    tensors = load_file(directory / "model.safetensors")
    prefix = "bert." * any(name.startswith("bert.") for name in tensors)
    save_file(tensors | {f"{prefix}embeddings.position_ids": np.arange(20)[None]}, directory / "model.safetensors")


@pytest.mark.parametrize("write", [plain, with_numbered_positions, in_shards, in_a_pickle, wrapped])
@pytest.mark.parametrize(
    ("kind", "left_out"),
    [(BertModel, POOLER), (BertForSequenceClassification, (*POOLER, "classifier.bias", "classifier.weight"))],
)
def test_an_encoder_without_an_mlm_head_is_given_one_that_keeps_its_states(tmp_path, kind, left_out, write):
    """The logits by hand: GELU of the last states, normalised, against the word embeddings."""
    model = theirs(kind)
    write(model, tmp_path)
    read = read_pretrained(tmp_path)
    assert (read.fresh_head, read.left_out) == (True, left_out)
    encoder = getattr(model, "bert", model)
    with torch.no_grad():
        states = encoder(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(IDS.shape).long())
        states = torch.nn.functional.gelu(states.last_hidden_state)
        states = torch.nn.functional.layer_norm(states, (24,), eps=model.config.layer_norm_eps)
        expected = states @ encoder.embeddings.word_embeddings.weight.T
    np.testing.assert_allclose(logits(read), expected.numpy(), atol=TOLERANCE)
    with pytest.raises(UserError, match="no MLM head"):
        load_pretrained(tmp_path)


def test_what_pretraining_has_beside_the_mlm_head_is_named(tmp_path):
    model = theirs(BertForPreTraining)
    model.save_pretrained(tmp_path)
    read = read_pretrained(tmp_path)
    assert (read.fresh_head, read.left_out[:2]) == (False, POOLER)
    assert read.left_out[2:] == ("cls.seq_relationship.bias", "cls.seq_relationship.weight")
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(IDS.shape).long())
    np.testing.assert_allclose(logits(read), expected.prediction_logits.numpy(), atol=TOLERANCE)


def test_older_names_without_a_prefix_are_understood(tmp_path):
    model = theirs(BertModel)
    model.config.save_pretrained(tmp_path)
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, value in model.state_dict().items():
        for today, before in older.items():
            name = name.replace(today, before)
        tensors[name] = value
    assert sum("gamma" in name for name in tensors) == 5
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    model.save_pretrained(tmp_path / "today")
    jax.tree.map(np.testing.assert_array_equal, read_pretrained(tmp_path).params,
                 read_pretrained(tmp_path / "today").params)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "state_dict": {}}, "'epoch' is a int, not tensors by name; write the model with save_pretrained"),
        (torch.zeros(3), "a Tensor, not tensors by name"),
        ({"embeddings.word_embeddings.weight": torch.zeros(2, 3)}, r"no tensor 'bert\.embeddings\.position_emb"),
        ({"bert.embeddings.word_embeddings.weight": torch.zeros(2).int()}, r"is int32; quantised weights are not"),
    ],
)
def test_a_pickle_of_something_else_is_one_line(tmp_path, content, said):
    BertConfig(**SIZES).save_pretrained(tmp_path)
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=rf"^{tmp_path}/pytorch_model\.bin: .*({said})") as caught:
        read_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pickle_of_code_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    BertConfig(**SIZES).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Code()}, protocol=2))
    with pytest.raises(UserError, match=r"pytorch_model\.bin: damaged") as caught:
        read_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_a_missing_shard_and_pytorch_are_named(tmp_path, monkeypatch):
    in_shards(theirs(BertForMaskedLM), tmp_path)
    shard = sorted(tmp_path.glob("model-*"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=rf"^{shard}: no such file, though model\.safetensors\.index\.json names it"):
        read_pretrained(tmp_path)
    in_a_pickle(theirs(BertForMaskedLM), tmp_path / "pickle")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"torch is not installed, which reads this file; run: pip install"):
        read_pretrained(tmp_path / "pickle")
