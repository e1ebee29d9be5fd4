"""Where tasks come from (`--data`): a folder, the hub or TFDS; and whether they are what GLUE published."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.files import Folder, OwnFiles, Split
from ctcd_jax.evaluation.tasks.libraries import Hub, Tfds
from ctcd_jax.evaluation.tasks.tasks import DEFAULT_TASKS, TASKS, Task


class TaskSource(Protocol):
    """A place that tasks are read from; goes to other processes as it is."""

    def names(self) -> Sequence[str]:
        """Returns the tasks of GLUE, or the user's own, that are there."""
        ...

    def find(self, name: str) -> Task:
        """Returns the task that the user calls `name`."""
        ...

    def read(self, task: Task, split: str) -> Split:
        """Reads one of `task.splits`."""
        ...


@dataclass(frozen=True)
class TaskData:
    """A task and its examples; `dev` has a split for each of `task.dev`."""

    task: Task
    train: Split
    dev: tuple[Split, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The task's, and that of a second dev split."""
        return self.task.metrics + (("accuracy_mismatched",) if len(self.dev) > 1 else ())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 (hex) of the texts and labels of all splits."""
        found = hashlib.sha256()
        for split in (self.train, *self.dev):
            found.update(json.dumps([split.sentences, split.labels], ensure_ascii=False).encode())
        return found.hexdigest()


def open_source(data: str, own: Task | None = None) -> TaskSource:
    """Returns the source that `--data` names: a folder, hf[:ID_OR_FOLDER] or tfds[:FOLDER].

    Args:
      own: a task of the user's own, whose files lie in the folder `data`.
    """
    kind, _, location = data.partition(":")
    if own is not None:
        return OwnFiles(Path(data), own)
    if kind == "hf":
        return Hub(location or "nyu-mll/glue")
    if kind == "tfds":
        return Tfds(location)
    return Folder(Path(data))


def choose(source: TaskSource, names: Sequence[str] | None) -> tuple[list[Task], list[str]]:
    """Returns the tasks to run and the names of those of the default that the source lacks.

    Args:
      names: what the user asked for; None for all of GLUE but WNLI, as far as it is there.
    """
    if names is not None:
        tasks = [source.find(name) for name in names]
        return list(dict.fromkeys(tasks)), []
    there = source.names()
    wanted = [name for name in there if name in DEFAULT_TASKS or name not in TASKS]
    if not wanted:
        raise UserError("--data: no task of GLUE is there; name your own with --tasks, or with --task and --columns")
    missing = [name for name in DEFAULT_TASKS if name not in there] if wanted[0] in TASKS else []
    return [source.find(name) for name in wanted], missing


def load(source: TaskSource, task: Task) -> TaskData:
    """Reads all splits of a task."""
    train, *dev = (source.read(task, split) for split in task.splits)
    return TaskData(task, train, tuple(dev))


def classes_line(data: TaskData) -> str | None:
    """Returns a line with the classes of a task of the user's own, as they were found and counted; else None."""
    task = data.task
    if task.name in TASKS or not task.classes:
        return None
    counts = []
    for name, split in zip(task.splits, (data.train, *data.dev), strict=True):
        seen = Counter(split.labels)
        counts.append(f"{name} {', '.join(f'{label} ({seen[index]:,})' for index, label in enumerate(task.classes))}")
    more = f"; F1 is that of {task.classes[1]}" if "f1" in task.metrics else ""
    return f"{task.folder}: {len(task.classes)} classes: {'; '.join(counts)}{more}"


def departures(data: TaskData) -> Iterator[str]:
    """Yields a line for everything in which a split of GLUE is not what was published: rows, labels, broken rows."""
    task = data.task
    for position, (name, split) in enumerate(zip(task.splits, (data.train, *data.dev), strict=True)):
        title = f"{task.folder} {name}"
        if task.rows and len(split) != task.rows[position]:
            yield f"{title}: {len(split):,} rows, the official split has {task.rows[position]:,}"
        if split.skipped:
            yield f"{title}: rows skipped for lack of columns: {split.skipped:,}"
        for note in split.notes:
            yield f"{title}: {note}"
        if task.classes is not None:
            seen = Counter(split.labels)
            absent = [label for index, label in enumerate(task.classes) if not seen[index]]
            if absent:
                yield f"{title}: no row with label {', '.join(absent)}"
            single = [label for index, label in enumerate(task.classes) if seen[index] == 1]
            if single and name == "train" and task.name not in TASKS:
                yield f"{title}: only one row with label {', '.join(single)}"
        elif len(set(split.labels)) == 1:
            yield f"{title}: all scores are {split.labels[0]:g}"
