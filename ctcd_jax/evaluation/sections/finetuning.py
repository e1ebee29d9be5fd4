"""GLUE: the table, what differs between two models beyond chance, and the cells that are missing."""

import re
from collections.abc import Iterator

from ctcd_jax.evaluation import page
from ctcd_jax.evaluation.artifacts import Artifacts, Results
from ctcd_jax.evaluation.bootstrap import LEVEL
from ctcd_jax.evaluation.selection import settings_table
from ctcd_jax.evaluation.summary import Summary, column_key, column_title, summarise
from ctcd_jax.evaluation.table import as_table, csv_text, reading_notes
from ctcd_jax.evaluation.tabular import MISSING, Column, data_table, download, download_text, fixed


def fine_tuning(artifacts: Artifacts) -> list[str]:
    return [part for name, results in artifacts.results.items() for part in _parts(name, results)]


def _parts(name: str, results: Results) -> Iterator[str]:
    yield page.heading(f"{name}/results.jsonl")
    if results.rows:
        yield from _scores(name, results)
    if missing := [*results.failed.items(), *((cell, None) for cell in _missing(results))]:
        columns = [Column("cell", "cell"), Column("why", "error")]
        caption = "Cells without a result: why they failed (a dash: not run yet)"
        yield data_table(f"{name}-missing", columns, missing, caption, names=2)


def _scores(name: str, results: Results) -> Iterator[str]:
    summary = summarise(results.rows)
    yield page.table(as_table(summary), f"Scores of {name}", links=[download_text(name, csv_text(results.rows))])
    yield page.paragraph(reading_notes(results.rows), "note")
    if taken := settings_table(results.rows):
        link = download(f"{name}-settings", taken[0], taken[1:])
        yield page.table(taken, "Settings taken", links=[link], words=range(len(taken[0])))
    if results.comparison:
        yield _differences(name, results.comparison, summary)


def _differences(name: str, lines: list[dict[str, str]], summary: Summary) -> str:
    """A column for each pair; the lines of comparison.csv themselves can be downloaded."""
    titles = {column_key(column): column_title(*column) for column in summary.columns}
    pairs = list(dict.fromkeys((line["first"], line["second"]) for line in lines))
    cells = {(line["column"], line["first"], line["second"]): _difference(line) for line in lines}
    head = ["column", *(" − ".join(pair) for pair in pairs)]
    rows = [
        [titles.get(key, key.replace("_", " ")), *(cells.get((key, *pair), MISSING) for pair in pairs)]
        for key in dict.fromkeys(line["column"] for line in lines)
    ]
    link = download(f"{name}-comparison", list(lines[0]), [list(line.values()) for line in lines])
    note = (
        f"In brackets: the paired bootstrap's interval of {100 * LEVEL:g} % over development examples and fine-tuning "
        "seeds. It does not cover pre-training (each model is one, from one seed) nor the choice of settings."
    )
    return page.table([head, *rows], "Differences in points of per cent", links=[link]) + page.paragraph(note, "note")


def _difference(line: dict[str, str]) -> str:
    value, low, high = (fixed(2)(float(line[key])) if line[key] else "" for key in ("difference", "low", "high"))
    return f"{value} [{low}, {high}]" if low else value


def _missing(results: Results) -> list[str]:
    """Cells that the other lines make one expect, and that have neither a line nor failed."""
    models, tasks, seeds = (list(dict.fromkeys(row[key] for row in results.rows)) for key in ("model", "task", "seed"))
    there = {f"{row['model']}/{row['task']}/seed-{row['seed']}" for row in results.rows}
    cells = (f"{model}/{task}/seed-{seed}" for model in models for task in tasks for seed in sorted(seeds))
    there |= {name[: match.end()] for name in results.failed if (match := re.match(r".*/seed-\d+", name))}
    return [cell for cell in cells if cell not in there]
