"""What differs between runs, the lines to hold curves against, corpora, and what models know without fine-tuning."""

import json
import re
import shutil

from ctcd_jax.artifacts.samples import write_samples
from tests.report.reporting import (
    Page,
    downloads,
    evaluation,
    latency,
    make,
    measurement,
    metric_line,
    pair_score,
    table,
    write_lines,
    write_run,
)
from tests.smoke import REAL


def change(path, **fields):
    """Changes sections of a run's config.json: {section: {field: value}}."""
    config = json.loads((path / "config.json").read_text())
    for section, values in fields.items():
        config[section] = config[section] | values if isinstance(values, dict) else values
    (path / "config.json").write_text(json.dumps(config))


def test_of_the_configs_of_runs_only_what_differs_is_shown(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "a", ("teacher", "student"), (("teacher", "student"),))
    write_run(runs / "b", ("student",))
    change(runs / "b", seed=7, optimizer={"clip_norm": None}, data={"corpus": "elsewhere/corpus"})
    assert table(make([runs], tmp_path), "Fields of config.json") == [
        ["field", "a", "b"],
        ["members", "teacher, student", "student"],
        ["edges", "teacher → student", "none"],
        ["seed", "0", "7"],
        ["optimizer.\u200bclip_norm", f"{REAL['runs/ctcd/config.json']['optimizer']['clip_norm']:g}", "None"],
    ]


def test_many_runs_stand_in_rows_and_equal_ones_are_said_to_be(tmp_path):
    runs = tmp_path / "runs"
    for seed in range(5):
        write_run(runs / f"run-{seed}", ("student",))
    assert "Nothing: the configs of the 5 runs are the same." in Page(make([runs], tmp_path)).words
    for seed in range(5):
        change(runs / f"run-{seed}", seed=seed)
    html = make([runs], tmp_path)
    assert table(html, "Fields of config.json") == [["run", "seed"], *([f"run-{n}", f"{n}"] for n in range(5))]
    assert downloads(html)["differences-of-configs.csv"][1] == ["run-0", "0"]
    assert "What differs" not in make([runs / "run-0"], tmp_path / "one")


def test_curves_have_word_frequencies_beside_them_and_a_ring_at_the_best_step(tmp_path):
    lines = [metric_line(kind, step, ("student",), ()) for step in (10, 20, 30) for kind in ("train", "validation")]
    for line, loss in zip(lines, (6.2, 6.1, 5.4, 5.5, 4.0, 5.8), strict=True):
        line["members"]["student"]["hard"] = loss
        if line["kind"] == "validation":
            line["unigram"] = 6.42
    write_run(tmp_path / "runs" / "a", ("student",), lines=lines)
    html = make([tmp_path / "runs"], tmp_path)
    panel = html[html.index("<h3>hard loss of student</h3>") :].split("</figure>")[0]
    assert re.findall("<title>(a, [^<]* at [^<]*)</title>", panel) == ["a, validation: 5.500 at 20"]
    assert panel.count('class="level"') == panel.count("word frequencies: 6.420") == 1
    # Level line and ring stand where the axes have their values.
    ticks = {
        float(value): float(y) - 4 for y, value in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)</text>', panel)
    }
    (low, low_y), (high, high_y) = min(ticks.items()), max(ticks.items())
    for value, pattern in ((6.42, r'class="level" d="M70 ([\d.]+)H'), (5.5, r'class="ring" cx="[\d.]+" cy="([\d.]+)"')):
        (y,) = re.findall(pattern, panel)
        assert abs(float(y) - (low_y + (value - low) / (high - low) * (high_y - low_y))) < 0.2
    assert html.count('class="ring"') == 1  # not of accuracy
    assert "A ring marks the lowest validation loss of a curve that ends higher." in " ".join(Page(html).words)


def test_corpora_are_known_by_their_sources(smoke, tmp_path):
    html = make([smoke.root / "runs", smoke.root / "student"], tmp_path)
    manifest = smoke.read("runs/ctcd/provenance.json")["corpus"]
    train, validation = manifest["splits"]["train"], manifest["splits"]["validation"]
    digest = REAL["runs/ctcd/config.json"]["resolved"]["corpus_hash"]
    counts = [f"{split[count]:,}" for split in (train, validation) for count in ("rows", "tokens")]
    assert table(html, "Corpora")[1:] == [["corpus", "text: text.txt", *counts, "150", digest[:12]]]
    assert table(html, "Their sources: what was read, and sentences kept")[1:] == [
        ["corpus", "text: text.txt", "120", "1,200", "1,200"]
    ]
    expected = f"corpus corpus (text: text.txt; {train['tokens']:,} tokens), 4 steps of 8 rows, seed 0"
    assert expected in Page(html).words
    # An export alone knows them, too.
    alone = make([smoke.root / "student"], tmp_path / "alone")
    assert table(alone, "Corpora")[1][1:] == ["text: text.txt", *counts, "150", digest[:12]]


