"""Paired differences between the first model of a `results.jsonl` and each other, with bootstrap intervals."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.evaluation import paper
from ctcd_jax.evaluation.bootstrap import LEVEL, RESAMPLES, interval, seed_weights
from ctcd_jax.evaluation.paper import Column
from ctcd_jax.evaluation.predictions import Resamples, resample
from ctcd_jax.evaluation.selection import selected
from ctcd_jax.evaluation.summary import average_titles, column_key, column_title, summarise, task_title

_SEED = 0


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, in points of per cent, over the seeds that both have.

    Attributes:
      column: a (task, metric), or the title of an average.
      value: mean over the shared seeds.
      seeds: how many are shared; for an average, the fewest of its columns.
      interval: (low, high), None where it cannot be had; `missing` then says why.
    """

    first: str
    second: str
    column: Column | str
    value: float
    seeds: int
    interval: tuple[float, float] | None
    missing: str | None = None


def differences(rows: Sequence[dict], folder: Path) -> list[Difference]:
    """Compares the first model of `rows` with each other, column by column and in both averages.

    Intervals need the predictions that the lines name, relative to `folder`.
    """
    rows = selected(rows)
    summary = summarise(rows)
    if len(summary.models) < 2:
        return []
    first, *others = summary.models
    tasks: dict[str, dict[str, dict[int, dict]]] = {task: {first: {}} for task, _ in summary.columns}
    for row in rows:
        tasks[row["task"]].setdefault(row["model"], {})[row["seed"]] = row
    resamples = {task: _resample(task, models, folder) for task, models in tasks.items()}
    found = []
    for second in others:
        columns, samples = {}, {}
        for column in summary.columns:
            task, metric = column
            pair = [
                {seed: row["metrics"][metric] for seed, row in seeds.items() if metric in row["metrics"]}
                for seeds in (tasks[task][first], tasks[task].get(second, {}))
            ]
            if pair[0].keys() & pair[1].keys():
                columns[column], samples[column] = _column(column, (first, second), pair, resamples[task])
        found += [*columns.values(), *_averages(summary.averaged, columns, samples)]
    return found


def differences_table(found: Sequence[Difference]) -> list[list[str]]:
    """Returns the header and one line a pair, as text; the averages come last."""
    shown = dict.fromkeys(difference.column for difference in found)
    columns = sorted(shown, key=lambda column: isinstance(column, str))
    pairs: dict[tuple[str, str], dict[Column | str, Difference]] = {}
    for difference in found:
        pairs.setdefault((difference.first, difference.second), {})[difference.column] = difference
    most = max(difference.seeds for difference in found)
    titles = [column if isinstance(column, str) else column_title(*column) for column in columns]
    return [
        ["difference", *titles],
        *(
            [f"{first} − {second}", *(_text(by_column.get(column), most) for column in columns)]
            for (first, second), by_column in pairs.items()
        ),
    ]


def differences_note(found: Sequence[Difference]) -> str:
    """Says what the intervals cover and what they do not, and why any is missing."""
    notes = ["Points of per cent, over the seeds that both models have."]
    seeds = {difference.seeds for difference in found if difference.interval}
    if seeds:
        notes.append(
            f"In brackets {100 * LEVEL:g} % percentile bootstrap intervals, {RESAMPLES:,} resamples: each draws "
            "fine-tuning seeds and development examples with replacement, the same ones for both models. They do not "
            "cover pre-training, for each model was pre-trained once, nor the choice of settings, and are not widened "
            "for being many."
        )
    if 1 in seeds:
        where = "there is only one seed" if seeds == {1} else "only one seed is shared (n = 1)"
        notes.append(f"Where {where}, examples alone are drawn: the interval says nothing of other seeds.")
    if seeds - {1}:
        notes.append(
            "Where seeds scatter far more than examples, a few of them give too narrow an interval: in simulation it "
            "held the truth about 80 % of the time with three seeds and 90 % with five, and otherwise 95 % or more."
        )
    reasons: dict[str, dict[str, None]] = {}
    for difference in found:
        if difference.missing and not isinstance(difference.column, str):
            reasons.setdefault(difference.missing, {})[task_title(difference.column[0])] = None
    notes += [f"No interval for {', '.join(tasks)}: {reason}." for reason, tasks in reasons.items()]
    return " ".join(notes)


