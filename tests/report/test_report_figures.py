"""The figures of a report: where they stand on its page, and as CSV."""

import json
import re

import pytest

from ctcd_jax.evaluation.tables.intervals import EXAMPLES, FINETUNING, interval_words
from tests.report.reporting import (
    Page,
    downloads,
    latency,
    make,
    measurement,
    metric_line,
    result,
    table,
    timing_line,
    write_lines,
    write_run,
)

# Data.


def test_every_table_and_every_drawing_can_be_downloaded(project, models, tmp_path):
    html = make([project, models[1]], tmp_path)
    for block in re.findall(r"<figure>.*?</figure>", html):
        assert "<a download=" in block
    assert html.count("<table") == len(re.findall(r'</table></div><div class="downloads"><a download=', html)) > 0
    for rows in downloads(html).values():
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}


def test_a_curve_is_downloaded_unrounded(project, tmp_path):
    lines = [json.loads(line) for line in (project / "ctcd" / "metrics.jsonl").read_text().splitlines()]
    head, *rows = downloads(make([project], tmp_path))["hard_loss-student.csv"]
    assert head == ["run", "kind", "step", "hard_loss"]
    expected = [("train", line) for line in lines if line["kind"] == "train"]
    expected += [("validation", line) for line in lines if line["kind"] == "validation"]
    assert [(kind, int(step), float(value)) for run, kind, step, value in rows if run == "ctcd"] == [
        (kind, line["step"], line["members"]["student"]["hard"]) for kind, line in expected
    ]


def test_figures_are_downloaded_as_numbers_and_absent_ones_as_nothing(project, tmp_path):
    found = downloads(make([project], tmp_path))
    glue = [dict(zip(found["glue.csv"][0], row, strict=True)) for row in found["glue.csv"][1:]]
    student, majority = glue[:2]
    assert (student["model"], float(student["rte_accuracy_mean"]), student["rte_accuracy_n"]) == ("student", 61, "2")
    assert (majority["model"], float(majority["rte_accuracy_mean"]), majority["rte_accuracy_n"]) == (
        "majority class",
        53,
        "",
    )
    cost = dict(zip(*found["cost-training.csv"][:2], strict=True))
    assert float(cost["hours"]) == pytest.approx(3725.4 / 3600)
    assert (cost["tokens"], cost["mfu"]) == ("20000", "")
    models = dict(zip(*next(rows for name, rows in found.items() if name.endswith("models.csv")), strict=True))
    assert (models["parameters"], models["flops_per_token_64"]) == ("4700000", "1700000")
    edges = found["ctcd-edges.csv"]
    assert [line[:3] for line in edges] == [
        ["source", "target", "weight"],
        ["teacher", "student", "1.0"],
        ["student", "teacher", "1.0"],
    ]


def test_names_with_commas_quotes_and_letters_of_all_kinds_survive_the_download(tmp_path):
    write_run(tmp_path / 'a, "b" & ß', ("student",))
    rows = downloads(make([tmp_path], tmp_path))["hard_loss-student.csv"]
    assert {row[0] for row in rows[1:]} == {'a, "b" & ß'}


def test_however_many_lines_a_run_has_the_page_is_small_and_says_how(tmp_path):
    members, edges = ("teacher", "student"), (("teacher", "student"), ("student", "teacher"))
    lines = [metric_line("train", step, members, edges) for step in range(1, 4_001)]
    lines[1_233]["members"]["student"]["hard"] = 99.5
    write_run(tmp_path / "long", members, edges, lines)
    html = make([tmp_path], tmp_path)
    assert len(html.encode()) < 500_000  # and not more for more lines: 400 points a curve
    rows = downloads(html)["hard_loss-student.csv"][1:]
    assert len(rows) <= 400
    assert {rows[0][2], rows[-1][2]} == {"1", "4000"}
    assert ["long", "train", "1234", "99.5"] in rows
    assert "hold 400 at most: the first, the last, and the highest and the lowest of equal runs" in html
    write_run(tmp_path / "short", ("student",), (), lines[:400])
    only = tmp_path / "short"
    assert "at most: the first" not in make([only], tmp_path / "other")


