"""Cohorts of two, and random predictions of them."""

import jax
import jax.numpy as jnp

from ctcd_jax.distill import Edge, Member, Outputs

PAIR = {"t": Member(), "s": Member()}
CTCD = (Edge("t", "s"), Edge("s", "t"))
EVERY_EDGE = [
    Edge("t", "s", temperature=temperature, tau_squared=squared, divergence=divergence, positions=positions, weight=2.0)
    for temperature, squared in ((1.0, False), (2.0, True))
    for divergence in ("forward_kl", "reverse_kl", "jensen_shannon")
    for positions in ("masked", "attended")
]


def random_outputs(count=120, vocabulary=37, members=PAIR, seed=0, dtype=jnp.float32):
    """Returns ({member: Outputs}, labels int[count], weights float32[count]); every member has a width of its own."""
    keys = iter(jax.random.split(jax.random.key(seed), 20))
    outputs = {
        name: Outputs(
            jax.random.normal(next(keys), (count, 8 + number)).astype(dtype),
            (jax.random.normal(next(keys), (8 + number, vocabulary)), jax.random.normal(next(keys), (vocabulary,))),
        )
        for number, name in enumerate(members)
    }
    labels = jnp.where(
        jax.random.bernoulli(next(keys), 0.3, (count,)), jax.random.randint(next(keys), (count,), 0, vocabulary), -100
    )
    return outputs, labels, jax.random.bernoulli(next(keys), 0.8, (count,)).astype(jnp.float32)
