"""Arithmetic of a step by formula, for the share of the device's peak that does useful work (MFU)."""

from ctcd_jax.config import Experiment
from ctcd_jax.models.registry import forward_flops


def flops_per_token(experiment: Experiment, predicted_share: float) -> float:
    """Returns the floating-point operations a real token costs a whole step.

    Counted are the linear layers: 2 per weight forward, twice that backward for members that learn. Attention scores,
    softmaxes and padding are not counted, so the figure is a lower bound of the useful work.

    Args:
      predicted_share: predicted tokens per real token; the MLM head acts on these, or on all for "attended" edges.
    """
    head_share = 1.0 if experiment.cohort.positions == "attended" else predicted_share
    return sum(
        forward_flops(model, head_share) * (3 if experiment.cohort.members[name].trainable else 1)
        for name, model in experiment.models.items()
    )
