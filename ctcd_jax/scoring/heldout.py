"""The masked-language-model loss of each validation row, by JAX and by PyTorch, and what the rows say together."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.artifacts.exports import quiet_loading
from ctcd_jax.evaluation.tables.intervals import LEVEL, t_quantile
from ctcd_jax.models.registry import Shape, build
from ctcd_jax.ops import linear
from ctcd_jax.training.masking import MaskedBatch


@dataclass(frozen=True, eq=False)
class RowSums:
    """Of each row: `nats` float64[N], minus the log-probabilities of its predicted tokens added up; how many of these
    are `right`, int[N]; and how many there are, `predicted` int[N]."""

    nats: np.ndarray
    right: np.ndarray
    predicted: np.ndarray


Scorer = Callable[[MaskedBatch], tuple[np.ndarray, np.ndarray]]
"""Gives minus the log-probability of the label at each position, float[B, S], and whether the label is the likeliest
token, bool[B, S]; where nothing is predicted, anything."""


def row_sums(scorer: Scorer, batches: Iterable[MaskedBatch]) -> RowSums:
    """Returns the sums of all rows in order, without those of [PAD] alone that fill up a batch.

    Args:
      scorer: a model.
      batches: masked rows.
    """
    parts = []
    for batch in batches:
        nats, right = map(np.asarray, scorer(batch))
        predicted, real = np.asarray(batch.labels) >= 0, np.asarray(batch.attention_mask).any(axis=1)
        sums = (np.where(predicted, nats, 0).sum(axis=1, dtype=np.float64), (right & predicted).sum(axis=1))
        parts.append([part[real] for part in (*sums, predicted.sum(axis=1))])
    return RowSums(*map(np.concatenate, zip(*parts, strict=True)))


def jax_scorer(shape: Shape, params: dict, vocab_size: int) -> Scorer:
    """Returns the scorer of a model in JAX, float32.

    Args:
      shape: of the model.
      params: its parameters.
      vocab_size: V of the tokenizer; a padded vocabulary counts without its rows beyond.
    """
    on_device = jax.device_put(params)

    def scorer(batch: MaskedBatch):
        with jax.default_matmul_precision("highest"):  # some accelerators round float32 operands otherwise
            return _scores(shape, vocab_size, on_device, batch)

    return scorer


@partial(jax.jit, static_argnums=(0, 1))
def _scores(shape: Shape, vocab_size: int, params: dict, batch: MaskedBatch):
    outputs: Any = build(shape).apply(
        {"params": params},
        batch.input_ids,
        batch.attention_mask,
        batch.segment_ids,
        batch.positions,
        method="outputs",
    )
    hidden, kernel, bias = outputs
    logits = linear(hidden, kernel[:, :vocab_size], bias[:vocab_size], jnp.float32)
    target = jnp.maximum(batch.labels, 0)[..., None]
    nats = jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, target, axis=-1)[..., 0]
    return nats, jnp.argmax(logits, axis=-1) == batch.labels


def torch_scorer(directory: Path, vocab_size: int) -> Scorer:
    """Returns the scorer of transformers' BertForMaskedLM, float32, on the GPU if PyTorch sees one.

    The sentences of a packed row are kept apart by a four-dimensional mask and by positions that restart.

    Args:
      directory: the exported model.
      vocab_size: as for `jax_scorer`.
    """
    import torch
    from transformers import BertForMaskedLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet_loading():
        model: Any = BertForMaskedLM.from_pretrained(directory, dtype=torch.float32).eval()
    model.to(device)

    def tensor(array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(device)

    def scorer(batch: MaskedBatch):
        segments = np.asarray(batch.segment_ids)
        index = np.arange(segments.shape[1])
        begins = np.diff(segments, axis=1, prepend=-1) != 0
        starts = np.maximum.accumulate(np.where(begins, index, 0), axis=1)
        with torch.inference_mode():
            hidden = model.bert(
                input_ids=tensor(batch.input_ids).long(),
                attention_mask=tensor(segments[:, None, :, None] == segments[:, None, None, :]),
                position_ids=tensor(index - starts).long(),
            ).last_hidden_state
            positions, labels = tensor(batch.positions).long(), tensor(batch.labels).long()
            picked = hidden.take_along_dim(positions[:, :, None], dim=1)
            log_p = model.cls(picked)[..., :vocab_size].log_softmax(dim=-1)
            nats = -log_p.take_along_dim(labels.clamp(min=0)[:, :, None], dim=-1)[:, :, 0]
            return nats.cpu().numpy(), (log_p.argmax(dim=-1) == labels).cpu().numpy()

    return scorer


def ratio_interval(totals: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """Returns (ratio, low, high): sum(totals) / sum(counts), and the ends of its 95 % interval.

    Rows are the unit, for the tokens of one belong together; both sums are random. The interval is a t interval with
    the linearised variance of a ratio estimator (Cochran 1977, 6.4): N / (N - 1) sum((t - R n)^2) / sum(n)^2.

    Args:
      totals: float[N], N of two or more.
      counts: int[N], not all zero.
    """
    rows, whole = len(counts), counts.sum()
    ratio = totals.sum() / whole
    deviation = math.sqrt(rows / (rows - 1) * np.square(totals - ratio * counts).sum()) / whole
    half = t_quantile(rows - 1, LEVEL) * deviation
    return float(ratio), float(max(ratio - half, 0)), float(ratio + half)
