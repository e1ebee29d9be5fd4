import csv
import io
import shutil
import statistics
from pathlib import Path

import pytest

from ctcd_jax.artifacts.results import FORMAT, append_result
from ctcd_jax.evaluation.tables import paper
from ctcd_jax.evaluation.tables.summary import summarise
from ctcd_jax.evaluation.tables.table import as_table, csv_text, markdown, reading_notes, terminal_table, write_tables


def row(model, task, seed, metrics, majority_share=None, **more):
    """A line of format 1, which has no key of format 2 unless `more` gives it."""
    return {
        "format": 1,
        "model": model,
        "task": task,
        "seed": seed,
        "metric": next(iter(metrics)),
        "value": next(iter(metrics.values())),
        "metrics": metrics,
        "majority_share": majority_share,
        "hyperparameters": {"epochs": 3, "learning_rate": 1e-4},
        **more,
    }


ROWS = [
    row("teacher", "rte", 0, {"accuracy": 0.5}, 0.53),
    row("teacher", "rte", 1, {"accuracy": 0.6}, 0.53),
    row("teacher", "mrpc", 0, {"f1": 0.8, "accuracy": 0.7}, 0.68),
    row("teacher", "mrpc", 1, {"f1": 0.9, "accuracy": 0.7}, 0.68),
    row("student", "rte", 0, {"accuracy": 0.55}, 0.53),
]


def full(model, shift=0.0):
    """BERT-base's cells of the paper, less `shift`, as results; with columns that Table 2 lacks."""
    tasks = {}
    for (task, metric), value in paper.ROWS["BERT-base (109 M)"].items():
        tasks.setdefault(task, {})[metric] = value / 100 - shift
    tasks["mnli"]["accuracy_mismatched"] = 0.5
    tasks["qqp"]["f1"] = 0.5
    return [row(model, "mine", 0, {"accuracy": 0.1})] + [
        row(model, task, 0, metrics) for task, metrics in tasks.items()
    ]


def lines(rows):
    """The rendered table as {first cell: {header: cell}}."""
    head, *body = as_table(summarise(rows))
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}


def test_means_deviations_and_the_two_averages():
    summary = summarise(ROWS)
    assert summary.columns == [("mrpc", "f1"), ("mrpc", "accuracy"), ("rte", "accuracy")]
    cell = summary.models["teacher"]["rte", "accuracy"]
    assert cell.mean == pytest.approx(55)
    assert cell.deviation == pytest.approx(statistics.stdev([50, 60]))
    assert cell.seeds == 2
    assert summary.models["student"]["rte", "accuracy"].deviation is None
    assert summary.mean_of_columns("teacher") == pytest.approx((85 + 70 + 55) / 3)
    assert summary.mean_over_tasks("teacher") == pytest.approx(((85 + 70) / 2 + 55) / 2)
    assert summary.mean_of_columns("student") is None
    assert summary.mean_over_tasks("student") is None


def test_the_table_names_its_averages_and_shows_the_majority_class():
    head, teacher, student, majority, *_ = as_table(summarise(ROWS))
    assert head[-2:] == ["mean of the 3 metric columns", "mean over 2 tasks"]
    assert teacher == ["teacher", "85.00 ± 7.07", "70.00 ± 0.00", "55.00 ± 7.07", "70.00", "66.25"]
    assert student == ["student", "–", "–", "55.00 (n = 1)", "–", "–"]
    assert majority == ["majority class", "–", "68.00", "53.00", "–", "–"]
    text = markdown(ROWS)
    assert "| teacher | 85.00 ± 7.07 |" in text
    assert "epochs 3, learning rate 0.0001" in text
    assert "sample standard deviation over 2 seeds" in text


