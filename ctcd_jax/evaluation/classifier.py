"""One fine-tuning: an exported encoder, a new classifier on top, its answers on the dev set after the last epoch."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    TrainerCallback,
    TrainingArguments,
)

from ctcd_jax.evaluation.exports import quiet_loading
from ctcd_jax.evaluation.task_data import TaskData
from ctcd_jax.evaluation.task_files import Split
from ctcd_jax.evaluation.tasks import Task


@dataclass(frozen=True)
class Computation:
    """How a fine-tuning is computed, which its results do not depend on but for rounding.

    Attributes:
      precision: "float32", "bfloat16" or "float16" (automatic mixed precision over float32 weights).
      compiled: whether `torch.compile` is used.
    """

    precision: str
    compiled: bool


def fine_tune(
    directory: Path,
    data: TaskData,
    seed: int,
    settings: dict,
    computation: Computation,
    *,
    progress: Callable[[int], None] = lambda steps: None,
    keep: Path | None = None,
) -> list[np.ndarray]:
    """Trains a classifier (or, for a regression, a scorer under squared error) and returns its answers.

    Args:
      directory: model and tokenizer; an encoder that an earlier fine-tuning has kept brings its pooler along.
      seed: of the new weights (classifier, and the pooler that MLM pre-training has none of), the order, the dropout.
      settings: epochs, learning_rate, batch_size, max_length, warmup_fraction, weight_decay.
      progress: told the number of the step after each.
      keep: where to save the fine-tuned encoder and its tokenizer.

    Returns:
      For each dev split int64[rows] class ids or float32[rows] scores, in the order of its rows.

    Raises:
      FloatingPointError: the training has diverged.
    """
    if computation.compiled:
        torch.compiler.reset()  # past eight programs of earlier cells PyTorch quietly goes on without compiling
    tokenizer = AutoTokenizer.from_pretrained(directory)
    longest = min(settings["max_length"], AutoConfig.from_pretrained(directory).max_position_embeddings)
    train, *dev = (encode(directory, split, longest) for split in (data.train, *data.dev))
    with quiet_loading(), tempfile.TemporaryDirectory() as scratch:
        transformers.set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory, num_labels=data.task.outputs, dtype=torch.float32
        )
        trainer = Trainer(
            model=model,
            args=_arguments(scratch, seed, settings, computation),
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[_Steps(progress)],
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train()
        # The Trainer would group the dev rows by length, too, and answer in an order of its own.
        trainer.args.train_sampling_strategy = "sequential"
        answers = [_predict(trainer, data.task, rows) for rows in dev]
        if keep is not None:
            model.config.problem_type = None  # of this task, not of the one that starts from here
            model.base_model.save_pretrained(keep)
            tokenizer.save_pretrained(keep)
    return answers


def encode(directory: Path, split: Split, longest: int) -> list[dict]:
    """Returns each row as the model takes it, at most `longest` tokens, with its label."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoded = tokenizer(*split.sentences, truncation=True, max_length=longest)
    return [
        {**{key: values[row] for key, values in encoded.items()}, "labels": label}
        for row, label in enumerate(split.labels)
    ]


def _predict(trainer: Trainer, task: Task, rows: Sequence[dict]) -> np.ndarray:
    # Rows of like length make a batch, so that little of it is padding.
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
    outputs = trainer.predict([rows[row] for row in order]).predictions
    if not np.isfinite(outputs).all():  # argmax would make a class of it
        raise FloatingPointError("the predictions are not finite; give a lower --learning-rate")
    answers = np.argmax(outputs, axis=-1) if task.classes else np.squeeze(outputs, axis=-1)
    restored = np.empty_like(answers)
    restored[order] = answers
    return restored


def _arguments(scratch: str, seed: int, settings: dict, computation: Computation) -> TrainingArguments:
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
        bf16=computation.precision == "bfloat16",
        fp16=computation.precision == "float16",
        torch_compile=computation.compiled,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
    )
    # Otherwise several GPUs share in DataParallel and multiply the batch size that the results state.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _Steps(TrainerCallback):
    def __init__(self, progress: Callable[[int], None]):
        self._progress = progress

    def on_step_end(self, args, state, control, **kwargs):
        self._progress(state.global_step)
