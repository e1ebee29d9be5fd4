"""The plot of quality against latency: who is on it, where, and when it cannot be drawn."""

import itertools
import json

import pytest

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.latency import latency
from ctcd_jax.latency.quality import ScoredModel, figure, points, score_title

SETTINGS = {"epochs": 1, "learning_rate": 1e-4, "batch_size": 32, "max_length": 16, "warmup_fraction": 0.06}


def row(model, weights, task, seed, **metrics):
    """A line of results.jsonl in the format of today."""
    from ctcd_jax.artifacts.results import FORMAT

    first = next(iter(metrics))
    cell = {"format": FORMAT, "model": model, "weights": weights, "task": task, "seed": seed, "metric": first}
    sizes = {"majority_share": None, "hyperparameters": SETTINGS, "train_rows": 9, "dev_rows": 9, "seconds": 1.0}
    return cell | {"value": metrics[first], "metrics": metrics} | sizes


def write(folder, rows):
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    return folder


RESULT = {
    "models": [{"name": "big", "weights": "aa"}, {"name": "small", "weights": "bb"}, {"name": "new", "weights": "cc"}],
    "measurements": [
        {"model": name, "p50_ms": p50, "p95_ms": p50 + 1}
        for name, p50 in (("big", 20.0), ("small", 10.0), ("new", 5.0), ("big", 2.0), ("small", 1.0), ("new", 0.5))
    ],
}


def test_models_are_matched_by_weights_and_placed_by_their_first_setting_and_mean_score():
    rows = [
        row("teacher", "aa", "sst2", 0, accuracy=0.9),
        row("teacher", "aa", "sst2", 1, accuracy=0.8),
        row("teacher", "aa", "cola", 0, matthews=0.5),
        row("student", "bb", "sst2", 0, accuracy=0.7),
        row("student", "bb", "cola", 0, matthews=0.3),
        row("new", "dd", "sst2", 0, accuracy=0.6),  # another model of the same name
        row("new", "dd", "cola", 0, matthews=0.6),
    ]
    found = points(RESULT, rows)
    assert [(point.name, point.p50, point.p95) for point in found] == [("big", 20, 21), ("small", 10, 11)]
    assert [point.score for point in found] == pytest.approx([67.5, 50.0])  # (85 + 50) / 2, (70 + 30) / 2


def test_a_model_without_every_column_is_on_no_plot():
    rows = [
        row("teacher", "aa", "sst2", 0, accuracy=0.9),
        row("teacher", "aa", "cola", 0, matthews=0.5),
        row("student", "bb", "sst2", 0, accuracy=0.7),
    ]
    assert [point.name for point in points(RESULT, rows)] == ["big"]


def test_the_axis_is_logarithmic_beyond_a_range_of_ten():
    near, far = (
        [ScoredModel("a", 1.0, 2.0, 50.0), ScoredModel("b", 10.0, 12.0, 60.0)],
        ScoredModel("c", 10.1, 12.0, 60.0),
    )
    linear, logarithmic = (figure(found, "setting", "score").axes[0] for found in (near, [near[0], far]))
    assert (linear.get_xscale(), linear.get_xlim()[0]) == ("linear", 0)
    assert logarithmic.get_xscale() == "log"
    assert "logarithmic" in logarithmic.get_xlabel()


def test_every_point_has_its_name_a_shape_and_a_colour_and_names_do_not_overlap():
    found = [ScoredModel(f"model {number}", 10 + 0.01 * number, 11, 50 + 0.01 * number) for number in range(5)]
    made = figure(found, "2 threads", "score (%)")
    (axis,) = made.axes
    texts = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert set(texts) == {"2 threads", *(point.name for point in found)}
    boxes = sorted((texts[point.name] for point in found), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))
    marks = [line for line in axis.lines if line.get_marker() != "None"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [(p.p50, p.score) for p in found]
    assert len({line.get_marker() for line in marks}) == len({line.get_color() for line in marks}) == 5
    assert axis.get_ylabel() == "score (%)"


def test_the_plot_is_written_beside_the_figures_and_says_whom_it_lacks(models, tmp_path, capsys):
    results = write(tmp_path / "glue", [row("any", weights_digest(models[0]), "sst2", 0, accuracy=0.9)])
    out = tmp_path / "latency.json"
    named = [part for directory in models for part in ("--model", str(directory))]
    options = ["--out", str(out), "--results", str(results), "--batch-size", "1", "--rounds", "1"]
    assert main(["latency", *named, *options]) == 0
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert "latency.png: without student, " in capsys.readouterr().out
    assert json.loads(out.read_text())["format"] == 2


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(models, tmp_path):
    out, lines = tmp_path / "latency.json", []
    results = write(tmp_path / "glue", [row("teacher", "of another", "sst2", 0, accuracy=0.9)])
    for options, said in (
        ({"results": results}, "--results .*glue: .*give --out FILE as well"),
        ({"results": results, "out": tmp_path / "fig.png"}, r"--out .*fig\.png: is for the figures.*give .*fig\.json"),
        ({"results": tmp_path, "out": out}, "--results .*: no results.jsonl; give a folder written by `ctcd glue`"),
        ({"results": results, "out": out}, "--results .*glue: none of its lines is of a --model"),
    ):
        with pytest.raises(UserError, match=said):
            latency(models, **options, log=lines.append)
    assert lines == []


def test_the_axis_names_what_the_average_is_of():
    mnli = [row("a", "aa", "mnli", 0, accuracy=0.8, accuracy_mismatched=0.4)]
    assert score_title(mnli) == "MNLI acc, dev set (%)"
    assert score_title([*mnli, row("a", "aa", "cola", 0, matthews=0.4)]) == (
        "mean of MNLI acc and CoLA Matthews, dev sets (%)"
    )
