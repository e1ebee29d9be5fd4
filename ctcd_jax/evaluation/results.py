"""`results.jsonl` (one line a fine-tuned cell) and the table it is read as."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks import TASKS

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """A metric over the seeds, in per cent; `deviation` is the sample's (n - 1), None for a single seed."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Summary:
    """Models against (task, metric) columns; `majority` is what the most frequent dev class alone would score."""

    columns: list[tuple[str, str]]
    models: dict[str, dict[tuple[str, str], Cell]]
    majority: dict[tuple[str, str], float]

    def mean_of_columns(self, model: str) -> float | None:
        """The paper's average: the plain mean of all metric columns (None unless the model has every one)."""
        cells = self.models[model]
        return statistics.fmean(cell.mean for cell in cells.values()) if len(cells) == len(self.columns) else None

    def mean_over_tasks(self, model: str) -> float | None:
        """The usual GLUE average: first the metrics of a task, then the tasks (None unless the model has every one)."""
        cells = self.models[model]
        if len(cells) < len(self.columns):
            return None
        tasks = dict.fromkeys(task for task, _ in self.columns)
        return statistics.fmean(
            statistics.fmean(cells[column].mean for column in self.columns if column[0] == task) for task in tasks
        )


def read_results(path: Path) -> list[dict]:
    """Returns the lines of a `results.jsonl`, or none if the file is not there.

    Raises:
      UserError: a line is not JSON, or not of the format this version writes.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise UserError(f"{path}:{number}: not a line of JSON; remove it and run the cell again") from None
        if row.get("format") != FORMAT:
            raise UserError(f"{path}:{number}: format {row.get('format')!r}, this version reads {FORMAT}")
        rows.append(row)
    return rows


def append_result(path: Path, row: dict) -> None:
    """Adds one line in a single write, so that a run that is killed leaves whole lines behind."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(row).encode() + b"\n")


def summarise(rows: Sequence[dict]) -> Summary:
    """Gathers the lines of one `results.jsonl`: means over seeds, columns in the order of the paper's table."""
    values: dict[str, dict[tuple[str, str], list[float]]] = {}
    majority = {}
    for row in rows:
        for metric, value in row["metrics"].items():
            column = row["task"], metric
            values.setdefault(row["model"], {}).setdefault(column, []).append(100 * value)
            if metric == "accuracy" and row.get("majority_share") is not None:
                majority[column] = 100 * row["majority_share"]
    order = {name: position for position, name in enumerate(TASKS)}
    columns = sorted(
        dict.fromkeys(column for cells in values.values() for column in cells),
        key=lambda column: order.get(column[0], math.inf),
    )
    models = {
        model: {column: _cell(cells[column]) for column in columns if column in cells}
        for model, cells in values.items()
    }
    return Summary(columns, models, majority)


def markdown(rows: Sequence[dict]) -> str:
    """Renders the lines of one `results.jsonl` as a Markdown table with its reading notes."""
    table = as_table(summarise(rows))
    lines = [table[0], ["---"] + ["---:"] * (len(table[0]) - 1), *table[1:]]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"# Fine-tuning results\n\n{body}\n\n{reading_notes(rows)}\n"


def as_table(summary: Summary) -> list[list[str]]:
    """Returns the header and one line a model as text, with the two averages and the majority class."""
    averages = [f"mean of the {len(summary.columns)} metric columns", "mean over tasks"]
    table = [["model", *(column_title(*column) for column in summary.columns), *averages]]
    for model, cells in summary.models.items():
        means = summary.mean_of_columns(model), summary.mean_over_tasks(model)
        table.append(
            [
                model,
                *(cell_text(cells.get(column)) for column in summary.columns),
                *("–" if mean is None else f"{mean:.2f}" for mean in means),
            ]
        )
    if summary.majority:
        shares = [
            f"{summary.majority[column]:.2f}" if column in summary.majority else "–" for column in summary.columns
        ]
        table.append(["majority class", *shares, "–", "–"])
    return table


def reading_notes(rows: Sequence[dict]) -> str:
    """Says in one paragraph what the figures of the table are."""
    seeds = sorted({row["seed"] for row in rows})
    settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in rows[0]["hyperparameters"].items())
    spread = ", mean ± sample standard deviation over seeds" if len(seeds) > 1 else ""
    notes = [
        f"Development sets, in per cent{spread}; {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}.",
        f"One setting for all tasks: {settings}.",
    ]
    if any("accuracy" in row["metrics"] for row in rows):
        notes.append("Majority class: the accuracy of always giving the most frequent answer.")
    return " ".join(notes)


def column_title(task: str, metric: str) -> str:
    shown = {"accuracy": "acc", "f1": "F1", "matthews": "Matthews", "pearson": "Pearson", "spearman": "Spearman"}
    return f"{TASKS[task].folder if task in TASKS else task} {shown[metric]}"


def cell_text(cell: Cell | None) -> str:
    if cell is None or cell.deviation is None:
        return _number(cell and cell.mean)
    return f"{cell.mean:.2f} ± {cell.deviation:.2f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cell(values: list[float]) -> Cell:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), deviation, len(values))
