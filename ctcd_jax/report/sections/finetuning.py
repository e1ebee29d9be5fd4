"""GLUE: the table, what differs between two models beyond chance, and the cells that are missing."""

import re
from collections.abc import Iterator

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts, Results
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tables.comparison import differences_note, differences_table, read_differences
from ctcd_jax.evaluation.tables.selection import settings_table
from ctcd_jax.evaluation.tables.summary import summarise
from ctcd_jax.evaluation.tables.table import as_table, csv_text, reading_notes
from ctcd_jax.page import Html
from ctcd_jax.page.tables import Column, data_table, download, download_text


def fine_tuning(artifacts: Artifacts) -> list[Html]:
    return [part for name, results in artifacts.results.items() for part in _parts(name, results)]


def _parts(name: str, results: Results) -> Iterator[Html]:
    yield page.heading(f"{name}/results.jsonl")
    if results.rows:
        yield from _scores(name, results)
    if missing := [*results.failed.items(), *((cell, None) for cell in _missing(results))]:
        columns = [Column("cell", "cell"), Column("why", "error")]
        caption = "Cells without a result: why they failed (a dash: not run yet)"
        yield data_table(f"{name}-missing", columns, missing, caption, names=2)


def _scores(name: str, results: Results) -> Iterator[Html]:
    yield page.table(
        as_table(summarise(results.rows, results.baselines)),
        f"Scores of {name}",
        links=[download_text(name, csv_text(results.rows, results.baselines))],
    )
    yield page.paragraph(reading_notes(results.rows, results.baselines), "note")
    if taken := settings_table(results.rows):
        link = download(f"{name}-settings", taken[0], taken[1:])
        yield page.table(taken, "Settings taken", links=[link], words=range(len(taken[0])))
    if results.comparison:
        yield _differences(name, results)


def _differences(name: str, results: Results) -> Html:
    """A column for each pair; the lines of comparison.csv themselves can be downloaded."""
    try:
        found = read_differences(results.comparison, results.rows)
    except UserError as error:
        return page.paragraph(f"No differences: {error}.", "note")
    table = differences_table(found)
    rows = [list(line) for line in zip(*table, strict=True)]
    rows[0][0] = "column"
    lines = [list(line.values()) for line in results.comparison]
    link = download(f"{name}-comparison", list(results.comparison[0]), lines)
    shown = page.table(rows, "Differences in points of per cent", links=[link])
    return page.join([shown, page.paragraph(differences_note(found), "note")])


def _missing(results: Results) -> list[str]:
    """Cells that the other lines make one expect, and that have neither a line nor failed."""
    models, tasks, seeds = (list(dict.fromkeys(row[key] for row in results.rows)) for key in ("model", "task", "seed"))
    there = {f"{row['model']}/{row['task']}/seed-{row['seed']}" for row in results.rows}
    cells = (f"{model}/{task}/seed-{seed}" for model in models for task in tasks for seed in sorted(seeds))
    there |= {name[: match.end()] for name in results.failed if (match := re.match(r".*/seed-\d+", name))}
    return [cell for cell in cells if cell not in there]
