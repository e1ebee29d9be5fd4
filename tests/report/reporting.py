"""Artifacts to report on, and what there is to be read off the page."""

import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

from ctcd_jax.report.report import report
from tests.smoke import REAL, varied


def write_run(directory, members, edges=(), lines=None):
    """Writes the real run with these members and edges, and metric lines of round figures."""
    directory.mkdir(parents=True)
    real = REAL["runs/ctcd/config.json"]
    shape = real["resolved"]["models"]["teacher"]
    config = varied(
        real,
        members={name: varied(real["members"]["teacher"], layers=4, hidden=128) for name in members},
        edges=[varied(real["edges"][0], source=a, target=b) for a, b in edges],
        resolved=varied(
            real["resolved"], steps=20, models={name: varied(shape, layers=4, hidden=128) for name in members}
        ),
    )
    (directory / "config.json").write_text(json.dumps(config))
    if lines is None:
        lines = [metric_line(kind, step, members, edges) for step in (10, 20) for kind in ("train", "validation")]
    write_lines(directory / "metrics.jsonl", lines)
    write_lines(directory / "timing.jsonl", [timing_line(step=20, seconds=3725.4, tokens_per_second=8000.0)])


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def metric_line(kind, step, members, edges):
    real = next(line for line in REAL["runs/ctcd/metrics.jsonl"] if line["kind"] == kind)
    member, edge = real["members"]["student"], real["edges"]["teacher->student"]
    return varied(
        real,
        step=step,
        tokens=1000 * step,
        members={name: varied(member, hard=7.1234 - step / 10, accuracy=0.25) for name in members},
        edges={f"{a}->{b}": varied(edge, soft=0.5, soft_t1=0.25) for a, b in edges},
        agreement={"teacher~student": 0.375} if len(members) == 2 else {},
    )


def timing_line(**fields):
    return varied(REAL["runs/ctcd/timing.jsonl"][0], **fields)


def weights_of(model):
    return hashlib.sha256(model.encode()).hexdigest()


def result(model, seed, task="rte", metrics=None, **fields):
    metrics = metrics or {"accuracy": 0.61}
    metric, value = next(iter(metrics.items()))
    scores = {"metric": metric, "value": value, "metrics": metrics, "majority": dict.fromkeys(metrics, 0.53)}
    usual = {"weights": weights_of(model), "hyperparameters": {"epochs": 3}, "seconds": 90.0, "positive": None}
    return varied(
        REAL["glue/results.jsonl"][0], **{"model": model, "seed": seed, "task": task} | scores | usual | fields
    )


def measurement(model, p50, **setting):
    figures = {"p50_ms": p50, "p95_ms": 2 * p50, "speedup": 1.5, "length": 64}
    return varied(REAL["latency.json"]["measurements"][0], **{"model": model} | figures | setting)


def latency(measurements, **weights):
    """The content of a latency.json; `weights` gives models others than `result` does."""
    real = REAL["latency.json"]
    sizes = {"parameters": 4_700_000, "stored_parameters": 5_000_000, "bytes": 20_000_000}
    flops = {"64": 1_700_000, "128": 1_900_000}
    models = [
        varied(
            real["models"][0], name=name, weights=weights.get(name, weights_of(name)), flops_per_token=flops, **sizes
        )
        for name in dict.fromkeys(line["model"] for line in measurements)
    ]
    return varied(real, cpu="Abacus", reference=models[0]["name"], models=models, measurements=measurements)


def evaluation(model, loss, **fields):
    ends = {"loss": loss, "loss_low": loss - 0.1, "loss_high": loss + 0.1}
    own = {"model": model, "path": model, "parameters": model, "shape": "", "weights": weights_of(model), "step": None}
    text = {"corpus": "novels", "corpus_hash": "c0ffee", "rows": 9, "predicted": 90, "unigram_loss": 6.5}
    return {"format": 1, "accuracy": 0.25, "backend": "jax"} | own | text | ends | fields


def pair_score(model, paradigm, correct, pairs=100, **fields):
    own = {"model": model, "path": model, "weights": weights_of(model), "tokenizer": "", "config": "", "unknown": 0}
    own |= {"data": "d", "paradigm": paradigm, "phenomenon": paradigm[0], "pairs": pairs, "correct": correct, "ties": 0}
    return {"format": 1, "backend": "jax"} | own | fields


def make_project(root):
    """Two runs, a results folder and a latency file below `root`, which is returned."""
    write_run(root / "ctcd", ("teacher", "student"), (("teacher", "student"), ("student", "teacher")))
    write_run(root / "alone", ("student",))
    (root / "glue").mkdir()
    write_lines(root / "glue" / "results.jsonl", [result("student", seed) for seed in (0, 1)])
    measured = measurement("student", 42.25, threads=2, batch_size=32)
    (root / "latency.json").write_text(json.dumps(latency([measured])))
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