def test_of_many_runs_eight_share_a_chart_and_all_charts_of_a_panel_their_axes(tmp_path):
    for number in range(20):
        lines = [metric_line(kind, step, ("student",), ()) for kind in ("train", "validation") for step in (10, 20)]
        for line in lines:
            line["members"]["student"]["hard"] += number
        write_run(tmp_path / f"run-{number:02}", ("student",), (), lines)
    html = make([tmp_path], tmp_path)
    panels = [block for block in re.findall(r"<figure>.*?</figure>", html) if "<h3>hard loss of student, " in block]
    assert [re.findall("<h3>(.*?)</h3>", panel) for panel in panels] == [
        [f"hard loss of student, {number} of 3"] for number in (1, 2, 3)
    ]
    assert [panel.count("<title>") for panel in panels] == [16, 16, 8]
    ticks = [re.findall(r'class="tick"[^>]*>([^<]*)<', panel) for panel in panels]
    assert ticks[0] == ticks[1] == ticks[2]
    for panel, count in zip(panels, (8, 8, 4), strict=True):
        legend = panel.split('<ul class="legend">')[1]
        assert len(set(re.findall(r'aria-label="([^"]+)"', legend))) == legend.count("<li>") == count
    assert html.count('<ul class="legend">') == 6  # none for the whole page
    assert {name for name in downloads(html) if name.startswith("hard_loss")} == {
        f"hard_loss-student-{number}-of-3.csv" for number in (1, 2, 3)
    }


# Fine-tuning.


def test_failed_cells_say_why_and_cells_not_run_are_named(tmp_path):
    rows = [result("a", seed, task) for seed in (0, 1) for task in ("rte", "cola")] + [result("b", 0, "rte")]
    write_lines(tmp_path / "results.jsonl", rows)
    folder = tmp_path / "cells" / "b" / "cola" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "failed").write_text("OutOfMemoryError: <too> much\n")
    html = make([tmp_path], tmp_path)
    assert table(html, "Cells without a result: why they failed (a dash: not run yet)")[1:] == [
        ["b/cola/seed-1", "OutOfMemoryError: &lt;too&gt; much"],
        ["b/rte/seed-1", "–"],
        ["b/cola/seed-0", "–"],
    ]


def test_when_every_cell_failed_the_page_says_why(tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    folder = tmp_path / "cells" / "failed" / "rte" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "failed").write_text("OutOfMemoryError\n")
    html = make([tmp_path], tmp_path)
    assert "This page reports 1 cell that failed." in html
    assert ["failed/rte/seed-0", "OutOfMemoryError"] in table(
        html, "Cells without a result: why they failed (a dash: not run yet)"
    )


def test_a_failed_cell_of_a_model_whose_name_ends_like_a_seed_is_listed_once(tmp_path):
    rows = [result("seed-0/student", seed, "rte") for seed in (0, 1)] + [result("seed-0/student", 0, "mrpc")]
    write_lines(tmp_path / "results.jsonl", rows)
    folder = tmp_path / "cells/seed-0/student/mrpc/seed-1"
    folder.mkdir(parents=True)
    (folder / "failed").write_text("no\n")
    cells = table(make([tmp_path], tmp_path), "Cells without a result: why they failed (a dash: not run yet)")[1:]
    assert cells == [["seed-0/student/mrpc/seed-1", "no"]]


def test_models_stand_in_the_order_of_the_comparison_not_of_their_cells_ends(tmp_path):
    write_lines(tmp_path / "results.jsonl", [result("b", 0), result("a", 0)])
    assert [line[0] for line in table(make([tmp_path], tmp_path), f"Scores of {tmp_path.name}")[1:3]] == ["b", "a"]
    head = "first,second,column,difference,low,high,seeds,resamples\n"
    (tmp_path / "comparison.csv").write_text(head + "a,b,rte_accuracy,1.0,,,1,\n")
    assert [line[0] for line in table(make([tmp_path], tmp_path), f"Scores of {tmp_path.name}")[1:3]] == ["a", "b"]


def test_nothing_is_said_of_cells_when_all_are_there(project, tmp_path):
    assert "Cells without a result" not in make([project], tmp_path)


