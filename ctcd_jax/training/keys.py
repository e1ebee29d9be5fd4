"""Random keys by name, so that adding a member or a stream never moves another's random numbers."""

import hashlib

import jax


def root_key(seed: int) -> jax.Array:
    """Returns the typed threefry key all others derive from; the same bits on every backend and mesh."""
    return jax.random.key(seed, impl="threefry2x32")


def named_key(key: jax.Array, name: str) -> jax.Array:
    """Returns `key` folded with the SHA-256 of `name` (never `hash()`, which changes from process to process)."""
    return jax.random.fold_in(key, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
