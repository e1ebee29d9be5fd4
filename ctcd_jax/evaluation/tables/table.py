"""The tables of `ctcd glue`: Markdown to read, CSV to work with, the paper's rows beside ours."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ctcd_jax import text_tables
from ctcd_jax.artifacts.baselines import BASELINES, NO_BASELINES, TaskBaselines, read_baselines
from ctcd_jax.artifacts.results import (
    CELLS,
    COMPARISON,
    LOG,
    RESULTS,
    Result,
    failed_cells,
    in_order,
    locked,
    read_results,
)
from ctcd_jax.evaluation.tables import paper
from ctcd_jax.evaluation.tables.comparison import (
    Difference,
    differences,
    differences_csv,
    differences_note,
    differences_table,
)
from ctcd_jax.evaluation.tables.predictions import keep
from ctcd_jax.evaluation.tables.selection import applied_note, selected, settings_note, settings_table
from ctcd_jax.evaluation.tables.summary import (
    BAG_OF_WORDS_NOTE,
    MAJORITY_NOTE,
    Summary,
    average_titles,
    cell_text,
    column_key,
    column_title,
    summarise,
    task_title,
)
from ctcd_jax.files import write_whole
from ctcd_jax.text_tables import counted


def write_tables(out: Path, models: Sequence[str] = ()) -> str:
    """Writes the tables from `out`/results.jsonl and baselines.json, and beside them what the models answered.

    That is `table.md`, `table.csv`, of two models or more `comparison.csv`, and `predictions/TASK.csv`.

    Args:
      models: these come first, in this order: the first is the one that the others are compared with. Others follow as
        they come in the file.

    Returns:
      The table for a terminal; "" without results.

    Raises:
      UserError: results.jsonl is damaged.
    """
    with locked(out / RESULTS):  # of the jobs of an array, the last to write has read all lines
        # What is left out `glue` has said before.
        rows = in_order(read_results(out / RESULTS, warn=lambda text: None), models)
        keep(rows, out)
        compared = differences(rows, out)
        baselines = read_baselines(out / BASELINES, warn=lambda text: None)
        failed = [_failed_line(*cell) for cell in failed_cells(out).items()]
        write_whole(out / "table.md", markdown(rows, compared, failed, baselines))
        write_whole(out / "table.csv", csv_text(rows, baselines))
        if compared:
            write_whole(out / COMPARISON, differences_csv(compared))
        else:
            (out / COMPARISON).unlink(missing_ok=True)  # of results that are no longer there
    return terminal_table(summarise(rows, baselines)) if rows else ""


def markdown(
    rows: Sequence[Result],
    compared: Sequence[Difference] = (),
    failed: Sequence[str] = (),
    baselines: Mapping[str, TaskBaselines] = NO_BASELINES,
) -> str:
    """Renders the lines of one `results.jsonl` as a Markdown table with its reading notes, and what belongs to it.

    Args:
      rows: the lines.
      compared: of `comparison.differences`.
      failed: a line for each cell that has no result.
      baselines: by task, of `read_baselines`.
    """
    parts = ["# Fine-tuning results"]
    if rows:
        parts += [text_tables.markdown(as_table(summarise(rows, baselines))), reading_notes(rows, baselines)]
        if taken := settings_table(rows):
            parts += ["## Settings taken", text_tables.markdown(taken)]
    else:
        parts.append("No cell has a result.")
    if compared:
        parts += ["## Differences", text_tables.markdown(differences_table(compared)), differences_note(compared)]
    if failed:
        parts += ["## Failed cells", "\n".join(f"- {line}" for line in failed)]
    return "\n\n".join(parts) + "\n"


def as_table(summary: Summary) -> list[list[str]]:
    """Returns a header and one line a model as text, the averages last; then the baselines and the paper's rows.

    The paper stands in the columns that ours have, its averages over the same of them.
    """
    table = _measured(summary)
    for name, values in _papers(summary):
        means = paper.mean_of_columns(values), paper.mean_over_tasks(values)
        table.append([name, *(_number(values.get(column)) for column in summary.columns), *map(_number, means)])
    return table


def terminal_table(summary: Summary) -> str:
    """Returns models and baselines side by side, a line a metric; below, which models are no better than a baseline."""
    turned = [list(line) for line in zip(*_measured(summary), strict=True)]
    turned[0][0] = ""
    return "\n".join([text_tables.aligned(turned), *_not_above(summary)])


def _measured(summary: Summary) -> list[list[str]]:
    table = [["model", *(column_title(*column) for column in summary.columns), *average_titles(summary.averaged)]]
    for model, cells in summary.models.items():
        means = summary.mean_of_columns(model), summary.mean_over_tasks(model)
        texts = (cell_text(cells.get(column), summary.seeds) for column in summary.columns)
        table.append([model, *texts, *map(_number, means)])
    for name, values in summary.baselines.items():
        shares = (_number(values.get(column)) for column in summary.columns)
        table.append([name, *shares, *map(_number, summary.averages(values))])
    return table


def csv_text(rows: Sequence[Result], baselines: Mapping[str, TaskBaselines] = NO_BASELINES) -> str:
    """Returns the table in per cent with a column for each mean, sample standard deviation and number of seeds.

    `source` is measured or, for single figures without deviation and number of seeds, majority class, bag of words or
    paper.

    Args:
      rows, baselines: as for `markdown`.
    """
    summary = summarise(rows, baselines)
    averages = [column_key(title) for title in average_titles(summary.averaged)]
    parts = [f"{column_key(column)}_{part}" for column in summary.columns for part in ("mean", "sd", "n")]
    lines: list[list[object]] = [["model", "source", *parts, *averages]]
    for model, cells in summary.models.items():
        line: list[object] = [model, "measured"]
        for column in summary.columns:
            cell = cells.get(column)
            line += [_figure(cell.mean), _figure(cell.deviation), cell.seeds] if cell else ["", "", ""]
        lines.append([*line, _figure(summary.mean_of_columns(model)), _figure(summary.mean_over_tasks(model))])
    for name, values in summary.baselines.items():
        lines.append([name, name, *_means_only(summary, values), *map(_figure, summary.averages(values))])
    for name, values in _papers(summary):
        means = paper.mean_of_columns(values), paper.mean_over_tasks(values)
        lines.append([name, "paper", *_means_only(summary, values), *map(_figure, means)])
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def reading_notes(rows: Sequence[Result], baselines: Mapping[str, TaskBaselines] = NO_BASELINES) -> str:
    """Says in one paragraph what the figures of the table are.

    Args:
      rows, baselines: as for `markdown`.
    """
    chosen, summary = selected(rows), summarise(rows, baselines)
    seeds = counted(summary.seeds, "seed")
    spread = f", mean ± sample standard deviation over {seeds}" if summary.seeds > 1 else f"; {seeds}"
    notes = [f"Development sets, in per cent{spread}."]
    if any(cell.seeds < summary.seeds for cells in summary.models.values() for cell in cells.values()):
        notes.append("Where a cell has fewer, it says how many (n).")
    if outside := [column_title(*column) for column in summary.columns if column not in summary.averaged]:
        notes.append(f"In neither average: {', '.join(outside)}.")
    if ("mnli", "accuracy") in summary.columns:
        notes.append("MNLI stands in the averages with its matched set; the paper does not say which it printed.")
    # How the cells were run: the settings, then what came of them.
    notes.append(settings_note(rows))
    notes += applied_note(rows)
    notes += _intermediate_notes(chosen)
    if summary.majority:
        notes.append(MAJORITY_NOTE)
    if summary.bag_of_words:
        notes.append(BAG_OF_WORDS_NOTE)
    notes += _not_above(summary)
    if any(_papers(summary)):
        notes.append(paper.NOTE)
    return " ".join(notes)


def _intermediate_notes(chosen: Sequence[Result]) -> Iterator[str]:
    by_start: dict[str, dict[str, dict[str, None]]] = {}
    for row in chosen:
        if start := row.get("intermediate"):
            by_start.setdefault(start, {}).setdefault(row["task"], {})[row["model"]] = None
    for start, tasks in by_start.items():
        places = []
        for task, models in tasks.items():
            every = models.keys() == {row["model"] for row in chosen if row["task"] == task}
            places.append(task_title(task) + ("" if every else f" ({', '.join(models)})"))
        yield f"Started from the model as fine-tuned on {task_title(start)}: {', '.join(places)}."


def _not_above(summary: Summary) -> Iterator[str]:
    """Says of each baseline, in a sentence, in which columns which models have no more than it."""
    for baseline, values in summary.baselines.items():
        places = []
        for column, constant in values.items():
            cells = {model: cells[column] for model, cells in summary.models.items() if column in cells}
            if below := [model for model, cell in cells.items() if cell.mean <= constant]:
                places.append(f"{column_title(*column)} ({', '.join(below)})")
        if places:
            yield f"No more than the {baseline}: {', '.join(places)}."


def _papers(summary: Summary) -> Iterator[tuple[str, dict[paper.MetricColumn, float]]]:
    """The paper's rows in the columns that `summary` has; nothing without one."""
    shared = [column for column in summary.columns if column in paper.COLUMNS]
    for name, values in paper.ROWS.items() if shared else ():
        yield f"paper: {name}", {column: values[column] for column in shared}


def _failed_line(cell: str, reason: str) -> str:
    return f"{cell}: {reason} (log: `{CELLS}/{cell}/{LOG}`)"


def _means_only(summary: Summary, values: dict[paper.MetricColumn, float]) -> list[str]:
    return [text for column in summary.columns for text in (_figure(values.get(column)), "", "")]


def _number(value: float | None) -> str:
    return "–" if value is None else text_tables.number_text(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:z.6f}"
