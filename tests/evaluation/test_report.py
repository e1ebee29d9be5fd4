import json
import re
from html.parser import HTMLParser

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation import page
from ctcd_jax.evaluation.artifacts import collect
from ctcd_jax.evaluation.report import report


def write_run(directory, members, edges=(), lines=None):
    directory.mkdir(parents=True)
    config = {"format": 1, "seed": 0, "data": {"corpus": "/d/wiki", "batch_size": 64}, "train": {"steps": 20}}
    config["members"] = {name: {"layers": 4, "hidden": 128, "trainable": True} for name in members}
    config["edges"] = [{"source": a, "target": b, "weight": 1.0} for a, b in edges]
    (directory / "config.json").write_text(json.dumps(config))
    if lines is None:
        lines = [metric_line(kind, step, members, edges) for step in (10, 20) for kind in ("train", "validation")]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    timing = {"step": 20, "seconds": 3725.4, "tokens_per_second": 8000.0, "mfu": None}
    (directory / "timing.jsonl").write_text(json.dumps(timing) + "\n")


def metric_line(kind, step, members, edges):
    return {
        "kind": kind,
        "step": step,
        "tokens": 1000 * step,
        "members": {name: {"hard": 7.1234 - step / 10, "accuracy": 0.25} for name in members},
        "edges": {f"{a}->{b}": {"soft": 0.5, "soft_t1": 0.25} for a, b in edges},
        "agreement": {"teacher~student": 0.375} if len(members) == 2 else {},
    }


@pytest.fixture
def project(tmp_path, models):
    root = tmp_path / "runs"
    write_run(root / "ctcd", ("teacher", "student"), (("teacher", "student"), ("student", "teacher")))
    write_run(root / "alone", ("student",))
    (root / "glue").mkdir()
    result = {
        "format": 1,
        "task": "rte",
        "metrics": {"accuracy": 0.61},
        "majority_share": 0.53,
        "hyperparameters": {"epochs": 3},
    }
    lines = [{**result, "model": "student", "seed": seed} for seed in (0, 1)]
    (root / "glue" / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
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


def make(directories, tmp_path):
    return report(directories, tmp_path / "out" / "report.html", log=lambda line: None).read_text(encoding="utf-8")


def test_the_page_shows_everything_found(project, models, tmp_path):
    words = [word.strip() for word in Page(make([project, models[1]], tmp_path)).words]
    for expected in (
        "5.1234",  # hard loss at the last validation
        "25.00 %",
        "0.2500",  # soft loss at temperature 1
        "37.50 %",  # agreement
        "61.00 ± 0.00",
        "53.00",  # majority class
        "42.25",
        "1.50×",
        "1:02:05",  # 3,725 seconds
        "0.02 M",  # tokens
        "hard loss of student",
        "soft loss teacher → student",
        "Quality against latency",
        "config.json of ctcd",
        "Exported checkpoints",
    ):
        assert expected in words, expected
    assert any(word.startswith("This page reports 2 training runs (alone, ctcd); 1 model fine-tuned") for word in words)


def test_runs_with_the_same_member_share_a_panel(project, tmp_path):
    html = make([project], tmp_path)
    panel = html[html.index("<h3>hard loss of student</h3>") :].split("</figure>")[0]
    curves = re.findall(r"<title>(.*?)</title>", panel)
    assert sorted(curves) == ["alone, train", "alone, validation", "ctcd, train", "ctcd, validation"]


def test_the_page_needs_no_network_and_is_accessible(project, tmp_path):
    for tag, attributes in Page(make([project], tmp_path)).tags:
        assert tag not in ("script", "link", "img", "iframe")
        assert not {"src", "href"} & set(attributes)
        assert tag != "th" or attributes["scope"] in ("row", "col")
        assert tag != "svg" or (attributes["role"] == "img" and attributes["aria-label"])
    html = make([project], tmp_path)
    assert "http" not in html
    assert "@import" not in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_the_same_artifacts_give_the_same_bytes(project, tmp_path):
    assert make([project], tmp_path / "a") == make([project], tmp_path / "b")


def test_text_from_files_is_escaped(tmp_path):
    write_run(tmp_path / "<i>run", ("<b>&",))
    html = make([tmp_path], tmp_path)
    assert "<b>&" not in html
    assert "<i>run" not in html
    assert "hard loss of &lt;b&gt;&amp;" in html


def test_cells_of_tables_are_escaped():
    html = page.table([["<a>", "<b>"], ["<c>", "<d>"]], caption="<e>")
    assert re.findall(r"&lt;(.)&gt;", html) == ["e", "a", "b", "c", "d"]


def test_a_run_that_has_only_begun_is_shown_without_curves(tmp_path):
    write_run(tmp_path / "run", ("student",), lines=[])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # torn: still being written
    html = make([tmp_path], tmp_path)
    assert "What ran" in html
    assert "Training curves" not in html


def test_a_loss_that_is_no_number_is_left_out_of_the_curve(tmp_path):
    lines = [metric_line("train", step, ("student",), ()) for step in (10, 20, 30)]
    lines[-1]["members"]["student"]["hard"] = float("nan")
    write_run(tmp_path / "run", ("student",), lines=lines)
    assert "nan" not in re.findall(r'class="thin" d="([^"]+)"', make([tmp_path], tmp_path))[0]


def test_checkpoints_are_not_searched_and_overlaps_count_once(project):
    write_run(project / "ctcd" / "checkpoints" / "old", ("student",))
    assert list(collect([project, project / "ctcd"]).runs) == ["alone", "ctcd"]


def test_what_cannot_be_reported_is_named(project, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty: nothing to report"):
        collect([project, empty])
    with pytest.raises(UserError, match="no such directory"):
        collect([tmp_path / "nowhere"])
    (project / "latency.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"latency\.json: format 2"):
        collect([project])
    (project / "latency.json").write_text("{")
    with pytest.raises(UserError, match=r"latency\.json:1: not JSON"):
        collect([project])
