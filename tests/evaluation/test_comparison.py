import csv
import io

import numpy as np
import pytest
from scipy import stats

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.scores import score
from ctcd_jax.evaluation.tables.comparison import (
    differences,
    differences_csv,
    differences_note,
    differences_table,
    read_differences,
)
from ctcd_jax.evaluation.tables.intervals import EXAMPLES, FINETUNING, interval_words
from ctcd_jax.evaluation.tasks.tasks import TASKS

METRICS = {task.name: task.metrics for task in TASKS.values()}


def cell(folder, model, task, seed, labels, predictions, **more):
    """Writes predictions.npz and returns the line of results.jsonl that belongs to it."""
    path = f"cells/{model}/{task}/seed-{seed}/predictions.npz"
    (folder / path).parent.mkdir(parents=True)
    np.savez(folder / path, labels=labels, predictions=predictions)
    metrics = score(METRICS[task], labels, predictions)
    value = metrics[METRICS[task][0]]
    return {"model": model, "task": task, "seed": seed, "value": value, "metrics": metrics, "predictions": path} | {
        "hyperparameters": {},
        **more,
    }


def guesses(labels, right, rng):
    return np.where(rng.random(len(labels)) < right, labels, 1 - labels)


def ends(difference):
    return difference.interval.low, difference.interval.high


def by_column(found):
    return {difference.column: difference for difference in found}


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(2, size=400)


def test_identical_models_differ_by_nothing(tmp_path, labels):
    rng = np.random.default_rng(1)
    scores = np.linspace(0, 5, 60)
    rows = []
    for seed in range(3):
        predictions, floats = guesses(labels, 0.8, rng), scores + rng.normal(size=60)
        for model in ("a", "b"):
            rows.append(cell(tmp_path, model, "mrpc", seed, labels, predictions))
            rows.append(cell(tmp_path, model, "stsb", seed, scores, floats))
    found = differences(rows, tmp_path)
    assert len(found) == 4 + 2
    for difference in found:
        assert (difference.value, ends(difference), difference.seeds) == (0, (0, 0), 3)
    assert differences_table(found)[1] == ["a − b", *["0.00 [0.00, 0.00]"] * 6]


def test_one_seed_and_one_example_in_four_that_only_the_first_has_right(tmp_path):
    # The difference is a binomial share: 25 % with n = 400, whose standard error is 2.165.
    labels = np.zeros(400, dtype=int)
    rows = [
        cell(tmp_path, "a", "rte", 0, labels, labels),
        cell(tmp_path, "b", "rte", 0, labels, (np.arange(400) % 4 == 0).astype(int)),
    ]
    found = differences(rows, tmp_path)
    column = by_column(found)["rte", "accuracy"]
    assert column.value == pytest.approx(25)
    reach = stats.t(399).ppf(0.975) * 2.165
    assert ends(column) == pytest.approx((25 - reach, 25 + reach), abs=0.2)
    assert column.interval.covers == (EXAMPLES,)
    assert "There is only one seed: examples alone are drawn" in differences_note(found)


def test_two_seeds_that_differ_by_nothing_and_by_everything(tmp_path):
    # No scatter among examples: the t interval of 0 and 100, whose mean has a standard error of 50 by one degree.
    right, wrong = np.ones(20, dtype=int), np.zeros(20, dtype=int)
    rows = [cell(tmp_path, "a", "rte", seed, right, right) for seed in (0, 1)]
    rows += [cell(tmp_path, "b", "rte", 0, right, right), cell(tmp_path, "b", "rte", 1, right, wrong)]
    column = by_column(differences(rows, tmp_path))["rte", "accuracy"]
    assert column.value == pytest.approx(50)
    assert ends(column) == pytest.approx((50 - 12.706 * 50, 50 + 12.706 * 50), abs=0.1)


