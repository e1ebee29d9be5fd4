"""One bad file never hides the good ones: it is left out, and the page and a line on stderr say why."""

import copy
import html
import json
import os
import re
import shutil

import pytest

from ctcd_jax.artifacts.collect import collect
from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.report.report import render
from tests.report.reporting import (
    Page,
    latency,
    make,
    make_project,
    measurement,
    metric_line,
    result,
    table,
    write_run,
)

FOREIGN = {"model": "gpt", "learning_rate": 0.1}  # as another program names its config.json, beside a metrics.jsonl


def left_out(directory, tmp_path):
    """{file below the directory: why}, which the page and the warnings must agree on; and the page."""
    warned = []
    page = make([directory], tmp_path, warned.append)
    rows = {html.unescape(path): html.unescape(why) for path, why in table(page, "Left out")[1:]}
    assert warned == [f"{path}: left out: {why}" for path, why in rows.items()]
    return {os.path.relpath(path, directory): why for path, why in rows.items()}, page


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("ctcd/config.json", "{", "damaged .*; restore the file"),
        ("ctcd/config.json", "[]", "not a JSON object; restore the file"),
        ("ctcd/config.json", json.dumps(FOREIGN), "format None, this version reads 1"),
        ("ctcd/config.json", '{"format": 2}', "format 2, this version reads 1"),
        ("ctcd/config.json", '{"format": 1}', "not the config of a run of `ctcd train`: members is missing"),
        ("ctcd/config.json", '{"format": 1, "members": []}', ".* members is a list, not an object"),
        ("ctcd/config.json", '{"format": 1, "members": {}}', ".*members is empty"),
        (
            "ctcd/config.json",
            '{"format": 1, "members": {"a": {}}, "edges": [{"source": "a", "target": "b"}]}',
            ".*an edge's target 'b' is no member",
        ),
        ("ctcd/config.json", b"\xff\xfe\x00", "damaged .*"),
        ("ctcd/metrics.jsonl", b'\xff\n{"kind": "train"}\n{]\n', r"line 1 \(not .*\), line 2 \(step .*\), line 3 .*"),
        ("ctcd/metrics.jsonl", "0\n" * 9, r".*line 3 \(not a JSON object\), 6 more"),
        ("ctcd/timing.jsonl", '{"seconds": NaN}\n', r"line 1 \(seconds is nan, not a number at least 0\)"),
        ("glue/results.jsonl", "[1]\n", r"line 1 \(not a JSON object\)"),
        ("glue/results.jsonl", '{"format": 9}\n', r"line 1 \(format 9, this version reads .*\)"),
        ("glue/results.jsonl", '{"format": 1, "model": "a"}\n', r"line 1 \(task is missing\)"),
        ("glue/comparison.csv", "first,second\na,b\n", "line 2: column is missing; run `ctcd glue` again"),
        ("glue/comparison.csv", "first,second,column,difference,low,high\na,b,c,much,,\n", "line 2: difference is .*"),
        ("glue/comparison.csv", 'first,second,column,difference,low,high\n"a', ".*"),
        ("glue/comparison.csv", b"\xff", ".*"),
        ("latency.json", '{"format": 3}', "format 3, this version reads 1 and 2"),
        ("latency.json", "{", "damaged .*line 1 column 2.*"),
        ("latency.json", json.dumps(FOREIGN), "format None, .*"),
        (
            "latency.json",
            lambda: json.dumps(latency([measurement("a", 1.0)]) | {"measurements": []}),
            "measurements is empty.*",
        ),
        (
            "latency.json",
            lambda: json.dumps(latency([measurement("a", 1.0)]) | {"models": []}),
            "'a' was measured, but .*",
        ),
        (
            "latency.json",
            lambda: json.dumps(latency([measurement("a", 0.0)])),
            r"measurements\[0\].p50_ms is 0.0, not .*",
        ),
    ],
)
def test_it_is_named_and_the_others_are_reported(file, content, why, project, tmp_path):
    write_run(tmp_path / "runs" / "other", ("student",))
    content = content() if callable(content) else content
    (project / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    found, page = left_out(project, tmp_path)
    assert list(found) == [file]
    assert re.fullmatch(why, found[file])
    words = Page(page).words
    assert {"5.1234", "hard loss of student"} <= {*words}
    for title, place in (("Fine-tuning", "glue/results.jsonl"), ("Latency", "latency.json")):
        assert (f"<h2>{title}</h2>" in page) == (place != file)
    assert "1 file left out" in page


def test_of_a_file_of_lines_the_good_ones_count(project, tmp_path):
    for file in ("ctcd/metrics.jsonl", "ctcd/timing.jsonl", "glue/results.jsonl"):
        lines = (project / file).read_text().splitlines(keepends=True)
        (project / file).write_text("".join([lines[0][:20] + "\n", *lines]))
    found, page = left_out(project, tmp_path)
    assert found == dict.fromkeys(
        ("ctcd/metrics.jsonl", "ctcd/timing.jsonl", "glue/results.jsonl"), found["ctcd/timing.jsonl"]
    )
    whole = make([make_project(tmp_path / "again" / "runs")], tmp_path / "whole")
    sections = [text[text.index("<h2>What ran") : text.index("<h2>To reproduce")] for text in (page, whole)]
    assert sections[0] == sections[1]


def test_damaged_weights_leave_out_the_export_alone(project, models, tmp_path):
    for name in ("student", "teacher"):
        shutil.copytree(models[1], project / name)
    weights = project / "student" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    found, page = left_out(project, tmp_path)
    assert list(found) == ["student/model.safetensors"]
    assert re.fullmatch("damaged .*; export the model again", found["student/model.safetensors"])
    assert "teacher" in [row[0] for row in table(page, "Table of export, layers, hidden, heads, stored parameters, MB")]


def test_another_programs_config_beside_weights_and_metrics_is_still_an_export(project, models, tmp_path):
    shutil.copytree(models[1], project / "trained")
    (project / "trained" / "metrics.jsonl").write_text('{"loss": 1}\n')
    found, page = left_out(project, tmp_path)
    assert list(found) == ["trained/config.json"]
    assert "Exported checkpoints" in page


def test_links_that_lead_nowhere_or_in_a_ring_are_named(project, tmp_path):
    (project / "latency.json").unlink()
    (project / "latency.json").symlink_to(project / "gone.json")
    (project / "glue" / "results.jsonl").unlink()
    (project / "glue" / "results.jsonl").symlink_to(project / "glue" / "results.jsonl")
    (project / "up").symlink_to(project)
    found, _ = left_out(project, tmp_path)
    assert found == {
        "latency.json": "no such file; run `ctcd latency --out` again",
        "glue/results.jsonl": "a link that leads nowhere",
    }


def test_a_directory_that_cannot_be_entered_is_named(project, tmp_path, monkeypatch):
    scan = os.scandir

    def refusing(path):
        if os.path.basename(path) == "glue":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found, page = left_out(project, tmp_path)
    assert found == {"glue": "Permission denied"}
    assert "hard loss of student" in page


def test_only_if_nothing_good_is_left_it_is_an_error(tmp_path, capsys):
    for name in ("a", "b"):
        write_run(tmp_path / name, ("student",))
        (tmp_path / name / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"a/config.json: damaged .* \(and 1 more\); nothing else was found$"):
        collect([tmp_path])
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 2
    said = capsys.readouterr().err.splitlines()[-3:]
    assert [line.partition(":")[0] for line in said] == ["WARNING", "WARNING", "ctcd report"]
    assert not (tmp_path / "report.html").exists()


def test_a_loss_of_nothing_is_a_gap_in_the_curve_and_an_empty_field(tmp_path):
    lines = [metric_line("train", step, ("student",), ()) for step in (10, 20, 30, 40)]
    lines[1]["members"]["student"]["hard"] = None
    write_run(tmp_path / "run", ("student",), lines=lines)
    page = make([tmp_path], tmp_path)
    path = re.findall(r'class="thin" d="([^"]+)"', page)[0]
    assert path.count("M") == 2
    assert "30,5.1" not in path
    assert "student,train,20,%0A" not in page
    assert "run,train,20,%0A" in page


def test_names_that_are_no_utf_8_can_be_reported(tmp_path, capsys):
    name = os.fsdecode(b"caf\xc3\xa9-\xff")
    write_run(tmp_path / name, ("\ud800",))
    page = make([tmp_path], tmp_path)
    assert "café-�" in page
    assert "hard loss of �" in page


BAD = (None, "x", [], -1, float("nan"), 10**400)


def mutations(content):
    """Copies of a JSON value in each of which one value, of lists in the first entry, is another or is not there."""
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, inner in items:
        for bad in (*BAD, KeyError):
            changed = copy.copy(content)
            if bad is KeyError:
                del changed[key]
            else:
                changed[key] = bad
            yield changed
        for changed in mutations(inner):
            yield (
                (copy.copy(content) | {key: changed})
                if isinstance(content, dict)
                else [changed if n == key else other for n, other in enumerate(content)]
            )


REAL = {
    "seed": 0,
    "data": {"corpus": "/d/wiki", "batch_size": 8},
    "train": {"steps": 20},
    "members": {
        name: {"layers": None, "hidden": None, "trainable": True, "hard_weight": 1.0, "init": "hf:x"}
        for name in ("teacher", "student")
    },
    "edges": [
        {"source": "teacher", "target": "student", "weight": 1.0, "temperature": 2.0, "tau_squared": True}
        | {"divergence": "forward_kl", "positions": "masked", "signal": "logits"}
    ],
    "resolved": {
        "steps": 20,
        "models": {
            "teacher": dict.fromkeys(
                ("vocab_size", "layers", "hidden", "heads", "intermediate", "max_positions", "token_types"), 2
            )
        },
    },
}


MANY = [pytest.param(name, marks=pytest.mark.slow) for name in ("config.json", "results.jsonl", "latency.json")]


@pytest.mark.parametrize("file", ["metrics.jsonl", "timing.jsonl", *MANY])
def test_whatever_one_value_of_a_file_is_the_rest_is_reported(file, tmp_path):
    line = metric_line("validation", 20, ("teacher", "student"), (("teacher", "student"),))
    timing = {"step": 20, "seconds": 9.5, "tokens_per_second": 80.0, "mfu": 0.2, "device": "cpu", "devices": 2}
    row = result("student", 0, device="cpu", precision="float32", intermediate=None, weights="aa", dev_rows=9)
    times = latency([measurement("student", 1.0), measurement("student", 2.0, batch_size=2)], student="aa")
    good = {
        "config.json": {"format": 1} | REAL,
        "metrics.jsonl": line,
        "timing.jsonl": timing,
        "results.jsonl": row,
        "latency.json": times | {"onnx_differences": {"student": 1e-6}},
    }
    run = ("config.json", "metrics.jsonl", "timing.jsonl")
    for name in run if file in run else ("results.jsonl", "latency.json"):
        (tmp_path / name).write_text(json.dumps(good[name]) + "\n")
    write_run(tmp_path / "other", ("student",))
    assert "Left out" not in render(collect([tmp_path]))
    for changed in mutations(good[file]):
        (tmp_path / file).write_text(json.dumps(changed) + "\n")
        assert "hard loss of student" in render(collect([tmp_path], warn=lambda _: None)), changed
