import shutil

import numpy as np
import pytest

from ctcd_jax.artifacts.results import FORMAT, append_result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.scores import score
from ctcd_jax.evaluation.tables.comparison import differences, differences_csv, differences_note
from ctcd_jax.evaluation.tables.prediction_tables import PredictionTable, read_table, table_text
from ctcd_jax.evaluation.tables.predictions import keep
from ctcd_jax.evaluation.tables.table import write_tables

TASKS = {"mrpc": ("f1", "accuracy"), "stsb": ("pearson", "spearman")}


def no_warning(text):
    raise AssertionError(text)


@pytest.fixture
def finished(tmp_path):
    """(folder, lines): two models, two seeds, a task with classes, a regression and MNLI with its second set."""
    rng = np.random.default_rng(0)
    rows = []
    labels = {"mrpc": rng.integers(2, size=40), "stsb": (5 * rng.random(30)).round(1)}
    for model in ("a", "b"):
        for seed in (0, 1):
            answers = {
                "mrpc": np.where(rng.random(40) < 0.8, labels["mrpc"], 1 - labels["mrpc"]),
                "stsb": (labels["stsb"] + rng.normal(size=30)).astype(np.float32),
            }
            for task, metrics in TASKS.items():
                arrays = {"labels": labels[task], "predictions": answers[task]}
                found = score(metrics, labels[task], answers[task])
                rows.append(_line(tmp_path, model, task, seed, found, arrays))
            arrays = {}
            for suffix, size in (("", 20), ("_mismatched", 25)):
                arrays |= {f"labels{suffix}": np.arange(size) % 3, f"predictions{suffix}": rng.integers(3, size=size)}
            found = {
                f"accuracy{suffix}": float(np.mean(arrays[f"labels{suffix}"] == arrays[f"predictions{suffix}"]))
                for suffix in ("", "_mismatched")
            }
            rows.append(_line(tmp_path, model, "mnli", seed, found, arrays))
    return tmp_path, rows


def _line(folder, model, task, seed, metrics, arrays):
    path = f"cells/{model}/{task}/seed-{seed}/predictions.npz"
    (folder / path).parent.mkdir(parents=True)
    np.savez(folder / path, **arrays)
    scores = {"metrics": metrics, "value": next(iter(metrics.values())), "hyperparameters": {}}
    return {"format": FORMAT, "model": model, "task": task, "seed": seed, "predictions": path, **scores}


def test_a_published_folder_without_cells_gives_the_same_intervals_to_the_last_digit(finished):
    folder, rows = finished
    for row in rows:
        append_result(folder / "results.jsonl", row)
    write_tables(folder)
    written = {name: (folder / name).read_bytes() for name in ("table.md", "table.csv", "comparison.csv")}
    assert b"development examples" in written["comparison.csv"]
    tables = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    assert tables.keys() == {"mrpc.csv", "stsb.csv", "mnli.csv", "mnli_mismatched.csv"}
    before = differences(rows, folder)
    shutil.rmtree(folder / "cells")
    assert differences(rows, folder) == before
    write_tables(folder)
    assert {name: (folder / name).read_bytes() for name in written} == written
    assert {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()} == tables


def test_a_table_has_a_line_an_example_and_a_column_a_cell(finished):
    folder, rows = finished
    keep(rows, folder, warn=no_warning)
    head, *lines = (folder / "predictions/mrpc.csv").read_text().splitlines()
    paths = [f"cells/{model}/mrpc/seed-{seed}/predictions.npz" for model in "ab" for seed in (0, 1)]
    assert head.split(",") == ["label", *paths]
    with np.load(folder / paths[2]) as arrays:
        assert [line.split(",")[0] for line in lines] == [str(label) for label in arrays["labels"]]
        assert [line.split(",")[3] for line in lines] == [str(answer) for answer in arrays["predictions"]]


def test_scores_come_back_as_the_same_float32(tmp_path):
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.normal(size=500), [1e-30, 3.0, -0.0, 16777216.0]]).astype(np.float32)
    labels = (5 * rng.random(504)).round(3)
    (tmp_path / "task.csv").write_text(table_text(PredictionTable(labels, {'a, "b"': scores})))
    table = read_table(tmp_path / "task.csv")
    assert table.labels.dtype == np.float64
    np.testing.assert_array_equal(table.labels, labels)
    found = table.predictions['a, "b"']
    assert found.dtype == np.float32
    assert found.tobytes() == scores.tobytes()


def test_a_cell_whose_file_is_gone_stays_in_the_table_when_others_are_added(finished):
    folder, rows = finished
    keep([row for row in rows if row["model"] == "a"], folder, warn=no_warning)
    shutil.rmtree(folder / "cells/a")
    expected = differences_note(differences(rows, folder))
    keep(rows, folder, warn=no_warning)
    assert len(read_table(folder / "predictions/mrpc.csv").predictions) == 4
    shutil.rmtree(folder / "cells/b")
    assert differences_note(differences(rows, folder)) == expected
    assert "missing" not in expected


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda text: text[: len(text) - 4], 41),  # cut within the last line
        (lambda text: text[:-1], 41),
        (lambda text: text.replace("label", "id", 1), 1),
        (lambda text: text.replace("\n1,", "\n?,", 1), None),
        (lambda text: "", 1),
        (lambda text: "label,a,a\n1,1,1\n", 1),
    ],
)
def test_a_damaged_table_is_named_with_its_line_and_left_alone(harm, line, finished):
    folder, rows = finished
    keep(rows, folder, warn=no_warning)
    path = folder / "predictions/mrpc.csv"
    text = harm(path.read_text())
    path.write_text(text)
    said = []
    keep(rows, folder, warn=said.append)
    place = rf"{path}:{line or text[: text.find('?')].count(chr(10)) + 1}: damaged; "
    assert [message.startswith(place) for message in said] == [True]
    assert path.read_text() == text
    with pytest.raises(UserError, match="restore the file, or delete it where cells/ still has the predictions"):
        read_table(path)
    # cells/ still has them; without it the examples are not covered, and the words say why.
    assert "damaged" not in differences_note(differences(rows, folder))
    shutil.rmtree(folder / "cells")
    found = differences(rows, folder)
    assert "The interval covers no examples for MRPC: predictions/mrpc.csv is damaged." in differences_note(found)
    assert "a,b,mrpc_f1," in differences_csv(found)


def test_a_table_of_another_run_is_not_believed(finished):
    folder, rows = finished
    keep(rows, folder, warn=no_warning)
    path = folder / "predictions/mrpc.csv"
    table = read_table(path)
    name = rows[0]["predictions"]
    path.write_text(table_text(PredictionTable(table.labels, table.predictions | {name: 1 - table.predictions[name]})))
    shutil.rmtree(folder / "cells")
    note = differences_note(differences(rows, folder))
    assert "for MRPC: predictions of a do not give the scores in results.jsonl." in note