def differences_csv(found: Sequence[Difference]) -> str:
    """Returns one line a difference, in points of per cent; `low` and `high` are empty without an interval."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["first", "second", "column", "difference", "low", "high", "seeds", "resamples"])
    for difference in found:
        ends = ["", ""] if difference.interval is None else [f"{end:.6f}" for end in difference.interval]
        writer.writerow(
            [
                difference.first,
                difference.second,
                column_key(difference.column),
                f"{difference.value:.6f}",
                *ends,
                difference.seeds,
                RESAMPLES if difference.interval else "",
            ]
        )
    return file.getvalue()


def _resample(task: str, models: Mapping[str, dict[int, dict]], folder: Path) -> Resamples:
    """Resamples the seeds that the first model shares with another; a cell that nothing is held against is left."""
    own, *others = models.values()
    shared = {seed for seeds in others for seed in seeds} & own.keys()
    if not shared:
        return Resamples()
    used = {model: {seed: row for seed, row in seeds.items() if seed in shared} for model, seeds in models.items()}
    return resample(task, used, folder, _SEED)


def _column(
    column: Column, models: tuple[str, str], pair: Sequence[Mapping[int, float]], resamples: Resamples
) -> tuple[Difference, np.ndarray | None]:
    seeds = sorted(pair[0].keys() & pair[1].keys())
    value = 100 * float(np.mean([pair[0][seed] - pair[1][seed] for seed in seeds]))
    reasons = [resamples.missing[model, column[0]] for model in models if (model, column[0]) in resamples.missing]
    if reasons:
        return Difference(*models, column, value, len(seeds), None, "; ".join(reasons)), None
    first, second = (np.stack([resamples.scores[model, seed, column] for seed in seeds], axis=1) for model in models)
    # Tasks with the same seeds share the draw: should a seed be lucky in several tasks, the averages' intervals see it.
    weights = seed_weights(len(seeds), np.random.default_rng([_SEED, *seeds]))
    samples = 100 * (weights * (first - second)).sum(axis=1)
    return Difference(*models, column, value, len(seeds), interval(samples)), samples


def _averages(
    averaged: Sequence[Column], columns: Mapping[Column, Difference], samples: Mapping[Column, np.ndarray | None]
) -> list[Difference]:
    """Both averages of one pair, or none where it lacks a column."""
    if any(column not in columns for column in averaged):
        return []
    parts = {column: columns[column] for column in averaged}
    drawn = {column: samples[column] for column in averaged}
    complete = all(values is not None for values in drawn.values())
    return [
        Difference(
            *next((part.first, part.second) for part in parts.values()),
            title,
            mean({column: part.value for column, part in parts.items()}),
            min(part.seeds for part in parts.values()),
            interval(mean(drawn)) if complete else None,
            None if complete else "a column has no interval",
        )
        for title, mean in zip(average_titles(averaged), (paper.mean_of_columns, paper.mean_over_tasks), strict=True)
    ]


def _text(difference: Difference | None, seeds: int) -> str:
    if difference is None:
        return "–"
    ends = "" if difference.interval is None else " [" + ", ".join(_signed(end) for end in difference.interval) + "]"
    few = f" (n = {difference.seeds})" if difference.seeds < seeds else ""
    return f"{_signed(difference.value, '+')}{ends}{few}"


def _signed(value: float, plus: str = "") -> str:
    """Two decimals with a true minus sign; what rounds to nothing has none."""
    text = f"{abs(value):.2f}"
    sign = "" if float(text) == 0 else "−" if value < 0 else plus
    return sign + text
