"""Fine-tunes exported models on GLUE or other tasks: `ctcd glue`, models x tasks x seeds, resumable cell by cell."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctcd_jax.data.workers import available_cores
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.cell import run_cell
from ctcd_jax.evaluation.cells_display import Display
from ctcd_jax.evaluation.exports import encoder_layers, named_exports, require_tokenizer, require_torch, weights_digest
from ctcd_jax.evaluation.matrix import Cell, finished, settings_of, share
from ctcd_jax.evaluation.pool import Outcome, run_jobs
from ctcd_jax.evaluation.results import CELLS, FAILED, LOG, PREDICTIONS, RESULTS, append_result, locked
from ctcd_jax.evaluation.table import write_tables
from ctcd_jax.evaluation.task_data import Source, TaskData, choose, departures, load
from ctcd_jax.evaluation.tasks import SMALL_TASKS, plain
from ctcd_jax.stopping import raises_stopped

GIGABYTES_A_JOB = 3  # what a BERT-base and its optimizer take


@dataclass(frozen=True)
class Options:
    """What may be set of a matrix; the hyper-parameters are one set for all tasks and models.

    That compares pre-trainings and not tunings. The default rate of 1e-4 is for the small models this package trains; a
    model of BERT-base size wants 2e-5 to 5e-5.

    Attributes:
      epochs, learning_rate, batch_size: of AdamW with linear warm-up and decay.
      max_length: in tokens; longer inputs are truncated, as are those longer than the model's positions.
      grid: e.g. ("learning_rate=1e-4,3e-4",): every combination is run, and the table reports the best on dev as such.
      precision: "auto" (bfloat16 on GPUs that have it, float16 on others, float32 on CPUs) or one of the three.
      compiled: whether `torch.compile` is used.
      intermediate: a task, "mnli", whose fine-tuned encoder the small tasks RTE, MRPC and STS-B start from.
      jobs: cells at once; None: one a GPU or, on CPUs, one a core as far as memory allows; 0: in this process.
      shard: (index, count): do this share of the cells.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 128
    grid: Sequence[str] = field(default=())
    precision: str = "auto"
    compiled: bool = False
    intermediate: str | None = None
    jobs: int | None = None
    shard: tuple[int, int] = (0, 1)


