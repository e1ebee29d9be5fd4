"""Table 2 of the paper (GLUE development sets, in per cent), and the two ways to average such a table.

Source: Lee et al. (2023), Co-training and Co-distillation for Quality Improvement and Compression of Language Models,
Findings of EMNLP 2023. The average that it prints is `mean_of_columns` over its ten columns, though it does not say so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

MetricColumn = tuple[str, str]
Value = TypeVar("Value")  # a float, or an array of them

# (task, metric). The paper prints one MNLI column and does not say whether it is the matched set.
COLUMNS: tuple[MetricColumn, ...] = (
    ("mnli", "accuracy"),
    ("qqp", "accuracy"),
    ("qnli", "accuracy"),
    ("sst2", "accuracy"),
    ("cola", "matthews"),
    ("stsb", "pearson"),
    ("stsb", "spearman"),
    ("mrpc", "f1"),
    ("mrpc", "accuracy"),
    ("rte", "accuracy"),
)

ROWS: dict[str, dict[MetricColumn, float]] = {
    name: dict(zip(COLUMNS, values, strict=True))
    for name, values in {
        "BERT-base (109 M)": (84.17, 90.89, 90.68, 91.86, 57.54, 88.84, 88.56, 89.31, 85.04, 65.34),
        "one-way student (67 M)": (81.93, 90.05, 87.72, 90.94, 52.03, 86.28, 86.07, 87.94, 82.59, 57.76),
        "community student 1 (67 M)": (81.88, 90.17, 88.24, 91.51, 54.82, 86.70, 86.49, 89.76, 85.29, 59.21),
        "community student 2 (67 M)": (81.34, 89.75, 88.37, 90.71, 56.08, 86.42, 86.44, 89.80, 85.29, 59.20),
    }.items()
}

NOTE = (
    "The paper's rows are its Table 2, single figures, averaged here over those of its columns that ours has. Its "
    "models, of 109 M and 67 M parameters, went several times through all of BookCorpus and Wikipedia: larger, and "
    "trained for longer, than this package's small presets, so they are a landmark and no baseline. How they were "
    "fine-tuned it does not say."
)


def mean_of_columns(values: Mapping[MetricColumn, Value]) -> Value:
    """The paper's average: the plain mean of the metric columns, in which a task with two metrics counts twice."""
    return _mean(list(values.values()))


def mean_over_tasks(values: Mapping[MetricColumn, Value]) -> Value:
    """The usual GLUE average: first the metrics of a task, then the tasks."""
    tasks = dict.fromkeys(task for task, _ in values)
    return _mean([_mean([value for column, value in values.items() if column[0] == task]) for task in tasks])


def _mean(values: Sequence[Any]) -> Any:
    return sum(values) / len(values)
