"""The model by itself: segments, positions, dropout, rematerialisation."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.models import BertConfig, BertForMaskedLM
from ctcd_jax.models.bert import segment_starts
from ctcd_jax.models.registry import sown_features

CONFIG = BertConfig(vocab_size=97, layers=2, hidden=24, heads=3, intermediate=40, max_positions=32)


@cache
def init():
    ids = jnp.ones((1, 4), jnp.int32)
    return jax.jit(BertForMaskedLM(CONFIG).init)(jax.random.key(0), ids, ids)["params"]


def packed_row():
    ids = jnp.asarray([[2, 10, 11, 12, 3, 2, 20, 21, 3, 2, 30, 31, 32, 33, 3, 0]])
    segments = jnp.asarray([[1] * 5 + [2] * 4 + [3] * 6 + [0]])
    return ids, segments


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_packed_sentences_do_not_see_each_other(dtype):
    ids, segments = packed_row()
    variables = {"params": init()}
    apply = jax.jit(lambda ids: BertForMaskedLM(CONFIG, dtype).apply(variables, ids, ids != 0, segments))
    before, after = apply(ids), apply(ids.at[0, 6:8].set(jnp.asarray([55, 66])))
    same = np.asarray(segments[0] != 2) & np.asarray(segments[0] != 0)
    np.testing.assert_array_equal(before[0, same], after[0, same])
    assert np.abs(np.asarray(before - after)[0, 5:9]).max() > 1e-4


def test_a_packed_sentence_is_computed_as_if_it_were_alone():
    ids, segments = packed_row()
    apply, variables = jax.jit(BertForMaskedLM(CONFIG).apply), {"params": init()}
    together = apply(variables, ids, ids != 0, segments)
    for begin, end in ((0, 5), (5, 9), (9, 15)):
        alone = apply(variables, ids[:, begin:end], jnp.ones((1, end - begin)))
        np.testing.assert_allclose(together[:, begin:end], alone, atol=1e-6)


def test_segment_starts():
    segments = jnp.asarray([[1, 1, 2, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    expected = [[0, 0, 2, 2, 2, 5, 6, 6], [0] * 8]
    np.testing.assert_array_equal(segment_starts(segments), expected)


def test_outputs_are_the_logits_at_the_chosen_positions():
    ids, segments = packed_row()
    model, variables = BertForMaskedLM(CONFIG), {"params": init()}
    positions = jnp.asarray([[7, 1, 1, 13]])
    hidden, kernel, bias = model.apply(variables, ids, ids != 0, segments, positions, method="outputs")
    logits = model.apply(variables, ids, ids != 0, segments)
    np.testing.assert_allclose(hidden @ kernel + bias, logits[:, positions[0]], atol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
def test_features_are_kept_on_demand_by_the_path_at_which_they_are_sown(remat):
    ids, segments = packed_row()
    model, params = BertForMaskedLM(CONFIG, remat=remat), init()
    arguments = ({"params": params}, ids, ids != 0, segments)
    encoded, sown = model.apply(*arguments, method="encode", mutable=["intermediates"])
    names = ("hidden_1", "hidden_2", "layer_1/attention/queries")
    features = sown_features(sown, names)
    np.testing.assert_array_equal(features["hidden_2"], encoded)
    query = params["layer_1"]["attention"]["query"]
    expected = features["hidden_1"] @ query["kernel"] + query["bias"]
    np.testing.assert_allclose(features["layer_1/attention/queries"], expected.reshape(1, 16, 3, 8), atol=1e-6)
    assert sown_features(model.apply(*arguments, method="encode", mutable=[])[1], ()) == {}
    with pytest.raises(ValueError, match=r"no feature 'hiden_2' \(did you mean 'hidden_2'"):
        sown_features(sown, ("hiden_2",))


def test_a_row_of_padding_is_finite():
    ids = jnp.zeros((1, 8), jnp.int32)
    assert np.isfinite(jax.jit(BertForMaskedLM(CONFIG).apply)({"params": init()}, ids, ids, ids)).all()


def test_too_long_a_row_is_refused():
    ids = jnp.ones((1, 33), jnp.int32)
    with pytest.raises(ValueError, match="33 tokens, but the model has 32 positions"):
        BertForMaskedLM(CONFIG).apply({"params": init()}, ids, ids)


def test_dropout_only_when_asked():
    ids, segments = packed_row()
    model, variables = BertForMaskedLM(CONFIG), {"params": init()}

    @jax.jit
    def logits(key):
        return model.apply(variables, ids, ids, segments, deterministic=False, rngs={"dropout": jax.random.key(key)})

    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(np.asarray(logits(1) - logits(2))).max() > 1e-3


def test_remat_changes_memory_and_nothing_else():
    ids, segments = (jnp.tile(x, (64, 1)) for x in packed_row())
    variables, results, memory = {"params": init()}, [], []
    for remat in (False, True):
        model = BertForMaskedLM(CONFIG, remat=remat)

        def loss(variables, model=model):
            rngs = {"dropout": jax.random.key(0)}
            return model.apply(variables, ids, ids, segments, deterministic=False, rngs=rngs).var()

        program = jax.jit(jax.value_and_grad(loss)).lower(variables).compile()
        results.append(program(variables))
        memory.append(jax.make_jaxpr(jax.grad(loss))(variables).pretty_print().count(" erf "))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *results)
    assert memory[1] == memory[0] + CONFIG.layers


def test_parameters_are_those_of_earlier_checkpoints():
    names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(init())}
    layer = {f"attention/{name}/{part}" for name in ("query", "key", "value", "output") for part in ("kernel", "bias")}
    layer |= {f"{name}/{part}" for name in ("up", "down") for part in ("kernel", "bias")}
    layer |= {f"{name}/{part}" for name in ("attention_norm", "norm") for part in ("scale", "bias")}
    embeddings = {f"embeddings/{name}" for name in ("word", "position", "token_type", "norm/scale", "norm/bias")}
    head = {"head/transform/kernel", "head/transform/bias", "head/norm/scale", "head/norm/bias", "head/bias"}
    assert names == embeddings | head | {f"layer_{number}/{name}" for number in (0, 1) for name in layer}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"hidden \(24\) must be divisible by heads \(5\)"),
        ({"layers": 0}, "layers is 0; it must be a whole number at least 1"),
        ({"dropout": 1.0}, r"^dropout is 1.0; it must be a number at least 0 and below 1"),
    ],
)
def test_an_impossible_shape_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**(vars(CONFIG) | change))
