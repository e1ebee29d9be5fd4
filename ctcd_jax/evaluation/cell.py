"""What a worker does with one cell: reads its task, fine-tunes, scores, keeps the predictions (and the model)."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ctcd_jax.artifacts.predictions import write_predictions
from ctcd_jax.artifacts.results import FORMAT, PREDICTIONS, Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.baselines import majority_scores, metrics_text, score_splits
from ctcd_jax.evaluation.matrix import Cell
from ctcd_jax.evaluation.scores import majority_share
from ctcd_jax.evaluation.tasks.data import TaskData, TaskSource, load
from ctcd_jax.evaluation.tasks.tasks import Task

if TYPE_CHECKING:  # it imports PyTorch
    from ctcd_jax.evaluation.classifier import AppliedSettings, Computation

CUT_SPLITS = ("train", "dev", "dev_mismatched")


class Progress(NamedTuple):
    """How far a cell is: the share of its training that is done, and a line for each epoch that has ended."""

    share: float
    epochs: tuple[str, ...]


def run_cell(cell: Cell, progress: Callable[[Progress], None]) -> tuple[Result, tuple[str, ...]]:
    """Runs one cell; prints a line an epoch.

    Args:
      progress: called after each step.

    Returns:
      The cell's line of `results.jsonl`, but for the path of its predictions; the lines of all epochs.
    """
    from ctcd_jax.evaluation.classifier import Computation, Epoch, fine_tune

    started = time.perf_counter()
    start = cell.kept if cell.intermediate else cell.directory
    if start is None or (cell.intermediate and not start.is_dir()):
        raise UserError(
            f"{cell.kept}: not there; the cell of {cell.intermediate} failed, or ran without --intermediate"
        )
    data = _load(cell.source, cell.task)
    settings = dict(cell.settings)
    steps = math.ceil(-(-len(data.train) // settings["batch_size"]) * settings["epochs"])
    computation = Computation(resolve_precision(cell.precision), cell.compiled)
    applied, epochs = [], []

    def epoch_ended(epoch: Epoch) -> None:
        scores = metrics_text(score_splits(data, epoch.answers))
        passed = f"epoch {epoch.number:g}/{settings['epochs']:g}  train loss {epoch.loss:.4f}"
        epochs.append(f"{cell.title}  {passed}  {scores}  {time.perf_counter() - started:.0f} s")
        print(epochs[-1], flush=True)

    answers = fine_tune(
        start,
        data,
        cell.seed,
        settings,
        computation,
        progress=lambda step: progress(Progress(step / steps, tuple(epochs))),
        applied=applied.append,
        epoch_ended=epoch_ended,
        keep=None if cell.intermediate else cell.kept,
        keep_classifier=cell.classifier,
    )
    labels = [np.asarray(split.labels) for split in data.dev]
    write_predictions(cell.folder / PREDICTIONS, list(zip(labels, answers, strict=False)))
    seconds = round(time.perf_counter() - started, 1)
    return _line(cell, data, answers, applied[0], computation, seconds), tuple(epochs)


def _line(
    cell: Cell,
    data: TaskData,
    answers: Sequence[np.ndarray],
    applied: "AppliedSettings",
    computation: "Computation",
    seconds: float,
) -> Result:
    """Returns what `results.jsonl` says of the cell, but for the path of its predictions."""
    import torch
    import transformers

    metrics = score_splits(data, answers)
    dev, classes = data.dev[0], cell.task.classes
    cuda = torch.cuda.is_available()
    line = {
        "format": FORMAT,
        "model": cell.model,
        "weights": cell.weights,
        **cell.companions,
        "task": cell.task.name,
        "seed": cell.seed,
        "metric": cell.task.headline,
        "value": metrics[cell.task.headline],
        "metrics": metrics,
        "majority_share": majority_share(dev.labels) if classes else None,
        "majority": majority_scores(data),
        "positive": classes[1] if classes and "f1" in cell.task.metrics else None,
        "hyperparameters": dict(cell.settings),
        "max_length_used": applied.max_length,
        **{f"cut_{name}": count for name, count in zip(CUT_SPLITS, applied.cut, strict=False)},
        "intermediate": cell.intermediate,
        "train_rows": len(data.train),
        "dev_rows": len(dev),
        "data": data.digest,
        "seconds": seconds,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "precision": computation.precision,
        "threads": None if cuda else torch.get_num_threads(),
        "compiled": computation.compiled,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return cast("Result", line)


@functools.lru_cache(maxsize=1)  # the seeds of a task follow one another
def _load(source: TaskSource, task: Task) -> TaskData:
    return load(source, task)


def resolve_precision(wanted: str) -> str:
    """Returns the precision that "auto" stands for on this machine, any other as it is."""
    import torch

    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
