"""An exported model's masked-language-model loss on a corpus's validation rows, worked out in PyTorch alone.

    python -m tests.training.validation_in_pytorch EXPORT CORPUS

It must equal the `hard` figure of the last validation line of the run it came from: the whole pipeline in one number.
The masks are the run's; sentences of a packed row are kept apart by a four-dimensional mask and positions that restart.
"""

import sys

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.training.masking import Masker, validation_keys


def validation_loss(export, corpus) -> float:
    """Returns nats per predicted token."""
    corpus = Corpus.open(corpus)
    model = AutoModelForMaskedLM.from_pretrained(export).eval()
    masker, batches = Masker(corpus.vocab_size, corpus.special_ids), ValidationBatches(corpus, 64)
    total = count = 0
    for index in range(len(batches)):
        batch = batches[index]
        masked = masker(validation_keys(batch["rows"]), batch["input_ids"])
        ids, labels, segments = (np.asarray(x) for x in (masked.input_ids, masked.row_labels, masked.segment_ids))
        starts = np.array([[np.argmax(row == segment) for segment in row] for row in segments])
        apart = torch.from_numpy(segments[:, None, :, None] == segments[:, None, None, :])
        with torch.no_grad():
            logits = model(
                input_ids=torch.from_numpy(ids).long(),
                attention_mask=apart,
                position_ids=torch.from_numpy(np.arange(ids.shape[1]) - starts),
            ).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(labels).long().flatten(), ignore_index=-100, reduction="sum"
        )
        total, count = total + loss.item(), count + (labels >= 0).sum()
    return float(total / count)


if __name__ == "__main__":
    print(f"{validation_loss(*sys.argv[1:]):.6f}")
