"""Fine-tuned cells over their seeds: models against metric columns."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctcd_jax.artifacts.baselines import NO_BASELINES, TaskBaselines
from ctcd_jax.artifacts.results import METRICS, Result
from ctcd_jax.evaluation.tables import paper
from ctcd_jax.evaluation.tables.paper import MetricColumn
from ctcd_jax.evaluation.tables.selection import selected
from ctcd_jax.evaluation.tasks.tasks import TASKS
from ctcd_jax.text_tables import counted, number_text

MAJORITY_NOTE = "Majority class: what one answer for everything, the most frequent, scores, where that is recorded."
BAG_OF_WORDS_NOTE = (
    "Bag of words: a logistic (for scores: ridge) regression on the words and pairs of neighbouring words of the "
    "training set, nothing of it tuned."
)


@dataclass(frozen=True)
class SeedMean:
    """A metric over the seeds, in per cent; `deviation` is the sample's (n - 1), None for a single seed."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Summary:
    """Models against (task, metric) columns; `majority` is what the most frequent dev answer for everything scores.

    `bag_of_words` is what a linear model of words scores, where that was computed on the same examples.
    """

    columns: list[MetricColumn]
    models: dict[str, dict[MetricColumn, SeedMean]]
    majority: dict[MetricColumn, float]
    bag_of_words: dict[MetricColumn, float]

    @property
    def baselines(self) -> dict[str, dict[MetricColumn, float]]:
        """The baselines that there are, by what tables call them."""
        found = {"majority class": self.majority, "bag of words": self.bag_of_words}
        return {name: values for name, values in found.items() if values}

    @property
    def averaged(self) -> list[MetricColumn]:
        """The columns that stand in the averages: those of the paper's Table 2, or all where there is none of them."""
        return [column for column in self.columns if column in paper.COLUMNS] or self.columns

    @property
    def seeds(self) -> int:
        """The number of seeds of a complete cell."""
        return max((cell.seeds for cells in self.models.values() for cell in cells.values()), default=0)

    def mean_of_columns(self, model: str) -> float | None:
        """The paper's average: the plain mean of the averaged columns (None unless the model has every one)."""
        return self.averages(self._means(model))[0]

    def mean_over_tasks(self, model: str) -> float | None:
        """The usual GLUE average: first the metrics of a task, then the tasks (None unless the model has every one)."""
        return self.averages(self._means(model))[1]

    def averages(self, values: Mapping[MetricColumn, float]) -> tuple[float | None, float | None]:
        """Both averages of figures by column, None unless every averaged column is there."""
        if any(column not in values for column in self.averaged):
            return None, None
        averaged = {column: values[column] for column in self.averaged}
        return paper.mean_of_columns(averaged), paper.mean_over_tasks(averaged)

    def _means(self, model: str) -> dict[MetricColumn, float]:
        return {column: cell.mean for column, cell in self.models[model].items()}


def summarise(rows: Sequence[Result], baselines: Mapping[str, TaskBaselines] = NO_BASELINES) -> Summary:
    """Gathers the lines of one `results.jsonl`: means over seeds, the paper's columns in its order, then the others.

    Of a grid only the setting that was chosen counts (`selection.selected`).

    Args:
      rows: the lines.
      baselines: by task, of `read_baselines`; they count where they are of the examples of the lines.
    """
    values: dict[str, dict[MetricColumn, list[float]]] = {}
    majority, bag_of_words = {}, {}
    for row in selected(rows):
        constant, beside = _majority(row), baselines.get(row["task"])
        if beside and beside["data"] == row.get("data"):
            bag_of_words |= {(row["task"], metric): 100 * value for metric, value in beside["bag_of_words"].items()}
        for metric, value in row["metrics"].items():
            column = row["task"], metric
            values.setdefault(row["model"], {}).setdefault(column, []).append(100 * value)
            if (share := constant.get(metric)) is not None:
                majority[column] = 100 * share
    columns = sorted(dict.fromkeys(column for cells in values.values() for column in cells), key=_order)
    models = {
        model: {column: _cell(cells[column]) for column in columns if column in cells}
        for model, cells in values.items()
    }
    return Summary(columns, models, majority, bag_of_words)


def column_title(task: str, metric: str) -> str:
    return f"{task_title(task)} {METRICS[metric]}"


def column_key(column: MetricColumn | str) -> str:
    """The name in CSV files of a column, or of an average by its title."""
    return column.split(" (")[0].replace(" ", "_") if isinstance(column, str) else "_".join(column)


def task_title(task: str) -> str:
    return TASKS[task].folder if task in TASKS else task


def average_titles(columns: Sequence[MetricColumn]) -> tuple[str, str]:
    """What the two averages over `columns` are called: of the columns, over the tasks."""
    tasks = len({task for task, _ in columns})
    by_column = f"mean of the {counted(len(columns), 'metric column')}"
    if list(columns) == list(paper.COLUMNS):
        by_column += " (the paper's average)"
    return by_column, f"mean over {counted(tasks, 'task')}"


def cell_text(cell: SeedMean | None, seeds: int = 0) -> str:
    """Returns "mean ± deviation", with the number of seeds where it is below `seeds`; a dash without a cell."""
    if cell is None:
        return "–"
    deviation = "" if cell.deviation is None else f" ± {cell.deviation:.2f}"
    return f"{number_text(cell.mean)}{deviation}{f' (n = {cell.seeds})' if cell.seeds < seeds else ''}"


def _majority(row: Result) -> Mapping[str, float | None]:
    """What the most frequent class scores by each metric; lines of earlier versions have its accuracy alone."""
    return row.get("majority") or {"accuracy": row.get("majority_share")}


def _order(column: MetricColumn) -> tuple[int, float]:
    if column in paper.COLUMNS:
        return paper.COLUMNS.index(column), 0
    known = list(TASKS)
    return len(paper.COLUMNS), known.index(column[0]) if column[0] in known else math.inf


def _cell(values: list[float]) -> SeedMean:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return SeedMean(statistics.fmean(values), deviation, len(values))
