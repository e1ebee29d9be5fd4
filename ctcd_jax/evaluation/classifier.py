"""One fine-tuning run: an exported encoder, a new classifier on top, and the dev set's metrics after the last epoch."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
)

from ctcd_jax.evaluation.exports import quiet_loading
from ctcd_jax.evaluation.scores import score
from ctcd_jax.evaluation.tasks import Split, Task


def fine_tune(directory: Path, task: Task, train: Split, dev: Split, seed: int, settings: dict) -> dict[str, float]:
    """Trains a classifier (or, for a regression, a scorer under squared error) and returns its dev metrics.

    Args:
      directory: exported model and tokenizer.
      seed: of the new weights (classifier, and the pooler that MLM pre-training has none of), the order, the dropout.
      settings: epochs, learning_rate, batch_size, max_length, warmup_fraction, weight_decay.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    longest = min(settings["max_length"], AutoConfig.from_pretrained(directory).max_position_embeddings)
    with quiet_loading(), tempfile.TemporaryDirectory() as scratch:
        transformers.set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory, num_labels=task.outputs, dtype=torch.float32
        )
        trainer = Trainer(
            model=model,
            args=_arguments(scratch, seed, settings),
            train_dataset=_encode(tokenizer, train, longest),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        if sys.stderr.isatty():
            trainer.add_callback(_Bar)
        trainer.train()
        result = trainer.predict(_encode(tokenizer, dev, longest))
    outputs = result.predictions
    predictions = np.argmax(outputs, axis=-1) if task.classes else np.squeeze(outputs, axis=-1)
    # Not dev.labels: grouping by length, the Trainer predicts in an order of its own, in which it returns the labels.
    return score(task.metrics, result.label_ids, predictions)


def _arguments(scratch: str, seed: int, settings: dict) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=scratch,
        seed=seed,
        data_seed=seed,
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        warmup_steps=settings["warmup_fraction"],
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=settings["batch_size"],
        train_sampling_strategy="group_by_length",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
    )
    # Otherwise several GPUs share in DataParallel and multiply the batch size that the results state.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _encode(tokenizer, split: Split, longest: int) -> list[dict]:
    encoded = tokenizer(*split.sentences, truncation=True, max_length=longest)
    return [
        {**{key: values[row] for key, values in encoded.items()}, "labels": label}
        for row, label in enumerate(split.labels)
    ]


class _Bar(ProgressCallback):
    """The Trainer's bar over the steps, without the dictionaries it prints in between."""

    def on_log(self, *args, **kwargs):
        pass
