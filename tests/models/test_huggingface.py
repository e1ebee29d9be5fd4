"""Parity with Hugging Face's BertForMaskedLM, in both directions, and every way a checkpoint can be unusable."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSequenceClassification
from transformers import BertConfig as TheirConfig
from transformers import BertForMaskedLM as TheirModel

from ctcd_jax.errors import UserError
from ctcd_jax.models import BertConfig, BertForMaskedLM
from ctcd_jax.models.huggingface import load_pretrained, parity, save_pretrained

SHAPES = [
    BertConfig(vocab_size=100, layers=2, hidden=32, heads=4, intermediate=64, max_positions=32),
    BertConfig(vocab_size=103, layers=3, hidden=30, heads=5, intermediate=77, max_positions=17, token_types=1),
    BertConfig(vocab_size=31, layers=1, hidden=7, heads=1, intermediate=5, max_positions=40, token_types=3),
    BertConfig(vocab_size=501, layers=6, hidden=128, heads=2, intermediate=512, max_positions=64),
]
# Two of them, odd sizes and those of `tiny`, in every run of the tests.
QUICK_FIRST = [shape if shape in SHAPES[1::2] else pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES]
TOLERANCE = 1e-4


def batch(config, seed=0):
    """Rows of every length, padded with id 0."""
    rng = np.random.default_rng(seed)
    length = min(17, config.max_positions)
    ids = rng.integers(1, config.vocab_size, (5, length))
    for row, keep in enumerate((length, 1, 3, length - 1, length // 2)):
        ids[row, keep:] = 0
    return ids


def random_params(config, seed=1):
    """Every leaf random, biases and LayerNorms too: zeros would hide a swapped tensor."""
    ids = jnp.ones((1, 2), jnp.int32)
    params = BertForMaskedLM(config).init(jax.random.key(seed), ids, ids)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def their_model(config, seed=2):
    torch.manual_seed(seed)
    model = TheirModel(
        TheirConfig(
            vocab_size=config.vocab_size,
            num_hidden_layers=config.layers,
            hidden_size=config.hidden,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate,
            max_position_embeddings=config.max_positions,
            type_vocab_size=config.token_types,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("config", QUICK_FIRST, ids=lambda c: f"{c.layers}x{c.hidden}")
def test_export_gives_the_same_logits(config, tmp_path):
    params = random_params(config)
    save_pretrained(tmp_path, config, params)
    assert parity(tmp_path, config, params, batch(config), pad_id=0) <= TOLERANCE
    params["layer_0"]["up"]["kernel"] = params["layer_0"]["up"]["kernel"].at[0, 0].add(1.0)
    assert parity(tmp_path, config, params, batch(config), pad_id=0) > TOLERANCE


@pytest.mark.parametrize("config", QUICK_FIRST, ids=lambda c: f"{c.layers}x{c.hidden}")
def test_import_gives_the_same_logits(config, tmp_path):
    theirs = their_model(config)
    theirs.save_pretrained(tmp_path)
    loaded, params = load_pretrained(tmp_path)
    assert loaded == config
    ids = batch(config)
    types = np.random.default_rng(3).integers(0, config.token_types, ids.shape)
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(ids != 0).long(),
            token_type_ids=torch.from_numpy(types),
        ).logits.numpy()
    ours = BertForMaskedLM(loaded).apply({"params": params}, ids, ids != 0, token_type_ids=types)
    np.testing.assert_allclose(np.asarray(ours)[ids != 0], expected[ids != 0], atol=TOLERANCE)


def test_round_trip_is_exact(tmp_path):
    config = SHAPES[1]
    params = random_params(config)
    save_pretrained(tmp_path, config, params)
    loaded_config, loaded = load_pretrained(tmp_path)
    assert loaded_config == config
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_no_weight_is_missing_or_left_over(tmp_path):
    save_pretrained(tmp_path, SHAPES[0], random_params(SHAPES[0]))
    _, masked = TheirModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not masked["missing_keys"]
    assert not masked["unexpected_keys"]
    _, classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in classifier["missing_keys"]} <= {"classifier", "bert"}
    assert {key for key in classifier["missing_keys"] if key.startswith("bert")} <= {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }


def test_the_names_of_the_original_release_are_understood(tmp_path):
    config = SHAPES[0]
    params = random_params(config)
    save_pretrained(tmp_path, config, params)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in tensors.items()}  # fmt: skip
    save_file(old, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)


def test_bfloat16_checkpoints_load(tmp_path):
    their_model(SHAPES[0]).to(torch.bfloat16).save_pretrained(tmp_path)
    _, params = load_pretrained(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_a_decoder_under_its_own_name_is_understood_if_it_is_tied(tmp_path):
    """As older versions of transformers saved it, whatever the config says."""
    save_pretrained(tmp_path, SHAPES[0], params := random_params(SHAPES[0]))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    tensors["bert.embeddings.position_ids"] = np.arange(32)[None]
    tensors["cls.seq_relationship.bias"] = np.zeros(2, np.float32)
    tensors["classifier.bias"] = np.zeros(3, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    _edit_config(tie_word_embeddings=False)(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)


def test_an_untied_decoder_is_refused_because_its_logits_would_differ(tmp_path):
    config = SHAPES[0]
    save_pretrained(tmp_path, config, random_params(config))
    model = TheirModel(TheirConfig.from_pretrained(tmp_path, tie_word_embeddings=False))
    model.save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"'cls\.predictions\.decoder\.weight' is not 'bert\.embeddings\.word_embeddings"
    ):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("pad_id", [0, 3, None])
def test_the_padding_id_that_fine_tuning_passes_over_is_the_tokenizers(tmp_path, pad_id):
    save_pretrained(tmp_path, SHAPES[0], random_params(SHAPES[0]), pad_id)
    assert TheirModel.from_pretrained(tmp_path).bert.embeddings.word_embeddings.padding_idx == pad_id


def _edit_config(**changes):
    def edit(directory):
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def _edit_tensors(change):
    def edit(directory):
        tensors = load_file(directory / "model.safetensors")
        save_file(change(tensors), directory / "model.safetensors")

    return edit


def _drop_head(directory):
    _edit_tensors(lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("cls")})(directory)


def _drop_transform(directory):
    _edit_tensors(lambda tensors: {k: v for k, v in tensors.items() if "transform.dense" not in k})(directory)


def _other_format(name):
    def edit(directory):
        (directory / "model.safetensors").rename(directory / name)

    return edit


BIAS = "cls.predictions.bias"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 4\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit_config(model_type="roberta"), "model_type is 'roberta'"),
        (_edit_config(hidden_act="relu"), "hidden_act is 'relu'"),
        (_edit_config(num_attention_heads=5), r"hidden \(32\) must be divisible by heads \(5\)"),
        (_edit_config(vocab_size=99), r"embeddings/word has shape \(100, 32\)"),
        (_edit_config(num_hidden_layers=3), "no tensor 'bert.encoder.layer.2"),
        (_drop_head, r"no MLM head; train a member that starts from it, members\.NAME\.init=hf:"),
        (_drop_transform, "no tensor 'cls.predictions.transform.dense.weight'; a BERT of 2 layers is needed"),
        (_drop_transform, r"this one has bert\.embeddings, bert\.encoder, cls\.predictions$"),
        (_edit_config(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key', but only"),
        (_edit_config(is_decoder=True), "is_decoder is True, but only False is supported"),
        (_edit_config(add_cross_attention=True), "add_cross_attention is True"),
        (_edit_config(pruned_heads={"1": [0]}), "pruned_heads is"),
        (_edit_config(quantization_config={"quant_method": "gptq"}), "quantization_config is"),
        (_edit_config(hidden_size="x"), "hidden_size is 'x'; it must be a whole number at least 1"),
        (_edit_config(layer_norm_eps=0), "layer_norm_eps is 0; it must be a number above 0"),
        (_edit_config(hidden_dropout_prob=float("nan")), "hidden_dropout_prob is nan"),
        (_edit_config(num_hidden_layers=1), r"tensor 'bert\.encoder\.layer\.1.* has no place in a BERT of 1 layers"),
        (_edit_config(tie_word_embeddings=False), "tie_word_embeddings is false in config.json, but there is no"),
        (
            _edit_tensors(lambda t: t | {"cls.predictions.decoder.bias": t[BIAS] + 1}),
            rf"decoder\.bias' is not '{BIAS}'",
        ),
        (_edit_tensors(lambda t: t | {BIAS: t[BIAS] * np.float32("nan")}), f"'{BIAS}' has values that are not finite"),
        (_edit_tensors(lambda t: t | {BIAS: t[BIAS].astype(np.int8)}), f"'{BIAS}' is int8; quantised"),
        (_other_format("pytorch_model.bin"), r"pytorch_model\.bin: damaged"),
        (_other_format("tf_model.h5"), r"no model\.safetensors, nor shards of it, nor pytorch_model\.bin"),
        (lambda d: (d / "model.safetensors").write_bytes(POINTER), "a Git LFS pointer, not the weights; run `git lfs"),
        (lambda d: (d / "model.safetensors").write_bytes(b"nonsense"), "not a readable safetensors file"),
        (lambda d: (d / "model.safetensors").unlink(), r"no model\.safetensors, nor shards"),
        (lambda d: (d / "config.json").unlink(), "no such file"),
    ],
)
def test_an_unusable_checkpoint_is_one_line(tmp_path, damage, message):
    save_pretrained(tmp_path, SHAPES[0], random_params(SHAPES[0]))
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        load_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
