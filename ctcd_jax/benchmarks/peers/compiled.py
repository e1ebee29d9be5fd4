"""CTCD in PyTorch as fast as we can make it: `torch.compile`, SDPA and fused AdamW, in two ways."""

import torch
from transformers import BertForMaskedLM

from ctcd_jax.benchmarks.peers.eager import Batch, EagerCTCD, inputs


class CompiledLayersCTCD(EagerCTCD):
    """`EagerCTCD` whose encoder layers are compiled, embeddings, head and losses being eager.

    Layers of one shape share one program, so that it compiles in a fraction of the time of the whole.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options | {"fused": True})
        for model in (self.teacher, self.student):
            for layer in model.bert.encoder.layer:
                layer.compile(fullgraph=True, dynamic=False)


class CompiledCTCD(EagerCTCD):
    """`EagerCTCD` compiled whole, both models and the loss; the first step compiles.

    Shapes are static, so that it compiles once: the head acts on a fixed number of positions a row, of which spare ones
    have no label and no weight, just as in ours.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options | {"fused": True})
        self.forward = torch.compile(self.loss, fullgraph=True, dynamic=False)

    def predictions(self, model: BertForMaskedLM, batch: Batch) -> torch.Tensor:
        """Returns logits float[B * S, V] of these positions, or float[B * L, V] of all positions."""
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