def test_the_majority_class_is_shown_by_every_metric_and_who_knows_no_more_is_named():
    rows = [
        row(model, "mrpc", 0, {"f1": f1, "accuracy": accuracy}, 0.68, majority={"f1": 0.8122, "accuracy": 0.6838})
        for model, f1, accuracy in (("a", 0.79, 0.70), ("b", 0.83, 0.6838))
    ]
    rows.append(row("a", "cola", 0, {"matthews": -0.00001}, 0.69, majority={"matthews": 0.0}))
    rows.append(row("a", "stsb", 0, {"pearson": -0.5}, majority=None))
    shown = lines(rows)
    assert shown["majority class"]["MRPC F1"] == "81.22"
    assert shown["majority class"]["MRPC acc"] == "68.38"
    assert shown["majority class"]["CoLA Matthews"] == "0.00"
    assert shown["majority class"]["STS-B Pearson"] == "–"
    notes = reading_notes(rows)
    assert "No more than the majority class: MRPC F1 (a), MRPC acc (b), CoLA Matthews (a)." in notes
    assert "ag of words" not in notes
    table = {line["model"]: line for line in csv.DictReader(io.StringIO(csv_text(rows)))}
    assert table["majority class"]["mrpc_f1_mean"] == "81.220000"
    averages = summarise(rows[:2]).averages({("mrpc", "f1"): 81.22, ("mrpc", "accuracy"): 68.38})
    assert averages == (pytest.approx(74.8), pytest.approx(74.8))
    assert lines(rows[:2])["majority class"]["mean over 1 task"] == "74.80"
    # What rounds to nothing has no sign; what does not has its own.
    assert (shown["a"]["CoLA Matthews"], shown["a"]["STS-B Pearson"]) == ("0.00", "−50.00")
    assert (table["a"]["cola_matthews_mean"], table["a"]["stsb_pearson_mean"]) == ("-0.001000", "-50.000000")


def test_a_bag_of_words_of_the_same_examples_stands_beside_and_who_is_no_better_is_named():
    rows = [
        row("a", "rte", 0, {"accuracy": 0.6}, 0.53, data="ab"),
        row("b", "rte", 0, {"accuracy": 0.62}, 0.53, data="ab"),
        row("a", "mine", 0, {"f1_macro": 0.4}, data="cd"),
    ]
    baselines = {
        "rte": {"data": "ab", "majority": {"accuracy": 0.53}, "bag_of_words": {"accuracy": 0.6}},
        "mine": {"data": "of other examples", "majority": {"f1_macro": 0.3}, "bag_of_words": {"f1_macro": 0.5}},
    }
    shown = {line[0]: line[1:] for line in as_table(summarise(rows, baselines))}
    assert shown["model"][:2] == ["RTE acc", "mine macro-F1"]
    assert shown["bag of words"] == ["60.00", "–", "60.00", "60.00"]
    notes = reading_notes(rows, baselines)
    assert "Bag of words: a logistic" in notes
    assert "No more than the bag of words: RTE acc (a)." in notes
    assert "| bag of words | 60.00 |" in markdown(rows, baselines=baselines)
    table = {line["model"]: line for line in csv.DictReader(io.StringIO(csv_text(rows, baselines)))}
    words = table["bag of words"]
    assert (words["source"], words["rte_accuracy_mean"], words["rte_accuracy_n"]) == ("bag of words", "60.000000", "")
    head, first, *rest = terminal_table(summarise(rows, baselines)).splitlines()
    assert head.split() == ["a", "b", "majority", "class", "bag", "of", "words"]
    assert first.split() == ["RTE", "acc", "60.00", "62.00", "53.00", "60.00"]
    assert rest[-1] == "No more than the bag of words: RTE acc (a)."


def test_a_cell_with_fewer_seeds_than_others_says_how_many():
    values = {"a": [0.5, 0.6, 0.7], "b": [0.5, 0.6]}
    rows = [row(model, "rte", n, {"accuracy": x}) for model, xs in values.items() for n, x in enumerate(xs)]
    texts = [line["RTE acc"] for line in lines(rows).values()]
    assert texts[:2] == ["60.00 ± 10.00", "55.00 ± 7.07 (n = 2)"]


