"""The matrix of models x tasks x seeds (x settings): which cells there are, which are finished, who does which."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.results import read_results
from ctcd_jax.evaluation.task_data import Source, TaskData, digest
from ctcd_jax.evaluation.tasks import SMALL_TASKS, Task

# Not arguments: nobody tunes them, but the results say what they were. The paper gives none: RoBERTa's warm-up and
# BERT's decay.
FIXED = {"warmup_fraction": 0.06, "weight_decay": 0.01}
TUNABLE = {"epochs": int, "learning_rate": float, "batch_size": int}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning; goes to another process.

    Attributes:
      model: its name; `directory` where it lies, `weights` the SHA-256 of them.
      settings: the hyper-parameters.
      intermediate: task whose fine-tuned encoder this cell starts from; None starts from the model itself.
      kept: where that encoder lies or, in a cell of the intermediate task itself, is to be saved.
      folder: of its log and its predictions.
      precision: of `classifier.Computation`, or "auto".
      cost: in proportion to which the time goes, about.
    """

    model: str
    directory: Path
    weights: str
    source: Source
    task: Task
    seed: int
    settings: Mapping[str, float]
    intermediate: str | None
    kept: Path | None
    folder: Path
    precision: str
    compiled: bool
    cost: float

    @property
    def key(self) -> tuple:
        return key(self.model, self.task.name, self.seed, self.settings)


def key(model: str, task: str, seed: int, settings: Mapping[str, float]) -> tuple:
    """Returns what tells a cell from all others of one folder."""
    return model, task, seed, tuple(sorted(settings.items()))


def settings_of(defaults: Mapping[str, float], grid: Sequence[str]) -> tuple[list[str], list[dict[str, float]]]:
    """Returns the fields of a grid, e.g. ("learning_rate=1e-4,3e-4", "epochs=3,5"), and all combinations of it.

    Raises:
      UserError: a field that is not tunable, or a value that is no number above 0.
    """
    axes = {}
    for text in grid:
        field, _, values = text.partition("=")
        name = field.replace("-", "_")
        if name not in TUNABLE:
            raise UserError(f"--grid {text}: give one of {', '.join(TUNABLE)}, e.g. learning_rate=1e-4,3e-4")
        if name in axes:
            raise UserError(f"--grid {text}: {name} was given before; name all its values at once")
        numbers = [_positive(f"--grid {text}", TUNABLE[name], value) for value in values.split(",")]
        axes[name] = list(dict.fromkeys(numbers))
    for name, value in defaults.items():
        if not value > 0:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: give more than 0")
    chosen = itertools.product(*axes.values())
    return list(axes), [{**defaults, **dict(zip(axes, values, strict=True)), **FIXED} for values in chosen]


def finished(
    results: Path,
    settings: Sequence[Mapping],
    weights: Mapping[str, str],
    tasks: Mapping[str, TaskData],
    intermediate: str | None,
) -> dict:
    """Returns {cell's key: its line} of `results.jsonl`.

    Args:
      settings, weights, tasks, intermediate: of the cells asked for; weights (SHA-256) and tasks by name.

    Raises:
      UserError: a line has other settings, or other weights or examples or metrics of a name, than the cells asked
        for: they do not belong into one table.
    """
    examples = {name: digest(data) for name, data in tasks.items()}
    cells = {}
    for number, row in enumerate(read_results(results), start=1):
        used = row["hyperparameters"]
        if used not in settings:
            nearest = min(settings, key=lambda setting: len(_changed(setting, used)))
            changed = ", ".join(_changed(nearest, used)) or "setting"
            raise UserError(f"{results}:{number}: run with another {changed}; use another --out")
        if row["weights"] != weights.get(row["model"], row["weights"]):
            raise UserError(f"{results}:{number}: {row['model']} had other weights then; use another --out")
        if (name := row["task"]) in tasks:
            if row.get("data", examples[name]) != examples[name]:
                raise UserError(f"{results}:{number}: {name} had other examples then; use another --out")
            if tuple(row["metrics"]) != tasks[name].metrics:
                raise UserError(f"{results}:{number}: {name} had other metrics then; use another --out")
        if row["task"] in SMALL_TASKS and row.get("intermediate") != intermediate and row["task"] != intermediate:
            began = row.get("intermediate") or "the pre-trained model"
            raise UserError(f"{results}:{number}: {row['task']} began from {began} then; use another --out")
        cells[key(row["model"], row["task"], row["seed"], used)] = row
    return cells


def share(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """Returns the cells of job `index` of `count`; what starts from an intermediate task stays with it."""
    if any(cell.kept for cell in cells):
        groups = list(dict.fromkeys((cell.model, cell.seed) for cell in cells))
        mine = set(groups[index::count])
        return [cell for cell in cells if (cell.model, cell.seed) in mine]
    return list(cells[index::count])


def _changed(setting: Mapping, used: Mapping) -> list[str]:
    return [name for name, value in setting.items() if used.get(name) != value]


def _positive(place: str, kind: type, text: str):
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise UserError(f"{place}: '{text}' is no {'whole number' if kind is int else 'number'} above 0")
    return value
