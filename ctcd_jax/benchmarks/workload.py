"""What is timed: cohorts at a preset's shape, and a batch of random tokens that looks like a packed corpus."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from ctcd_jax.config import PRESETS, Experiment, OptimizerSettings, TrainSettings
from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.hardware import default_dtype
from ctcd_jax.initial import Source
from ctcd_jax.models import BertConfig
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.keys import root_key
from ctcd_jax.training.masking import Masked, Masker, train_keys

ROWS = 16
VOCABULARY = 30_522
SPECIAL_IDS = {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103}  # bert-base-uncased's
SENTENCE = (8, 40)  # tokens, [CLS] and [SEP] included

# The configs' softening: temperature 2, tau^2. The weights are the paper's best, 1 : 1 : 1 : 4.
_edge = partial(Edge, temperature=2.0, tau_squared=True)
COHORTS = {
    "ctcd": Cohort(
        {"teacher": Member(), "student": Member()},
        (_edge("teacher", "student"), _edge("student", "teacher", weight=4.0)),
    ),
    "teacher": Cohort({"teacher": Member()}),
    "student": Cohort({"student": Member()}),
    "oneway": Cohort({"teacher": Member(trainable=False), "student": Member()}, (_edge("teacher", "student"),)),
}

MASKER = Masker(VOCABULARY, SPECIAL_IDS)


def experiment(cohort: str, preset: str, dropout: float = 0.1) -> Experiment:
    """Returns a run of one of COHORTS at a preset's shape, in the dtype that suits the device; constant learning rate.

    Args:
      cohort: name in COHORTS.
      preset: of `config.PRESETS`, e.g. "small"; the vocabulary is always VOCABULARY.
      dropout: of activations and attention.
    """
    layers = dict(zip(("teacher", "student"), PRESETS[preset]["layers"], strict=True))
    width = PRESETS[preset]["width"]
    members = COHORTS[cohort]
    return Experiment(
        seed=0,
        cohort=members,
        models={
            name: BertConfig(VOCABULARY, layers[name], *width, dropout=dropout, attention_dropout=dropout)
            for name in members.members
        },
        sources={name: Source("scratch") for name in members.members},
        optimizers={name: OptimizerSettings(warmup_fraction=0, schedule="constant") for name in members.trainable},
        train=TrainSettings(
            steps=1000,
            log_every=1000,
            eval_every=1000,
            checkpoint_every=1000,
            keep_checkpoints=1,
            dtype=default_dtype(),
            micro_batches=1,
        ),
        batch_size=ROWS,
    )


def batch(preset: str) -> dict[str, np.ndarray]:
    """Returns {"input_ids": int32[ROWS, L]}: whole sentences of random ordinary tokens and a little padding a row."""
    length = PRESETS[preset]["width"][-1]
    rng = np.random.default_rng(0)
    ids = np.full((ROWS, length), SPECIAL_IDS["pad"], np.int32)
    for row in ids:
        end, size = 0, rng.integers(*SENTENCE)
        while end + size <= length:
            words = rng.integers(max(SPECIAL_IDS.values()) + 1, VOCABULARY, size - 2)
            row[end : end + size] = [SPECIAL_IDS["cls"], *words, SPECIAL_IDS["sep"]]
            end, size = end + size, rng.integers(*SENTENCE)
    return {"input_ids": ids}


def masked(experiment: Experiment, input_ids: np.ndarray, step: int = 0) -> Masked:
    """Returns the batch as the training step `step` masks it."""
    keys = train_keys(root_key(experiment.seed), step, np.arange(len(input_ids)))
    return MASKER(keys, jnp.asarray(input_ids))


def counts(experiment: Experiment, input_ids: np.ndarray) -> dict[str, float]:
    """Returns real "tokens", "predicted" ones and "flops" (by formula) of one step."""
    made = masked(experiment, input_ids)
    tokens, predicted = int(made.attention_mask.sum()), int((made.labels >= 0).sum())
    return {
        "tokens": tokens,
        "predicted": predicted,
        "flops": tokens * flops_per_token(experiment, predicted / tokens),
    }
