"""What belongs into one folder of results: a model is its weights, a mean is of like cells, cuts are said."""

import json
import shutil
from pathlib import Path

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.finetune import GlueOptions, glue
from ctcd_jax.evaluation.matrix import settings_of
from ctcd_jax.evaluation.tables.selection import applied_note, cut_text, selected, was_cut
from ctcd_jax.evaluation.tasks.data import open_source
from ctcd_jax.evaluation.tasks.tasks import own_task

QUICK = GlueOptions(epochs=1, jobs=0)


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    for split, count in (("train", 9), ("dev", 6)):
        rows = (f"{'good' if n % 3 else 'bad'} dog\t{'yes' if n % 3 else 'no'}\n" for n in range(count))
        (folder / f"{split}.tsv").write_text("text\tlabel\n" + "".join(rows))
    return folder


def run(models, pets, out, options=QUICK, seeds=1, metrics="accuracy", positive=None):
    said, warned = [], []
    source = open_source(str(pets), own_task("pets", "text,label", metrics, positive))
    rows = glue(models, source, None, seeds, out, options, log=said.append, warn=warned.append)
    return rows, said, warned


def models_in(out):
    return [json.loads(line)["model"] for line in (out / "results.jsonl").open()]


def test_a_model_that_is_added_renames_no_other(export_model, pets, tmp_path):
    first, second = (export_model(tmp_path / name / "student", seed=n) for n, name in enumerate("ab"))
    out = tmp_path / "out"
    run([first], pets, out)
    rows, said, _ = run([first, second], pets, out)
    assert [row["model"] for row in rows] == ["student", "b/student"]
    assert models_in(out) == ["student", "b/student"]
    assert len([line for line in said if "seed 0" in line]) == 1
    table = (out / "table.md").read_text()
    assert table.count("| student |") == table.count("| b/student |") == 1
    # Alone, too, each is known by its weights, wherever they lie now.
    moved = shutil.copytree(second, tmp_path / "moved")
    assert [row["model"] for row in run([moved], pets, out)[0]] == ["b/student"]
    assert len(models_in(out)) == 2


def test_a_new_model_of_an_old_name_is_refused_unless_the_old_one_is_given_too(export_model, pets, tmp_path):
    first, second = (export_model(tmp_path / name / "student", seed=n) for n, name in enumerate("ab"))
    run([first], pets, tmp_path / "out")
    with pytest.raises(UserError, match=r"jsonl:1: student had other weights then; use another --out, or give the mod"):
        run([second], pets, tmp_path / "out")


def test_two_directories_of_the_same_weights_are_one_model(models, pets, tmp_path):
    copy = shutil.copytree(models[1], tmp_path / "copy")
    rows, _, warned = run([models[1], copy], pets, tmp_path / "out")
    assert [row["model"] for row in rows] == ["student"]
    assert f"--model {copy}: has the weights of {models[1]}, which stands for both" in warned


def with_another_tokenizer(model, place):
    copy = Path(shutil.copytree(model, place))
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": true', '"lowercase": false'))
    assert path.read_bytes() != (model / "tokenizer.json").read_bytes()
    return copy


def test_equal_weights_with_another_tokenizer_are_another_model(models, pets, tmp_path):
    other = with_another_tokenizer(models[1], tmp_path / "other")
    with pytest.raises(UserError, match=rf"other: has the weights of {models[1]} but another tokenizer"):
        run([models[1], other], pets, tmp_path / "out")
    run(models[1:], pets, tmp_path / "out")
    with pytest.raises(UserError, match=r"results\.jsonl:1: student had another tokenizer then; use another --out"):
        run([other], pets, tmp_path / "out")


def test_equal_weights_with_another_config_are_another_model(models, pets, tmp_path):
    other = Path(shutil.copytree(models[0], tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"transformers_version": "0", "_name_or_path": "x"}))
    run([models[0], other], pets, tmp_path / "same")
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(UserError, match=rf"other: has the weights of {models[0]} but another config; results are"):
        run([models[0], other], pets, tmp_path / "out")
    run(models[:1], pets, tmp_path / "out")
    with pytest.raises(UserError, match=r"jsonl:1: teacher had another config then; use another --out"):
        run([other], pets, tmp_path / "out")


def test_a_damaged_line_is_named_and_its_cell_run_again(models, pets, tmp_path):
    out = tmp_path / "out"
    run(models[1:], pets, out, seeds=2)
    results = out / "results.jsonl"
    lines = results.read_text().splitlines()
    results.write_text(f"{lines[0][:50]}\n{lines[1]}\n")
    rows, said, warned = run(models[1:], pets, out, seeds=2)
    assert [row["seed"] for row in rows] == [0, 1]
    assert len([line for line in said if "seed" in line]) == 1
    assert f"{results}:1: not a line of JSON; left out, and the cell that it may be of is run again" in warned


