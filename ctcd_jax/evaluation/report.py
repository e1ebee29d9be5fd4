"""One HTML page that shows what ran and what came of it, readable without a network: `ctcd report`."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ctcd_jax.evaluation import page
from ctcd_jax.evaluation.artifacts import Artifacts, Run, collect
from ctcd_jax.evaluation.graph import cohort_graph
from ctcd_jax.evaluation.plots import COLOURS, Point, Series, line_chart, scatter
from ctcd_jax.evaluation.table import as_table, reading_notes, summarise

TITLE = "Co-training and co-distillation"


def report(directories: Sequence[Path], out: Path, log: Callable[[str], None] = print) -> Path:
    """Writes a self-contained HTML page on all runs, results, latency files and exports below `directories`.

    The same artifacts give the same bytes: the page bears no date.

    Raises:
      UserError: a directory holds nothing to report, or a file is damaged or of another format.
    """
    artifacts = collect(directories)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(artifacts), encoding="utf-8")
    log(f"{out}: {lead(artifacts)}")
    return out


def render(artifacts: Artifacts) -> str:
    """Returns the page as HTML; sections without anything to show are left out."""
    sections = (_cohorts, _curves, _validation, _fine_tuning, _latency, _exports, _cost, _configs)
    return page.page(TITLE, lead(artifacts), [html for section in sections if (html := section(artifacts))])


def lead(artifacts: Artifacts) -> str:
    """Returns what was found in one sentence."""
    parts = []
    if artifacts.runs:
        parts.append(f"{_count(len(artifacts.runs), 'training run')} ({', '.join(artifacts.runs)})")
    if rows := [row for rows in artifacts.results.values() for row in rows]:
        models, tasks, seeds = (len({row[key] for row in rows}) for key in ("model", "task", "seed"))
        parts.append(f"{_count(models, 'model')} fine-tuned on {_count(tasks, 'task')} from {_count(seeds, 'seed')}")
    if measured := [model for file in artifacts.latencies.values() for model in file["models"]]:
        parts.append(f"the latency of {_count(len(measured), 'model')}")
    if artifacts.exports:
        parts.append(_count(len(artifacts.exports), "exported checkpoint"))
    return f"This page reports {'; '.join(parts)}."


def _cohorts(artifacts: Artifacts) -> str:
    figures = [
        page.figure(name, cohort_graph(f"run{index}", run.config), _setting(run))
        for index, (name, run) in enumerate(artifacts.runs.items())
    ]
    if not figures:
        return ""
    return page.section(
        "What ran",
        page.paragraph(
            "Boxes are models, arrows point from the one that teaches to the one that learns. Dashed: frozen.", "note"
        ),
        page.grid(figures),
    )


def _setting(run: Run) -> str:
    data, train = run.config.get("data", {}), run.config.get("train", {})
    resolved = run.config.get("resolved", {})
    corpus = data.get("corpus")
    steps = resolved.get("steps") or train.get("steps")
    facts = [
        f"preset {run.config['preset']}" if run.config.get("preset") else "",
        f"corpus {Path(corpus).name}" if corpus else "",
        f"{steps:,} steps of {data.get('batch_size')} rows" if steps else "",
        f"seed {run.config['seed']}" if "seed" in run.config else "",
    ]
    return ", ".join(fact for fact in facts if fact)


def _curves(artifacts: Artifacts) -> str:
    runs = artifacts.runs
    families = (
        ("members", "hard", "hard loss of {}", "hard loss (nats)", 0.2),
        ("edges", "soft_t1", "soft loss {}", "soft loss at τ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1 (nats)", 0.0),
        ("agreement", None, "agreement {}", "share with equal argmax", 0.0),
    )
    figures = [
        page.figure(
            title,
            line_chart(f"{group}{index}", title, curves, "step", label, skip_start=skip),
        )
        for group, field, heading, label, skip in families
        for index, key in enumerate(_keys(runs, group, field))
        if (curves := list(_series(runs, group, key, field)))
        for title in [heading.format(_shown(key))]
    ]
    if not figures:
        return ""
    return page.section(
        "Training curves",
        page.paragraph(
            "Thin: training. Bold: validation, with its last value at the right edge. A run is drawn in every panel it "
            "has a value for, in its colour. A hard loss may lie above the frame for the first fifth of the steps.",
            "note",
        ),
        page.legend(list(runs), COLOURS),
        page.grid(figures),
    )


def _keys(runs: Mapping[str, Run], group: str, field: str | None) -> list[str]:
    """Members, edges or pairs that any run has a value for, in the order in which they appear."""
    lines = (line for run in runs.values() for line in run.metrics)
    return list(
        dict.fromkeys(
            key for line in lines for key in line.get(group, {}) if _value(line, group, key, field) is not None
        )
    )


def _series(runs: Mapping[str, Run], group: str, key: str, field: str | None) -> Iterator[Series]:
    for colour, (name, run) in enumerate(runs.items()):
        for kind in ("train", "validation"):
            points = [
                (line["step"], value)
                for line in run.lines(kind)
                if (value := _value(line, group, key, field)) is not None
            ]
            if points:
                yield Series(f"{name}, {kind}", points, colour, bold=kind == "validation")


def _value(line: dict, group: str, key: str, field: str | None) -> float | None:
    """The number under a line's group and key; None if it is absent or, in a run that diverged, not finite."""
    entry = line.get(group, {}).get(key)
    value = entry if field is None or entry is None else entry.get(field)
    return value if value is not None and math.isfinite(value) else None


