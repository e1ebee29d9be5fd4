"""The schema of a run: every field, its default and its check, and the typed `Experiment` made of them.

A config file starts from `base_config(preset)` and adds `member(...)` and `edge(...)`; `resolve` turns the finished
ConfigDict and the corpus it names into an `Experiment`.
"""

from ctcd_jax.config.builders import PRESETS, SIZES, base_config, edge, member, recipe
from ctcd_jax.config.file import load_config
from ctcd_jax.config.resolve import check, corpus_directory, resolve, resolved
from ctcd_jax.config.settings import Experiment, OptimizerSettings, TrainSettings

__all__ = [
    "PRESETS",
    "SIZES",
    "Experiment",
    "OptimizerSettings",
    "TrainSettings",
    "base_config",
    "check",
    "corpus_directory",
    "edge",
    "load_config",
    "member",
    "recipe",
    "resolve",
    "resolved",
]


def __getattr__(name: str):
    if name == "experiment":  # as config files of version 0.1 import it
        raise ImportError("'experiment' is now 'base_config'; import and call that instead")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
