"""A small experiment, its masker and batches: what the step needs, without a corpus on disk."""

from dataclasses import replace

import jax
import numpy as np

from ctcd_jax.config import Experiment, OptimizerSettings, TrainSettings
from ctcd_jax.config.init_spec import Init
from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.models import BertConfig
from ctcd_jax.training.masking import Masker

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
VOCABULARY = 61
LENGTH = 24

CTCD = Cohort(
    {"teacher": Member(), "student": Member()}, (Edge("teacher", "student"), Edge("student", "teacher", weight=4.0))
)


def masker(**changes) -> Masker:
    return Masker(VOCABULARY, SPECIAL, **changes)


def experiment(cohort: Cohort = CTCD, *, dropout=0.0, steps=20, dtype="float32", micro_batches=1, seed=0, **optimizer):
    def shape(layers):
        return BertConfig(VOCABULARY, layers, 16, 2, 32, LENGTH, dropout=dropout, attention_dropout=dropout)

    return Experiment(
        seed=seed,
        cohort=cohort,
        models={name: shape(2 if name == "teacher" else 1) for name in cohort.members},
        sources={name: Init("scratch") for name in cohort.members},
        optimizers={name: OptimizerSettings(**optimizer) for name in cohort.trainable},
        train=TrainSettings(steps, 5, 5, 5, 2, dtype, micro_batches),
        batch_size=16,
    )


def rows(count=16, seed=0) -> dict[str, np.ndarray]:
    """Packed rows: sentences of random tokens, each with its [CLS] and [SEP], and padding at the end."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((count, LENGTH), np.int32)
    for row in ids:
        at = 0
        while at + 5 <= LENGTH - rng.integers(0, 4):
            words = rng.integers(5, VOCABULARY, rng.integers(3, min(9, LENGTH - at - 1)))
            row[at : at + len(words) + 2] = [2, *words, 3][: LENGTH - at]
            at += len(words) + 2
    return {"input_ids": ids}


def one_device_mesh():
    from ctcd_jax.training.sharding import make_mesh

    return make_mesh(devices=jax.devices()[:1])


def with_cohort(base: Experiment, cohort: Cohort) -> Experiment:
    """The same run with other edges or fewer members."""
    return replace(
        base,
        cohort=cohort,
        models={name: base.models[name] for name in cohort.members},
        optimizers={name: base.optimizers[name] for name in cohort.trainable},
    )
