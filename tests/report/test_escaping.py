"""Text from files is text on the page, wherever it stands."""

import json
import shutil

from ctcd_jax.artifacts.collect import collect
from ctcd_jax.artifacts.samples import write_samples
from ctcd_jax.report.report import SECTIONS, render
from tests.report.reporting import (
    Page,
    evaluation,
    latency,
    measurement,
    metric_line,
    pair_score,
    result,
    write_lines,
    write_run,
)
from tests.smoke import REAL, varied

EVIL = "\"'><evil>&amp;"


def test_hostile_names_and_values_are_text_in_every_section(models, smoke, tmp_path):
    root = tmp_path / "runs"
    edges = ((EVIL, "b"), ("b", EVIL))
    lines = [metric_line(kind, step, (EVIL, "b"), edges) for kind in ("train", "validation") for step in (1, 2)]
    write_run(root / EVIL, (EVIL, "b"), edges, [line | {"agreement": {f"{EVIL}~b": 0.5}} for line in lines])
    write_lines(root / EVIL / "timing.jsonl", [{"step": 2, "seconds": 9.5, "device": EVIL, "devices": 2}])
    write_run(root / f"{EVIL}-other", (EVIL,))
    corpus = REAL["runs/ctcd/provenance.json"]["corpus"]
    corpus = varied(corpus, sources=[varied(corpus["sources"][0], source=f"text:{EVIL}")])
    (root / EVIL / "provenance.json").write_text(json.dumps({"format": 1, "corpus": corpus}))
    write_lines(root / f"{EVIL}-other" / "evaluation.jsonl", [evaluation(EVIL, 5.0, corpus=EVIL)])
    write_lines(root / f"{EVIL}-other" / "probe.jsonl", [pair_score(EVIL, EVIL, 50)])
    write_run(root / f"{EVIL}-broken", ("a",))
    (root / f"{EVIL}-broken" / "config.json").write_text(json.dumps({"format": 1, "members": EVIL}))
    shutil.copytree(models[1], root / f"{EVIL}-export")
    made = shutil.copytree(smoke.root / "student", root / f"{EVIL}-made")
    hidden = {"position": 0, "token": EVIL, "guesses": [{"token": EVIL, "probability": 0.5}]}
    write_samples(made, {"format": 1, "corpus_hash": "", "rows": [{"row": 0, "tokens": [EVIL], "hidden": [hidden]}]})
    scores = root / f"{EVIL}-glue"
    scores.mkdir()
    rows = [result(EVIL, seed, task, device=EVIL, precision=EVIL) for seed in (0, 1) for task in ("rte", EVIL)]
    write_lines(scores / "results.jsonl", rows)
    (scores / f"cells/{EVIL}/{EVIL}/seed-2").mkdir(parents=True)
    (scores / f"cells/{EVIL}/{EVIL}/seed-2/failed").write_text(EVIL)
    (scores / "comparison.csv").write_text('task,model\n"""\'><evil>","""\'><evil>"\n')
    setting = {"device": EVIL, "runtime": EVIL, "dtype": EVIL, "threads": None}
    times = latency([measurement(EVIL, 1.0, **setting), measurement(EVIL, 2.0, **setting, batch_size=2)])
    times |= {"cpu": EVIL, "torch": EVIL, "left_out": [{"model": EVIL, "runtime": EVIL, "reason": EVIL}]}
    (root / f"{EVIL}-times").mkdir()
    (root / f"{EVIL}-times" / "latency.json").write_text(json.dumps(times))

    artifacts = collect([root], warn=lambda _: None)
    assert "evil" not in {tag for tag, _ in Page(render(artifacts)).tags}
    for title, section in SECTIONS.items():
        found = Page("".join(section(artifacts)))
        assert "evil" not in {tag for tag, _ in found.tags}, title
        assert any("<evil>" in text for text in found.words), title
