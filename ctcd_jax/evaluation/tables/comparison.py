"""Paired differences between the first model of a `results.jsonl` and each other, with confidence intervals."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.artifacts.results import ComparisonLine, Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tables import paper
from ctcd_jax.evaluation.tables.intervals import EXAMPLES, SOURCES, Interval, interval, interval_words
from ctcd_jax.evaluation.tables.paper import MetricColumn
from ctcd_jax.evaluation.tables.predictions import Resamples, resample
from ctcd_jax.evaluation.tables.selection import selected
from ctcd_jax.evaluation.tables.summary import (
    average_titles,
    column_key,
    column_title,
    summarise,
    task_title,
)
from ctcd_jax.text_tables import number_text

_SEED = 0
_HEAD = ["first", "second", "column", "difference", "low", "high", "seeds", "covers", "missing"]
_EARLIER = "comparison.csv is of an earlier version, whose intervals held less than they said; run ctcd glue again"


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, in points of per cent, over the seeds that both have.

    Attributes:
      column: a (task, metric), or the title of an average.
      value: mean over the shared seeds.
      seeds: how many are shared; for an average, the fewest of its columns.
      interval: None where it cannot be had.
      missing: why it cannot be had, or does not cover the examples.
    """

    first: str
    second: str
    column: MetricColumn | str
    value: float
    seeds: int
    interval: Interval | None
    missing: str | None = None


@dataclass(frozen=True)
class _Pair:
    """What two models have in a column, in points: differences {seed: value}, and float[S, resamples] or None."""

    column: MetricColumn
    by_seed: Mapping[int, float]
    resampled: np.ndarray | None
    examples: int
    missing: str | None


def differences(rows: Sequence[Result], folder: Path) -> list[Difference]:
    """Compares the first model of `rows` with each other, column by column and in both averages.

    Intervals cover the examples where the predictions that the lines name are there, relative to `folder`.
    """
    rows = selected(rows)
    summary = summarise(rows)
    if len(summary.models) < 2:
        return []
    first, *others = summary.models
    tasks: dict[str, dict[str, dict[int, Result]]] = {task: {first: {}} for task, _ in summary.columns}
    for row in rows:
        tasks[row["task"]].setdefault(row["model"], {})[row["seed"]] = row
    resamples = {task: _resample(task, models, folder) for task, models in tasks.items()}
    found = []
    for second in others:
        pairs = {}
        for column in summary.columns:
            task, metric = column
            scores = [
                {seed: row["metrics"][metric] for seed, row in seeds.items() if metric in row["metrics"]}
                for seeds in (tasks[task][first], tasks[task].get(second, {}))
            ]
            if scores[0].keys() & scores[1].keys():
                pairs[column] = _pair(column, (first, second), scores, resamples[task])
        found += [_difference(first, second, column, pair) for column, pair in pairs.items()]
        if all(column in pairs for column in summary.averaged):
            found += _averages(first, second, [pairs[column] for column in summary.averaged])
    return found


def difference_text(difference: Difference | None, seeds: int) -> str:
    """Returns "+1.00 [−1.00, 3.00]", with the number of seeds where it is below `seeds`; a dash for None."""
    if difference is None:
        return "–"
    found = difference.interval
    ends = "" if found is None else f" [{number_text(found.low)}, {number_text(found.high)}]"
    few = f" (n = {difference.seeds})" if difference.seeds < seeds else ""
    return f"{number_text(difference.value, plus='+')}{ends}{few}"


def differences_table(found: Sequence[Difference]) -> list[list[str]]:
    """Returns the header and one line a pair, as text; the averages come last."""
    shown = dict.fromkeys(difference.column for difference in found)
    columns = sorted(shown, key=lambda column: isinstance(column, str))
    pairs: dict[tuple[str, str], dict[MetricColumn | str, Difference]] = {}
    for difference in found:
        pairs.setdefault((difference.first, difference.second), {})[difference.column] = difference
    seeds = max(difference.seeds for difference in found)
    titles = [column if isinstance(column, str) else column_title(*column) for column in columns]
    return [
        ["difference", *titles],
        *(
            [f"{first} − {second}", *(difference_text(by_column.get(column), seeds) for column in columns)]
            for (first, second), by_column in pairs.items()
        ),
    ]


def differences_note(found: Sequence[Difference]) -> str:
    """Says what the intervals are, what they cover and what they do not, and why any is missing."""
    notes = ["Points of per cent, over the seeds that both models have."]
    kinds = dict.fromkeys(difference.interval.covers for difference in found if difference.interval)
    if kinds:
        notes.append(interval_words(max(kinds, key=len)))
    fullest = max(kinds, key=len, default=())
    if (EXAMPLES,) in kinds:
        where = "There is only one seed" if fullest == (EXAMPLES,) else "Where only one seed is shared (n = 1)"
        notes.append(f"{where}: examples alone are drawn, and the interval says nothing of other seeds.")
    reasons: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for title, differing in _by_title(found).items():
        for has_interval in (True, False):
            texts = [d.missing for d in differing if d.missing and bool(d.interval) == has_interval]
            if texts:
                each = dict.fromkeys(reason for text in texts for reason in text.split("; "))
                reasons.setdefault((has_interval, tuple(each)), []).append(title)
    for (has_interval, each), titles in reasons.items():
        what = "The interval covers no examples for" if has_interval else "No interval for"
        notes.append(f"{what} {', '.join(titles)}: {'; '.join(each)}.")
    return " ".join(notes)


