"""Scaled dot-product attention in two implementations: XLA's, and cuDNN's where its conditions hold."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ctcd_jax.ops import accumulator, product

IMPLEMENTATIONS = ("auto", "xla", "cudnn")


def on_platform(implementation: str, platform: str) -> str:
    """Returns the implementation to take on a platform ("cpu", "gpu", "tpu"): "auto" has a choice on GPUs only."""
    return "xla" if implementation == "auto" and platform != "gpu" else implementation


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    drop: Callable[[jax.Array], jax.Array] | None = None,
    implementation: str = "xla",
) -> jax.Array:
    """Returns dtype[B, L, N, D]: for every query the mean of the values, weighted by softmax(query . key / sqrt(D)).

    Args:
      query, key, value: dtype[B, L, N, D].
      mask: bool, broadcastable to [B, N, L, L] (query, key), True where a query may see a key.
      drop: acts on the weights [B, N, L, L]; None for none.
      implementation: "xla"; on GPUs also "cudnn", which keeps no [L, L] array, and "auto" for cuDNN where
        `cudnn_obstacle` knows none.

    Raises:
      ValueError: cuDNN is asked for and something is in its way.
    """
    length, _, width = query.shape[1:]
    obstacle = None if implementation == "xla" else cudnn_obstacle(query.dtype, length, width, drop is not None)
    if implementation == "cudnn" and obstacle:
        raise ValueError(f"attention: cuDNN's {obstacle}")
    if implementation == "xla" or obstacle:
        return _xla(query, key, value, mask, drop)
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="cudnn")


def cudnn_obstacle(dtype: jnp.dtype, length: int, width: int, drops: bool) -> str | None:
    """Returns why cuDNN's attention cannot be taken on an NVIDIA GPU, or None if it can.

    Args:
      dtype: of queries, keys and values.
      length: tokens a row.
      width: dimensions a head.
      drops: whether weights are dropped out.
    """
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"attention needs bfloat16 or float16, not {jnp.dtype(dtype).name}"
    if drops:
        return "attention has no dropout; set attention_dropout=0"
    if width % 8 or width > 128:
        return f"attention needs heads of a multiple of 8 dimensions, 128 at most, not {width}"
    if length % 2:
        return f"attention needs rows of an even number of tokens, not {length}"
    return None


def _xla(query, key, value, mask, drop):
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))  # [B, N, L, D]
    wide = accumulator(query.dtype)
    scores = product("bnqd,bnkd->bnqk", query, key, wide) / jnp.sqrt(jnp.asarray(query.shape[-1], wide))
    # A finite minimum, not -inf: a query that may see no key must not become NaN.
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(wide).min)).astype(value.dtype)
    mixed = product("bnqk,bnkd->bnqd", weights if drop is None else drop(weights), value, value.dtype)
    return jnp.swapaxes(mixed, 1, 2)
