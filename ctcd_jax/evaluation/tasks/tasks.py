"""The facts of each GLUE task: where its columns are, what its labels mean, how it is scored, how large it is."""

import re
from dataclasses import dataclass

from ctcd_jax.errors import UserError

REGRESSION = ("pearson", "spearman")
CLASSIFICATION = ("accuracy", "f1", "f1_macro", "matthews")


@dataclass(frozen=True)
class Task:
    """What must be known of a task to read and score it.

    Attributes:
      folder: of its TSV files; also the title in tables.
      sentences, label: columns of the TSV files, header names or zero-based positions.
      classes: labels as they stand in the files, in the order of their class ids; None makes it a regression.
      metrics: the first is the headline.
      fields: text columns of the same task in `nyu-mll/glue` and TFDS, whose label is `label`, a class id or a score.
      rows: official number of examples of each of `splits`; empty where nobody has said.
      dev: development splits. A second one, MNLI's mismatched genres, is scored by `accuracy_mismatched`.
      interval: of a regression's scores.
      positive: the class that F1 is of, where the user has chosen it; else the last of `classes` is.
      short_rows: whether the official files have rows that lack columns, which are then skipped and counted.
    """

    name: str
    folder: str
    sentences: tuple[str | int, ...]
    label: str | int
    classes: tuple[str, ...] | None
    metrics: tuple[str, ...]
    fields: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    dev: tuple[str, ...] = ("dev",)
    header: bool = True
    interval: tuple[float, float] | None = None
    short_rows: bool = False
    positive: str | None = None

    @property
    def headline(self) -> str:
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the classifier: one logit a class, or one score."""
        return len(self.classes) if self.classes else 1

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", *self.dev)


_BINARY = ("0", "1")
_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

# In the order of the paper's Table 2, and WNLI, which it leaves out. QQP's F1 and MNLI's second accuracy are GLUE's.
TASKS = {
    task.name: task
    for task in (
        Task(
            "mnli",
            "MNLI",
            _PAIR,
            "gold_label",
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            fields=("premise", "hypothesis"),
            rows=(392_702, 9_815, 9_832),
            dev=("dev_matched", "dev_mismatched"),
        ),
        Task(
            "qqp",
            "QQP",
            ("question1", "question2"),
            "is_duplicate",
            _BINARY,
            ("accuracy", "f1"),
            fields=("question1", "question2"),
            rows=(363_846, 40_430),
            short_rows=True,
        ),
        Task(
            "qnli",
            "QNLI",
            ("question", "sentence"),
            "label",
            _ENTAILMENT,
            ("accuracy",),
            fields=("question", "sentence"),
            rows=(104_743, 5_463),
        ),
        Task(
            "sst2",
            "SST-2",
            ("sentence",),
            "label",
            _BINARY,
            ("accuracy",),
            fields=("sentence",),
            rows=(67_349, 872),
        ),
        Task(
            "cola",
            "CoLA",
            (3,),
            1,
            _BINARY,
            ("matthews",),
            fields=("sentence",),
            rows=(8_551, 1_043),
            header=False,
        ),
        Task(
            "stsb",
            "STS-B",
            _PAIR,
            "score",
            None,
            ("pearson", "spearman"),
            fields=_PAIR,
            rows=(5_749, 1_500),
            interval=(0.0, 5.0),
        ),
        Task(
            "mrpc",
            "MRPC",
            ("#1 String", "#2 String"),
            "Quality",
            _BINARY,
            ("f1", "accuracy"),
            fields=_PAIR,
            rows=(3_668, 408),
        ),
        Task("rte", "RTE", _PAIR, "label", _ENTAILMENT, ("accuracy",), fields=_PAIR, rows=(2_490, 277)),
        Task("wnli", "WNLI", _PAIR, "label", _BINARY, ("accuracy",), fields=_PAIR, rows=(635, 71)),
    )
}
# WNLI's development set contradicts its training set, so that it measures little but luck.
DEFAULT_TASKS = tuple(name for name in TASKS if name != "wnli")
# The tasks that gain from weights fine-tuned on a larger one (`--intermediate mnli`), by RoBERTa's practice.
SMALL_TASKS = ("rte", "mrpc", "stsb")


def own_task(name: str, columns: str, metrics: str, positive: str | None = None) -> Task:
    """Returns the task of --task NAME --columns TEXT[,TEXT],LABEL --metric M[,M] [--positive CLASS].

    A column that is a number is a zero-based position in a file without a header. Its classes are the training file's:
    `files.OwnFiles.find`.

    Args:
      name: of letters, digits, hyphens and underscores, and of no task of GLUE.
      columns: one or two text columns and the label, separated by commas.
      metrics: of classes or of scores, separated by commas.
      positive: the class that F1 is of; None for the last.

    Raises:
      UserError: not one or two texts and a label, metrics that do not belong together, or a class without F1.
    """
    if not re.fullmatch(r"\w[\w. -]*", name) or plain(name) in TASKS:
        raise UserError(f"--task {name}: give a name of your own, of letters, digits, hyphens and underscores")
    parts = columns.split(",")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UserError(f"--columns {columns}: give one or two text columns and the label, e.g. text,label")
    positions = [part.isdecimal() for part in parts]
    if any(positions) and not all(positions):
        raise UserError(f"--columns {columns}: give names (a file with a header) or positions from 0, not both")
    names = tuple(int(part) if part.isdecimal() else part for part in parts)
    wanted = tuple(metrics.split(","))
    for metric in wanted:
        if wanted.count(metric) > 1:
            raise UserError(f"--metric {metrics}: {metric} is given twice; name each metric once")
        if metric not in CLASSIFICATION + REGRESSION:
            raise UserError(f"--metric {metric}: give {', '.join(CLASSIFICATION)} or {', '.join(REGRESSION)}")
    regression = wanted[0] in REGRESSION
    if any((metric in REGRESSION) != regression for metric in wanted):
        raise UserError(f"--metric {metrics}: give metrics of classes or of scores, not both")
    if positive is not None and "f1" not in wanted:
        raise UserError(f"--positive {positive}: only F1 is of one class; leave it out, or give --metric f1")
    classes = None if regression else ()
    header = not any(positions)
    return Task(plain(name), name, names[:-1], names[-1], classes, wanted, header=header, positive=positive)


def plain(name: str) -> str:
    """Returns a task's name without case, hyphens, underscores and spaces."""
    return re.sub(r"[-_ ]", "", name).lower()
