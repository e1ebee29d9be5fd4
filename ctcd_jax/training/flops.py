"""Arithmetic of a step by formula, for the share of the device's peak that does useful work (MFU)."""

from ctcd_jax.config import Experiment
from ctcd_jax.models import BertConfig


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


def forward_flops(model: BertConfig, head_share: float = 1.0) -> float:
    """Returns the operations of one token's forward pass, with the MLM head on `head_share` of the tokens."""
    layer = 4 * model.hidden**2 + 2 * model.hidden * model.intermediate
    head = model.hidden**2 + model.hidden * model.vocab_size
    return 2.0 * (model.layers * layer + head_share * head)
