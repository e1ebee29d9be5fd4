"""The training loop and its parts: what studies, benchmarks and users call instead of the shell."""

from ctcd_jax.training.loop import train
from ctcd_jax.training.state import init_state
from ctcd_jax.training.step import make_train_step

__all__ = ["init_state", "make_train_step", "train"]