def test_averages_are_those_of_the_table_and_their_intervals_those_of_the_seeds_averages(tmp_path, labels):
    rng = np.random.default_rng(2)
    rows = [
        cell(tmp_path, model, task, seed, labels, guesses(labels, right, rng))
        for model, right in (("a", 0.9), ("b", 0.8))
        for task in ("mrpc", "rte")
        for seed in (0, 1, 2)
    ]
    found = by_column(differences(rows, tmp_path))
    f1, accuracy, rte = (found[key] for key in (("mrpc", "f1"), ("mrpc", "accuracy"), ("rte", "accuracy")))
    columns, tasks = found["mean of the 3 metric columns"], found["mean over 2 tasks"]
    assert columns.value == pytest.approx((f1.value + accuracy.value + rte.value) / 3)
    assert tasks.value == pytest.approx(((f1.value + accuracy.value) / 2 + rte.value) / 2)
    for average in (columns, tasks):
        assert average.interval.low < average.value < average.interval.high
        assert average.interval.covers == (FINETUNING, EXAMPLES)
    # The seeds' part is that of the averages seed by seed.
    scores = {(row["model"], row["task"], row["seed"]): row["metrics"] for row in rows}
    by_seed = [
        sum(
            sign * (100 / 3) * sum(sum(scores[model, task, seed].values()) for task in ("mrpc", "rte"))
            for model, sign in (("a", 1), ("b", -1))
        )
        for seed in (0, 1, 2)
    ]
    assert columns.value == pytest.approx(np.mean(by_seed))
    for row in rows:
        row["predictions"] = None
    without = by_column(differences(rows, tmp_path))["mean of the 3 metric columns"]
    expected = stats.t.interval(0.95, 2, loc=np.mean(by_seed), scale=stats.sem(by_seed))
    assert ends(without) == pytest.approx(expected)
    assert np.ptp(ends(columns)) >= np.ptp(ends(without))


def test_seeds_that_all_answer_alike_leave_the_interval_of_the_examples(tmp_path, labels):
    rng = np.random.default_rng(2)
    answers = {"a": guesses(labels, 0.9, rng), "b": guesses(labels, 0.8, rng)}
    rows = [cell(tmp_path, model, "rte", seed, labels, answers[model]) for model in "ab" for seed in range(3)]
    several = by_column(differences(rows, tmp_path))["rte", "accuracy"]
    one = by_column(differences([row for row in rows if row["seed"] == 0], tmp_path))["rte", "accuracy"]
    assert ends(several) == pytest.approx(ends(one))
    assert several.interval.covers == (FINETUNING, EXAMPLES)
    gaps = 100.0 * (answers["a"] == labels) - 100.0 * (answers["b"] == labels)
    expected = stats.t.interval(0.95, 399, loc=gaps.mean(), scale=stats.sem(gaps))
    assert ends(one) == pytest.approx(expected, abs=0.15)


def test_an_average_whose_columns_have_different_seeds_has_no_interval(tmp_path, labels):
    rng = np.random.default_rng(2)
    rows = [
        cell(tmp_path, model, task, seed, labels, guesses(labels, 0.8, rng))
        for model in "ab"
        for task, seeds in (("mrpc", 3), ("rte", 2))
        for seed in range(seeds)
    ]
    found = differences(rows, tmp_path)
    averages = [difference for difference in found if isinstance(difference.column, str)]
    assert [(average.interval, average.seeds) for average in averages] == [(None, 2)] * 2
    assert "No interval for the averages: columns with different seeds." in differences_note(found)


def test_pairs_are_the_first_model_against_each_other_over_the_seeds_that_both_have(tmp_path, labels):
    rng = np.random.default_rng(3)
    rows = [
        cell(tmp_path, model, "rte", seed, labels, guesses(labels, 0.8, rng))
        for model, seeds in (("c", (0, 1, 2)), ("a", (1, 2, 3)), ("b", (2,)), ("d", (7,)))
        for seed in seeds
    ]
    found = [difference for difference in differences(rows, tmp_path) if difference.column == ("rte", "accuracy")]
    assert [(d.first, d.second, d.seeds) for d in found] == [("c", "a", 2), ("c", "b", 1)]
    value = {(row["model"], row["seed"]): 100 * row["value"] for row in rows}
    expected = (value["c", 1] - value["a", 1] + value["c", 2] - value["a", 2]) / 2
    assert found[0].value == pytest.approx(expected)
    table = differences_table(found)
    assert [line[0] for line in table] == ["difference", "c − a", "c − b"]
    assert table[2][1].endswith("] (n = 1)")
    assert "only one seed is shared (n = 1)" in differences_note(found)


