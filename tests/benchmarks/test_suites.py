"""What the two suites print and write."""

import json
import sys

import pytest

from ctcd_jax.benchmarks import bench, cpu, data
from ctcd_jax.errors import UserError
from tests.small import write_text

# Serves figures instead of work: {variant: (GFLOPs of a step, seconds of the rounds, warm-up included)}.
SAID = {
    "ctcd": (30, [9, 9, 9, 1.0, 2.0, 1.2]),
    "teacher": (20, [9, 9, 9, 0.8, 1.6, 0.8]),
    "student": (10, [9, 9, 9, 0.2, 0.9, 0.4]),
    "oneway": (16, [9, 9, 9, 0.45, 0.9, 0.8]),
    "ctcd-torch": (30, [9, 9, 9, 1.5, 2.0, 1.5]),
}
WORKER = """
import json, sys
gflops, seconds = json.loads(sys.argv[1])
facts = {"device": "abacus", "dtype": "float32", "tokens": 900, "predicted": 130, "flops": gflops * 1e9}
print(json.dumps(facts), flush=True)
for line, value in zip(sys.stdin, seconds):
    print(value, flush=True)
"""
COMMON = {"format", "suite", "command", "python", "versions", "cores", "load", "device", "shapes", "variants", "ratios"}


def test_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "worker", lambda variant: [sys.executable, "-c", WORKER, json.dumps(SAID[variant])])
    monkeypatch.setattr(cpu, "ROUNDS", 3)
    lines = []
    result = bench("cpu", tmp_path / "made" / "here", lines.append)
    assert json.loads((tmp_path / "made" / "here" / "bench.json").read_text()) == json.loads(json.dumps(result))
    assert set(result) == COMMON | {"dtype"}
    assert (result["format"], result["command"], result["device"]) == (1, "ctcd bench --suite cpu", "abacus")
    assert result["variants"]["student"]["seconds"] == [0.2, 0.9, 0.4]
    together, pipeline, torch = result["ratios"].values()
    assert together["rounds"] == pytest.approx([1.0, 2.0 / 2.5, 1.0])
    assert pipeline["rounds"] == pytest.approx([1.0 / 1.25, 2.0 / 2.5, 1.2 / 1.6])
    assert (pipeline["median"], pipeline["flops"]) == pytest.approx((0.8, 30 / 36))
    assert torch["rounds"] == pytest.approx([1.5, 1.0, 1.25])
    text = "\n".join(lines)
    row = next(line for line in text.splitlines() if "one-way pipeline" in line)
    assert row.split()[-5:] == ["0.80", "0.75", "0.80", "0.83", "1.30"]
    row = next(line for line in text.splitlines() if line.startswith("teacher alone"))
    assert row.split()[-5:] == ["0.800", "0.800", "1.600", "1,125", "25.0"]
    assert "same objective" in text


def test_data(monkeypatch, tmp_path):
    write_text(tmp_path / "text.txt", documents=200)
    documents = [part.split("\n") for part in (tmp_path / "text.txt").read_text().strip().split("\n\n")]
    monkeypatch.setattr(data, "environment", lambda log: documents)
    monkeypatch.setattr(data, "ROUNDS", 2)
    monkeypatch.setattr(data, "BATCHES", 3)
    monkeypatch.setattr(data, "PART_BYTES", 1)
    lines = []
    bench("data", tmp_path, lines.append)
    result = json.loads((tmp_path / "bench.json").read_text())
    assert set(result) == COMMON
    rounds = {name: len(variant["seconds"]) for name, variant in result["variants"].items()}
    assert rounds == {"load": 2, "tokenize": 2, "prepare": 2}
    quotient = result["ratios"]["speed of prepare / of encode_batch_fast"]
    assert quotient["rounds"][0] == pytest.approx(
        result["variants"]["tokenize"]["seconds"][0] / result["variants"]["prepare"]["seconds"][0]
    )
    assert result["shapes"]["paragraphs"] == 2000
    assert result["shapes"]["corpus_rows"] >= data.BATCH
    assert "rows/s" in lines[-1]


def test_what_the_user_can_mend(tmp_path):
    with pytest.raises(UserError, match=r"no suite 'cpus' \(did you mean 'cpu'\?\)"):
        bench("cpus")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        bench("data", tmp_path / "file" / "out")
