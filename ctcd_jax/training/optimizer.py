"""AdamW, one per member: learning rate 5e-4 and 5 % linear warm-up are the paper's, the rest is configurable."""

import jax
import jax.numpy as jnp
import optax

from ctcd_jax.config import OptimizerSettings


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns one member's optimizer for a run of `steps` updates: clip, then AdamW.

    Its `update` takes, beside optax's arguments, `norm`: the global norm of the gradients, which the step knows.
    """
    chain = optax.chain(
        optax.identity() if settings.clip_norm is None else _clip(settings.clip_norm),
        optax.adamw(
            learning_rate(settings, steps),
            b1=settings.b1,
            b2=settings.b2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            mask=_decayed,
        ),
    )
    return optax.with_extra_args_support(chain)


def _clip(largest: float) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm` of gradients whose norm is known."""

    def update(updates, state, params=None, **extra):
        del params
        norm = extra["norm"]
        clipped = jax.tree.map(lambda g: jnp.where(norm < largest, g, (g / norm.astype(g.dtype)) * largest), updates)
        return clipped, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates done, int -> float."""
    warmup = round(settings.warmup_fraction * steps)
    rest = max(steps - warmup, 1)
    peak = settings.learning_rate
    fall = {
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "constant": optax.constant_schedule(peak),
    }[settings.schedule]
    # Update 0 already moves: warming up from exactly 0 would waste the first batch.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, max(warmup, 1))
    return optax.join_schedules([rise, fall], [warmup])


def _decayed(params):
    """True for matrices; biases and LayerNorm scales are vectors."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