def test_the_draws_stay_when_another_task_or_model_is_added(tmp_path, labels):
    rng = np.random.default_rng(4)
    rows = [
        cell(tmp_path, model, task, seed, labels, guesses(labels, 0.8, rng))
        for model in ("a", "b", "c")
        for task in ("rte", "sst2")
        for seed in (0, 1)
    ]
    few = [row for row in rows if row["task"] == "rte" and row["model"] != "c"]
    alone, among = (by_column(differences(lines, tmp_path)[:3]) for lines in (few, rows))  # of the first pair
    assert alone["rte", "accuracy"].interval
    assert alone["rte", "accuracy"] == among["rte", "accuracy"]


def test_mnlis_second_set_is_resampled_apart(tmp_path):
    rng = np.random.default_rng(5)
    rows = []
    for model in ("a", "b"):
        arrays = {}
        for suffix, size in (("", 90), ("_mismatched", 70)):
            arrays["labels" + suffix] = np.arange(size) % 3
            arrays["predictions" + suffix] = rng.integers(3, size=size)
        np.savez(tmp_path / f"{model}.npz", **arrays)
        metrics = {
            f"accuracy{suffix}": float(np.mean(arrays[f"labels{suffix}"] == arrays[f"predictions{suffix}"]))
            for suffix in ("", "_mismatched")
        }
        rows.append(
            {"model": model, "task": "mnli", "seed": 0, "value": metrics["accuracy"], "metrics": metrics}
            | {"hyperparameters": {}, "predictions": f"{model}.npz"}
        )
    found = by_column(differences(rows, tmp_path))
    for metric in ("accuracy", "accuracy_mismatched"):
        difference = found["mnli", metric]
        assert difference.value == pytest.approx(100 * (rows[0]["metrics"][metric] - rows[1]["metrics"][metric]))
        assert difference.interval.low < difference.value < difference.interval.high
    assert found["mean of the 1 metric column"].interval == found["mnli", "accuracy"].interval


def damage(path):
    path.write_bytes(b"PK")


def other_rows(path):
    with np.load(path) as arrays:
        np.savez(path, labels=1 - arrays["labels"], predictions=1 - arrays["predictions"])


def other_run(path):
    with np.load(path) as arrays:
        np.savez(path, labels=arrays["labels"], predictions=1 - arrays["predictions"])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "predictions of b are missing"),
        (damage, "predictions of b cannot be read"),
        (other_rows, "b was scored on other rows than a"),
        (other_run, "predictions of b do not give the scores in results.jsonl"),
    ],
)
def test_without_usable_predictions_the_interval_covers_seeds_alone_and_the_reason_is_given(
    tmp_path, labels, harm, reason
):
    rng = np.random.default_rng(6)
    rows = [
        cell(tmp_path, model, task, seed, labels, guesses(labels, 0.8, rng))
        for model in ("a", "b", "c")
        for task in ("rte", "sst2")
        for seed in (0, 1)
    ]
    harm(tmp_path / "cells/b/rte/seed-1/predictions.npz")
    found = differences(rows, tmp_path)
    without = [(d.second, d.column) for d in found if d.interval.covers == (FINETUNING,)]
    averages = ["mean of the 2 metric columns", "mean over 2 tasks"]
    assert without == [("b", ("rte", "accuracy")), *(("b", average) for average in averages)]
    note = differences_note(found)
    assert f"The interval covers no examples for RTE: {reason}." in note
    assert "The interval covers no examples for the averages: a column lacks predictions." in note
    assert interval_words({FINETUNING, EXAMPLES}) in note
    value = {(row["model"], row["seed"]): 100 * row["value"] for row in rows if row["task"] == "rte"}
    by_seed = [value["a", seed] - value["b", seed] for seed in (0, 1)]
    rte = next(difference for difference in found if (difference.second, difference.column) == without[0])
    assert ends(rte) == pytest.approx(stats.t.interval(0.95, 1, loc=np.mean(by_seed), scale=stats.sem(by_seed)))
    lines = list(csv.DictReader(io.StringIO(differences_csv(found))))
    line = next(line for line in lines if line["column"] == "rte_accuracy")
    assert (line["covers"], line["missing"]) == ("fine-tuning seeds", reason)


