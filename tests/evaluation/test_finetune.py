import json
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.baselines import score_splits
from ctcd_jax.evaluation.classifier import Computation, fine_tune
from ctcd_jax.evaluation.encoding import encode
from ctcd_jax.evaluation.finetune import GlueOptions, glue
from ctcd_jax.evaluation.matrix import FIXED, share
from ctcd_jax.evaluation.scores import score
from ctcd_jax.evaluation.tasks.data import TaskData, load
from ctcd_jax.evaluation.tasks.files import Folder, OwnFiles, Split
from ctcd_jax.evaluation.tasks.tasks import TASKS, own_task

WORDS = ["the", "cat", "dog", "bird", "sees", "likes", "red", "small", "old", "house", "tree"]
SETTINGS = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 16, "max_length": 16, **FIXED}
PLAIN = Computation("float32", False)
QUICK = GlueOptions(epochs=1, jobs=0)


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


def run(models, data, tasks, out, options=QUICK, seeds=1):
    """Runs a matrix in this process; returns its lines, what it said and what it warned of."""
    said, warned = [], []
    try:
        rows = glue(models, Folder(data), tasks, seeds, out, options, log=said.append, warn=warned.append)
    except UserError as error:
        rows = error
    return rows, said, warned


def test_a_separable_task_is_learned_and_its_predictions_are_those_that_were_scored(models, data, tmp_path):
    (row,), _, _ = run(models[1:], data, ["good"], tmp_path, GlueOptions(epochs=5, learning_rate=3e-3, jobs=0))
    assert row["metrics"]["accuracy"] > 0.9
    assert row["majority_share"] == 0.5
    assert (row["train_rows"], row["dev_rows"]) == (480, 100)
    assert (row["device"], row["precision"], row["compiled"]) == ("cpu", "float32", False)
    kept = np.load(tmp_path / row["predictions"])
    # In the order of the file: sentences of many lengths are predicted in batches of like length.
    assert kept["labels"].tolist() == [label for _, label in sentences(100, seed="dev")]
    assert score(tuple(row["metrics"]), kept["labels"], kept["predictions"]) == row["metrics"]


def test_the_matrix_is_run_once_and_taken_up_again(models, data, tmp_path):
    first, said, warned = run(models, data, ["stsb"], tmp_path)
    results = tmp_path / "results.jsonl"
    assert sorted(results.read_text().splitlines()) == sorted(map(json.dumps, first))
    assert [(row["model"], row["task"], row["seed"]) for row in first] == [
        ("teacher", "stsb", 0),
        ("student", "stsb", 0),
    ]
    assert all(row["value"] == row["metrics"]["pearson"] and row["metric"] == "pearson" for row in first)
    assert "STS-B train: 24 rows, the official split has 5,749" in warned
    assert said[0].startswith("stsb  to beat:  majority class  pearson 0.00  spearman 0.00;  bag of words  pearson ")
    assert "[1/2, " in said[1]

    both, said, _ = run(models[1:], data, ["STS-B", "mrpc"], tmp_path)
    assert both[0] == first[1]
    assert set(both[1]["metrics"]) == {"f1", "accuracy"}
    assert len(results.read_text().splitlines()) == 3
    assert len([line for line in said if "  seed 0  " in line]) == 1
    table = (tmp_path / "table.md").read_text()
    assert "| teacher |" in table
    assert "STS-B Pearson" in table
    assert (tmp_path / "table.csv").is_file()


def test_other_settings_or_other_weights_of_the_name_are_refused(models, data, export_model, tmp_path):
    out = tmp_path / "out"
    run(models[1:], data, ["mrpc"], out)
    error, _, _ = run(models[1:], data, ["mrpc"], out, GlueOptions(epochs=1, learning_rate=5e-5, jobs=0))
    assert "results.jsonl:1: run with another learning_rate; use another --out" in str(error)
    namesake = export_model(tmp_path / "student", seed=5)
    error, _, _ = run([namesake], data, ["mrpc"], out)
    assert "student had other weights then; use another --out" in str(error)


