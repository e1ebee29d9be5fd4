"""GLUE: the table, what differs between two models beyond chance, and the cells that are missing."""

import re
from collections.abc import Iterator

from ctcd_jax.evaluation import page
from ctcd_jax.evaluation.artifacts import Artifacts, Results
from ctcd_jax.evaluation.results import Summary, as_table, reading_notes, summarise
from ctcd_jax.evaluation.tabular import Column, data_table, download, fixed


def fine_tuning(artifacts: Artifacts) -> list[str]:
    return [part for name, results in artifacts.results.items() for part in _parts(name, results)]


def _parts(name: str, results: Results) -> Iterator[str]:
    summary = summarise(results.rows)
    link = download(name, ("model", "task", "metric", "mean", "deviation", "seeds"), _scores(summary))
    yield page.heading(f"{name}/results.jsonl")
    yield page.table(as_table(summary), f"Scores of {name}", links=[link])
    yield page.paragraph(reading_notes(results.rows), "note")
    if results.comparison:
        yield _differences(name, results.comparison)
    if missing := [*results.failed.items(), *((cell, None) for cell in _missing(results))]:
        columns = [Column("cell", "cell"), Column("why", "error")]
        caption = "Cells without a result: why they failed (a dash: not run yet)"
        yield data_table(f"{name}-missing", columns, missing, caption, names=2)


def _scores(summary: Summary) -> Iterator[tuple]:
    """One line a model and metric, in per cent; the two averages have no task."""
    for model, cells in summary.models.items():
        for column, cell in cells.items():
            yield model, *column, cell.mean, cell.deviation, cell.seeds
        for average in ("mean_of_columns", "mean_over_tasks"):
            if (mean := getattr(summary, average)(model)) is not None:
                yield model, None, average, mean, None, None
    for (task, metric), share in summary.majority.items():
        yield "majority class", task, metric, share, None, None


def _differences(name: str, lines: list[dict[str, str]]) -> str:
    number = fixed(2)
    columns = [
        Column("first", "first"),
        Column("second", "second"),
        Column("column", "column"),
        Column("first − second", "difference", number),
        Column("low", "low", number),
        Column("high", "high", number),
        Column("seeds", "seeds"),
        Column("resamples", "resamples", fixed(0)),
    ]
    kinds = (str, str, str, float, float, float, int, int)
    rows = [
        [kind(text) if (text := line.get(column.name)) else None for kind, column in zip(kinds, columns, strict=True)]
        for line in lines
    ]
    caption = "Paired differences in points of per cent, with their bootstrap intervals"
    return data_table(f"{name}-comparison", columns, rows, caption, names=3)


def _missing(results: Results) -> list[str]:
    """Cells that the other lines make one expect, and that have neither a line nor failed."""
    models, tasks, seeds = (list(dict.fromkeys(row[key] for row in results.rows)) for key in ("model", "task", "seed"))
    there = {f"{row['model']}/{row['task']}/seed-{row['seed']}" for row in results.rows}
    cells = (f"{model}/{task}/seed-{seed}" for model in models for task in tasks for seed in sorted(seeds))
    there |= {name[: match.end()] for name in results.failed if (match := re.search(r"seed-\d+", name))}
    return [cell for cell in cells if cell not in there]
