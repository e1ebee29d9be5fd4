"""`baselines.json` beside `results.jsonl`: what a model has to beat on each task to have learnt anything of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict, cast

from ctcd_jax.artifacts.results import METRICS, RESULTS, locked
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import read_json, write_json
from ctcd_jax.kinds import Each, mismatch
from ctcd_jax.ranges import Range

BASELINES, FORMAT = "baselines.json", 1


class TaskBaselines(TypedDict):
    """What two baselines score on a task's development sets, by a name of `METRICS`, in [-1, 1]."""

    data: str  # SHA-256 (hex) of the examples, as in results.jsonl
    majority: dict[str, float]  # of one answer for everything, the most frequent
    bag_of_words: dict[str, float]  # of a linear model of the training set's words and pairs of words


class Baselines(TypedDict):
    """baselines.json."""

    format: int
    tasks: dict[str, TaskBaselines]  # by the task's name


NO_BASELINES: Mapping[str, TaskBaselines] = {}
_SCORES = Each(Range(-1, 1))
_TASK = {"data": str, "majority": _SCORES, "bag_of_words": _SCORES}


def read_baselines(path: Path, warn: Callable[[str], None] = warn) -> dict[str, TaskBaselines]:
    """Returns the baselines of a baselines.json by task; none where the file is not there.

    They belong to a line of results.jsonl only if its `data` is theirs. A damaged file, one of a format that this
    version does not read, and a damaged task are left out, and `warn` is called with which.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path, "left out")
    except UserError as error:
        warn(str(error))
        return {}
    fault = (
        f"format {content.get('format')!r:.60}, this version reads {FORMAT}" if content.get("format") != FORMAT else ""
    )
    if fault := fault or mismatch(content, {"tasks": Each(dict)}):
        warn(f"{path}: {fault}; left out")
        return {}
    good = {}
    for task, entry in content["tasks"].items():
        if fault := mismatch(entry, _TASK, f"tasks.{task}") or _unknown_metric(task, entry):
            warn(f"{path}: {fault}; left out")
        else:
            good[task] = cast("TaskBaselines", entry)
    return good


def add_baselines(path: Path, task: str, entry: TaskBaselines) -> None:
    """Puts a task's baselines into a baselines.json, under the lock of the results beside it: shares write it, too.

    Args:
      path: of the file; made if it is not there.
      task: its name.
      entry: its baselines, in place of those that the file has.
    """
    with locked(path.parent / RESULTS):
        tasks = read_baselines(path, warn=lambda text: None) | {task: entry}
        content: Baselines = {"format": FORMAT, "tasks": dict(sorted(tasks.items()))}
        write_json(path, content)


def _unknown_metric(task: str, entry: dict) -> str:
    unknown = [metric for metric in (*entry["majority"], *entry["bag_of_words"]) if metric not in METRICS]
    return f"tasks.{task}: {unknown[0]} is no metric that this version knows" if unknown else ""