@pytest.mark.slow
def test_a_grid_runs_every_combination_and_the_best_is_reported_as_selected(models, data, tmp_path):
    options = GlueOptions(epochs=1, grid=("learning_rate=1e-5,3e-3", "batch-size=8,16"), jobs=0)
    rows, _, _ = run(models[1:], data, ["mrpc"], tmp_path, options)
    used = {(row["hyperparameters"]["learning_rate"], row["hyperparameters"]["batch_size"]) for row in rows}
    assert used == {(1e-5, 8), (1e-5, 16), (3e-3, 8), (3e-3, 16)}
    assert len({row["predictions"] for row in rows}) == 4
    assert "selected" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_an_intermediate_task_lends_its_encoder_and_is_recorded(models, data, tmp_path):
    lent = GlueOptions(epochs=1, intermediate="good", jobs=0)
    plain, _, _ = run(models[1:], data, ["good", "mrpc", "stsb"], tmp_path / "plain")
    rows, _, _ = run(models[1:], data, ["good", "mrpc", "stsb"], tmp_path / "lent", lent)
    assert [row["intermediate"] for row in plain] == [None, None, None]
    assert [row["intermediate"] for row in rows] == [None, "good", "good"]
    assert rows[0]["metrics"] == plain[0]["metrics"]
    assert rows[2]["metrics"] != plain[2]["metrics"]
    # The encoder comes from the other task, the classifier does not: the same, started by hand.
    encoder = tmp_path / "lent/cells/student/good/seed-0/encoder"
    settings = rows[2]["hyperparameters"]
    (answers,) = fine_tune(encoder, load(Folder(data), TASKS["stsb"]), 0, settings, PLAIN)
    assert np.array_equal(answers, np.load(tmp_path / "lent" / rows[2]["predictions"])["predictions"])
    again, _, _ = run(models[1:], data, ["good", "mrpc"], tmp_path / "lent")
    assert "mrpc started from good then; use another --out" in str(again)


def test_a_seed_fixes_the_outcome_and_another_changes_it(models, data):
    stsb = load(Folder(data), TASKS["stsb"])
    once, again, other = (fine_tune(models[1], stsb, seed, SETTINGS, PLAIN)[0].tolist() for seed in (0, 0, 1))
    assert once == again
    assert once != other


def test_sentences_longer_than_the_models_positions_are_truncated(export_model, data, tmp_path):
    short = export_model(tmp_path / "short", positions=8)
    mrpc = load(Folder(data), TASKS["mrpc"])
    assert max(len(row["input_ids"]) for row in encode(short, mrpc.train, 128)) > 8
    (answers,) = fine_tune(short, mrpc, 0, {**SETTINGS, "max_length": 128}, PLAIN)
    assert set(answers) <= {0, 1}


