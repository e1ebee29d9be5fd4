"""The development predictions that fine-tuned cells kept, and the scores of their bootstrap resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctcd_jax.evaluation.bootstrap import resampled_scores, weighted_scores
from ctcd_jax.evaluation.paper import Column

# MNLI has a second development set; its arrays and its metrics end in this.
_SECOND_SET = "_mismatched"
# Metrics come back from the same numbers up to the order of summation; one example of 50,000 changes 2e-5.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Resamples:
    """float[resamples] in [-1, 1] for every (model, seed, column), or why a (model, task) has none."""

    scores: dict[tuple[str, int, Column], np.ndarray] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)


class _UnusableError(Exception):
    """Its text is the reason."""


def resample(task: str, models: Mapping[str, Mapping[int, dict]], folder: Path, seed: int) -> Resamples:
    """Draws the development examples of `task` again, the same for every model and seed.

    Args:
      models: {model: {seed: line of results.jsonl}}; the first model's rows are those that the others must have.
      folder: what the paths in the lines are relative to.
      seed: of the draws, with the task's name: another task's draws are independent, and stay when one is added.
    """
    found = Resamples()
    lines = [line for seeds in models.values() for line in seeds.values()]
    metrics = list(dict.fromkeys(metric for line in lines for metric in line["metrics"]))
    for suffix in ("", _SECOND_SET):
        plain = [metric.removesuffix(suffix) for metric in metrics if metric.endswith(_SECOND_SET) == bool(suffix)]
        labels, runs = None, {}
        for model, seeds in models.items() if plain else ():
            try:
                for number, line in seeds.items():
                    own, guesses = _read(folder, model, line, suffix)
                    labels = own if labels is None else labels
                    if not np.array_equal(own, labels):
                        raise _UnusableError(f"{model} was scored on other rows than {next(iter(models))}")
                    _check(model, line, own, guesses, plain, suffix)
                    runs[model, number] = guesses
            except _UnusableError as error:
                found.missing[model, task] = str(error)
        if runs:
            rng = np.random.default_rng([seed, len(suffix), *task.encode()])
            for metric, values in resampled_scores(plain, labels, np.stack(list(runs.values())), rng).items():
                for (model, number), scores in zip(runs, values, strict=True):
                    found.scores[model, number, (task, metric + suffix)] = scores
    return found


def _read(folder: Path, model: str, line: dict, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels, predictions) of one cell, both [dev rows]."""
    path = folder / line["predictions"] if line.get("predictions") else None
    if path is None or not path.is_file():
        raise _UnusableError(f"predictions of {model} are missing")
    try:
        with np.load(path) as arrays:
            labels, guesses = arrays["labels" + suffix], arrays["predictions" + suffix]
    except (BadZipFile, EOFError, KeyError, OSError, ValueError):
        raise _UnusableError(f"predictions of {model} cannot be read") from None
    if labels.ndim != 1 or labels.shape != guesses.shape:
        raise _UnusableError(f"predictions of {model} cannot be read")
    return labels, guesses


def _check(
    model: str, line: dict, labels: np.ndarray, guesses: np.ndarray, metrics: Sequence[str], suffix: str
) -> None:
    """Guards against files of another run of the cell: an interval must belong to the figure beside it."""
    once = np.ones((1, len(labels)))
    for metric, ((value,),) in weighted_scores(metrics, labels, guesses[None], once).items():
        if not abs(value - line["metrics"].get(metric + suffix, value)) <= _TOLERANCE:
            raise _UnusableError(f"predictions of {model} do not give the scores in results.jsonl")
