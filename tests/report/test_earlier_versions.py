"""What earlier versions wrote is shown as far as it goes."""

import json

from ctcd_jax.artifacts.results import RESULT
from tests.report.reporting import Page, latency, make, measurement, result, table, timing_line, write_lines, write_run


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def test_a_run_that_did_not_write_down_what_it_resolved_nor_on_what_it_ran(tmp_path):
    write_run(tmp_path / "run", ("teacher", "student"), (("teacher", "student"),))
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["edges"] = [{key: edge[key] for key in ("source", "target", "weight")} for edge in config["edges"]]
    config["train"]["steps"] = 20
    path.write_text(json.dumps(without(config, "resolved", "masking", "optimizer")))
    write_lines(tmp_path / "run" / "timing.jsonl", [without(timing_line(seconds=3725.4), "device", "devices", "mfu")])
    html = make([tmp_path], tmp_path)
    words = Page(html).words
    assert words.count("4 layers, hidden 128") == 2
    assert "KL teacher → student at τ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1" in words
    assert any(word.endswith(", 20 steps of 8 rows, seed 0") for word in words)
    assert table(html, "Training")[1][3:6] == ["1:02:05", "not recorded", "–"]


def test_cells_of_which_only_the_scores_are_known(tmp_path):
    needed = {key for key in RESULT if not key.endswith("?")} | {"format"}
    rows = [result("student", seed) for seed in (0, 1)]
    write_lines(tmp_path / "results.jsonl", [{key: row[key] for key in needed} | {"format": 1} for row in rows])
    html = make([tmp_path], tmp_path)
    assert table(html, f"Scores of {tmp_path.name}")[1][:2] == ["student", "61.00 ± 0.00"]
    assert table(html, "Fine-tuning")[1] == [tmp_path.name, "student", "not recorded", "2", "0:00:00"]


def test_latency_of_one_setting(tmp_path):
    content = latency([measurement("student", 42.25, threads=2, batch_size=32)])
    (model,), (figures,) = content["models"], content["measurements"]
    model = without(model, "path", "weights", "stored_parameters") | {"flops_per_token": 1_700_000, "median_ms": 42.25}
    model |= {key: figures[key] for key in ("p95_ms", "sequences_per_second", "speedup")}
    setting = {key: figures[key] for key in ("device", "threads", "batch_size", "length")}
    first = without(content, "cpu", "measurements") | setting | {"format": 1, "models": [model]}
    (tmp_path / "latency.json").write_text(json.dumps(first))
    html = make([tmp_path], tmp_path)
    assert table(html, "Latency, CPU, 2 threads, eager PyTorch, float32, batch 32, length 64")[1][1] == "42.25"
    assert table(html, "Models")[1] == ["student", "4.70 M", "–", "20.0", "1.70"]
