"""How much of its weight an edge has at each moment of a run: from the start or later, to the end or fading out."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.distill.cohort import Cohort, Edge

# Of the share of its time that has passed, in [0, 1], to the factor.
_FALLS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "constant": jnp.ones_like,
    "linear": lambda passed: 1 - passed,
    "cosine": lambda passed: (1 + jnp.cos(jnp.pi * passed)) / 2,
}


def weight_factors(cohort: Cohort, done: jax.Array | np.floating) -> dict[str, jax.Array]:
    """Returns {edge: float32 in [0, 1], the factor of its weight}, of the edges whose weight changes; others have 1.

    Args:
      cohort: whose edges count.
      done: float32 scalar in [0, 1), the share of the run's steps that are done.
    """
    return {edge.name: weight_factor(edge, done) for edge in cohort.edges if edge.scheduled}


def weight_factor(edge: Edge, done: jax.Array | np.floating) -> jax.Array:
    """Returns the factor of an edge's weight; `done` as for `weight_factors`."""
    passed = jnp.clip((done - edge.begin) / (edge.end - edge.begin), 0, 1)
    return jnp.where((done >= edge.begin) & (done < edge.end), _FALLS[edge.schedule](passed), 0)