def test_a_cell_in_another_precision_goes_into_no_mean(models, pets, tmp_path):
    out = tmp_path / "out"
    run(models[1:], pets, out)
    results = out / "results.jsonl"
    line = json.loads(results.read_text())
    results.write_text(json.dumps(line | {"precision": "bfloat16", "device": "H100"}) + "\n")
    with pytest.raises(UserError) as error:
        run(models[1:], pets, out, seeds=2)
    assert str(error.value) == (
        f"{results}:1: pets was computed in bfloat16 then, and would be in float32 now; give --precision bfloat16, or "
        "use another --out"
    )
    assert len(run(models[1:], pets, out)[0]) == 1  # where nothing is to be computed there is nothing to mix


def test_the_class_of_f1_is_said_recorded_and_kept(models, pets, tmp_path):
    out = tmp_path / "out"
    (row,), said, _ = run(models[1:], pets, out, metrics="f1,accuracy", positive="no")
    assert row["positive"] == "no"
    assert said[0] == "pets: 2 classes: train yes (6), no (3); dev yes (4), no (2); F1 is that of no"
    # The constant answer is "yes": right four times of six, and never "no".
    assert row["majority"] == {"f1": 0.0, "accuracy": pytest.approx(4 / 6)}
    assert "F1 of pets is that of class no." in applied_note([row])
    with pytest.raises(UserError, match=r"jsonl:1: F1 of pets was that of no then; give --positive no, or use another"):
        run(models[1:], pets, out, metrics="f1,accuracy")


def test_what_a_model_does_not_take_is_cut_counted_and_said(export_model, pets, tmp_path):
    (pets / "train.tsv").write_text("text\tlabel\n" + "the dog\tyes\nthe cat\tno\n" * 3 + f"{'the ' * 20}\tyes\n")
    short = export_model(tmp_path / "short", positions=8)
    rows, _, warned = run([short], pets, tmp_path / "out", seeds=2)
    assert [(row["max_length_used"], row["cut_train"], row["cut_dev"]) for row in rows] == [(8, 1, 0)] * 2
    assert rows[0]["hyperparameters"]["max_length"] == 128
    text = "short on pets 14.3% of the training examples to 8 tokens, all that the model takes of 128"
    assert warned.count(f"cut: {text}") == 1
    assert f"Cut: {text}." in applied_note(rows)


def test_whole_epochs_are_one_setting_however_they_are_written():
    defaults = {"epochs": 3.0, "learning_rate": 1e-4, "batch_size": 32, "max_length": 128}
    _, (setting,) = settings_of(defaults, ())
    assert json.dumps(setting["epochs"]) == "3"
    _, settings = settings_of(defaults, ("epochs=0.5,1,2.0",))
    assert [json.dumps(setting["epochs"]) for setting in settings] == ["0.5", "1", "2"]


def line(model="m", seed=0, value=0.5, **more):
    row = {"model": model, "task": "rte", "seed": seed, "value": value, "metrics": {"accuracy": value}}
    return row | {"hyperparameters": {"epochs": 3}, "precision": "float32", "max_length_used": 64} | more


def test_unlike_cells_that_are_there_are_kept_apart_and_said():
    rows = [line(seed=n) for n in range(3)] + [line(seed=3, precision="bfloat16"), line(seed=4, max_length_used=128)]
    assert [row["seed"] for row in selected(rows)] == [0, 1, 2]
    assert applied_note(rows) == [
        "Left out, being computed in another precision or cut to another length than the others of their mean: "
        "m rte seed 3, m rte seed 4."
    ]
    older = line(seed=5) | {"precision": None, "max_length_used": None}  # of a version that did not say
    assert [row["seed"] for row in selected([*rows, older])] == [0, 1, 2, 5]


def test_what_was_cut_of_mnlis_second_set_is_said_too():
    row = line(task="mnli", train_rows=100, dev_rows=10, cut_train=0, cut_dev=0, cut_dev_mismatched=2)
    assert was_cut(row)
    assert cut_text(row) == "m on mnli 2 of the mismatched development examples to 64 tokens"
    assert not was_cut(row | {"cut_dev_mismatched": 0})


def test_what_differs_between_cells_is_said():
    rows = [line(device="cpu", threads=1), line(seed=1, device="cpu", threads=2), line("n", precision="bfloat16")]
    assert applied_note(rows) == [
        "Cells were computed with more than one precision: float32, bfloat16.",
        "The seeds of one mean differ in threads (1, 2): m on rte.",
    ]
    assert applied_note([line(), line("n")]) == []
