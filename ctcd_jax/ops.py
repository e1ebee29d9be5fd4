"""The two array operations whose plain form is slow or inexact in low precision. Everything else is ordinary JAX.

Both are exact in float32 and float64; bfloat16 and float16 inputs accumulate in float32.
"""

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

    Sixteen random bits an element instead of thirty-two: on CPUs random bits are a fifth of a training step. The rate
    is rounded to 1/65536, and the scale uses the rounded rate, so the expectation is exact.
    """
    keep = round((1.0 - rate) * 2**16)
    if keep == 2**16:
        return x
    *leading, last = x.shape
    words = jax.random.bits(key, (*leading, (last + 1) // 2), jnp.uint32)
    bits = lax.bitcast_convert_type(words, jnp.uint16).reshape(*leading, -1)[..., :last]
    return jnp.where(bits < keep, x * jnp.asarray(2**16 / keep, x.dtype), jnp.zeros((), x.dtype))
