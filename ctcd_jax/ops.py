"""The array operations whose plain form is slow, or inexact in low precision. Everything else is ordinary JAX."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: jnp.dtype) -> jax.Array:
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
    accumulator = jnp.promote_types(x.dtype, jnp.float32)
    y = lax.dot_general(
        x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=accumulator
    )
    return (y + bias).astype(dtype)


def _linear_forward(x, kernel, bias, dtype):
    return linear(x, kernel, bias, dtype), (x, kernel, bias)


def _linear_backward(dtype, saved, gradient):
    del dtype
    x, kernel, bias = saved
    accumulator = jnp.promote_types(x.dtype, jnp.float32)
    rows = tuple(range(x.ndim - 1))
    low = gradient.astype(x.dtype)
    dx = lax.dot_general(
        low, kernel.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=accumulator
    )
    dkernel = lax.dot_general(x, low, ((rows, rows), ((), ())), preferred_element_type=accumulator)
    dbias = jnp.sum(gradient.astype(accumulator), axis=rows)
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype), dbias.astype(bias.dtype)


linear.defvjp(_linear_forward, _linear_backward)


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
    """Returns the Threefry-2x32 block cipher (Salmon et al. 2011) of counters uint32[...] under a key uint32[2]."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for group in range(5):
        for rotation in (13, 15, 26, 6) if group % 2 == 0 else (17, 29, 16, 24):
            x0 = x0 + x1
            x1 = (x1 << rotation | x1 >> (32 - rotation)) ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1