def test_differences_are_shown_where_they_have_been_worked_out(project, tmp_path):
    assert "Differences" not in make([project], tmp_path / "without")
    lines = [
        "first,second,column,difference,low,high,seeds,covers,missing",
        "student,teacher,rte_accuracy,1.256,-0.001,3.01,3,fine-tuning seeds; development examples,",
        "student,teacher,mean_over_1_task,-2,,,3,,no reason",
        "student,other,rte_accuracy,-0.001,-0.25,0.75,2,fine-tuning seeds,predictions of other are missing",
    ]
    (project / "glue" / "comparison.csv").write_text("\n".join(lines) + "\n")
    html = make([project], tmp_path)
    assert table(html, "Differences in points of per cent") == [
        ["column", "student − teacher", "student − other"],
        ["RTE acc", "+1.26 [0.00, 3.01]", "0.00 [−0.25, 0.75] (n = 2)"],
        ["mean over 1 task", "−2.00", "–"],
    ]
    assert downloads(html)["glue-comparison.csv"] == [line.split(",") for line in lines]
    # The words are those of table.md.
    both = {FINETUNING, EXAMPLES}
    assert interval_words(both) in " ".join(Page(html).words)
    assert "The interval covers no examples for RTE: predictions of other are missing." in " ".join(Page(html).words)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "difference,low,high,seeds,resamples\nstudent,teacher,rte_accuracy,1.25,-0.5,3.0,3,2000",
            "No interval for RTE: comparison.csv is of an earlier version, whose intervals held less than they said",
        ),
        (
            "difference,low,high,seeds,covers,missing\nstudent,teacher,rte_accuracy,1.25,,,three,,",
            "No differences: comparison.csv:2: damaged; run ctcd glue again.",
        ),
    ],
)
def test_differences_of_an_earlier_version_or_damaged_are_not_taken_at_their_word(lines, said, project, tmp_path):
    (project / "glue" / "comparison.csv").write_text(f"first,second,column,{lines}\n")
    html = make([project], tmp_path)
    assert said in " ".join(Page(html).words)
    assert "[−0.50" not in html


def test_the_settings_that_a_grid_chose_are_shown(tmp_path):
    rows = [
        result("student", 0, hyperparameters={"epochs": epochs}, metrics={"accuracy": score})
        for epochs, score in ((3, 0.6), (5, 0.7))
    ]
    write_lines(tmp_path / "results.jsonl", rows)
    html = make([tmp_path], tmp_path)
    assert table(html, "Settings taken") == [["model", "rte"], ["student", "epochs 5"]]


# Latency.


def test_all_settings_are_shown_and_what_they_share_stands_in_the_caption(tmp_path):
    settings = [{}, {"batch_size": 32}, {"runtime": "compile"}, {"device": "NVIDIA H200", "threads": None}]
    lines = [measurement(model, p50, **setting) for setting in settings for model, p50 in (("a", 4.0), ("b", 2.0))]
    (tmp_path / "latency.json").write_text(json.dumps(latency(lines)))
    html = make([tmp_path], tmp_path)
    plain = table(html, "Latency, eager PyTorch, float32, batch 1, length 64")
    assert plain[0][:4] == ["model", "device", "threads", "p50 ms"]
    assert [row[:4] for row in plain[1:]] == [
        ["a", "cpu", "1", "4.00"],
        ["b", "cpu", "1", "2.00"],
        ["a", "NVIDIA H200", "–", "4.00"],
        ["b", "NVIDIA H200", "–", "2.00"],
    ]
    assert "<summary>CPU, 1 thread: all 3 settings</summary>" in html
    everything = table(html, "CPU, 1 thread, float32, length 64")
    assert [row[:3] for row in everything[1:]] == [
        [model, *setting] for setting in (["eager", "1"], ["eager", "32"], ["compile", "1"]) for model in "ab"
    ]
    assert "Abacus" in html


def test_models_that_could_not_be_run_are_named_and_a_missing_speed_up_is_a_dash(tmp_path):
    content = latency([measurement("a", 4.0), measurement("b", 2.0, speedup=None)])
    content["left_out"] = [
        {"model": "c", "runtime": None, "reason": "it cannot be run (ValueError: <no>)"},
        {"model": "a", "runtime": "onnx", "reason": "a cannot be exported"},
    ]
    (tmp_path / "latency.json").write_text(json.dumps(content))
    html = make([tmp_path], tmp_path)
    assert table(html, "Not measured: models that cannot be run here (a dash: in no runtime)")[1:] == [
        ["c", "–", "it cannot be run (ValueError: &lt;no&gt;)"],
        ["a", "ONNX Runtime", "a cannot be exported"],
    ]
    rows = table(html, "Latency, CPU, 1 thread, eager PyTorch, float32, batch 1, length 64")
    assert [row[-1] for row in rows[1:]] == ["1.50×", "–"]