def test_a_cell_that_fails_leaves_its_log_and_the_others_go_on(models, export_model, data, tmp_path):
    broken = export_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    error, said, _ = run([broken, models[1]], data, ["mrpc"], tmp_path / "out", GlueOptions(epochs=1, jobs=1))
    folder = tmp_path / "out" / "cells/broken/mrpc/seed-0"
    assert str(error) == f"1 of 2 cells failed; see {folder / 'log.txt'}; then run the same command again"
    assert "Traceback" in (folder / "log.txt").read_text()
    assert any(line.startswith("broken  mrpc  seed 0  FAILED: ") for line in said)
    # The other cell's epoch was said once, before its result, as it stands in its log.
    log = (tmp_path / "out" / "cells/student/mrpc/seed-0/log.txt").read_text()
    (epoch,) = (line for line in log.splitlines() if "epoch" in line)
    assert epoch.startswith("student  mrpc  seed 0  epoch 1/1  train loss 0.")
    assert [line.startswith(epoch) for line in said if line.startswith("student  mrpc")] == [True, False]
    assert [row["model"] for row in map(json.loads, (tmp_path / "out/results.jsonl").open())] == ["student"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "cells/broken/mrpc/seed-0/log.txt" in table

    shutil.copy(export_model(tmp_path / "whole", seed=3) / "model.safetensors", broken)
    rows, _, _ = run([broken, models[1]], data, ["mrpc"], tmp_path / "out", QUICK)
    assert [row["model"] for row in rows] == ["broken", "student"]
    assert not (folder / "failed").exists()
    assert "log.txt" not in (tmp_path / "out" / "table.md").read_text()


def test_models_that_are_kept_answer_in_a_pipeline_as_their_cells_did(models, data, tmp_path):
    from transformers import pipeline

    tasks, options = ["good", "stsb", "mrpc"], GlueOptions(epochs=0.5, jobs=0, keep_models=True)
    rows, said, _ = run(models[1:], data, tasks, tmp_path, options)
    assert said[-1].startswith(f"the fine-tuned models: {tmp_path}/cells/MODEL/TASK/seed-N/model")
    assert rows[0]["hyperparameters"]["epochs"] == 0.5
    for row, task in zip(rows, (Folder(data).find("good"), TASKS["stsb"], TASKS["mrpc"]), strict=True):
        classify = pipeline("text-classification", model=str(tmp_path / f"cells/student/{row['task']}/seed-0/model"))
        kept = np.load(tmp_path / row["predictions"])["predictions"]
        columns = load(Folder(data), task).dev[0].sentences
        texts = [dict(zip(("text", "text_pair"), texts, strict=False)) for texts in zip(*columns, strict=True)]
        answers = [classify(text) for text in texts]
        if task.classes:
            assert [answer["label"] for answer in answers] == [task.classes[index] for index in kept]
        else:
            assert [answer["label"] for answer in answers] == ["score"] * len(kept)
            assert [answer["score"] for answer in answers] == pytest.approx(kept, abs=1e-5)
    # In what a user gives it a special token is text, as it was in training.
    assert classify.tokenizer("[SEP]", add_special_tokens=False)["input_ids"] != [classify.tokenizer.sep_token_id]

    shutil.rmtree(tmp_path / "cells/student/stsb/seed-0/model")
    error, _, _ = run(models[1:], data, tasks, tmp_path, options)
    assert "--keep-models: 1 of 3 finished cells ran without it (student  stsb  seed 0 the first); use an" in str(error)


@pytest.mark.slow
def test_the_shards_of_an_array_do_every_cell_once(models, data, tmp_path):
    for index in range(3):
        run(models, data, ["stsb", "mrpc"], tmp_path, GlueOptions(epochs=1, jobs=0, shard=(index, 3)))
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").open()]
    cells = [(row["model"], row["task"]) for row in lines]
    assert sorted(cells) == [(m, t) for m in ("student", "teacher") for t in ("mrpc", "stsb")]
    rows, said, _ = run(models, data, ["stsb", "mrpc"], tmp_path)
    assert len(rows) == 4
    assert len(said) == 2  # the table and the summary: nothing was left to run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GlueOptions(grid=("dropout=1,2",)), "--grid dropout=1,2: give one of epochs"),
        (GlueOptions(grid=("epochs=1,two",)), "'two' is no number above 0"),
        (GlueOptions(grid=("epochs=1", "epochs=2")), "epochs was given before"),
        (GlueOptions(jobs=-1), "--jobs -1: give 1 or more"),
        (GlueOptions(learning_rate=0.0), "--learning-rate 0: give more than 0"),
        (GlueOptions(intermediate="mnli"), "--intermediate mnli: is none of the tasks"),
        (GlueOptions(intermediate="mrpc", grid=("epochs=1,2",)), "leave --grid out"),
    ],
)
def test_a_wrong_option_is_named(models, data, tmp_path, options, message):
    error, _, _ = run(models, data, ["mrpc"], tmp_path, options)
    assert message in str(error)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_seed_count_below_one_and_a_model_without_tokenizer_are_refused(models, export_model, data, tmp_path):
    assert "--seeds 0" in str(run(models, data, ["mrpc"], tmp_path, seeds=0)[0])
    bare = export_model(tmp_path / "bare")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (bare / file).unlink()
    assert "bare: no tokenizer (tokenizer.json" in str(run([bare], data, ["mrpc"], tmp_path)[0])
    strange = export_model(tmp_path / "strange")
    (strange / "config.json").write_text("{}")
    assert "strange: its config.json is not that of an encoder" in str(run([strange], data, ["mrpc"], tmp_path)[0])


