"""The matrix of models x tasks x seeds (x settings): which cells there are, which are finished, who does which."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.artifacts.exports import distinct_names
from ctcd_jax.artifacts.results import RESULTS, Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.data import TaskData, TaskSource
from ctcd_jax.evaluation.tasks.tasks import SMALL_TASKS, Task

# Not arguments: nobody tunes them, but the results say what they were. The paper gives none: RoBERTa's warm-up and
# BERT's decay.
FIXED = {"warmup_fraction": 0.06, "weight_decay": 0.01}
TUNABLE = {"epochs": float, "learning_rate": float, "batch_size": int}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning; goes to another process.

    Attributes:
      model: its name; `directory` where it lies, `weights` the SHA-256 of them, `companions` as `exports` has them.
      settings: the hyper-parameters.
      classifier: where the fine-tuned model is to be saved; None: nowhere.
      intermediate: task whose fine-tuned encoder this cell starts from; None starts from the model itself.
      kept: where that encoder lies or, in a cell of the intermediate task itself, is to be saved.
      folder: of its log and its predictions.
      precision: of `classifier.Computation`, or "auto".
      cost: in proportion to which the time goes, about.
    """

    model: str
    directory: Path
    weights: str
    companions: Mapping[str, str]
    source: TaskSource
    task: Task
    seed: int
    settings: Mapping[str, float]
    classifier: Path | None
    intermediate: str | None
    kept: Path | None
    folder: Path
    precision: str
    compiled: bool
    cost: float

    @property
    def key(self) -> tuple:
        return key(self.weights, self.task.name, self.seed, self.settings)

    @property
    def title(self) -> str:
        """What the lines that are said of it begin with."""
        return f"{self.model}  {self.task.name}  seed {self.seed}"


def key(weights: str, task: str, seed: int, settings: Mapping[str, float]) -> tuple:
    """Returns what distinguishes a cell from all others of one folder: a model is its weights, whatever it is called.

    Args:
      weights: of the model, SHA-256.
      task: its name.
      seed: of the fine-tuning.
      settings: its hyper-parameters.
    """
    return weights, task, seed, tuple(sorted(settings.items()))


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
        if not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: give more than 0, and no infinity")
    chosen = [
        {**defaults, **dict(zip(axes, values, strict=True)), **FIXED} for values in itertools.product(*axes.values())
    ]
    for setting in chosen:  # 3 and 3.0 are one setting, which results and folders spell alike
        setting["epochs"] = int(setting["epochs"]) if float(setting["epochs"]).is_integer() else setting["epochs"]
    return list(axes), chosen


def named_models(directories: Mapping[str, Path], rows: Sequence[tuple[int, Result]]) -> dict[str, Path]:
    """Returns {name: directory}: a model that has results keeps the name it has there, others get one of their own.

    Args:
      directories: by the SHA-256 of their weights.
      rows: lines of `results.jsonl` with their numbers.
    """
    recorded: dict[str, str] = {}
    for _, row in rows:
        recorded.setdefault(row.get("weights"), row["model"])
    kept = {weights: recorded[weights] for weights in directories if weights in recorded}
    ends = distinct_names(list(directories.values()), kept.values())
    return {
        kept.get(weights, end): directory for (weights, directory), end in zip(directories.items(), ends, strict=True)
    }


