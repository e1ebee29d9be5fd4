"""The optimizer against optax's own pieces, put together by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ctcd_jax.config import OptimizerSettings
from ctcd_jax.training.optimizer import make_optimizer

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((3,))}
GRADIENTS = {"kernel": jnp.arange(6.0).reshape(2, 3) - 2, "bias": jnp.array([30.0, 0.0, -40.0])}


def updates(optimizer) -> np.ndarray:
    """The second of two updates; with Adam only gradients of different scales show that one of them was clipped."""
    optimizer, state = optax.with_extra_args_support(optimizer), optimizer.init(PARAMS)
    for gradients in (GRADIENTS, jax.tree.map(lambda g: 0.1 * g, GRADIENTS)):
        last, state = optimizer.update(gradients, state, PARAMS, norm=optax.tree.norm(gradients))
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(last)])


def ours(clip_norm) -> np.ndarray:
    return updates(make_optimizer(OptimizerSettings(schedule="constant", warmup_fraction=0.0, clip_norm=clip_norm), 10))


def test_without_clipping_it_is_adamw_alone():
    default = OptimizerSettings()
    alone = optax.adamw(default.learning_rate, default.b1, default.b2, default.eps, weight_decay=0.0)
    np.testing.assert_allclose(ours(None), updates(alone), rtol=1e-6)


def test_a_gradient_is_scaled_down_to_the_norm_and_no_smaller_one_is():
    np.testing.assert_allclose(ours(1e9), ours(None), rtol=1e-6)
    # Clipped, both gradients are the same one, and Adam's step is then the learning rate, whatever their size.
    moved = np.abs(ours(5.0))
    np.testing.assert_allclose(moved[moved > 0], 5e-4, rtol=1e-3)
    assert np.abs(ours(None)).max() < 4e-4


def test_the_state_has_one_shape_with_and_without_clipping():
    """So that what is saved can be read by either."""
    shapes = [jax.tree.structure(make_optimizer(OptimizerSettings(clip_norm=c), 10).init(PARAMS)) for c in (5.0, None)]
    assert shapes[0] == shapes[1]
