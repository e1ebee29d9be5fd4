"""Fine-tunes exported models on GLUE-format tasks: the matrix of models x tasks x seeds behind `ctcd glue`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import named_exports, require_torch, weights_digest
from ctcd_jax.evaluation.results import FORMAT, append_result, read_results
from ctcd_jax.evaluation.scores import majority_share
from ctcd_jax.evaluation.table import write_tables
from ctcd_jax.evaluation.tasks import Split, Task, find_task, read_split

# Not arguments: nobody tunes them, but the results say what they were. The paper gives none: RoBERTa's warm-up and
# BERT's decay.
FIXED = {"warmup_fraction": 0.06, "weight_decay": 0.01}


def glue(
    models: Sequence[Path],
    data: Path,
    tasks: Sequence[str],
    seeds: int,
    out: Path,
    *,
    epochs: int = 3,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    max_length: int = 128,
    log: Callable[[str], None] = print,
) -> list[dict]:
    """Fine-tunes every model on every task from `seeds` seeds (0, 1, ...), writing `results.jsonl` and its tables.

    One setting serves all tasks and all models, so that pre-trainings are compared and not tunings. The default rate of
    1e-4 is for the small models this package trains; a model of BERT-base size wants 2e-5 to 5e-5.

    Args:
      models: exported directories; named by the shortest end of the path that tells them apart.
      data: folder of task folders, each with train.tsv and dev.tsv (or .tsv.gz).
      tasks: names as `tasks.find_task` understands them.
      seeds: number of seeds; a seed fixes the classifier's (and pooler's) initial weights, the order and the dropout.
      out: folder of the results. A cell that is already there is not run again.
      epochs, learning_rate, batch_size: of AdamW with linear warm-up and decay.
      max_length: in tokens; longer inputs are truncated, as are those longer than the model's positions.

    Returns:
      The lines of `results.jsonl` for the cells asked for, model by model.

    Raises:
      UserError: a model, task or file is not usable, or `out` holds results of other settings or weights.
    """
    require_torch()
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give 1 or more")
    directories = named_exports(models)
    splits = {
        task: (read_split(data, task, "train"), read_split(data, task, "dev"))
        for task in dict.fromkeys(find_task(data, name) for name in tasks)
    }
    settings = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        **FIXED,
    }
    digests = {name: weights_digest(directory) for name, directory in directories.items()}
    results = out / "results.jsonl"
    finished = _finished(results, settings, digests)
    out.mkdir(parents=True, exist_ok=True)

    rows = []
    for name, directory in directories.items():
        for task, (train, dev) in splits.items():
            for seed in range(seeds):
                row = finished.get((name, task.name, seed))
                if row is None:
                    row = _run_cell(name, directory, digests[name], task, train, dev, seed, settings)
                    append_result(results, row)
                    log(_line(row))
                else:
                    log(f"{_line(row)} (already there)")
                rows.append(row)
    write_tables(out)
    return rows


def _finished(results: Path, settings: dict, digests: dict[str, str]) -> dict[tuple[str, str, int], dict]:
    cells = {}
    for number, row in enumerate(read_results(results), start=1):
        if row["hyperparameters"] != settings:
            changed = [key for key, value in settings.items() if row["hyperparameters"].get(key) != value]
            raise UserError(
                f"{results}:{number}: run with another {', '.join(changed) or 'setting'}; use another --out"
            )
        if row["weights"] != digests.get(row["model"], row["weights"]):
            raise UserError(f"{results}:{number}: {row['model']} had other weights then; use another --out")
        cells[row["model"], row["task"], row["seed"]] = row
    return cells


def _run_cell(
    name: str, directory: Path, weights: str, task: Task, train: Split, dev: Split, seed: int, settings: dict
) -> dict:
    from ctcd_jax.evaluation.classifier import fine_tune

    started = time.perf_counter()
    metrics = fine_tune(directory, task, train, dev, seed, settings)
    return {
        "format": FORMAT,
        "model": name,
        "task": task.name,
        "seed": seed,
        "metric": task.headline,
        "value": metrics[task.headline],
        "metrics": metrics,
        "majority_share": majority_share(dev.labels) if task.classes else None,
        "hyperparameters": settings,
        "weights": weights,
        "train_rows": len(train),
        "dev_rows": len(dev),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _line(row: dict) -> str:
    metrics = "  ".join(f"{metric} {100 * value:.2f}" for metric, value in row["metrics"].items())
    return f"{row['model']}  {row['task']}  seed {row['seed']}  {metrics}  {row['seconds']:.0f} s"