@pytest.mark.slow
@pytest.mark.parametrize("computation", [Computation("float32", True), Computation("bfloat16", False)])
def test_compiled_or_in_mixed_precision_it_answers_nearly_the_same(models, data, computation):
    stsb = load(Folder(data), TASKS["stsb"])
    settings = {**SETTINGS, "learning_rate": 1e-4}
    (plain,) = fine_tune(models[1], stsb, 0, settings, PLAIN)
    (other,) = fine_tune(models[1], stsb, 0, settings, computation)
    assert not np.array_equal(plain, other)
    assert np.max(np.abs(plain - other)) < 0.02


def test_a_training_that_diverges_is_a_failed_cell(models, data, tmp_path):
    wild = GlueOptions(epochs=1, learning_rate=1e30, batch_size=4, jobs=0)
    error, said, _ = run(models[1:], data, ["mrpc", "stsb"], tmp_path, wild)
    assert "2 of 2 cells failed; what they printed is above" in str(error)
    assert all("the predictions are not finite; give a lower --learning-rate" in line for line in said[2:4])
    assert (tmp_path / "results.jsonl").read_text() == ""


def test_other_examples_or_metrics_of_a_name_are_refused(models, tmp_path):
    def train(metrics, label):
        for split in ("train", "dev"):
            (tmp_path / f"{split}.tsv").write_text(f"text\tlabel\nthe cat\t1\nthe dog\t0\nthe bird\t{label}\n")
        source = OwnFiles(tmp_path, own_task("pets", "text,label", metrics))
        return glue(models[1:], source, None, 1, tmp_path / "out", QUICK, log=lambda line: None, warn=print)

    train("accuracy", 1)
    with pytest.raises(UserError, match="pets had other metrics then; use another --out"):
        train("matthews", 1)
    with pytest.raises(UserError, match="pets had other examples then; use another --out"):
        train("accuracy", 0)


@pytest.mark.slow
def test_an_intermediate_task_may_be_written_in_any_case_and_gone_on_with(models, data, tmp_path):
    lent = GlueOptions(epochs=1, intermediate="Good", jobs=0)
    first, _, _ = run(models[1:], data, ["good", "mrpc"], tmp_path, lent)
    again, said, _ = run(models[1:], data, ["good", "mrpc"], tmp_path, lent)
    assert again == first
    assert len(said) == 2  # the table and the summary
    started, tuned = (
        load_file(folder / "model.safetensors")[name]
        for folder, name in (
            (models[1], "bert.encoder.layer.0.output.dense.weight"),
            (tmp_path / "cells/student/good/seed-0/encoder", "encoder.layer.0.output.dense.weight"),
        )
    )
    assert not np.array_equal(started, tuned)

    # The encoder is asked for only where a cell is left that starts from it.
    shutil.rmtree(tmp_path / "cells/student/good/seed-0/encoder")
    assert run(models[1:], data, ["good", "mrpc"], tmp_path, lent)[0] == first
    error, _, _ = run(models[1:], data, ["good", "mrpc", "stsb"], tmp_path, lent)
    assert "encoder was not kept then; use another --out, or take the line of its cell out of results.jsonl" in str(
        error
    )


def test_what_starts_from_an_intermediate_task_is_in_its_share():
    cells = [
        SimpleNamespace(model=model, task=task, seed=seed, kept=task != "cola")
        for model in "ab"
        for task in ("mnli", "cola", "rte")
        for seed in range(3)
    ]
    shares = [share(cells, index, 4) for index in range(4)]
    assert sorted(id(cell) for part in shares for cell in part) == sorted(map(id, cells))
    for part in shares:
        with_rte = {(cell.model, cell.seed) for cell in part if cell.task == "rte"}
        assert with_rte == {(cell.model, cell.seed) for cell in part if cell.task == "mnli"}


def test_mnlis_second_development_set_has_a_metric_of_its_own():
    matched, mismatched = (Split((["a"] * 4, ["b"] * 4), labels) for labels in ([0, 1, 2, 0], [2, 2, 2, 2]))
    data = TaskData(TASKS["mnli"], matched, (matched, mismatched))
    metrics = score_splits(data, [np.array([0, 1, 2, 1]), np.array([2, 0, 0, 0])])
    assert metrics == {"accuracy": 0.75, "accuracy_mismatched": 0.25}
    assert tuple(metrics) == data.metrics
