import json

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.results import append_result, read_results

ROWS = [
    {"format": 1, "model": model, "task": "rte", "seed": 0, "metrics": {"accuracy": 0.5}, "hyperparameters": {}}
    for model in ("teacher", "student")
]


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
