"""The schema of a run: every field, its default and its check, and the typed `Experiment` made of them.

A config file starts from `experiment(preset)` and adds `member(...)` and `edge(...)`; `resolve` turns the finished
ConfigDict and the corpus it names into an `Experiment`.
"""

from ctcd_jax.config.builders import PRESETS, SIZES, edge, experiment, member, recipe
from ctcd_jax.config.experiment import Experiment, OptimizerSettings, TrainSettings
from ctcd_jax.config.resolve import check, corpus_directory, resolve, resolved

__all__ = [
    "PRESETS",
    "SIZES",
    "Experiment",
    "OptimizerSettings",
    "TrainSettings",
    "check",
    "corpus_directory",
    "edge",
    "experiment",
    "member",
    "recipe",
    "resolve",
    "resolved",
]