def test_one_setting_is_not_shown_twice(project, tmp_path):
    html = make([project], tmp_path)
    assert "all 1 settings" not in html
    assert table(html, "Latency, CPU, 2 threads, eager PyTorch, float32, batch 32, length 64")[1][1] == "42.25"


def quality(html):
    """{model: (milliseconds, score)} of the plots."""
    rows = [rows for name, rows in downloads(html).items() if name.startswith("quality-")]
    return {model: (float(x), float(y)) for _, *points in rows for model, x, y in points}


def test_quality_meets_latency_by_weights_and_else_by_name(tmp_path):
    names = {"a": "1", "b": "2", "c": "3"}
    rows = [
        result(name, 0, metrics={"accuracy": score}, weights=weights)
        for (name, weights), score in zip(names.items(), (0.5, 0.6, 0.7), strict=True)
    ]
    del rows[-1]["weights"]  # of an earlier version
    write_lines(tmp_path / "results.jsonl", rows)
    lines = [measurement("export-of-a", 4.0), measurement("b", 3.0), measurement("c", 2.0), measurement("a", 1.0)]
    content = latency(lines, **{"export-of-a": "1", "b": "other weights", "c": "3", "a": "4"})
    (tmp_path / "latency.json").write_text(json.dumps(content))
    # b has other weights in either file, and the latency file's "a" is another model than the one that was fine-tuned
    assert quality(make([tmp_path], tmp_path)) == {"a": (4.0, 50.0), "c": (2.0, 70.0)}


def test_quality_is_plotted_once_a_device_in_its_first_eager_setting(tmp_path):
    write_lines(tmp_path / "results.jsonl", [result("a", 0)])
    lines = [
        measurement("a", 1.0, runtime="compile"),
        measurement("a", 2.0),
        measurement("a", 3.0, batch_size=32),
        measurement("a", 4.0, threads=2),
        measurement("a", 5.0, device="NVIDIA H200", threads=None),
    ]
    (tmp_path / "latency.json").write_text(json.dumps(latency(lines)))
    rows = [rows[1] for name, rows in downloads(make([tmp_path], tmp_path)).items() if name.startswith("quality-")]
    assert [float(row[1]) for row in rows] == [2.0, 5.0]


# Cost.


def test_hours_are_those_of_all_sessions_on_every_device(tmp_path):
    write_run(tmp_path / "run", ("student",))
    cpu, gpu = {"device": "cpu", "devices": 1}, {"device": "NVIDIA H200", "devices": 8}
    write_lines(
        tmp_path / "run" / "timing.jsonl",
        [
            timing_line(step=5, seconds=1800.0, tokens_per_second=100.0, **cpu),
            timing_line(step=7, seconds=3600.0, tokens_per_second=100.0, **cpu),  # stopped, and gone on with elsewhere
            timing_line(step=10, seconds=9000.0, tokens_per_second=900.0, mfu=0.25, **gpu),
            timing_line(step=15, seconds=1800.0, tokens_per_second=900.0, mfu=0.35, **gpu),  # a count begun anew
            timing_line(step=20, seconds=3600.0, tokens_per_second=900.0, mfu=0.45, **gpu),
        ],
    )
    (tmp_path / "glue").mkdir()
    rows = [result("student", seed, device="cpu") for seed in (0, 1)] + [result("teacher", 0)]
    del rows[-1]["device"]  # of an earlier version
    write_lines(tmp_path / "glue" / "results.jsonl", rows)
    html = make([tmp_path], tmp_path)
    assert table(html, "Training")[1:] == [
        ["run", "20", "0.02 M", "3:30:00", "cpu, then NVIDIA H200", "1, then 8", "900", "35.00 %"]
    ]
    assert table(html, "Fine-tuning")[1:] == [
        ["glue", "student", "cpu", "2", "0:03:00"],
        ["glue", "teacher", "not recorded", "1", "0:01:30"],
    ]
    assert table(html, "Total")[1:] == [
        ["cpu", "1:00:00", "0:03:00", "1:03:00"],
        ["NVIDIA H200", "2:30:00", "–", "2:30:00"],
        ["not recorded", "–", "0:01:30", "0:01:30"],
        ["all", "3:30:00", "0:04:30", "3:34:30"],
    ]