def finished(
    results: Path,
    rows: Sequence[tuple[int, Result]],
    settings: Sequence[Mapping],
    weights: Mapping[str, str],
    companions: Mapping[str, Mapping[str, str]],
    tasks: Mapping[str, TaskData],
    intermediate: str | None,
) -> dict[tuple, Result]:
    """Returns {cell's key: its line} of `results.jsonl`.

    Args:
      results: the file, which errors name.
      rows: its lines with their numbers.
      settings, weights, companions, tasks, intermediate: of the cells asked for; companions (`exports.companions`) by
        the weights that they go with, weights (SHA-256) and tasks by name.

    Raises:
      UserError: a line has other settings, or other weights, tokenizer, examples or metrics of a name, than the cells
        asked for: they do not belong into one table.
    """
    examples = {name: data.digest for name, data in tasks.items()}
    cells = {}
    for number, row in rows:
        place, name, used = f"{results}:{number}", row["task"], row["hyperparameters"]
        if used not in settings:
            nearest = min(settings, key=lambda setting: len(_changed(setting, used)))
            changed = ", ".join(_changed(nearest, used)) or "setting"
            raise UserError(f"{place}: run with another {changed}; use another --out")
        own = row.get("weights", weights.get(row["model"]))
        if own != weights.get(row["model"], own):
            raise UserError(
                f"{place}: {row['model']} had other weights then; use another --out, or give the model of then, too"
            )
        for what, now in companions.get(own, {}).items():
            if row.get(what, now) != now:
                raise UserError(f"{place}: {row['model']} had another {what} then; use another --out")
        if name in tasks:
            _require_same_task(place, row, tasks[name], examples[name])
        if name in SMALL_TASKS and row.get("intermediate") != intermediate and name != intermediate:
            start = row.get("intermediate") or "the pre-trained model"
            raise UserError(f"{place}: {name} started from {start} then; use another --out")
        cells[key(own, name, row["seed"], used)] = row
    return cells


def require_alike(results: Path, rows: Sequence[tuple[int, Result]], pending: Sequence[Cell], precision: str) -> None:
    """Raises UserError if a cell is to be computed in another precision than those that it goes into one mean with.

    Args:
      results: the `results.jsonl` that errors name.
      rows: its lines with their numbers.
      pending: the cells that are to be run.
      precision: of `pending`.
    """
    means = {(cell.weights, cell.task.name) for cell in pending}
    for number, row in rows:
        then = row.get("precision") or precision
        if (row.get("weights"), row["task"]) in means and then != precision:
            raise UserError(
                f"{results}:{number}: {row['task']} was computed in {then} then, and would be in {precision} now; give "
                f"--precision {then}, or use another --out"
            )


def require_encoders(pending: Sequence[Cell]) -> None:
    """Raises UserError where a cell needs the encoder of one that was finished without keeping it."""
    to_come = {cell.kept for cell in pending if cell.intermediate is None}
    for cell in pending:
        if cell.intermediate and cell.kept not in to_come and not (cell.kept and cell.kept.is_dir()):
            raise UserError(
                f"--intermediate {cell.intermediate}: {cell.kept} was not kept then; use another --out, or take the "
                f"line of its cell out of {RESULTS} to have it run again"
            )


def require_models(finished: Sequence[Cell], results: Path) -> None:
    """Raises UserError where the models of cells are to be kept that were finished without keeping them.

    Args:
      finished: the cells asked for that have a result.
      results: the `results.jsonl` that the error names.
    """
    lacking = [cell for cell in finished if cell.classifier and not cell.classifier.is_dir()]
    if lacking:
        raise UserError(
            f"--keep-models: {len(lacking)} of {len(finished)} finished cells ran without it ({lacking[0].title} the "
            f"first); use another --out, or take their lines out of {results} to have them run again"
        )


def _require_same_task(place: str, row: Result, data: TaskData, examples: str) -> None:
    name, task = row["task"], data.task
    if tuple(row["metrics"]) != data.metrics:
        raise UserError(f"{place}: {name} had other metrics then; use another --out")
    then, classes = row.get("positive"), task.classes
    if classes and then in classes and then != classes[-1]:
        raise UserError(f"{place}: F1 of {name} was that of {then} then; give --positive {then}, or use another --out")
    if row.get("data", examples) != examples:
        raise UserError(f"{place}: {name} had other examples then; use another --out")


def share(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """Returns the cells of job `index` of `count`; what starts from an intermediate task stays with it.

    Args:
      cells: of all jobs.
      index: of the job, from 0.
      count: number of jobs.
    """
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
    if not 0 < value < math.inf:
        raise UserError(f"{place}: '{text}' is no {'whole number' if kind is int else 'number'} above 0")
    return value
