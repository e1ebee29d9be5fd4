"""CTCD (Eq. 4) in eager PyTorch with Hugging Face's models: the same objective as ours, written as its users would.

Models, attention (SDPA) and, unless asked otherwise, AdamW are as they come. Sentences packed into a row do not see
each other. What ours does besides, the peer is spared: drawing the masks, and accuracy and agreement for the log.
`tests/benchmarks/test_peers.py` proves that loss and update are ours.
"""

from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from ctcd_jax.config import Experiment
from ctcd_jax.models.bert import BertConfig as OurConfig
from ctcd_jax.models.bert import segment_starts
from ctcd_jax.models.bert_checkpoint import FIELDS
from ctcd_jax.training.masking import MaskedBatch

Batch = dict[str, torch.Tensor]


class EagerCTCD:
    """A teacher and a student that train together, each with its own AdamW and clipping.

    With `full`, the MLM head acts on every position, as `model(...).logits` has it, and the losses choose theirs
    afterwards: the same objective, and up to three times the work. Without, it acts on these tokens alone. AdamW is
    fused or not, or as PyTorch chooses (None).
    """

    def __init__(
        self,
        experiment: Experiment,
        models: dict[str, BertForMaskedLM],
        device: str = "cpu",
        full: bool = False,
        fused: bool | None = None,
    ):
        """Takes weights, temperature and optimizer settings from the experiment, and trains `models` in place."""
        self.device, self.full = torch.device(device), full
        self.dtype = getattr(torch, experiment.train.dtype)
        self.attended = experiment.cohort.positions == "attended"
        moved = (cast("Any", models[name]).to(self.device) for name in ("teacher", "student"))
        self.teacher, self.student = (model.train() for model in moved)
        to_student, to_teacher = experiment.cohort.edges
        self.weights = to_student.weight, to_teacher.weight
        self.temperature = to_student.temperature
        self.settings = experiment.optimizers
        self.optimizers = {
            name: torch.optim.AdamW(
                models[name].parameters(),
                lr=settings.learning_rate,
                betas=(settings.b1, settings.b2),
                eps=settings.eps,
                weight_decay=settings.weight_decay,
                fused=fused,
            )
            for name, settings in experiment.optimizers.items()
        }
        self.forward = self.loss

    def step(self, batch: Batch) -> float:
        """Updates both models and returns the loss, for which the device must have finished."""
        loss = self.forward({name: value.to(self.device) for name, value in batch.items()})
        loss.backward()
        for name, model in (("teacher", self.teacher), ("student", self.student)):
            if (norm := self.settings[name].clip_norm) is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
            self.optimizers[name].step()
            self.optimizers[name].zero_grad()
        return loss.item()

    def loss(self, batch: Batch) -> torch.Tensor:
        """Returns Eq. 4, a scalar."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            teacher, student = (self.predictions(model, batch).float() for model in (self.teacher, self.student))
        labels, weights = self.targets(batch)
        alpha, beta = self.weights
        of_student = F.cross_entropy(student, labels) + alpha * self.distillation(teacher, student, weights)
        of_teacher = F.cross_entropy(teacher, labels) + beta * self.distillation(student, teacher, weights)
        return of_student + of_teacher

    def predictions(self, model: BertForMaskedLM, batch: Batch) -> torch.Tensor:
        """Returns logits float[N, V] of the N tokens that the losses need."""
        chosen = self.chosen(batch)
        if self.full:
            return model(**inputs(batch)).logits[chosen]
        return model.cls(model.bert(**inputs(batch)).last_hidden_state[chosen])

    def targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (labels int64[N], weights float32[N] of the soft losses) of the same tokens; no label is -100."""
        labels = batch["labels"][self.chosen(batch)]
        return labels, torch.ones_like(labels, dtype=torch.float32)

    def chosen(self, batch: Batch) -> torch.Tensor:
        """Returns bool[B, L]: every real token, or the predicted ones."""
        return batch["segment_ids"] > 0 if self.attended else batch["labels"] >= 0

    def distillation(self, source: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Returns tau^2 KL(source | target), a weighted mean.

        Args:
          source: logits float[N, V], a constant.
          target: logits float[N, V].
          weights: float[N].
        """
        tau = self.temperature
        fixed = F.log_softmax(source.detach() / tau, dim=-1)
        learnt = F.log_softmax(target / tau, dim=-1)
        each = F.kl_div(learnt, fixed, log_target=True, reduction="none").sum(-1)
        return tau**2 * (each * weights).sum() / weights.sum()


def inputs(batch: Batch) -> Batch:
    """Returns the arguments of Hugging Face's model."""
    segments = batch["segment_ids"]
    # A four-dimensional mask is used as it is: tokens attend within their segment, padding to padding.
    within = (segments[:, :, None] == segments[:, None, :])[:, None]
    return {"input_ids": batch["input_ids"], "attention_mask": within, "position_ids": batch["position_ids"]}


def model(config: OurConfig) -> BertForMaskedLM:
    """Returns Hugging Face's model of a shape, with random weights."""
    return BertForMaskedLM(BertConfig(**{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}))


def as_tensors(masked: MaskedBatch) -> Batch:
    """Returns a masked batch as int64 tensors on the host, [B, L] and positions [B, S].

    `position_ids` restart with each segment; `positions` are those of `MaskedBatch`.
    """
    length = masked.input_ids.shape[1]
    arrays = {
        "input_ids": masked.input_ids,
        "labels": masked.row_labels,
        "segment_ids": masked.segment_ids,
        "position_ids": np.arange(length) - np.asarray(segment_starts(masked.segment_ids)),
        "positions": masked.positions,
    }
    return {name: torch.tensor(np.asarray(value), dtype=torch.int64) for name, value in arrays.items()}
