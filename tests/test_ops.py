"""The array operations against the plain ones they stand for, in value, gradient and precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

from ctcd_jax.ops import dropout, gelu, layer_norm, linear, over_rows, product, random_bytes, sum_rows


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def assert_same(ours, plain, arguments, rtol=1e-5):
    """Value, and gradient of a sum with random weights."""

    def value_and_gradient(f):
        def loss(arguments):
            y = f(*arguments)
            return jnp.sum(y.astype(jnp.float32) * normal(99, *y.shape)), y

        return jax.jit(jax.grad(loss, has_aux=True))(arguments)

    for a, b in zip(*(jax.tree.leaves(value_and_gradient(f)) for f in (ours, plain)), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.linalg.norm(a - b) <= rtol * np.linalg.norm(b)


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-6), (jnp.bfloat16, 6e-3)])
def test_gelu(dtype, rtol):
    assert_same(gelu, lambda x: jax.nn.gelu(x, approximate=False), (3 * normal(0, 40, 50, dtype=dtype),), rtol)


def test_gelu_of_the_far_ends():
    x = jnp.asarray([-1e4, -20.0, -6.0, 0.0, 20.0, 1e4])
    np.testing.assert_allclose(gelu(x), [0, 0, 0, 0, 20, 1e4], atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), [0, 0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-5), (jnp.bfloat16, 6e-3)])
def test_layer_norm(dtype, rtol):
    def plain(x, scale, bias):
        x = x.astype(jnp.float32)
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return ((x - mean) / jnp.sqrt(variance + 1e-12) * scale + bias).astype(dtype)

    arguments = (5 + 2 * normal(0, 3, 7, 32, dtype=dtype), normal(1, 32), normal(2, 32))
    assert_same(lambda x, scale, bias: layer_norm(x, scale, bias, 1e-12, dtype), plain, arguments, rtol)


def test_layer_norm_of_a_large_mean_does_not_cancel():
    x = 1000 + normal(0, 4, 64)
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(layer_norm(x, jnp.ones(64), jnp.zeros(64), 1e-12, jnp.float32), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(jnp.float32, 1e-6), (jnp.bfloat16, 6e-3), (jnp.float16, 1e-3)], ids=["f32", "bf16", "f16"]
)
@pytest.mark.parametrize("keys", [6, 10])  # fewer than a head has dimensions, and more
@pytest.mark.parametrize("spec", ["bnqd,bnkd->bnqk", "bnqk,bnkd->bnqd"])
def test_product(spec, keys, dtype, rtol):
    sizes = {"b": 2, "n": 3, "q": 5, "k": keys, "d": 8}
    left, right = spec.split("->")[0].split(",")
    x, y = (normal(seed, *(sizes[letter] for letter in group), dtype=dtype) for seed, group in enumerate((left, right)))

    def plain(x, y):
        return jnp.einsum(spec, x.astype(jnp.float32), y.astype(jnp.float32))

    assert_same(lambda x, y: product(spec, x, y, jnp.float32), plain, (x, y), rtol)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("rows", [(6,), (3, 4)], ids=str)
def test_over_rows(dtype, rows):
    x, y = normal(0, *rows, 5, dtype=dtype), normal(1, *rows, 7, dtype=dtype)
    flat = (np.asarray(z, np.float32).reshape(-1, z.shape[-1]) for z in (x, y))
    total = jax.jit(over_rows)(x, y)
    np.testing.assert_allclose(total, np.einsum("rm,rn->mn", *flat), rtol=1e-5, atol=1e-5)
    # The transpose is what a tied head asks for, and where XLA's CPU backend may find no kernel.
    transposed = jax.jit(lambda x, y: over_rows(x, y).T + 0)(x, y)
    np.testing.assert_allclose(transposed, np.asarray(total).T, rtol=1e-6, atol=1e-6)
    grouped = jax.jit(lambda x, y: over_rows(x, y, groups=1))(x[None], y[None])
    np.testing.assert_allclose(grouped[0], total, rtol=1e-6, atol=1e-6)


def test_sum_rows():
    x = normal(0, 2, 300, 7)
    np.testing.assert_allclose(jax.jit(sum_rows)(x), np.asarray(x, np.float64).sum(axis=1), rtol=1e-5, atol=1e-5)


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
