import json
import statistics

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.results import append_result, as_table, markdown, read_results, summarise


def row(model, task, seed, metrics, majority=None):
    return {
        "format": 1,
        "model": model,
        "task": task,
        "seed": seed,
        "metrics": metrics,
        "majority_share": majority,
        "hyperparameters": {"epochs": 3, "learning_rate": 1e-4},
    }


ROWS = [
    row("teacher", "rte", 0, {"accuracy": 0.5}, 0.53),
    row("teacher", "rte", 1, {"accuracy": 0.6}, 0.53),
    row("teacher", "mrpc", 0, {"f1": 0.8, "accuracy": 0.7}, 0.68),
    row("teacher", "mrpc", 1, {"f1": 0.9, "accuracy": 0.7}, 0.68),
    row("student", "rte", 0, {"accuracy": 0.55}, 0.53),
]


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


def test_the_papers_average_is_the_mean_of_its_metric_columns():
    # Table 2 of the paper, BERT-base: ten columns, average 83.23.
    tasks = {
        "mnli": {"accuracy": 0.8417},
        "qqp": {"accuracy": 0.9089},
        "qnli": {"accuracy": 0.9068},
        "sst2": {"accuracy": 0.9186},
        "cola": {"matthews": 0.5754},
        "stsb": {"pearson": 0.8884, "spearman": 0.8856},
        "mrpc": {"f1": 0.8931, "accuracy": 0.8504},
        "rte": {"accuracy": 0.6534},
    }
    summary = summarise([row("bert", task, 0, metrics, 0.5) for task, metrics in tasks.items()])
    assert summary.mean_of_columns("bert") == pytest.approx(83.23, abs=0.011)
    by_task = (84.17 + 90.89 + 90.68 + 91.86 + 57.54 + (88.84 + 88.56) / 2 + (89.31 + 85.04) / 2 + 65.34) / 8
    assert summary.mean_over_tasks("bert") == pytest.approx(by_task)


def test_the_table_names_its_averages_and_shows_the_majority_class():
    head, teacher, student, majority = as_table(summarise(ROWS))
    assert head[-2:] == ["mean of the 3 metric columns", "mean over tasks"]
    assert teacher == ["teacher", "85.00 ± 7.07", "70.00 ± 0.00", "55.00 ± 7.07", "70.00", "66.25"]
    assert student == ["student", "–", "–", "55.00", "–", "–"]
    assert majority == ["majority class", "–", "68.00", "53.00", "–", "–"]
    text = markdown(ROWS)
    assert "| teacher | 85.00 ± 7.07 |" in text
    assert "epochs 3, learning rate 0.0001" in text


def test_lines_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    for line in ROWS:
        append_result(path, line)
    assert read_results(path) == ROWS


@pytest.mark.parametrize(("line", "message"), [('{"format": 2}', "1: format 2"), ('{"form', "1: not a line of JSON")])
def test_a_foreign_or_damaged_line_is_named(tmp_path, line, message):
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n" + json.dumps(ROWS[0]) + "\n")
    with pytest.raises(UserError, match=message):
        read_results(path)
