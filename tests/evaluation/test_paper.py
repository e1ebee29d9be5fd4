import pytest

from ctcd_jax.evaluation.tables.paper import COLUMNS, ROWS, mean_of_columns, mean_over_tasks

PRINTED = {
    "BERT-base (109 M)": 83.23,
    "one-way student (67 M)": 80.33,
    "community student 1 (67 M)": 81.40,
    "community student 2 (67 M)": 81.34,
}


@pytest.mark.parametrize(("name", "printed"), PRINTED.items())
def test_the_mean_of_the_ten_columns_is_the_average_that_the_paper_prints(name, printed):
    assert len(COLUMNS) == len(ROWS[name]) == 10
    assert mean_of_columns(ROWS[name]) == pytest.approx(printed, abs=0.01)


def test_the_mean_over_eight_tasks_is_another_figure():
    means = [mean_over_tasks(values) for values in ROWS.values()]
    assert means == pytest.approx([82.04, 78.98, 79.99, 79.93], abs=0.005)


def test_a_task_with_two_metrics_counts_once_over_tasks_and_twice_over_columns():
    values = {("mrpc", "f1"): 90.0, ("rte", "accuracy"): 50.0, ("mrpc", "accuracy"): 70.0}
    assert mean_of_columns(values) == pytest.approx(70)
    assert mean_over_tasks(values) == pytest.approx(65)
