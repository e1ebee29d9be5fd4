"""One fine-tuning: an exported encoder, a new classifier on top, its answers on the dev set after each epoch."""

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from ctcd_jax.artifacts.exports import quiet_loading, require_finite
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.encoding import Encoded, applied_length, encode_task, load_tokenizer
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.tasks import Task
from ctcd_jax.files import writing_directory


@dataclass(frozen=True)
class Computation:
    """How a fine-tuning is computed, which its results do not depend on but for rounding.

    Attributes:
      precision: "float32", "bfloat16" or "float16" (automatic mixed precision over float32 weights).
      compiled: whether `torch.compile` is used.
    """

    precision: str
    compiled: bool


@dataclass(frozen=True)
class AppliedSettings:
    """What became of `max_length` where a model or its tokenizer takes less.

    Attributes:
      max_length: tokens that an example has at most.
      cut: the number of examples that were longer, of each split.
    """

    max_length: int
    cut: tuple[int, ...]


@dataclass(frozen=True)
class Epoch:
    """What a training has come to at the end of an epoch.

    Attributes:
      number: of epochs so far; not a whole one at the end of a training over a part of the examples.
      loss: mean over the epoch's training examples: cross-entropy in nats or, of a regression, squared error.
      answers: to the development splits, as `fine_tune` returns them.
    """

    number: float
    loss: float
    answers: list[np.ndarray]


def fine_tune(
    directory: Path,
    data: TaskData,
    seed: int,
    settings: dict,
    computation: Computation,
    *,
    progress: Callable[[int], None] = lambda steps: None,
    applied: Callable[[AppliedSettings], None] = lambda applied: None,
    epoch_ended: Callable[[Epoch], None] | None = None,
    keep: Path | None = None,
    keep_classifier: Path | None = None,
) -> list[np.ndarray]:
    """Trains a classifier (or, for a regression, a scorer under squared error) and returns its answers.

    Args:
      directory: model and tokenizer. Only the base model is taken, with its pooler where it has one (from next-sentence
        prediction, or from an earlier fine-tuning); a classifier that is there, too, is left.
      data: the task and its examples.
      seed: of the new weights (classifier, and the pooler that MLM pre-training has none of), the order, the dropout.
      settings: epochs, learning_rate, batch_size, max_length, warmup_fraction, weight_decay.
      computation: precision, and whether to compile.
      progress: called after each step with its number.
      applied: called before the training with what the examples were cut to.
      epoch_ended: called after each epoch. What is returned does not depend on it: nothing is selected.
      keep: where to save the fine-tuned encoder and its tokenizer.
      keep_classifier: where to save the fine-tuned model and its tokenizer, as `transformers.pipeline` loads them.

    Returns:
      For each dev split int64[rows] class ids or float32[rows] scores, in the order of its rows, after the last epoch.

    Raises:
      FloatingPointError: the training has diverged.
    """
    if computation.compiled:
        torch.compiler.reset()  # past eight programs of earlier cells PyTorch quietly goes on without compiling
    tokenizer = load_tokenizer(directory)
    longest = applied_length(directory, settings["max_length"])
    train, *dev = encode_task(directory, data, longest)
    applied(AppliedSettings(longest, tuple(rows.cut for rows in (train, *dev))))
    with quiet_loading(), tempfile.TemporaryDirectory() as scratch:
        model = load_classifier(directory, data.task.outputs, seed)
        trainer = _Trainer(
            model=model,
            args=_arguments(scratch, seed, settings, computation),
            train_dataset=cast("Any", train),  # whatever has a length and items
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[_Steps(progress)],
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        ended = functools.partial(_end_epoch, trainer, data.task, dev, epoch_ended)
        if epoch_ended:
            trainer.add_callback(_Epochs(ended))
        trainer.train()
        answers = ended(settings["epochs"])
        if keep is not None:
            model.config.problem_type = None  # of this task, not of the one that starts from here
            cast("Any", model.base_model).save_pretrained(keep)
            tokenizer.save_pretrained(keep)
        if keep_classifier is not None:
            _save_classifier(model, tokenizer, data.task, longest, keep_classifier)
    return answers


def load_classifier(directory: Path, outputs: int, seed: int) -> PreTrainedModel:
    """Returns the base model of a checkpoint with a new classifier on top, both float32.

    Args:
      directory: of the checkpoint.
      outputs: classes, or 1 for a regression.
      seed: of all weights that are new.

    Raises:
      UserError: the checkpoint lacks weights of the base model, or has them in another shape than its config.json says.
    """
    config = AutoConfig.from_pretrained(directory, num_labels=outputs)
    config.problem_type = None  # that of another task; the model finds ours by the type of the labels
    config.id2label = {index: f"LABEL_{index}" for index in range(outputs)}
    config.label2id = {label: index for index, label in config.id2label.items()}
    transformers.set_seed(seed)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        directory, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
    )
    missing, other = set(loading["missing_keys"]), {name for name, *_ in loading["mismatched_keys"]}
    base = {name for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}.")}
    if lacking := sorted(name for name in base & (missing | other) if name in other or "pooler" not in name):
        raise UserError(
            f"{directory}: its weights are not those that its config.json describes ({len(lacking)} missing or of "
            f"another shape, {lacking[0]} the first); fetch or export the model again"
        )
    require_finite(directory, model)
    if {name for name, _ in model.named_parameters()} - base <= missing | other:
        return model
    # The checkpoint has a classifier, of whatever task: all of it is drawn anew.
    transformers.set_seed(seed)
    fresh = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


