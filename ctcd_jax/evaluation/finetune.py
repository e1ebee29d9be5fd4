"""Fine-tunes exported models on GLUE or other tasks: `ctcd glue`, models x tasks x seeds, resumable cell by cell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ctcd_jax.artifacts.exports import (
    companions,
    encoder_layers,
    named_exports,
    require_tokenizer,
    require_torch,
    weights_digest,
)
from ctcd_jax.artifacts.hub import model_directories
from ctcd_jax.artifacts.results import (
    CELLS,
    LOG,
    MODEL,
    RESULTS,
    Result,
    claimed,
    locked,
    numbered_results,
)
from ctcd_jax.errors import UserError, warn
from ctcd_jax.evaluation.baselines import complete_baselines
from ctcd_jax.evaluation.cell import resolve_precision
from ctcd_jax.evaluation.matrix import (
    Cell,
    finished,
    named_models,
    require_alike,
    require_encoders,
    require_models,
    settings_of,
    share,
)
from ctcd_jax.evaluation.running import run_cells
from ctcd_jax.evaluation.tables.table import write_tables
from ctcd_jax.evaluation.tasks.data import TaskData, TaskSource, choose, classes_line, departures, load
from ctcd_jax.evaluation.tasks.tasks import SMALL_TASKS, plain
from ctcd_jax.runtime.stopping import raises_stopped


@dataclass(frozen=True)
class GlueOptions:
    """What may be set of a matrix; the hyper-parameters are one set for all tasks and models.

    That compares pre-trainings and not tunings. The default rate of 1e-4 is for the small models this package trains; a
    model of BERT-base size wants 2e-5 to 5e-5.

    Attributes:
      epochs, learning_rate, batch_size: of AdamW with linear warm-up and decay; epochs need not be whole.
      max_length: in tokens; longer inputs are truncated, as are those longer than the model's positions.
      grid: e.g. ("learning_rate=1e-4,3e-4",): every combination is run, and the table reports the best on dev as such.
      precision: "auto" (bfloat16 on GPUs that have it, float16 on others, float32 on CPUs) or one of the three.
      compiled: whether `torch.compile` is used.
      intermediate: a task, "mnli", whose fine-tuned encoder the small tasks RTE, MRPC and STS-B start from.
      keep_models: whether each cell's fine-tuned model is kept, in its folder.
      jobs: cells at once; None: one a GPU or, on CPUs, one a core as far as memory allows; 0: in this process.
      shard: (index, count): do this share of the cells.
    """

    epochs: float = 3
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    grid: Sequence[str] = field(default=())
    precision: str = "auto"
    compiled: bool = False
    intermediate: str | None = None
    keep_models: bool = False
    jobs: int | None = None
    shard: tuple[int, int] = (0, 1)


class FailedCells(UserError):
    """Some cells have failed; `results` are those of the others, as `glue` returns them."""

    def __init__(self, message: str, results: list[Result]):
        super().__init__(message)
        self.results = results


def glue(
    models: Sequence[Path],
    source: TaskSource,
    tasks: Sequence[str] | None,
    seeds: int,
    out: Path,
    options: GlueOptions = GlueOptions(),
    *,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> list[Result]:
    """Fine-tunes every model on every task from `seeds` seeds (0, 1, ...), writing `results.jsonl` and the tables.

    A cell that is already in `results.jsonl` is not run again. One that fails leaves its log and does not stop the
    others.

    Args:
      models: directories of any encoder of text that transformers' AutoModel loads, exported or not, or ids on the
        hub; named by the shortest end of the path that distinguishes them, or as they are named in the results that
        are there: a model is its weights.
      source: where the tasks are read from.
      tasks: names as the source understands them; None for all of GLUE but WNLI that the source has.
      seeds: number of seeds; a seed fixes the classifier's (and pooler's) initial weights, the order and the dropout.
      out: folder of the results.
      options: hyper-parameters, and how the cells are run.
      log, warn: take a line.

    Returns:
      The lines of `results.jsonl` for the cells of this share that have one, model by model.

    Raises:
      UserError: a model, task, file or option is not usable, or `out` holds results of other settings or weights; or,
        after all other cells have run, that some have failed (`FailedCells`).
    """
    require_torch()
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give 1 or more")
    if options.jobs is not None and options.jobs < 0:
        raise UserError(f"--jobs {options.jobs}: give 1 or more, or 0 to run the cells in this process")
    if options.intermediate:
        options = replace(options, intermediate=plain(options.intermediate))
    given = _by_weights(models, warn)
    beside = {weights: companions(directory) for weights, directory in given.items()}
    layers = {directory: encoder_layers(directory) for directory in given.values()}
    chosen, missing = choose(source, tasks)
    if missing:
        warn(f"not in --data, so left out: {', '.join(missing)}")
    data = [load(source, task) for task in chosen]
    for line in (line for one in data for line in departures(one)):
        warn(line)
    axes, settings = _settings(options, data)
    precision = resolve_precision(options.precision)
    out.mkdir(parents=True, exist_ok=True)
    results = out / RESULTS
    with claimed(out, options.shard, warn), raises_stopped(_STOPPED):
        with locked(results):  # rather now than after the first cell
            pass
        rows = numbered_results(results, lambda text: warn(f"{text}, and the cell that it may be of is run again"))
        directories = named_models(given, rows)
        weights = dict(zip(directories, given, strict=True))
        known = [
            _Model(name, directory, weights[name], beside[weights[name]], layers[directory])
            for name, directory in directories.items()
        ]
        cells = [
            _cell(model, source, one, seed, setting, axes, out, options)
            for model in known
            for one in data
            for setting in settings
            for seed in range(seeds)
        ]
        by_name = {one.task.name: one for one in data}
        done = finished(results, rows, settings, weights, beside, by_name, options.intermediate)
        cells = share(cells, *options.shard)
        pending = [cell for cell in cells if cell.key not in done]
        require_alike(results, rows, pending, precision)
        require_encoders(pending)
        require_models([cell for cell in cells if cell.key in done], results)
        for line in filter(None, map(classes_line, data)) if pending else ():
            log(line)
        complete_baselines(out, data, options.shard, log, warn)
        failed = run_cells(pending, done, results, options.jobs, log, warn)
        if table := write_tables(out, list(directories)):
            log(table)
    log(f"{out}: {len(cells) - len(failed)} of {len(cells)} cells done; table.md, table.csv, results.jsonl")
    if options.keep_models:
        log(f"the fine-tuned models: {out / CELLS}/MODEL/TASK/seed-N/{MODEL}, to be loaded by transformers.pipeline")
    if failed:
        where = f"see {failed[0].folder / LOG}" if options.jobs != 0 else "what they printed is above"
        raise FailedCells(
            f"{len(failed)} of {len(cells)} cells failed; {where}; then run the same command again",
            [done[cell.key] for cell in cells if cell.key in done],
        )
    return [done[cell.key] for cell in cells]


_STOPPED = "stopped on request; the finished cells are kept, run the same command again to go on"


def _by_weights(models: Sequence[Path], warn: Callable[[str], None]) -> dict[str, Path]:
    """Returns {SHA-256 of the weights: directory}, of equal ones the first."""
    given: dict[str, Path] = {}
    for directory in named_exports(model_directories(models)).values():
        require_tokenizer(directory)
        weights = weights_digest(directory)
        if weights in given:
            of_first = companions(given[weights])
            if differing := [what for what, digest in companions(directory).items() if digest != of_first[what]]:
                raise UserError(
                    f"--model {directory}: has the weights of {given[weights]} but another {differing[0]}; results are "
                    "known by the weights, so use another --out for it"
                )
            warn(f"--model {directory}: has the weights of {given[weights]}, which stands for both")
        given.setdefault(weights, directory)
    return given


def _settings(options: GlueOptions, data: Sequence[TaskData]) -> tuple[list[str], list[dict[str, float]]]:
    """Returns the fields of the grid, and the settings to run."""
    defaults = {name: getattr(options, name) for name in ("epochs", "learning_rate", "batch_size", "max_length")}
    axes, settings = settings_of(defaults, options.grid)
    intermediate = options.intermediate
    if intermediate and intermediate not in [one.task.name for one in data]:
        raise UserError(f"--intermediate {options.intermediate}: is none of the tasks to run; add it to --tasks")
    if intermediate and options.grid:
        raise UserError("--intermediate: goes with one setting; leave --grid out")
    return axes, settings


class _Model(NamedTuple):
    name: str
    directory: Path
    weights: str
    companions: Mapping[str, str]
    layers: int


def _cell(
    model: _Model,
    source: TaskSource,
    one: TaskData,
    seed: int,
    setting: dict,
    axes: Sequence[str],
    out: Path,
    options: GlueOptions,
) -> Cell:
    task, intermediate = one.task, options.intermediate
    starts = intermediate if task.name in SMALL_TASKS and task.name != intermediate else None
    kept = out / CELLS / model.name / intermediate / f"seed-{seed}" / "encoder" if intermediate else None
    folder = out / CELLS / model.name / task.name / f"seed-{seed}"
    if options.grid:
        folder /= "-".join(f"{axis}={setting[axis]:g}" for axis in axes)
    return Cell(
        model=model.name,
        directory=model.directory.resolve(),
        weights=model.weights,
        companions=model.companions,
        source=source,
        task=task,
        seed=seed,
        settings=setting,
        classifier=folder / MODEL if options.keep_models else None,
        intermediate=starts,
        kept=kept if starts or task.name == intermediate else None,
        folder=folder,
        precision=options.precision,
        compiled=options.compiled,
        cost=one.train.characters() * setting["epochs"] * model.layers,
    )
