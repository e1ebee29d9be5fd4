"""What a model has to beat to have learnt anything of a task: one answer for everything, and a bag of words."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from ctcd_jax.artifacts.baselines import BASELINES, TaskBaselines, add_baselines, read_baselines
from ctcd_jax.evaluation.scores import majority, score
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.files import Split

MOST_FEATURES = 200_000  # the most frequent ones; of GLUE only MNLI, QQP and QNLI have more
_WORD = re.compile(r"\w+")


def complete_baselines(
    out: Path,
    data: Sequence[TaskData],
    shard: tuple[int, int],
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Adds to `out`/baselines.json what it lacks of this share of the tasks; says each that it adds.

    The shares of an array divide the tasks among themselves: no share waits for another, and none repeats its work.

    Args:
      out: folder of the results.
      data: all tasks of the matrix.
      shard: (index, count).
      log, warn: take a line.
    """
    path = out / BASELINES
    known = read_baselines(path, lambda text: warn(f"{text}, and computed again"))
    index, count = shard
    for one in data[index::count]:
        entry = known.get(one.task.name)
        if entry is None or entry["data"] != one.digest or tuple(entry["majority"]) != one.metrics:
            entry = task_baselines(one)
            add_baselines(path, one.task.name, entry)
            log(baselines_line(one.task.name, entry))


def task_baselines(data: TaskData) -> TaskBaselines:
    """Returns what both baselines score on the development sets of a task."""
    return {
        "data": data.digest,
        "majority": majority_scores(data),
        "bag_of_words": score_splits(data, bag_of_words(data)),
    }


def baselines_line(task: str, entry: TaskBaselines) -> str:
    """Returns the line of the log with what is to be beaten on a task."""
    majority_class, words = metrics_text(entry["majority"]), metrics_text(entry["bag_of_words"])
    return f"{task}  to beat:  majority class  {majority_class};  bag of words  {words}"


def bag_of_words(data: TaskData) -> list[np.ndarray]:
    """Returns what a linear model of words answers to each development split, [rows]: class ids or scores.

    Its features are which words and pairs of neighbouring words a text has; of two texts those of each side and the
    words that they share. The model is scikit-learn's logistic regression (for scores: ridge regression) with its
    default penalty, fitted on the training split. Nothing of it is chosen on a development set.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    labels = data.train.labels
    if len(set(labels)) == 1:  # the library refuses to learn what there is no choice in
        return [np.full(len(split), labels[0]) for split in data.dev]
    # To type checkers, an analyzer is a name and a dtype that of the default.
    vectorizer = cast("Any", CountVectorizer)(
        analyzer=features, binary=True, max_features=MOST_FEATURES, dtype=np.float64
    )
    model = LogisticRegression(max_iter=1000) if data.task.classes else Ridge()
    with threadpool_limits(1):  # ten times as fast as more, and the same to the last bit whatever the cores
        model.fit(vectorizer.fit_transform(_examples(data.train)), labels)
        return [np.asarray(model.predict(vectorizer.transform(_examples(split)))) for split in data.dev]


def features(texts: Sequence[str]) -> list[str]:
    """Returns the words and pairs of words of an example's one or two texts; "" alone where there are none."""
    sides = [_WORD.findall(text.lower()) for text in texts]
    if len(sides) == 1:
        return _words_and_pairs(sides[0]) or [""]
    found = [f"{number}:{name}" for number, words in enumerate(sides) for name in _words_and_pairs(words)]
    shared = set.intersection(*map(set, sides))
    return [*found, *(f"both:{word}" for word in sorted(shared))] or [""]


def score_splits(data: TaskData, answers: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns the metrics of a task, given the answers to each of its development splits."""
    metrics = score(data.task.metrics, data.dev[0].labels, answers[0])
    if len(answers) > 1:
        metrics["accuracy_mismatched"] = score(("accuracy",), data.dev[1].labels, answers[1])["accuracy"]
    return metrics


def majority_scores(data: TaskData) -> dict[str, float]:
    """Returns the metrics of a task for always answering with the most frequent class of a development split."""
    scores = majority(data.task.metrics, data.dev[0].labels)
    if len(data.dev) > 1:
        scores["accuracy_mismatched"] = majority(("accuracy",), data.dev[1].labels)["accuracy"]
    return scores


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Returns metrics as the log has them, in per cent."""
    return "  ".join(f"{metric} {100 * value:.2f}" for metric, value in metrics.items())


def _words_and_pairs(words: Sequence[str]) -> list[str]:
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def _examples(split: Split) -> list[tuple[str, ...]]:
    return list(zip(*split.sentences, strict=True))