def test_columns_follow_the_papers_table_and_the_rest_stands_outside_the_averages():
    summary = summarise(full("bert"))
    assert tuple(summary.columns[:10]) == paper.COLUMNS
    assert set(summary.columns[10:]) == {("mnli", "accuracy_mismatched"), ("qqp", "f1"), ("mine", "accuracy")}
    assert summary.mean_of_columns("bert") == pytest.approx(83.23, abs=0.01)
    assert summary.mean_over_tasks("bert") == pytest.approx(82.04, abs=0.005)
    head = as_table(summary)[0]
    assert head[-2:] == ["mean of the 10 metric columns (the paper's average)", "mean over 8 tasks"]
    outside = reading_notes(full("bert")).split("In neither average: ")[1].split(".")[0]
    assert outside.count(",") == 2
    assert "mine acc" in outside


def test_without_a_column_of_the_papers_all_columns_are_averaged_and_its_rows_are_left_out():
    rows = [row("a", "mine", 0, {"accuracy": 0.4}), row("a", "yours", 0, {"matthews": 0.2})]
    head, *body = as_table(summarise(rows))
    assert head[-2:] == ["mean of the 2 metric columns", "mean over 2 tasks"]
    assert body == [["a", "40.00", "20.00", "30.00", "30.00"]]
    assert "paper" not in markdown(rows)


def test_the_papers_rows_have_our_columns_and_are_averaged_over_them():
    shown = lines([*ROWS, row("teacher", "mine", 0, {"accuracy": 0.9})])
    bert = shown["paper: BERT-base (109 M)"]
    assert list(bert.values())[1:] == ["89.31", "85.04", "65.34", "–", "79.90", "76.26"]  # (89.31+85.04+65.34)/3 ...
    assert list(shown)[-4:] == [f"paper: {name}" for name in paper.ROWS]
    assert "109 M and 67 M parameters" in reading_notes(ROWS)