def sample(guesses, tokens=("the", "[MASK]", "sleep", "##s")):
    hidden = {"position": 1, "token": "cat", "guesses": [{"token": word, "probability": p} for word, p in guesses]}
    return {"row": 3, "tokens": list(tokens), "hidden": [hidden]}


def test_exports_of_a_corpus_answer_side_by_side(smoke, tmp_path):
    root = tmp_path / "exports"
    answers = {"student": [("dog", 0.5), ("cat", 0.25)], "teacher": [("cat", 0.9), ("<b>", 0.05)]}
    for name, guesses in answers.items():
        shutil.copytree(smoke.root / name, root / name)
        write_samples(root / name, {"format": 1, "corpus_hash": "c0ffee", "rows": [sample(guesses)] * 4})
    html = make([root], tmp_path)
    (line,) = table(html, "Row 3: the [1] sleeps")[1:]
    assert line == [
        "[1] cat",
        '<ol class="ranked"><li>dog 50.0 %</li><li><b>cat 25.0 %</b></li></ol>',
        '<ol class="ranked"><li><b>cat 90.0 %</b></li><li>&lt;b&gt; 5.0 %</li></ol>',
    ]
    assert "1 more sentence" in Page(html).words
    assert downloads(html)["samples-c0ffee.csv"][:2] == [
        ["row", "place", "hidden", "model", "rank", "token", "probability"],
        ["3", "1", "cat", "student", "1", "dog", "0.5"],
    ]
    # Of an export that hides other words there is nothing beside the others; a damaged file is named.
    other = sample(answers["teacher"], ("a", "[MASK]", "sleep", "##s"))
    write_samples(root / "teacher", {"format": 1, "corpus_hash": "c0ffee", "rows": [other]})
    assert table(make([root], tmp_path), "Row 3: the [1] sleeps")[1][2] == "–"
    (root / "teacher" / "samples.json").write_text("[]")
    warned = []
    assert "Row 3" in make([root], tmp_path, warned.append)
    assert [line.split(": left out: ")[0] for line in warned] == [str(root / "teacher" / "samples.json")]


def test_held_out_text_of_every_corpus_is_shown(tmp_path):
    (tmp_path / "text").mkdir()
    wiki = {"corpus": "wiki", "corpus_hash": "beef", "unigram_loss": 7.0}
    write_lines(tmp_path / "text" / "evaluation.jsonl", [evaluation("a", 5.0), evaluation("a", 6.95, **wiki)])
    lines = [metric_line("validation", 20, ("student",), ()) | {"unigram": 6.0}]
    lines[0]["corpora"] = {"news": {"unigram": 6.5, "members": {"student": {"hard": 6.6, "accuracy": 0.1}}}}
    write_run(tmp_path / "text" / "run", ("student",), lines=lines)
    html = make([tmp_path / "text"], tmp_path)
    found = html[html.index("<h3>text/evaluation.jsonl") :]
    rows = table(found, re.findall('<table aria-label="([^"]+)"', found)[0])
    assert [[*row[:5], *row[7:]] for row in rows[1:]] == [
        ["a", "novels", "5.0000", "4.9000", "5.1000", "6.5000", "–"],
        ["a", "wiki", "6.9500", "6.8500", "7.0500", "7.0000", "no better than word frequencies"],
    ]
    assert table(html, "Further corpora at the last validation of the runs")[1:] == [
        ["run#student", "news", "6.6000", "735.1", "10.00 %", "6.5000", "no better than word frequencies"]
    ]


def test_minimal_pairs_are_shown_by_phenomenon_and_chance_is_called_so(tmp_path):
    (tmp_path / "pairs").mkdir()
    scores = {"binding1": 90, "binding2": 70, "islands1": 52}
    lines = [pair_score("a", paradigm, correct) for paradigm, correct in scores.items()]
    write_lines(tmp_path / "pairs" / "probe.jsonl", lines)
    html = make([tmp_path / "pairs"], tmp_path)
    rows = {row[0]: row[1] for row in table(html, "Table of phenomenon, a")[1:]}
    assert rows["overall"].startswith("70.7 [")
    assert rows["b"].startswith("80.0 [")
    assert rows["i"] == "52.0 [42.3, 61.5], at chance"
    assert float(downloads(html)["pairs-minimal-pairs.csv"][1][2]) == (0.9 + 0.7 + 0.52) / 3