def differences_csv(found: Sequence[Difference]) -> str:
    """Returns one line a difference, in points of per cent.

    `low` and `high` are empty without an interval; `covers` says what chance it takes into account, `missing` why not
    more.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEAD)
    for difference in found:
        own = difference.interval
        ends = ["", ""] if own is None else [f"{end:z.6f}" for end in (own.low, own.high)]
        writer.writerow(
            [
                difference.first,
                difference.second,
                column_key(difference.column),
                f"{difference.value:z.6f}",
                *ends,
                difference.seeds,
                "; ".join(own.covers) if own else "",
                difference.missing or "",
            ]
        )
    return file.getvalue()


def read_differences(lines: Sequence[ComparisonLine], rows: Sequence[Result]) -> list[Difference]:
    """Returns what `differences_csv` wrote, of the lines of a comparison.csv and of its results.jsonl.

    Intervals of an earlier version are left out, and why is said in `missing`.

    Raises:
      UserError: a line is damaged.
    """
    summary = summarise(rows)
    columns = {column_key(column): column for column in (*summary.columns, *average_titles(summary.averaged))}
    found = []
    for number, line in enumerate(lines, start=2):
        try:
            column = columns.get(line["column"], line["column"].replace("_", " "))
            own, missing = None, line.get("missing") or None
            if line["low"] and "covers" not in line:
                missing = _EARLIER
            elif line["low"]:
                covers = tuple(name for name in SOURCES if name in line["covers"].split("; "))
                own = Interval(float(line["low"]), float(line["high"]), covers)
            value, seeds = float(line["difference"]), int(line["seeds"])
        except (OverflowError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"comparison.csv:{number}: damaged; run ctcd glue again") from error
        found.append(Difference(line["first"], line["second"], column, value, seeds, own, missing))
    return found


def _resample(task: str, models: Mapping[str, dict[int, Result]], folder: Path) -> Resamples:
    """Resamples the seeds that the first model shares with another; a cell that nothing is held against is left."""
    own, *others = models.values()
    shared = {seed for seeds in others for seed in seeds} & own.keys()
    if not shared:
        return Resamples()
    used = {model: {seed: row for seed, row in seeds.items() if seed in shared} for model, seeds in models.items()}
    return resample(task, used, folder, _SEED)


def _pair(
    column: MetricColumn, models: tuple[str, str], scores: Sequence[Mapping[int, float]], resamples: Resamples
) -> _Pair:
    seeds = sorted(scores[0].keys() & scores[1].keys())
    by_seed = {seed: 100 * (scores[0][seed] - scores[1][seed]) for seed in seeds}
    reasons = [resamples.missing[model, column[0]] for model in models if (model, column[0]) in resamples.missing]
    if reasons:
        return _Pair(column, by_seed, None, 0, "; ".join(reasons))
    first, second = (np.stack([resamples.scores[model, seed, column] for seed in seeds]) for model in models)
    return _Pair(column, by_seed, 100 * (first - second), resamples.examples[column], None)


def _difference(first: str, second: str, column: MetricColumn | str, pair: _Pair) -> Difference:
    """The models of a `results.jsonl` were pre-trained once each, so the seeds are those of fine-tuning."""
    values = np.array(list(pair.by_seed.values()))
    found = interval(values[None], None if pair.resampled is None else pair.resampled[None], pair.examples)
    return Difference(first, second, column, float(values.mean()), len(values), found, pair.missing)


def _averages(first: str, second: str, pairs: Sequence[_Pair]) -> list[Difference]:
    """Both averages. Seed by seed, so that a seed that is lucky in several tasks is not taken for several seeds."""
    titles = average_titles([pair.column for pair in pairs])
    complete = all(pair.resampled is not None for pair in pairs)
    alike = len({tuple(pair.by_seed) for pair in pairs}) == 1
    found = []
    for title, mean in zip(titles, (paper.mean_of_columns, paper.mean_over_tasks), strict=True):
        if not alike:
            value = mean({pair.column: float(np.mean(list(pair.by_seed.values()))) for pair in pairs})
            fewest = min(len(pair.by_seed) for pair in pairs)
            found.append(Difference(first, second, title, value, fewest, None, "columns with different seeds"))
            continue
        seeds = mean({pair.column: np.array(list(pair.by_seed.values())) for pair in pairs})
        together = _Pair(
            pairs[0].column,
            dict(zip(pairs[0].by_seed, seeds, strict=True)),
            mean({pair.column: pair.resampled for pair in pairs}) if complete else None,
            min(pair.examples for pair in pairs),
            None if complete else "a column lacks predictions",
        )
        found.append(_difference(first, second, title, together))
    return found


def _by_title(found: Sequence[Difference]) -> dict[str, list[Difference]]:
    """The differences by task, then those of the averages."""
    titled: dict[str, list[Difference]] = {}
    for difference in sorted(found, key=lambda each: isinstance(each.column, str)):
        title = "the averages" if isinstance(difference.column, str) else task_title(difference.column[0])
        titled.setdefault(title, []).append(difference)
    return titled
