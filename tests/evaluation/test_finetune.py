import json
import random

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.classifier import fine_tune
from ctcd_jax.evaluation.finetune import FIXED, glue
from ctcd_jax.evaluation.tasks import TASKS, find_task, read_split

WORDS = ["the", "cat", "dog", "bird", "sees", "likes", "red", "small", "old", "house", "tree"]
SETTINGS = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 16, "max_length": 16, **FIXED}


def sentences(count, seed):
    """(sentence, label) pairs whose label is whether the word "good" occurs, half of them each."""
    draw = random.Random(seed)
    for index in range(count):
        words = draw.choices(WORDS, k=draw.randint(3, 8))
        words[draw.randrange(len(words))] = "good" if index % 2 else "bad"
        yield " ".join(words), index % 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("glue")
    for folder in ("Good", "STS-B", "MRPC"):
        (root / folder).mkdir()
    for split, count in (("train", 480), ("dev", 100)):
        examples = list(sentences(count, seed=split))
        (root / "Good" / f"{split}.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in examples))
        small = examples[:24]
        (root / "STS-B" / f"{split}.tsv").write_text(
            "sentence1\tsentence2\tscore\n" + "".join(f"{text}\tthe dog\t{2.5 * label}\n" for text, label in small)
        )
        (root / "MRPC" / f"{split}.tsv").write_text(
            "Quality\t#1 String\t#2 String\n" + "".join(f"{label}\t{text}\tthe dog\n" for text, label in small)
        )
    return root


def test_a_separable_task_is_learned(models, data, tmp_path):
    rows = glue(models[1:], data, ["good"], 1, tmp_path, epochs=5, learning_rate=3e-3, log=lambda line: None)
    assert rows[0]["metrics"]["accuracy"] > 0.9
    assert rows[0]["majority_share"] == 0.5
    assert (rows[0]["train_rows"], rows[0]["dev_rows"]) == (480, 100)


def test_the_matrix_is_run_once_and_taken_up_again(models, data, tmp_path):
    lines = []
    arguments = {"epochs": 1, "log": lines.append}
    first = glue(models, data, ["stsb"], 1, tmp_path, **arguments)
    results = tmp_path / "results.jsonl"
    assert [json.loads(line) for line in results.read_text().splitlines()] == first
    assert [(row["model"], row["task"], row["seed"]) for row in first] == [
        ("teacher", "stsb", 0),
        ("student", "stsb", 0),
    ]
    assert all(row["value"] == row["metrics"]["pearson"] and row["metric"] == "pearson" for row in first)

    both = glue(models[1:], data, ["STS-B", "mrpc"], 1, tmp_path, **arguments)
    assert both[0] == first[1]
    assert set(both[1]["metrics"]) == {"f1", "accuracy"}
    assert len(results.read_text().splitlines()) == 3
    assert [line.endswith("(already there)") for line in lines] == [False, False, True, False]
    table = (tmp_path / "table.md").read_text()
    assert "| teacher |" in table
    assert "STS-B Pearson" in table


def test_other_settings_or_other_weights_of_the_name_are_refused(models, data, export_model, tmp_path):
    out = tmp_path / "out"
    glue(models[1:], data, ["mrpc"], 1, out, epochs=1, log=lambda line: None)
    with pytest.raises(UserError, match=r"results\.jsonl:1: run with another learning_rate; use another --out"):
        glue(models[1:], data, ["mrpc"], 1, out, epochs=1, learning_rate=5e-5)
    namesake = export_model(tmp_path / "student", seed=5)
    with pytest.raises(UserError, match="student had other weights then; use another --out"):
        glue([namesake], data, ["mrpc"], 1, out, epochs=1)


def test_a_seed_fixes_the_outcome_and_another_changes_it(models, data):
    task = find_task(data, "stsb")
    train, dev = read_split(data, task, "train"), read_split(data, task, "dev")
    once, again, other = (fine_tune(models[1], task, train, dev, seed, SETTINGS) for seed in (0, 0, 1))
    assert once == again
    assert once != other


def test_sentences_longer_than_the_models_positions_are_truncated(export_model, data, tmp_path):
    short = export_model(tmp_path / "short", positions=8)
    split = read_split(data, TASKS["mrpc"], "dev")
    assert max(len(text.split()) for text in split.sentences[0]) + 2 + 3 > 8
    metrics = fine_tune(short, TASKS["mrpc"], split, split, 0, {**SETTINGS, "max_length": 128})
    assert 0 <= metrics["accuracy"] <= 1


def test_a_seed_count_below_one_is_refused(models, data, tmp_path):
    with pytest.raises(UserError, match="--seeds 0"):
        glue(models, data, ["mrpc"], 0, tmp_path)
