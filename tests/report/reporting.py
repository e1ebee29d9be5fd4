"""Artifacts to report on, and what there is to be read off the page."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

from ctcd_jax.report.report import report


def write_run(directory, members, edges=(), lines=None):
    directory.mkdir(parents=True)
    config = {"format": 1, "seed": 0, "data": {"corpus": "/d/wiki", "batch_size": 64}, "train": {"steps": 20}}
    config["members"] = {name: {"layers": 4, "hidden": 128, "trainable": True} for name in members}
    config["edges"] = [{"source": a, "target": b, "weight": 1.0} for a, b in edges]
    (directory / "config.json").write_text(json.dumps(config))
    if lines is None:
        lines = [metric_line(kind, step, members, edges) for step in (10, 20) for kind in ("train", "validation")]
    write_lines(directory / "metrics.jsonl", lines)
    write_lines(directory / "timing.jsonl", [{"step": 20, "seconds": 3725.4, "tokens_per_second": 8000.0, "mfu": None}])


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def metric_line(kind, step, members, edges):
    return {
        "kind": kind,
        "step": step,
        "tokens": 1000 * step,
        "members": {name: {"hard": 7.1234 - step / 10, "accuracy": 0.25} for name in members},
        "edges": {f"{a}->{b}": {"soft": 0.5, "soft_t1": 0.25} for a, b in edges},
        "agreement": {"teacher~student": 0.375} if len(members) == 2 else {},
    }


def result(model, seed, task="rte", **fields):
    scores = {"metrics": {"accuracy": 0.61}, "majority_share": 0.53, "hyperparameters": {"epochs": 3}, "seconds": 90.0}
    row = {"format": 1, "model": model, "task": task, "seed": seed, **scores, **fields}
    return {"metric": next(iter(row["metrics"])), "value": next(iter(row["metrics"].values())), **row}


def measurement(model, p50, **setting):
    usual = {"device": "cpu", "threads": 1, "runtime": "eager", "dtype": "float32", "batch_size": 1, "length": 64}
    figures = {"p50_ms": p50, "p95_ms": 2 * p50, "speedup": 1.5, "sequences_per_second": 10.0}
    return {"model": model, **usual, **figures, "tokens_per_second": 640.0, **setting}


def latency(measurements, **weights):
    """The content of a latency.json of format 2; `weights` gives the models theirs."""
    models = [
        {"name": name, "path": name, "parameters": 4_700_000, "stored_parameters": 5_000_000, "bytes": 20_000_000}
        | {"flops_per_token": {"64": 1_700_000, "128": 1_900_000}}
        | ({"weights": weights[name]} if name in weights else {})
        for name in dict.fromkeys(line["model"] for line in measurements)
    ]
    general = {"format": 2, "torch": "2.13", "cpu": "Abacus", "rounds": 5, "reference": models[0]["name"]}
    return {**general, "models": models, "measurements": measurements, "onnx_differences": {}}


def make_project(root):
    """Two runs, a results folder and a latency file of format 1 below `root`, which is returned."""
    write_run(root / "ctcd", ("teacher", "student"), (("teacher", "student"), ("student", "teacher")))
    write_run(root / "alone", ("student",))
    (root / "glue").mkdir()
    write_lines(root / "glue" / "results.jsonl", [result("student", seed) for seed in (0, 1)])
    measured = {
        "name": "student",
        "parameters": 4_700_000,
        "bytes": 19_000_000,
        "flops_per_token": 1_700_000,
        "median_ms": 42.25,
        "p95_ms": 50.0,
        "sequences_per_second": 760.0,
        "speedup": 1.5,
    }
    setting = {"device": "cpu", "threads": 2, "torch": "2.13", "batch_size": 32, "length": 64, "rounds": 5}
    latency = {"format": 1, **setting, "reference": "student", "models": [measured]}
    (root / "latency.json").write_text(json.dumps(latency))
    return root


class Page(HTMLParser):
    """Checks that tags are balanced and gathers text, tags and attributes."""

    VOID = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def downloads(html):
    """{name: rows of the CSV, header first}."""
    links = [attributes for tag, attributes in Page(html).tags if tag == "a" and "download" in attributes]
    texts = {link["download"]: unquote(link["href"].removeprefix("data:text/csv;charset=utf-8,")) for link in links}
    assert len(texts) == len(links)
    return {name: list(csv.reader(io.StringIO(text))) for name, text in texts.items()}


def table(html, label):
    """The cells of a table, by rows."""
    body = html[html.index(f'<table aria-label="{label}"') :].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", body)]
    assert rows
    return rows


def refuse(text):
    raise AssertionError(text)


def make(directories, tmp_path, warn=refuse):
    out = report(directories, tmp_path / "out" / "report.html", log=lambda line: None, warn=warn)
    return out.read_text(encoding="utf-8")
