"""`results.jsonl`: one line a finished cell of the fine-tuning matrix, appended by any number of processes."""

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from ctcd_jax import files
from ctcd_jax.artifacts.lines import append_line, checked_lines, locked
from ctcd_jax.errors import UserError, warn
from ctcd_jax.kinds import AMOUNT, WHOLE, Each, mismatch
from ctcd_jax.ranges import COUNT, SHARE, Range

FORMAT = 2
READABLE = (1, 2)  # 1 lacks what says how a cell was computed, and its predictions
RESULTS, COMPARISON, LOCK = "results.jsonl", "comparison.csv", "lock"
# What a line may hold, and what people call it.
METRICS = {
    "accuracy": "acc",
    "accuracy_mismatched": "acc mismatched",
    "f1": "F1",
    "f1_macro": "macro-F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
# Below its folder: cells/MODEL/TASK/seed-N/. `failed` is one line, there while the cell has no result.
CELLS, PREDICTIONS, LOG, FAILED = "cells", "predictions.npz", "log.txt", "failed"
MODEL = "model"  # the fine-tuned model, where it was to be kept


class Result(TypedDict):
    """A line of results.jsonl. One of format 1, or of an earlier version, lacks what `RESULT` marks with a "?"."""

    format: int
    model: str  # its name in this folder; known by `weights`
    weights: str  # SHA-256 (hex), as have the two below: of the weight files
    tokenizer: str  # of the tokenizer's files
    config: str  # of what config.json says of the model
    task: str
    seed: int
    metric: str  # the task's headline
    value: float  # of the headline, in [-1, 1]
    metrics: dict[str, float]  # by a name of `METRICS`, in [-1, 1]
    majority_share: float | None  # of the most frequent development class; None for a regression
    majority: dict[str, float]  # what always answering with it scores, by metric
    positive: str | None  # class that F1 is of; None without F1
    hyperparameters: dict[str, float]  # as asked for
    max_length_used: int  # tokens
    cut_train: int  # examples that were longer, as below
    cut_dev: int
    cut_dev_mismatched: NotRequired[int]  # of a second development set
    intermediate: str | None  # task whose fine-tuned encoder it started from
    train_rows: int
    dev_rows: int
    data: str  # SHA-256 (hex) of the examples
    seconds: float  # of the whole cell
    device: str  # "cpu", or the GPU's name
    precision: str  # "float32", "bfloat16" or "float16"
    threads: int | None  # on the CPU
    compiled: bool  # whether by torch.compile
    versions: dict[str, str]  # of torch and transformers
    predictions: NotRequired[str]  # path of `PREDICTIONS` below the folder, once they are kept


class ComparisonLine(TypedDict):
    """A line of comparison.csv: `first` minus `second`. Earlier versions lack the last two columns."""

    first: str  # model
    second: str  # model
    column: str  # TASK_METRIC, or an average
    difference: str  # points of per cent
    low: str  # end of the 95 % interval, in points; empty without one
    high: str
    seeds: str  # that both models have
    covers: str  # sources of chance that the interval takes into account, by "; "
    missing: str  # why it does not take in more


_COMPARISON = ("first", "second", "column", "difference", "low", "high")
_NUMBER = Range()
RESULT = {"model": str, "task": str, "seed": WHOLE, "metrics": Each(_NUMBER)}
RESULT |= {"hyperparameters": Each((_NUMBER, str, bool, None))}
RESULT |= {"value": _NUMBER, "weights?": (str, None), "majority_share?": (SHARE, None), "intermediate?": (str, None)}
RESULT |= {"seconds?": AMOUNT, "device?": str, "precision?": str, "compiled?": bool}
RESULT |= {"max_length_used?": COUNT, "threads?": (COUNT, None), "positive?": (str, None), "predictions?": (str, None)}
RESULT |= {f"{name}?": WHOLE for name in ("train_rows", "dev_rows", "cut_train", "cut_dev", "cut_dev_mismatched")}
RESULT["majority?"] = (Each((_NUMBER, None)), None)


def read_results(path: Path, warn: Callable[[str], None] = warn) -> list[Result]:
    """Returns the lines of a `results.jsonl`, or none if the file is not there.

    A torn last line is left out. So is a line that is damaged or of a format that this version does not read, and
    `warn` is called with which: one such line hides no other.
    """
    return [row for _, row in numbered_results(path, warn)]


def numbered_results(path: Path, warn: Callable[[str], None] = warn) -> list[tuple[int, Result]]:
    """Returns what `read_results` does, each line with its number in the file, from 1."""
    rows = [(number, cast("Result", row)) for number, row in checked_lines(path, result_fault, warn)]
    name_by_weights([row for _, row in rows])
    return rows


def name_by_weights(rows: Sequence[Result]) -> None:
    """Gives lines of equal weights the name of the first: files of two folders may know a model by two names."""
    names: dict[str, str] = {}
    for row in rows:
        if row.get("weights"):
            row["model"] = names.setdefault(row["weights"], row["model"])


def result_fault(row: dict) -> str:
    """Returns what is wrong with a line of a `results.jsonl`, "" if nothing is."""
    if row.get("format") not in READABLE:
        return f"format {row.get('format')!r:.60}, this version reads {' and '.join(map(str, READABLE))}"
    if fault := mismatch(row, RESULT):
        return fault
    if unknown := [metric for metric in row["metrics"] if metric not in METRICS]:
        return f"metrics.{unknown[0]} is no metric that this version knows"
    if not files.is_inside(row.get("predictions") or PREDICTIONS):
        return f"predictions is {row['predictions']!r:.60}, and no file of the folder"
    return "" if row["metrics"] else "metrics is empty"


def read_comparison(path: Path) -> list[ComparisonLine]:
    """Returns the lines of a comparison.csv.

    Raises:
      UserError: a line lacks a column or has one too many, or a figure is no number.
      ValueError, csv.Error: it is no CSV, or not UTF-8.
    """
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
    lines = []
    for line in reader:
        where = f"{path}: line {reader.line_num}"
        if missing := [name for name in _COMPARISON if line.get(name) is None]:
            raise UserError(f"{where}: {missing[0]} is missing; run `ctcd glue` again")
        if None in line or None in line.values():
            raise UserError(f"{where}: not as many columns as the first line has; run `ctcd glue` again")
        for name in ("difference", "low", "high"):
            if line[name]:
                try:
                    float(line[name])
                except ValueError:
                    raise UserError(f"{where}: {name} is {line[name]!r}, not a number; run `ctcd glue` again") from None
        lines.append(line)
    return cast("list[ComparisonLine]", lines)


def in_order(rows: Sequence[Result], models: Sequence[str]) -> list[Result]:
    """Returns the lines of `models` in their order, then the others as they are: lines stand as cells were finished."""
    places = {model: place for place, model in enumerate(models)}
    return sorted(rows, key=lambda row: places.get(row["model"], len(places)))


def failed_cells(folder: Path) -> dict[str, str]:
    """Returns {MODEL/TASK/seed-N: why it failed, a line} of the cells that have failed and not run since."""
    paths = [path for path in sorted((folder / CELLS).rglob(FAILED)) if path.is_file()]
    return {
        path.parent.relative_to(folder / CELLS).as_posix(): next(
            iter(path.read_text(encoding="utf-8", errors="replace").splitlines()), "no reason given"
        )
        for path in paths
    }


def append_result(path: Path, row: Result) -> None:
    """Adds one line, as `append_line`."""
    append_line(path, row)


@contextlib.contextmanager
def claimed(out: Path, shard: tuple[int, int], warn: Callable[[str], None] = warn) -> Iterator[None]:
    """Holds a folder of results while the block runs: alone or, with the other shares of an array, its own share.

    Args:
      out: the folder, which must exist.
      shard: (index, count).
      warn: takes a line where the file system has no locks.

    Raises:
      UserError: another process works there, at this share, or at one of another division; the line names it.
    """
    index, count = shard
    with files.locked(out / LOCK, str(out), shared=count > 1, warn=warn), contextlib.ExitStack() as stack:
        if count > 1:
            with locked(out / RESULTS):  # one process at a time looks for arrays of another division
                division = out / f"{LOCK}.{count}"
                stack.enter_context(files.locked(division, f"{out}, {count} shares", shared=True, warn=warn))
                for other in out.glob(f"{LOCK}.*"):
                    if other.suffix[1:].isdigit() and other != division:
                        with files.locked(other, f"{out} in {other.suffix[1:]} shares", warn=warn):
                            pass
            mine = out / f"{LOCK}.{index}-of-{count}"
            stack.enter_context(files.locked(mine, f"{out}, share {index}/{count}", warn=warn))
        yield
