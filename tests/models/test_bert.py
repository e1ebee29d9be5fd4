"""The model by itself: segments, positions, dropout, gradients in low precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

from ctcd_jax.models import BertConfig, BertForMaskedLM
from ctcd_jax.models.bert import segment_starts
from ctcd_jax.ops import dropout, linear, random_bytes

CONFIG = BertConfig(vocab_size=97, layers=2, hidden=24, heads=3, intermediate=40, max_positions=32)


def init(config=CONFIG, seed=0):
    ids = jnp.ones((1, 4), jnp.int32)
    return BertForMaskedLM(config).init(jax.random.key(seed), ids, ids)["params"]


def packed_row():
    ids = jnp.asarray([[2, 10, 11, 12, 3, 2, 20, 21, 3, 2, 30, 31, 32, 33, 3, 0]])
    segments = jnp.asarray([[1] * 5 + [2] * 4 + [3] * 6 + [0]])
    return ids, segments


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_packed_sentences_do_not_see_each_other(dtype):
    ids, segments = packed_row()
    apply = jax.jit(lambda ids: BertForMaskedLM(CONFIG, dtype).apply({"params": init()}, ids, ids != 0, segments))
    before, after = apply(ids), apply(ids.at[0, 6:8].set(jnp.asarray([55, 66])))
    same = np.asarray(segments[0] != 2) & np.asarray(segments[0] != 0)
    np.testing.assert_array_equal(before[0, same], after[0, same])
    assert np.abs(np.asarray(before - after)[0, 5:9]).max() > 1e-4


def test_a_packed_sentence_is_computed_as_if_it_were_alone():
    ids, segments = packed_row()
    model, variables = BertForMaskedLM(CONFIG), {"params": init()}
    together = model.apply(variables, ids, ids != 0, segments)
    for begin, end in ((0, 5), (5, 9), (9, 15)):
        alone = model.apply(variables, ids[:, begin:end], jnp.ones((1, end - begin)))
        np.testing.assert_allclose(together[:, begin:end], alone, atol=1e-6)


def test_segment_starts():
    segments = jnp.asarray([[1, 1, 2, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    expected = [[0, 0, 2, 2, 2, 5, 6, 6], [0] * 8]
    np.testing.assert_array_equal(segment_starts(segments), expected)


def test_signals_are_the_logits_at_the_chosen_positions():
    ids, segments = packed_row()
    model, variables = BertForMaskedLM(CONFIG), {"params": init()}
    positions = jnp.asarray([[7, 1, 1, 13]])
    hidden, kernel, bias = model.apply(variables, ids, ids != 0, segments, positions, method="signals")
    logits = model.apply(variables, ids, ids != 0, segments)
    np.testing.assert_allclose(hidden @ kernel + bias, logits[:, positions[0]], atol=1e-5)


def test_a_row_of_padding_is_finite():
    ids = jnp.zeros((1, 8), jnp.int32)
    assert np.isfinite(BertForMaskedLM(CONFIG).apply({"params": init()}, ids, ids, ids)).all()


def test_too_long_a_row_is_refused():
    ids = jnp.ones((1, 33), jnp.int32)
    with pytest.raises(ValueError, match="33 tokens, but the model has 32 positions"):
        BertForMaskedLM(CONFIG).apply({"params": init()}, ids, ids)


def test_dropout_only_when_asked():
    ids, segments = packed_row()
    model, variables = BertForMaskedLM(CONFIG), {"params": init()}

    def logits(key):
        return model.apply(variables, ids, ids, segments, deterministic=False, rngs={"dropout": jax.random.key(key)})

    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(np.asarray(logits(1) - logits(2))).max() > 1e-3


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("last", [7, 8])
def test_dropout_keeps_the_expectation(rate, last):
    x = jnp.ones((400, 50, last))
    y = np.asarray(dropout(jax.random.key(0), x, rate))
    keep = round((1 - rate) * 256)
    assert set(np.unique(y)) == {0.0, np.float32(256 / keep)}
    # Five standard errors of the mean of n Bernoulli draws; and neighbours, which share a random word, are independent.
    real = 1 - keep / 256
    assert abs(real - rate) <= 1 / 512
    assert abs(y.mean() - 1) < 5 * np.sqrt(real / (1 - real) / y.size)
    dropped = y == 0
    assert abs((dropped[..., 0] & dropped[..., 1]).mean() - real**2) < 5 * real / np.sqrt(dropped[..., 0].size)


def test_random_bytes_are_threefrys():
    """Bit for bit the cipher that JAX's own generator is made of, on JAX's own implementation."""
    key = jax.random.key(7)
    index = jnp.arange(6 * 5 * 3, dtype=jnp.uint32)
    words = np.stack(threefry2x32_p.bind(*jax.random.key_data(key), jnp.zeros_like(index), index), axis=-1)
    expected = words.view(np.uint8).reshape(6, 5, 24)[..., :19]
    np.testing.assert_array_equal(random_bytes(key, (6, 5, 19)), expected)


def test_random_bytes_are_uniform():
    counts = np.bincount(np.asarray(random_bytes(jax.random.key(1), (64, 64, 256))).ravel(), minlength=256)
    chi_squared = ((counts - 4096) ** 2 / 4096).sum()
    assert 160 < chi_squared < 360  # 255 degrees of freedom: outside once in 100,000 keys


def test_linear_has_the_gradients_of_the_plain_product():
    key = jax.random.split(jax.random.key(0), 4)
    x, kernel = jax.random.normal(key[0], (3, 5, 7)), jax.random.normal(key[1], (7, 11))
    bias, weight = jax.random.normal(key[2], (11,)), jax.random.normal(key[3], (3, 5, 11))

    def loss(f):
        return jax.value_and_grad(lambda *args: jnp.sum(weight * jnp.tanh(f(*args))), argnums=(0, 1, 2))(
            x, kernel, bias
        )

    ours, plain = loss(lambda *a: linear(*a, jnp.float32)), loss(lambda x, k, b: x @ k + b)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


def test_low_precision_keeps_float32_gradients_of_the_parameters():
    x, kernel, bias = jnp.ones((4096, 8), jnp.bfloat16), jnp.ones((8, 8)), jnp.zeros(8)
    dkernel, dbias = jax.grad(lambda k, b: linear(x, k, b, jnp.float32).sum(), argnums=(0, 1))(kernel, bias)
    # A running sum in bfloat16 would stop at 256.
    assert dkernel.dtype == dbias.dtype == jnp.float32
    np.testing.assert_array_equal(dbias, 4096.0)
    np.testing.assert_array_equal(dkernel, 4096.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"hidden \(24\) must be divisible by heads \(5\)"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_an_impossible_shape_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**(vars(CONFIG) | change))