def grid(model, task, scores, **more):
    """One line a (learning rate, seed): {rate: [score of seed 0, of seed 1, ...]}."""
    return [
        row(model, task, seed, {"accuracy": value}, hyperparameters={"epochs": 3, "learning_rate": rate}, **more)
        for rate, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_of_a_grid_the_setting_with_the_best_mean_counts_and_the_notes_say_so():
    rows = grid("a", "rte", {1e-4: [0.5, 0.6], 2e-4: [0.58, 0.56], 3e-4: [0.1, 0.7]})
    rows += grid("b", "rte", {1e-4: [0.7, 0.7], 2e-4: [0.6, 0.6], 3e-4: [0.5, 0.5]})
    shown = lines(rows)
    assert shown["a"]["RTE acc"] == "57.00 ± 1.41"
    assert shown["b"]["RTE acc"] == "70.00 ± 0.00"
    notes = reading_notes(rows)
    assert "the best of 3 settings" in notes
    assert "selected on the development set" in notes
    assert "Varied: learning rate (0.0001, 0.0002, 0.0003)." in notes
    text = markdown(rows)
    assert "| a | learning rate 0.0002 |" in text
    assert "| b | learning rate 0.0001 |" in text
    assert "best of" not in reading_notes(ROWS)
    assert "Settings taken" not in markdown(ROWS)


def test_a_setting_with_fewer_seeds_does_not_compete():
    rows = grid("a", "rte", {1e-4: [0.5, 0.6], 2e-4: [0.9]})
    assert lines(rows)["a"]["RTE acc"] == "55.00 ± 7.07"


def test_the_settings_differ_by_the_headline_and_a_cell_run_again_counts_as_it_was_last():
    rows = [
        row("a", "mrpc", 0, {"f1": f1, "accuracy": accuracy}, hyperparameters={"epochs": epochs})
        for f1, accuracy, epochs in ((0.8, 0.6, 1), (0.7, 0.9, 2), (0.81, 0.5, 1))
    ]
    assert lines(rows)["a"]["MRPC acc"] == "50.00"


def test_intermediate_tasks_are_named():
    rows = [row("a", "rte", 0, {"accuracy": 0.5}, intermediate="sst2")]
    rows += [row("b", "rte", 0, {"accuracy": 0.5}, intermediate=None)]
    rows += [row(model, "mrpc", 0, {"f1": 0.5, "accuracy": 0.5}, intermediate="sst2") for model in "ab"]
    assert "Started from the model as fine-tuned on SST-2: RTE (a), MRPC." in reading_notes(rows)
    assert "Begun" not in reading_notes(ROWS)


def test_the_csv_has_every_figure_in_a_column_of_its_own():
    table = {line["model"]: line for line in csv.DictReader(io.StringIO(csv_text(ROWS)))}
    teacher = table["teacher"]
    assert float(teacher["rte_accuracy_mean"]) == pytest.approx(55)
    assert float(teacher["rte_accuracy_sd"]) == pytest.approx(7.071068)
    assert teacher["rte_accuracy_n"] == "2"
    assert float(teacher["mean_of_the_3_metric_columns"]) == pytest.approx(70)
    assert float(teacher["mean_over_2_tasks"]) == pytest.approx(66.25)
    assert table["student"]["mrpc_f1_mean"] == table["student"]["rte_accuracy_sd"] == ""
    assert table["majority class"]["mrpc_accuracy_mean"] == "68.000000"
    one_way = table["paper: one-way student (67 M)"]
    assert (one_way["source"], one_way["mrpc_f1_mean"], one_way["mrpc_f1_n"]) == ("paper", "87.940000", "")
    assert {line["source"] for line in table.values()} == {"measured", "majority class", "paper"}


def test_the_files_are_written_and_failed_cells_are_listed_with_their_logs(tmp_path):
    for line in ROWS[:2]:
        append_result(tmp_path / "results.jsonl", {**line, "format": FORMAT})
    cell = tmp_path / "cells" / "student" / "rte" / "seed-0"
    cell.mkdir(parents=True)
    (cell / "failed").write_text("out of memory\n")
    (cell / "log.txt").write_text("...")
    write_tables(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "## Failed cells\n\n- student/rte/seed-0: out of memory (log: `cells/student/rte/seed-0/log.txt`)" in text
    assert (tmp_path / "table.csv").read_text().startswith("model,source,rte_accuracy_mean,")
    assert not (tmp_path / "comparison.csv").exists()

    (cell / "failed").unlink()
    append_result(tmp_path / "results.jsonl", {**ROWS[4], "format": FORMAT})
    write_tables(tmp_path)
    assert "Failed" not in (tmp_path / "table.md").read_text()
    assert (tmp_path / "comparison.csv").read_text().splitlines()[1].startswith("teacher,student,rte_accuracy,-5.0")


def test_the_first_model_is_the_users_not_the_one_whose_cell_ended_first(tmp_path):
    for line in (ROWS[4], *ROWS[:2]):
        append_result(tmp_path / "results.jsonl", {**line, "format": FORMAT})
    write_tables(tmp_path, ["teacher", "student"])
    table = (tmp_path / "table.md").read_text()
    assert table.index("| teacher |") < table.index("| student |")
    assert (tmp_path / "comparison.csv").read_text().splitlines()[1].startswith("teacher,student,")
    write_tables(tmp_path)
    assert (tmp_path / "comparison.csv").read_text().splitlines()[1].startswith("student,teacher,")


def test_when_every_cell_failed_the_table_says_so(tmp_path):
    cell = tmp_path / "cells" / "student" / "rte" / "seed-0"
    cell.mkdir(parents=True)
    (cell / "failed").write_text("")
    write_tables(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "No cell has a result." in text
    assert "student/rte/seed-0: no reason given" in text


def test_bars_in_names_do_not_break_the_markdown():
    assert "| a\\|b |" in markdown([row("a|b", "rte", 0, {"accuracy": 0.5})])


def test_the_published_figures_are_those_of_the_published_results(tmp_path):
    published = Path(__file__).parents[2] / "results" / "glue-small"
    shutil.copy(published / "results.jsonl", tmp_path)
    write_tables(tmp_path)
    for name in ("table.csv", "comparison.csv"):
        assert (tmp_path / name).read_text() == (published / name).read_text()