def test_lines_of_format_1_with_one_seed_are_compared_without_intervals(tmp_path):
    rows = [
        {"model": model, "task": "rte", "seed": 0, "metrics": {"accuracy": value}, "hyperparameters": {}}
        for model, value in (("a", 0.5), ("b", 0.625))
    ]
    found = differences(rows, tmp_path)
    assert differences_table(found)[1] == ["a − b", "−12.50", "−12.50", "−12.50"]
    note = differences_note(found)
    assert "In brackets" not in note
    assert "No interval for RTE: predictions of a are missing; predictions of b are missing." in note


def test_what_rounds_to_nothing_has_no_sign():
    line = {"first": "a", "second": "b", "column": "rte_accuracy", "seeds": "2", "covers": "fine-tuning seeds"}
    rows = [{"model": "a", "task": "rte", "seed": 0, "metrics": {"accuracy": 0.5}, "hyperparameters": {}}]
    line |= {"difference": "-0.004", "low": "-0.0049", "high": "0.004", "missing": ""}
    found = read_differences([line], rows)
    assert differences_table(found)[1] == ["a − b", "0.00 [0.00, 0.00]"]
    assert differences_csv(found).splitlines()[1].startswith("a,b,rte_accuracy,-0.004000,-0.004900,0.004000,")
    tiny = read_differences([line | {"difference": "-1e-9"}], rows)
    assert ",0.000000,-0.004900," in differences_csv(tiny)


def test_the_csv_is_read_as_it_was_written(tmp_path, labels):
    rng = np.random.default_rng(9)
    rows = [
        cell(tmp_path, model, task, seed, labels, guesses(labels, 0.8, rng))
        for model in "abc"
        for task in ("mrpc", "rte")
        for seed in (0, 1, 2)
    ]
    rows[0]["predictions"] = None
    found = differences(rows, tmp_path)
    lines = list(csv.DictReader(io.StringIO(differences_csv(found))))
    again = read_differences(lines, rows)
    assert differences_table(again) == differences_table(found)
    assert differences_note(again) == differences_note(found)
    with pytest.raises(UserError, match=r"^comparison.csv:3: damaged; run ctcd glue again$"):
        read_differences([lines[0], {**lines[1], "seeds": None}], rows)


def test_of_a_grid_the_chosen_settings_are_compared(tmp_path, labels):
    rng = np.random.default_rng(7)
    rows = [
        cell(tmp_path, "a", "rte", 0, labels, guesses(labels, 0.9, rng)),
        cell(tmp_path, "b", "rte", 0, labels, guesses(labels, 0.8, rng), hyperparameters={"epochs": 1}),
        cell(tmp_path, "b", "rte", 1, labels, guesses(labels, 0.6, rng), hyperparameters={"epochs": 2}) | {"seed": 0},
    ]
    difference = by_column(differences(rows, tmp_path))["rte", "accuracy"]
    assert difference.value == pytest.approx(100 * (rows[0]["value"] - rows[1]["value"]))


def test_a_single_model_is_compared_with_nothing(tmp_path, labels):
    assert differences([cell(tmp_path, "a", "rte", 0, labels, labels)], tmp_path) == []
    assert differences([], tmp_path) == []


def test_the_csv_has_a_line_a_difference(tmp_path, labels):
    rng = np.random.default_rng(8)
    rows = [cell(tmp_path, model, "rte", 0, labels, guesses(labels, 0.8, rng)) for model in ("a", "b")]
    found = differences(rows, tmp_path)
    table = list(csv.DictReader(io.StringIO(differences_csv(found))))
    averages = ["mean_of_the_1_metric_column", "mean_over_1_task"]
    assert [line["column"] for line in table] == ["rte_accuracy", *averages]
    assert float(table[0]["difference"]) == pytest.approx(found[0].value, abs=1e-6)
    assert (float(table[0]["low"]), float(table[0]["high"])) == pytest.approx(ends(found[0]), abs=1e-6)
    assert (table[0]["seeds"], table[0]["covers"], table[0]["missing"]) == ("1", "development examples", "")
