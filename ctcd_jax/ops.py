"""The array operations whose plain form is slow, or inexact in low precision. Everything else is ordinary JAX."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the dtype in which sums of products of `dtype` are kept: (at least) float32."""
    return jnp.promote_types(dtype, jnp.float32)


def _linear(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns `x @ kernel + bias` as `dtype`[..., out].

    The product is taken in x's dtype and accumulated in (at least) float32, forward and backward: matrix units want
    low-precision operands with a float32 result, and autodiff of such a product would multiply mixed precisions.
    The gradients of kernel and bias are sums over all rows, so they are never rounded before they are complete.

    Args:
      x: dtype[..., in].
      kernel: float32[in, out], cast to x's dtype for the product.
      bias: float32[out], added before the result is cast.
      dtype: of the result.
    """
    y = lax.dot_general(
        x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=accumulator(x.dtype)
    )
    return (y + bias).astype(dtype)


def _linear_forward(x, kernel, bias, dtype):
    return linear(x, kernel, bias, dtype), (x, kernel, bias)


def _linear_backward(dtype, saved, gradient):
    del dtype
    x, kernel, bias = saved
    narrow = gradient.astype(x.dtype)
    dx = lax.dot_general(
        narrow, kernel.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=accumulator(x.dtype)
    )
    dkernel = over_rows(x, narrow)
    dbias = jnp.sum(gradient.astype(dkernel.dtype), axis=range(x.ndim - 1))
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype), dbias.astype(bias.dtype)


linear = jax.custom_vjp(_linear, nondiff_argnums=(3,))
linear.defvjp(_linear_forward, _linear_backward)


def over_rows(x: jax.Array, y: jax.Array, groups: int = 0) -> jax.Array:
    """Returns the sum over all rows of the outer products of x and y, as (at least) float32[m, n].

    XLA's CPU backend gives a product that is contracted over one dimension at the left of both sides to a library that
    transposes first, and one over two dimensions to another that does not: half the time in bfloat16. Hence a second
    dimension of size 1. Elsewhere it makes no difference.

    Args:
      x: [..., m].
      y: [..., n], of the dtype of x.
      groups: how many of the first axes are kept: with one the result is [g, m, n].
    """
    if x.ndim == 2 + groups:
        x, y = x[..., None, :], y[..., None, :]
    rows, kept = tuple(range(groups, x.ndim - 1)), tuple(range(groups))

    def total(x, y):
        return lax.dot_general(x, y, ((rows, rows), (kept, kept)), preferred_element_type=accumulator(x.dtype))

    def on_cpu(x, y):
        # XLA would fold a transpose of the result into such a product, and its CPU backend has no kernel for that. The
        # left side is copied: it had better be the smaller one.
        if x.shape[-1] <= y.shape[-1]:
            return lax.optimization_barrier(total(x, y))
        return lax.optimization_barrier(lax.optimization_barrier(total(y, x)).mT)

    # Between devices a barrier would keep a sum over all of them from becoming one of which each takes its part.
    return lax.platform_dependent(x, y, cpu=on_cpu, default=total)


def sum_rows(x: jax.Array) -> jax.Array:
    """Returns the sum over the rows of each group, [g, n].

    Of 30,522 columns XLA's CPU backend makes it in 24 ms, 28 times what a product with ones takes (320 rows, two
    cores), though not of 16,384. On accelerators such a product might round what it multiplies.

    Args:
      x: (at least) float32[g, rows, n].
    """

    def on_cpu(x):
        ones = jnp.ones((x.shape[0], 1, x.shape[1]), x.dtype)
        return lax.dot_general(ones, x, (((2,), (1,)), ((0,), (0,))))[:, 0]

    return lax.platform_dependent(x, cpu=on_cpu, default=lambda x: jnp.sum(x, axis=1))


@jax.custom_vjp
def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Returns `table[ids]`, float[..., n]; under a mesh (`jax.sharding.use_abstract_mesh`) with a gradient that is
    summed over devices together with other gradients of the table.

    Args:
      table: float[m, n].
      ids: int[...].
    """
    return table[ids]


def _lookup_forward(table, ids):
    return table[ids], (table, ids)


def _lookup_backward(saved, gradient):
    table, ids = saved
    total = jnp.zeros_like(table).at[ids].add(gradient)
    if not jax.sharding.get_abstract_mesh().empty:
        # XLA would add these rows to the gradient that the table has from elsewhere, as from a tied head, after that
        # was summed over devices, and sum again. A constraint, even of nothing, leaves it two sums, and it makes them
        # one.
        total = lax.with_sharding_constraint(total, P())
    return total, None


lookup.defvjp(_lookup_forward, _lookup_backward)


