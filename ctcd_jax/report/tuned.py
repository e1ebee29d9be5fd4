"""What models score after fine-tuning, against the reference and against what knows nothing of the task."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctcd_jax.artifacts.collect import Results
from ctcd_jax.artifacts.pairs import NORMAL
from ctcd_jax.artifacts.results import Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tables.comparison import Difference, read_differences
from ctcd_jax.evaluation.tables.intervals import half_width
from ctcd_jax.evaluation.tables.paper import MetricColumn
from ctcd_jax.evaluation.tables.selection import selected
from ctcd_jax.evaluation.tables.summary import Summary, average_titles, column_title, summarise


@dataclass(frozen=True)
class Baseline:
    """What scores without knowing any language: the mean in per cent over the columns that models are averaged over."""

    name: str
    mean: float


@dataclass(frozen=True)
class Tuned:
    """A model in a folder of results.

    Attributes:
      mean: over the averaged columns, in per cent; None unless it has every one.
      difference: of that mean to the reference's, in points, with its interval; None for the reference itself.
      above: on how many tasks it is better than the constant answer by more than chance.
      tasks: how many could be judged.
    """

    mean: float | None
    difference: Difference | None
    above: int
    tasks: int


@dataclass(frozen=True)
class Scores:
    """A folder of results: the mean that its models are compared by.

    Attributes:
      title: of the mean, e.g. "mean of the 7 metric columns".
      columns: that it is over.
      reference: the model that the others were compared with; None where none were.
      models: by their names in the folder.
      baselines: those that are known in all columns.
    """

    title: str
    columns: tuple[MetricColumn, ...]
    reference: str | None
    models: dict[str, Tuned]
    baselines: list[Baseline]


def fine_tuned(results: Results) -> Scores | None:
    """Returns what a folder's models score; None where no cell has a result."""
    if not results.rows:
        return None
    summary, rows = summarise(results.rows, results.baselines), selected(results.rows)
    title = average_titles(summary.averaged)[0]
    try:
        found = read_differences(results.comparison, results.rows) if results.comparison else []
    except UserError:  # the section on fine-tuning says so
        found = []
    differences = {difference.second: reversed_(difference) for difference in found if difference.column == title}
    reference = found[0].first if differences else None
    models = {}
    for model in summary.models:
        judged = _judged([row for row in rows if row["model"] == model])
        mean = summary.mean_of_columns(model)
        models[model] = Tuned(mean, differences.get(model), sum(judged.values()), len(judged))
    shown = title if len(summary.averaged) > 1 else column_title(*summary.averaged[0])
    return Scores(shown, tuple(summary.averaged), reference, models, _baselines(summary))


def reversed_(difference: Difference) -> Difference:
    """Returns the difference of the second model to the first."""
    own = difference.interval
    turned = None if own is None else replace(own, low=-own.high, high=-own.low)
    ends = {"first": difference.second, "second": difference.first}
    return replace(difference, **ends, value=-difference.value, interval=turned)


def _baselines(summary: Summary) -> list[Baseline]:
    means = {name: summary.averages(values)[0] for name, values in summary.baselines.items()}
    return [Baseline(name, mean) for name, mean in means.items() if mean is not None]


def _judged(rows: Sequence[Result]) -> dict[str, bool]:
    """{task: whether a model is better than the constant answer by more than chance}, of its lines.

    By accuracy where there is one, else by the Matthews or Pearson correlation, whose spread over examples at chance is
    known. Half the width of the 95 % interval is that of the examples and that of the seeds, added in quadrature.
    """
    judged = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        found = _against_chance(own)
        if found is not None:
            values, chance, error = found
            seeds = float(half_width(np.array([values]), None, 1.0, 0)) if len(values) > 1 else 0.0
            judged[task] = statistics.fmean(values) - chance > math.hypot(seeds, NORMAL * error)
    return judged


def _against_chance(rows: Sequence[Result]) -> tuple[list[float], float, float] | None:
    """(a score for each seed, what the constant answer has, the standard error for the examples); shares, not %.

    Where the number of examples is not recorded the standard error is 0, and the scatter over seeds has to do.
    """
    majority, examples = rows[0].get("majority") or {}, rows[0].get("dev_rows") or 0
    share = majority.get("accuracy", rows[0].get("majority_share"))
    metrics = set.intersection(*(set(row["metrics"]) for row in rows))
    if "accuracy" in metrics and share is not None:
        values, chance = _values(rows, "accuracy"), share
        mean = min(max(statistics.fmean(values), 0.0), 1.0)
        return values, chance, math.sqrt(mean * (1 - mean) / examples) if examples else 0.0
    for metric in ("matthews", "pearson"):
        if metric in metrics:
            return _values(rows, metric), 0.0, examples**-0.5 if examples else 0.0
    return None


def _values(rows: Sequence[Mapping], metric: str) -> list[float]:
    return [row["metrics"][metric] for row in rows]
