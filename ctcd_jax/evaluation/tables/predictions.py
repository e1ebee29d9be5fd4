"""The development predictions that fine-tuned cells kept, and the scores of their bootstrap resamples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ctcd_jax import errors
from ctcd_jax.artifacts.predictions import SECOND_SET, read_predictions
from ctcd_jax.artifacts.results import Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.scores import weighted_scores
from ctcd_jax.evaluation.tables.bootstrap import resampled_scores
from ctcd_jax.evaluation.tables.paper import MetricColumn
from ctcd_jax.evaluation.tables.prediction_tables import PredictionTable, as_kept, read_table, table_path, table_text
from ctcd_jax.files import write_whole

# Metrics come back from the same numbers up to the order of summation; one example of 50,000 changes 2e-5.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Resamples:
    """What the predictions of a task give.

    Attributes:
      scores: float[resamples] in [-1, 1] for every (model, seed, column).
      examples: how many examples each column has.
      missing: why a (model, task) has none.
    """

    scores: dict[tuple[str, int, MetricColumn], np.ndarray] = field(default_factory=dict)
    examples: dict[MetricColumn, int] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)


class _UnusableError(Exception):
    """Its text is the reason."""


def resample(task: str, models: Mapping[str, Mapping[int, Result]], folder: Path, seed: int) -> Resamples:
    """Draws the development examples of `task` again, the same for every model and seed.

    Args:
      task: its name.
      models: {model: {seed: line of results.jsonl}}; the first model's rows are those that the others must have.
      folder: of results.jsonl. Predictions are in the files that the lines name, or in `predictions/`.
      seed: of the draws, with the task's name: another task's draws are independent, and stay when one is added.
    """
    found = Resamples()
    lines = [line for seeds in models.values() for line in seeds.values()]
    for suffix, plain in _sets(lines):
        kept = _Kept(folder, task, suffix)
        labels, runs = None, {}
        for model, seeds in models.items():
            try:
                for number, line in seeds.items():
                    own, guesses = kept.read(line)
                    labels = own if labels is None else labels
                    if not np.array_equal(own, labels):
                        raise _UnusableError(f"{model} was scored on other rows than {next(iter(models))}")
                    runs[model, number] = guesses
            except _UnusableError as error:
                found.missing[model, task] = str(error)
        if labels is not None and runs:
            rng = np.random.default_rng([seed, len(suffix), *task.encode()])
            for metric, values in resampled_scores(plain, labels, np.stack(list(runs.values())), rng).items():
                found.examples[task, metric + suffix] = len(labels)
                for (model, number), scores in zip(runs, values, strict=True):
                    found.scores[model, number, (task, metric + suffix)] = scores
    return found


def keep(rows: Sequence[Result], folder: Path, warn: Callable[[str], None] = errors.warn) -> None:
    """Writes `predictions/TASK.csv` with every cell of `rows` whose predictions are there, in `cells/` or in it.

    A table that is damaged is left as it is, with a warning: it may be all that is left of some cell.

    Args:
      rows: lines of `results.jsonl`.
      folder: of that file.
      warn: takes a line.
    """
    tasks: dict[str, list[Result]] = {}
    for row in rows:
        tasks.setdefault(row["task"], []).append(row)
    for task, lines in tasks.items():
        for suffix, _ in _sets(lines):
            kept = _Kept(folder, task, suffix)
            if kept.damage:
                warn(kept.damage)
            elif table := _gathered(kept, lines):
                path, text = table_path(folder, task, suffix), table_text(table)
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    path.parent.mkdir(exist_ok=True)
                    write_whole(path, text)


def _gathered(kept: "_Kept", lines: Sequence[Result]) -> PredictionTable | None:
    labels, predictions = None, {}
    for line in lines:
        try:
            own, guesses = kept.read(line)
        except _UnusableError:  # the differences say so
            continue
        labels = own if labels is None else labels
        if (place := line.get("predictions")) and np.array_equal(own, labels):
            predictions[place] = guesses
    return None if labels is None else PredictionTable(labels, predictions)


def _sets(lines: Sequence[Result]) -> Iterator[tuple[str, list[str]]]:
    """Yields (what the names of a development set end in, its metrics without it)."""
    metrics = list(dict.fromkeys(metric for line in lines for metric in line["metrics"]))
    for suffix in ("", SECOND_SET):
        plain = [metric.removesuffix(suffix) for metric in metrics if metric.endswith(SECOND_SET) == bool(suffix)]
        if plain:
            yield suffix, plain


class _Kept:
    """The predictions of a task's cells for one of its development sets; `damage` says what ails their table."""

    def __init__(self, folder: Path, task: str, suffix: str):
        self.damage: str | None = None
        self._folder, self._suffix, self._table = folder, suffix, None
        path = table_path(folder, task, suffix)
        if path.is_file():
            try:
                self._table = read_table(path)
            except UserError as error:
                self.damage = str(error)
        self._place = path.relative_to(folder).as_posix()

    def read(self, line: Result) -> tuple[np.ndarray, np.ndarray]:
        """Returns (labels, predictions) of one cell, both [dev rows], from its own file or else from the table.

        They give the scores of the line: an interval must belong to the figure beside it, not to another run.

        Raises:
          _UnusableError: neither has them.
        """
        reasons = []
        place = line.get("predictions")
        for source in (self._of_the_cell, self._of_the_table):
            try:
                if place and (found := source(line["model"], place)) is not None:
                    self._check(line, *found)
                    return found
            except _UnusableError as error:
                reasons.append(str(error))
        raise _UnusableError(reasons[0] if reasons else f"predictions of {line['model']} are missing")

    def _of_the_cell(self, model: str, place: str) -> tuple[np.ndarray, np.ndarray] | None:
        path = self._folder / place
        if not path.is_file():
            return None
        try:
            labels, guesses = read_predictions(path, self._suffix)
        except Exception:  # a damaged archive raises whatever its parts do
            raise _UnusableError(f"predictions of {model} cannot be read") from None
        if labels.ndim != 1 or labels.shape != guesses.shape or not labels.size:
            raise _UnusableError(f"predictions of {model} cannot be read")
        return labels, as_kept(guesses)

    def _of_the_table(self, model: str, place: str) -> tuple[np.ndarray, np.ndarray] | None:
        del model
        if self.damage:
            raise _UnusableError(f"{self._place} is damaged")
        if self._table is None or place not in self._table.predictions:
            return None
        return self._table.labels, self._table.predictions[place]

    def _check(self, line: Result, labels: np.ndarray, guesses: np.ndarray) -> None:
        metrics, once = dict(_sets([line])).get(self._suffix, []), np.ones((1, len(labels)))
        for metric, ((value,),) in weighted_scores(metrics, labels, guesses[None], once).items():
            if not abs(value - line["metrics"][metric + self._suffix]) <= _TOLERANCE:
                raise _UnusableError(f"predictions of {line['model']} do not give the scores in results.jsonl")
