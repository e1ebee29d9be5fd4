"""CTCD in PyTorch as fast as we can make it: `torch.compile` of both models and the loss, SDPA and fused AdamW.

Shapes are static, so that it compiles once and whole: the head acts on a fixed number of slots a row, of which the
spare ones have no label and no weight, just as in ours.
"""

import torch
from transformers import BertForMaskedLM

from ctcd_jax.benchmarks.peers.eager import Batch, EagerCTCD, inputs


class CompiledCTCD(EagerCTCD):
    """`EagerCTCD` with gathered, static positions; the first step compiles."""

    FUSED = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.forward = torch.compile(self.loss, fullgraph=True, dynamic=False)

    def predictions(self, model: BertForMaskedLM, batch: Batch) -> torch.Tensor:
        """Returns logits float[B * S, V] of all slots, or float[B * L, V] of all positions."""
        hidden = model.bert(**inputs(batch)).last_hidden_state
        if not self.attended:
            hidden = hidden.take_along_dim(batch["positions"][:, :, None], dim=1)
        return model.cls(hidden.flatten(0, 1))

    def targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns labels and weights of the same tokens: -100 and 0 where there is nothing."""
        if self.attended:
            return batch["labels"].flatten(), (batch["segment_ids"] > 0).flatten().float()
        labels = batch["labels"].take_along_dim(batch["positions"], dim=1).flatten()
        return labels, (labels >= 0).float()