def _validation(artifacts: Artifacts) -> str:
    columns = (
        (
            "members",
            "member",
            ("hard loss", "accuracy"),
            lambda v: (_fixed(v.get("hard")), _percent(v.get("accuracy"))),
        ),
        (
            "edges",
            "edge",
            ("soft loss", "soft loss at τ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1"),
            lambda v: (_fixed(v.get("soft")), _fixed(v.get("soft_t1"))),
        ),
        ("agreement", "pair", ("agreement",), lambda v: (_percent(v),)),
    )
    last = {name: lines[-1] for name, run in artifacts.runs.items() if (lines := run.lines("validation"))}
    tables = []
    for group, heading, titles, texts in columns:
        keys = dict.fromkeys(key for line in last.values() for key in line.get(group, {}))
        rows = [
            [_shown(key), run, *texts(line[group][key]), f"{line['step']:,}"]
            for key in keys
            for run, line in last.items()
            if key in line.get(group, {})
        ]
        if rows:
            tables.append(page.table([[heading, "run", *titles, "step"], *rows], names=2))
    return page.section("Last validation", *tables) if tables else ""


def _fine_tuning(artifacts: Artifacts) -> str:
    tables = [
        page.table(as_table(summarise(rows)), f"{name}/results.jsonl") + page.paragraph(reading_notes(rows), "note")
        for name, rows in artifacts.results.items()
    ]
    return page.section("Fine-tuning", *tables) if tables else ""


def _latency(artifacts: Artifacts) -> str:
    parts = []
    for name, file in artifacts.latencies.items():
        rows = [["model", "parameters", "MB", "MFLOPs/token", "median ms", "p95 ms", "sequences/s", "speed-up"]]
        rows += [
            [
                model["name"],
                f"{model['parameters'] / 1e6:.2f} M",
                f"{model['bytes'] / 1e6:.1f}",
                f"{model['flops_per_token'] / 1e6:.2f}",
                f"{model['median_ms']:.2f}",
                f"{model['p95_ms']:.2f}",
                f"{model['sequences_per_second']:.0f}",
                f"{model['speedup']:.2f}×",
            ]
            for model in file["models"]
        ]
        note = (
            f"Encoder forward passes in eager float32 PyTorch {file['torch']} on {file['device']} "
            f"({file['threads']} threads): {file['batch_size']} sequences of {file['length']} tokens, "
            f"{file['rounds']} rounds. Speed-up over {file['reference']}: the median of the rounds' ratios."
        )
        parts += [page.table(rows, f"{name}/latency.json"), page.paragraph(note, "note")]
    parts.append(page.grid(list(_quality_figures(artifacts))))
    return page.section("Latency", *parts) if artifacts.latencies else ""


def _quality_figures(artifacts: Artifacts) -> Iterator[str]:
    """One plot for each pair of a results file and a latency file that know a model of the same name."""
    for rows in artifacts.results.values():
        summary = summarise(rows)
        for file in artifacts.latencies.values():
            points = [
                Point(model["name"], model["median_ms"], mean)
                for model in file["models"]
                if model["name"] in summary.models and (mean := summary.mean_of_columns(model["name"])) is not None
            ]
            if points:
                count = len(summary.columns)
                quality = f"mean of {count} metric columns" if count > 1 else " ".join(summary.columns[0])
                title = "Quality against latency"
                svg = scatter(title, points, f"ms per batch of {file['batch_size']}", quality)
                yield page.figure(title, svg, "Up and to the left is better.")


def _exports(artifacts: Artifacts) -> str:
    rows = [["export", "layers", "hidden", "heads", "stored parameters", "MB"]]
    for name, export in artifacts.exports.items():
        shape = [
            str(export.config.get(f"{field}", "–"))
            for field in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        ]
        rows.append([name, *shape, f"{export.parameters / 1e6:.2f} M", f"{export.bytes / 1e6:.1f}"])
    return page.section("Exported checkpoints", page.table(rows)) if artifacts.exports else ""


def _cost(artifacts: Artifacts) -> str:
    rows = [["run", "steps", "tokens", "time", "tokens/s", "MFU"]]
    for name, run in artifacts.runs.items():
        if run.metrics:
            last, timing = run.metrics[-1], run.timing or {}
            rate = timing.get("tokens_per_second")
            rows.append(
                [
                    name,
                    f"{last['step']:,}",
                    f"{last['tokens'] / 1e6:.2f} M",
                    _duration(timing.get("seconds")),
                    "–" if rate is None else f"{rate:,.0f}",
                    _percent(timing.get("mfu")),
                ]
            )
    return page.section("Cost", page.table(rows)) if len(rows) > 1 else ""


def _configs(artifacts: Artifacts) -> str:
    texts = [
        page.collapsed(f"config.json of {name}", json.dumps(run.config, indent=2, ensure_ascii=False))
        for name, run in artifacts.runs.items()
    ]
    return page.section("To reproduce", *texts) if texts else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shown(key: str) -> str:
    return key.replace("->", " → ").replace("~", " ~ ")


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