def _save_classifier(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, longest: int, directory: Path
) -> None:
    """Writes a model that a pipeline loads: it knows the names of the classes and leaves scores as they are."""
    names = task.classes or ("score",)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    model.config.problem_type = "single_label_classification" if task.classes else "regression"
    tokenizer.model_max_length = longest
    shutil.rmtree(directory, ignore_errors=True)  # of the same cell, whose result was lost
    with writing_directory(directory) as partial:
        cast("Any", model).save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def _end_epoch(
    trainer: "_Trainer",
    task: Task,
    dev: Sequence[Encoded],
    epoch_ended: Callable[[Epoch], None] | None,
    number: float,
) -> list[np.ndarray]:
    """Answers the development splits, and leaves no trace in the training that goes on."""
    with _without_trace(trainer):
        answers = [_predict(trainer, task, rows) for rows in dev]
    if epoch_ended:
        epoch_ended(Epoch(number, trainer.take_loss(), answers))
    return answers


@contextlib.contextmanager
def _without_trace(trainer: Trainer) -> Iterator[None]:
    """Restores the random numbers, of which a loader draws one, and the order of the training rows."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    strategy = trainer.args.train_sampling_strategy
    with torch.random.fork_rng(devices):
        # The Trainer would group the dev rows by length, too, and answer in an order of its own.
        trainer.args.train_sampling_strategy = "sequential"
        try:
            yield
        finally:
            trainer.args.train_sampling_strategy = strategy


def _predict(trainer: Trainer, task: Task, rows: Encoded) -> np.ndarray:
    # Rows of like length make a batch, so that little of it is padding.
    order = np.argsort(rows.lengths, kind="stable")
    outputs = trainer.predict(cast("Any", [rows[row] for row in order])).predictions
    if isinstance(outputs, tuple):  # of a model that gives more than its logits
        outputs = outputs[0]
    if not np.isfinite(outputs).all():  # argmax would make a class of it
        raise FloatingPointError("the predictions are not finite; give a lower --learning-rate")
    answers = np.argmax(outputs, axis=-1) if task.classes else outputs.reshape(len(rows))  # DeBERTa's lack the axis
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


class _Trainer(Trainer):
    """Adds up the training loss, without waiting for the device in each step."""

    def __init__(self, **options):
        super().__init__(**options)
        self._loss, self._rows = torch.zeros((), device=self.args.device), 0

    def training_step(self, model, inputs, num_items_in_batch=None):
        rows = len(inputs["labels"])
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._loss, self._rows = self._loss + rows * loss, self._rows + rows
        return loss

    def take_loss(self) -> float:
        """Returns the mean over the examples since it was last called."""
        mean = float(self._loss) / self._rows
        self._loss, self._rows = torch.zeros_like(self._loss), 0
        return mean


class _Epochs(TrainerCallback):
    """Calls back at the end of each epoch but the last, with its number."""

    def __init__(self, ended: Callable[[int], Any]):
        self._ended = ended

    def on_epoch_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps:
            self._ended(round(state.epoch))


class _Steps(TrainerCallback):
    def __init__(self, progress: Callable[[int], None]):
        self._progress = progress

    def on_step_end(self, args, state, control, **kwargs):
        self._progress(state.global_step)
