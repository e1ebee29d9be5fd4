"""What is timed: a case, its experiment, and rows of random tokens that look like a packed corpus."""

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.config import PRESETS, Experiment, OptimizerSettings, TrainSettings
from ctcd_jax.config.init_spec import Init
from ctcd_jax.data import TrainBatches
from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.models import BertConfig
from ctcd_jax.models.attention import on_platform
from ctcd_jax.runtime.hardware import default_dtype
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.keys import root_key
from ctcd_jax.training.masking import MaskedBatch, Masker, train_keys

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


@dataclass(frozen=True)
class Case:
    """A training step, as far as its cost depends on it.

    Attributes:
      cohort: name in COHORTS.
      preset: of `config.PRESETS`, whose models are taken; the vocabulary is always VOCABULARY.
      rows, length: of the batch; its length need not be the preset's.
      dtype: compute dtype; "auto" is `hardware.default_dtype`.
      positions: of the soft losses, "masked" or "attended".
      dropout: of activations and attention.
      loss: "fused" (gradients in closed form) or "dense" (autodiff).
      attention, remat, loss_chunk: as in `config.TrainSettings`.
      backend: that must run it, "cpu" or "gpu"; "any" is JAX's choice.
    """

    cohort: str = "ctcd"
    preset: str = "small"
    rows: int = 16
    length: int = 128
    dtype: str = "auto"
    positions: str = "masked"
    dropout: float = 0.1
    loss: str = "fused"
    attention: str = "auto"
    remat: bool = False
    loss_chunk: int | None = None
    backend: str = "any"

    @classmethod
    def read(cls, text: str) -> "Case":
        return cls(**json.loads(text))

    def written(self) -> str:
        """Returns one argument of a command line, which `read` reads."""
        return json.dumps(asdict(self))

    @property
    def objective(self) -> tuple:
        """What is minimised, and on what: two cases of equal objective differ in how it is computed alone."""
        return self.cohort, self.preset, self.rows, self.length, self.positions, self.dropout


def experiment(case: Case) -> Experiment:
    """Returns the run whose step the case is; constant learning rate."""
    layers: dict[str, int] = dict(zip(("teacher", "student"), PRESETS[case.preset]["layers"], strict=True))
    width = PRESETS[case.preset]["width"]
    cohort = COHORTS[case.cohort]
    cohort = replace(cohort, edges=tuple(replace(edge, positions=case.positions) for edge in cohort.edges))
    platform = jax.devices()[0].platform
    dropout = {"dropout": case.dropout, "attention_dropout": case.dropout}
    return Experiment(
        seed=0,
        cohort=cohort,
        models={name: BertConfig(VOCABULARY, layers[name], *width, **dropout) for name in cohort.members},
        sources={name: Init("scratch") for name in cohort.members},
        optimizers={name: OptimizerSettings(warmup_fraction=0, schedule="constant") for name in cohort.trainable},
        train=TrainSettings(
            steps=1000,
            log_every=1000,
            eval_every=1000,
            checkpoint_every=1000,
            keep_checkpoints=1,
            dtype=default_dtype(platform) if case.dtype == "auto" else case.dtype,
            micro_batches=1,
            remat=case.remat,
            attention=on_platform(case.attention, platform),
            loss_chunk=case.loss_chunk,
        ),
        batch_size=case.rows,
    )


def batch(case: Case) -> dict[str, np.ndarray]:
    """Returns {"input_ids": int32[rows, length]}, the same every time."""
    return {"input_ids": packed_rows(case.rows, case.length)}


def packed_rows(rows: int, length: int) -> np.ndarray:
    """Returns int32[rows, length]: whole sentences of random ordinary tokens and a little padding a row."""
    rng = np.random.default_rng(0)
    ids = np.full((rows, length), SPECIAL_IDS["pad"], np.int32)
    for row in ids:
        end, size = 0, rng.integers(*SENTENCE)
        while end + size <= length:
            words = rng.integers(max(SPECIAL_IDS.values()) + 1, VOCABULARY, size - 2)
            row[end : end + size] = [SPECIAL_IDS["cls"], *words, SPECIAL_IDS["sep"]]
            end, size = end + size, rng.integers(*SENTENCE)
    return ids


class RowsInMemory:
    """As much of a `data.Corpus` as the loader reads: eight batches of rows."""

    def __init__(self, case: Case):
        self._ids = packed_rows(8 * case.rows, case.length).astype(np.uint16)

    def lengths(self, split: str) -> list[int]:
        return [self._ids.shape[1]]

    def rows(self, split: str, length: int) -> int:
        return len(self._ids)

    def read(self, split: str, length: int, rows: np.ndarray) -> np.ndarray:
        """Returns int32[n, length]; arguments as for `Corpus.read`."""
        return self._ids[rows].astype(np.int32)


def loader(case: Case) -> TrainBatches:
    """Returns the loader of `ctcd train`, over rows in memory."""
    return TrainBatches(cast("Any", RowsInMemory(case)), case.rows, seed=0)


def masked(experiment: Experiment, input_ids: np.ndarray, step: int = 0) -> MaskedBatch:
    """Returns the batch as a training step masks it.

    Args:
      experiment: whose seed and vocabulary count.
      input_ids: int[B, L].
      step: updates done before.
    """
    return _masked(root_key(experiment.seed), step, jnp.asarray(input_ids))


@jax.jit  # eagerly it is sixty programs to compile
def _masked(key: jax.Array, step: jax.Array, input_ids: jax.Array) -> MaskedBatch:
    return MASKER(train_keys(key, step, jnp.arange(len(input_ids))), input_ids)


def counts(experiment: Experiment, input_ids: np.ndarray) -> dict[str, float]:
    """Returns real "tokens", "predicted" ones and "flops" (by formula, of the real tokens alone) of one step."""
    made = masked(experiment, input_ids)
    tokens, predicted = int(made.attention_mask.sum()), int((made.labels >= 0).sum())
    return {
        "tokens": tokens,
        "predicted": predicted,
        "flops": tokens * flops_per_token(experiment, predicted / tokens),
    }
