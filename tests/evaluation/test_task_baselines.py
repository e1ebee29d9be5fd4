"""What a model has to beat: against scikit-learn on a dense table, and as `ctcd glue` keeps and shows it."""

import random
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ctcd_jax.artifacts.baselines import read_baselines
from ctcd_jax.evaluation.baselines import (
    bag_of_words,
    baselines_line,
    complete_baselines,
    features,
    task_baselines,
)
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.files import Split
from ctcd_jax.evaluation.tasks.tasks import TASKS

WORDS = ["the", "cat", "dog", "bird", "sees", "likes", "red", "small"]


def texts(count, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 7))) for _ in range(count)]


def single(count, seed):
    found = texts(count, seed)
    return Split((found,), [int("cat" in text.split()) for text in found])


def sst2(seed=0):
    return TaskData(TASKS["sst2"], single(60, seed), (single(30, seed + 1),))


def test_the_features_are_words_pairs_of_words_and_what_both_sides_share():
    assert features(["The cat, the dog"]) == ["the", "cat", "the", "dog", "the cat", "cat the", "the dog"]
    assert features(["A cat", "cat! a"]) == ["0:a", "0:cat", "0:a cat", "1:cat", "1:a", "1:cat a", "both:a", "both:cat"]
    assert features(["?!"]) == features(["", "..."]) == [""]


def test_it_answers_as_a_regression_on_a_dense_table_of_the_words_and_pairs():
    data = sst2()
    rows = [[*words, *pairwise(words)] for words in map(str.split, data.train.sentences[0])]
    columns = sorted({feature for row in rows for feature in row}, key=str)

    def table(split):
        found = [[*words, *pairwise(words)] for words in map(str.split, split.sentences[0])]
        return np.array([[float(column in row) for column in columns] for row in found])

    dense = LogisticRegression(max_iter=1000).fit(table(data.train), data.train.labels)
    (answers,) = bag_of_words(data)
    assert answers.tolist() == dense.predict(table(data.dev[0])).tolist()
    assert 0 < answers.mean() < 1
    entry = task_baselines(data)
    assert entry == task_baselines(sst2())
    assert entry["bag_of_words"]["accuracy"] == np.mean(answers == data.dev[0].labels) > entry["majority"]["accuracy"]


def test_of_pairs_what_is_shared_tells_them_apart():
    """No word of either side says anything: only that it is on both."""
    draw = random.Random(0)

    def split(count):
        first, second, labels = [], [], []
        for n in range(count):
            word, other = draw.sample(WORDS, 2)
            first, second, labels = [*first, word], [*second, word if n % 2 else other], [*labels, n % 2]
        return Split((first, second), labels)

    entry = task_baselines(TaskData(TASKS["rte"], split(400), (split(100),)))
    assert entry["majority"] == {"accuracy": 0.5}
    assert entry["bag_of_words"]["accuracy"] > 0.95
    scores = TaskData(TASKS["stsb"], split(400), (split(100),))
    assert task_baselines(scores)["bag_of_words"]["pearson"] > 0.9


def test_data_that_leaves_nothing_to_learn_has_baselines_too():
    one_class = Split((["the cat", "a dog"],), [1, 1])
    wordless = Split((["?", "!", "?", "!"],), [0, 1, 0, 1])
    assert task_baselines(TaskData(TASKS["sst2"], one_class, (wordless,)))["bag_of_words"] == {"accuracy": 0.5}
    assert task_baselines(TaskData(TASKS["sst2"], wordless, (one_class,)))["majority"] == {"accuracy": 1.0}
    matched, mismatched = (Split((["a"] * 3, ["b"] * 3), labels) for labels in ([0, 1, 0], [2, 2, 0]))
    mnli = task_baselines(TaskData(TASKS["mnli"], matched, (matched, mismatched)))
    assert mnli["bag_of_words"] == {"accuracy": pytest.approx(2 / 3), "accuracy_mismatched": pytest.approx(1 / 3)}


def test_the_shares_of_an_array_make_the_file_that_one_process_makes(tmp_path):
    data = [TaskData(task, *(single(30, 0), (single(10, 1),))) for task in (TASKS["sst2"], TASKS["cola"])]
    said, warned = [], []

    def complete(folder, index, count):
        complete_baselines(folder, data, (index, count), said.append, warned.append)
        return (folder / "baselines.json").read_bytes()

    for name in ("whole", "shared"):
        (tmp_path / name).mkdir()
    whole = complete(tmp_path / "whole", 0, 1)
    assert said == [baselines_line(one.task.name, task_baselines(one)) for one in data]
    for index in (2, 1, 0):  # the third share has no task left, the others one each
        if index == 2:
            complete_baselines(tmp_path / "shared", data, (2, 3), said.append, warned.append)
            assert not (tmp_path / "shared/baselines.json").exists()
        else:
            shared = complete(tmp_path / "shared", index, 3)
    assert shared == whole
    assert complete(tmp_path / "shared", 0, 1) == whole
    assert len(said) == 4  # nothing was computed twice
    assert warned == []

    # What is damaged is named and made anew; so is what is of other examples.
    path = tmp_path / "shared/baselines.json"
    path.write_text(path.read_text().replace('"majority"', '"minority"'))
    assert complete(tmp_path / "shared", 0, 1) == whole
    again = "majority is missing; left out, and computed again"
    assert warned == [f"{path}: tasks.{name}.{again}" for name in ("cola", "sst2")]
    data[0] = sst2(seed=5)
    complete(tmp_path / "shared", 0, 1)
    assert read_baselines(path)["sst2"] == task_baselines(data[0])
    assert len(said) == 7