def glue(
    models: Sequence[Path],
    source: Source,
    tasks: Sequence[str] | None,
    seeds: int,
    out: Path,
    options: Options = Options(),
    *,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> list[dict]:
    """Fine-tunes every model on every task from `seeds` seeds (0, 1, ...), writing `results.jsonl` and the tables.

    A cell that is already in `results.jsonl` is not run again. One that fails leaves its log and does not stop the
    others.

    Args:
      models: exported directories; named by the shortest end of the path that tells them apart.
      tasks: names as the source understands them; None for all of GLUE but WNLI that the source has.
      seeds: number of seeds; a seed fixes the classifier's (and pooler's) initial weights, the order and the dropout.
      out: folder of the results.
      log, warn: take a line.

    Returns:
      The lines of `results.jsonl` for the cells of this share that have one, model by model.

    Raises:
      UserError: a model, task, file or option is not usable, or `out` holds results of other settings or weights; or,
        after all other cells have run, that some have failed.
    """
    require_torch()
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give 1 or more")
    if options.jobs is not None and options.jobs < 0:
        raise UserError(f"--jobs {options.jobs}: give 1 or more, or 0 to run the cells in this process")
    if options.intermediate:
        options = replace(options, intermediate=plain(options.intermediate))
    directories = named_exports(models)
    for directory in directories.values():
        require_tokenizer(directory)
    layers = {name: encoder_layers(directory) for name, directory in directories.items()}
    chosen, missing = choose(source, tasks)
    if missing:
        warn(f"not in --data, so left out: {', '.join(missing)}")
    data = [load(source, task) for task in chosen]
    for line in (line for one in data for line in departures(one)):
        warn(line)
    weights = {name: weights_digest(directory) for name, directory in directories.items()}
    cells = _cells(directories, weights, layers, source, data, seeds, out, options)
    results = out / RESULTS
    settings = [dict(cell.settings) for cell in cells]
    done = finished(results, settings, weights, {one.task.name: one for one in data}, options.intermediate)
    cells = share(cells, *options.shard)
    _require_encoders(cells, done)
    out.mkdir(parents=True, exist_ok=True)
    with locked(results):  # rather now than after the first cell
        pass
    with raises_stopped("stopped on request; the finished cells are kept, run the same command again to go on"):
        failed = _run([cell for cell in cells if cell.key not in done], done, results, options, log)
    write_tables(out, list(directories))
    log(f"{out}: {len(cells) - len(failed)} of {len(cells)} cells done; table.md, table.csv, results.jsonl")
    if failed:
        where = f"see {failed[0].folder / LOG}" if options.jobs != 0 else "what they printed is above"
        raise UserError(f"{len(failed)} of {len(cells)} cells failed; {where}; then run the same command again")
    return [done[cell.key] for cell in cells]


def _cells(
    directories: Mapping[str, Path],
    weights: Mapping[str, str],
    layers: Mapping[str, int],
    source: Source,
    data: Sequence[TaskData],
    seeds: int,
    out: Path,
    options: Options,
) -> list[Cell]:
    defaults = {name: getattr(options, name) for name in ("epochs", "learning_rate", "batch_size", "max_length")}
    axes, settings = settings_of(defaults, options.grid)
    intermediate = options.intermediate
    if intermediate and intermediate not in [one.task.name for one in data]:
        raise UserError(f"--intermediate {options.intermediate}: is none of the tasks to run; add it to --tasks")
    if intermediate and options.grid:
        raise UserError("--intermediate: goes with one setting; leave --grid out")

    def cell(name: str, one: TaskData, seed: int, setting: dict) -> Cell:
        task, directory = one.task, directories[name]
        starts = intermediate if task.name in SMALL_TASKS and task.name != intermediate else None
        kept = out / CELLS / name / intermediate / f"seed-{seed}" / "encoder" if intermediate else None
        folder = out / CELLS / name / task.name / f"seed-{seed}"
        if options.grid:
            folder /= "-".join(f"{axis}={setting[axis]:g}" for axis in axes)
        return Cell(
            model=name,
            directory=directory.resolve(),
            weights=weights[name],
            source=source,
            task=task,
            seed=seed,
            settings=setting,
            intermediate=starts,
            kept=kept if starts or task.name == intermediate else None,
            folder=folder,
            precision=options.precision,
            compiled=options.compiled,
            cost=one.train.characters() * setting["epochs"] * layers[name],
        )

    return [
        cell(name, one, seed, setting)
        for name in directories
        for one in data
        for setting in settings
        for seed in range(seeds)
    ]


def _require_encoders(cells: Sequence[Cell], done: Mapping[tuple, dict]) -> None:
    """Raises UserError where a cell needs the encoder of one that was finished without keeping it."""
    for cell in cells:
        if cell.kept and not cell.intermediate and cell.key in done and not cell.kept.is_dir():
            raise UserError(f"--intermediate {cell.task.name}: {cell.kept} was not kept then; use another --out")


def _run(
    pending: Sequence[Cell], done: dict, results: Path, options: Options, log: Callable[[str], None]
) -> list[Cell]:
    """Runs the cells, adds their lines to `done`, and returns those that failed."""
    first = [cell for cell in pending if cell.intermediate is None]
    second = [cell for cell in pending if cell.intermediate is not None]
    with Display(len(pending), sum(cell.cost for cell in pending), log) as display:
        return [cell for stage in (first, second) for cell in _run_stage(stage, done, results, options.jobs, display)]


def _run_stage(cells: Sequence[Cell], done: dict, results: Path, jobs: int | None, display: Display) -> Iterator[Cell]:
    """Runs cells that do not wait for one another, and yields those that fail."""

    def look(running: Mapping[int, float]) -> None:
        display.look(sum(cells[index].cost * share for index, share in running.items()))

    for cell in cells:
        cell.folder.mkdir(parents=True, exist_ok=True)
        for file in (FAILED, LOG):
            (cell.folder / file).unlink(missing_ok=True)
    environments = _environments(jobs, len(cells))
    for outcome in run_jobs(run_cell, cells, lambda cell: cell.folder / LOG, environments, look):
        yield from _ended(outcome, done, results, display)


def _ended(outcome: Outcome, done: dict, results: Path, display: Display) -> list[Cell]:
    cell, row, error = outcome
    if error is None:
        row["predictions"] = str((cell.folder / PREDICTIONS).relative_to(results.parent))
        append_result(results, row)
        done[cell.key] = row
        metrics = "  ".join(f"{metric} {100 * value:.2f}" for metric, value in row["metrics"].items())
        text = f"{metrics}  {row['seconds']:.0f} s"
    else:
        (cell.folder / FAILED).write_text(f"{error}\n")
        text = f"FAILED: {error}"
    display.ended(f"{cell.model}  {cell.task.name}  seed {cell.seed}  {text}", cell.cost)
    return [cell] if error else []


def _environments(jobs: int | None, cells: int) -> list[dict[str, str]]:
    """Returns the variables of each of the worker processes; none for `jobs` 0."""
    import psutil
    import torch

    cores = available_cores()
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(index) for index in range(gpus)]
        count = gpus if jobs is None else jobs
        return [{"CUDA_VISIBLE_DEVICES": devices[index % gpus], **_on_cores(cores, count)} for index in range(count)]
    if jobs is None:
        room = int(psutil.virtual_memory().available / 1e9 / GIGABYTES_A_JOB)
        jobs = max(1, min(cores, cells, room))
    return [_on_cores(cores, jobs)] * jobs


def _on_cores(cores: int, jobs: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(max(1, cores // max(jobs, 1))), "TOKENIZERS_PARALLELISM": "false"}