def _product(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns `jnp.einsum(spec, x, y)`, accumulated as in `linear`.

    Args:
      spec: of two operands, every letter in at least two of the three groups, batch dimensions first as in
        "bnqd,bnkd->bnqk": of other orders the CPU backend cannot make a float32 product of bfloat16 operands.
      x, y: of one dtype.
      dtype: of the result.
    """
    left, right, out = spec.replace("->", ",").split(",")
    if left[-2] == right[-2] and left[-2] not in out:  # queries, in two of the four gradients of attention
        rows = (x, y) if left[-1] == out[-2] else (y, x)
        return over_rows(*rows, groups=len(out) - 2).astype(dtype)
    return jnp.einsum(spec, x, y, preferred_element_type=accumulator(x.dtype)).astype(dtype)


def _product_forward(spec, x, y, dtype):
    return product(spec, x, y, dtype), (x, y)


def _product_backward(spec, dtype, saved, gradient):
    del dtype
    x, y = saved
    narrow = gradient.astype(x.dtype)
    left, right, out = spec.replace("->", ",").split(",")
    return (
        product(f"{out},{right}->{left}", narrow, y, x.dtype),
        product(f"{left},{out}->{right}", x, narrow, y.dtype),
    )


product = jax.custom_vjp(_product, nondiff_argnums=(0, 3))
product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """Returns x * Phi(x), exact, in x's dtype; only x is kept for the backward pass.

    `jax.nn.gelu` goes by erfc, which is two polynomials, and keeps float32 arrays of its intermediate steps.
    """
    wide = x.astype(accumulator(x.dtype))
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, gradient):
    wide = x.astype(accumulator(x.dtype))
    density = jnp.exp(-wide * wide / 2) * (2 * math.pi) ** -0.5
    return ((gradient * (_normal_cdf(wide) + wide * density)).astype(x.dtype),)


def _normal_cdf(x):
    return (1 + lax.erf(x * 0.5**0.5)) / 2


gelu.defvjp(_gelu_forward, _gelu_backward)


def _layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype) -> jax.Array:
    """Returns (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis.

    Statistics and gradients are computed in (at least) float32; x and two numbers a row are kept for the backward pass.

    Args:
      x: [..., H].
      scale, bias: [H].
      epsilon: added to the variance.
      dtype: of the result.
    """
    return _layer_norm_forward(x, scale, bias, epsilon, dtype)[0]


def _layer_norm_forward(x, scale, bias, epsilon, dtype):
    wide = x.astype(accumulator(x.dtype))
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    # Not E[x^2] - E[x]^2, which cancels.
    rate = lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True) + epsilon)
    return ((wide - mean) * rate * scale + bias).astype(dtype), (x, scale, mean, rate)


def _layer_norm_backward(epsilon, dtype, saved, gradient):
    del epsilon, dtype
    x, scale, mean, rate = saved
    gradient = gradient.astype(mean.dtype)
    normal = (x.astype(mean.dtype) - mean) * rate
    inner = gradient * scale
    shift = jnp.mean(inner, axis=-1, keepdims=True)
    stretch = jnp.mean(inner * normal, axis=-1, keepdims=True)
    rows = range(x.ndim - 1)
    return (
        (rate * (inner - shift - normal * stretch)).astype(x.dtype),
        jnp.sum(gradient * normal, axis=rows).astype(scale.dtype),
        jnp.sum(gradient, axis=rows).astype(scale.dtype),
    )


layer_norm = jax.custom_vjp(_layer_norm, nondiff_argnums=(3, 4))
layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Zeroes elements of x with probability `rate` and scales the rest, so that the expectation is x.

    Eight random bits an element: the rate is rounded to 1/256 (0.1 becomes 26/256), and the scale uses the rounded
    rate, so the expectation is exact. Random bits are the dearest part of dropout on CPUs.

    Args:
      key: a threefry key.
      x: dtype[..., n].
      rate: in [0, 1).
    """
    keep = max(1, round((1.0 - rate) * 2**8))
    if keep == 2**8:
        return x
    bits = random_bytes(key, x.shape)
    return jnp.where(bits < keep, x * jnp.asarray(2**8 / keep, x.dtype), jnp.zeros((), x.dtype))


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns uint8[shape], uniform: JAX's generator, Threefry-2x32 with 20 rounds, with all 64 bits of a block used.

    `jax.random.bits` uses half of them, and on CPUs runs the rounds as a loop over memory, which made dropout more than
    half of a training step; written out, they are one vectorised pass. A block depends on its own index alone, so every
    device computes its part of a sharded array.
    """
    *leading, last = shape
    blocks = (*leading, -(-last // 8))
    index = jnp.zeros(blocks, jnp.uint32)
    for axis, size in enumerate(blocks):
        index = index * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, blocks, axis)
    words = jnp.stack(threefry_2x32(jax.random.key_data(key), jnp.zeros_like(index), index), axis=-1)
    return lax.bitcast_convert_type(words, jnp.uint8).reshape(*leading, -1)[..., :last]


def threefry_2x32(key: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the Threefry-2x32 block cipher (Salmon et al. 2011): two words uint32[...] for every counter.

    Args:
      key: uint32[2].
      x0, x1: uint32[...], the two words of the counters.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for group in range(5):
        for rotation in (13, 15, 26, 6) if group % 2 == 0 else (17, 29, 16, 24):
            x0 = x0 + x1
            x1 = (x1 << rotation | x1 >> (32 - rotation)) ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1