def test_what_the_console_called_unsteady_the_page_does_too(tmp_path):
    lines = [measurement("a", 4.0, p95_ms=8.0), measurement("b", 2.0, p95_ms=4.5)]
    (tmp_path / "latency.json").write_text(json.dumps(latency(lines)))
    html = make([tmp_path], tmp_path)
    rows = table(html, "Latency, CPU, 1 thread, eager PyTorch, float32, batch 1, length 64")
    assert [(row[0], row[-1]) for row in rows] == [("model", "steady"), ("a", "yes"), ("b", "unsteady")]
    assert "Unsteady: 1 of 2 measurements" in " ".join(Page(html).words)
    steady = [measurement("a", 4.0, p95_ms=8.0)]
    (tmp_path / "latency.json").write_text(json.dumps(latency(steady)))
    assert "nsteady" not in make([tmp_path], tmp_path / "steady")


def test_of_many_runs_equal_cohorts_are_drawn_once_and_the_page_stays_small(tmp_path):
    members, edges = ("teacher", "student"), (("teacher", "student"), ("student", "teacher"))
    lines = [metric_line("train", step, members, edges) for step in range(1, 101)]
    lines += [metric_line("validation", step, members, edges) | {"unigram": 6.4} for step in range(10, 101, 10)]
    for number in range(40):
        run = tmp_path / "runs" / f"run-{number:02}"
        write_run(run, members[number < 4 :], edges if number >= 4 else (), lines)
        change(run, seed=number)
    html = make([tmp_path / "runs"], tmp_path)
    assert len(html.encode()) < 5_000_000  # and no more for more lines: of every curve 80 points are kept
    assert html.count('class="cohort"') == 2
    titles = re.findall("<h3>(.*?)</h3>", html[html.index("<h2>What ran") : html.index("<h2>Training curves")])
    assert titles == ["run-00 and 3 more", "run-04 and 35 more"]
    captions = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert captions[0].endswith("20 steps of 8 rows")  # the seeds differ
    assert "run-07 and 32 more" in lead_of(html)
    assert len(table(html, "Fields of config.json")) == 41
    for legend in re.findall('<ul class="legend">(.*?)</ul>', html):
        assert legend.count("<li>") <= 8


def lead_of(html):
    return next(word for word in Page(html).words if word.startswith("This page reports"))


def test_both_backends_of_an_evaluation_are_told_apart(tmp_path):
    (tmp_path / "text").mkdir()
    lines = [evaluation("a", 5.0), evaluation("a", 5.0, backend="torch")]
    write_lines(tmp_path / "text/evaluation.jsonl", lines)

    def shown():
        html = make([tmp_path / "text"], tmp_path)
        found = html[html.index("<h3>text/evaluation.jsonl") :]
        return table(found, re.findall('<table aria-label="([^"]+)"', found)[0])

    head, *body = shown()
    assert [row[head.index("backend")] for row in body] == ["jax", "torch"]
    write_lines(tmp_path / "text/evaluation.jsonl", lines[:1])
    assert "backend" not in shown()[0]


def test_a_run_that_ended_early_and_one_that_overfits_are_said(tmp_path):
    lines = [
        metric_line(kind, step, ("student",), ()) for step in range(10, 70, 10) for kind in ("train", "validation")
    ]
    for line in lines:  # the training loss falls as it does, and the validation loss rises
        line["members"]["student"]["hard"] += (line["kind"] == "validation") * line["step"] / 5
    write_run(tmp_path / "alone", ("student",), lines=lines)
    path = tmp_path / "alone/config.json"
    config = json.loads(path.read_text())
    config["train"] |= {"early_stopping": 50, "keep_best": "student"}
    config["resolved"]["steps"], config["edges"] = 1500, None
    path.write_text(json.dumps(config))
    assert "ended early" not in make([tmp_path / "alone"], tmp_path)  # it is going on
    config["train"]["early_stopping"] = 5
    path.write_text(json.dumps(config))
    html = make([tmp_path / "alone"], tmp_path)
    assert "60 of 1,500 steps (ended early)" in html
    assert "alone: &#x27;student&#x27; overfits: from step 10 to 40 its validation loss rose" in html
    assert "members that teach each other" in html
