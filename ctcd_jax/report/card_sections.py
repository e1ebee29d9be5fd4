"""The measured part of a model card: fine-tuned scores and latency as Markdown, and scores as the hub reads them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ctcd_jax.artifacts.baselines import NO_BASELINES, TaskBaselines
from ctcd_jax.artifacts.latency import RUNTIMES, Latency, LatencyModel, Measurement
from ctcd_jax.artifacts.results import Result
from ctcd_jax.evaluation.tables.selection import applied_note, selected, settings_note, settings_table
from ctcd_jax.evaluation.tables.summary import (
    BAG_OF_WORDS_NOTE,
    MAJORITY_NOTE,
    Summary,
    average_titles,
    cell_text,
    column_title,
    summarise,
    task_title,
)
from ctcd_jax.evaluation.tasks.tasks import TASKS
from ctcd_jax.text_tables import counted, markdown, number_text

# Our metric: (the hub's id, what people call it).
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "accuracy_mismatched": ("accuracy", "Accuracy"),
    "f1": ("f1", "F1"),
    "f1_macro": ("f1", "macro-F1"),
    "matthews": ("matthews_correlation", "Matthews correlation"),
    "pearson": ("pearsonr", "Pearson correlation"),
    "spearman": ("spearmanr", "Spearman correlation"),
}
_MANY = 8


@dataclass(frozen=True)
class Timing:
    """One model of a latency.json of format 2: the file's content, the model's entry and its measurements."""

    content: Latency
    model: LatencyModel
    rows: list[Measurement]


def scores_section(rows: Sequence[Result], baselines: Mapping[str, TaskBaselines] = NO_BASELINES) -> str:
    """Returns the fine-tuned scores of one model.

    Args:
      rows: lines of results.jsonl, all of this model.
      baselines: by task; they count where they are of the examples of the lines.
    """
    summary = summarise(rows, baselines)
    (model,) = summary.models
    cells, beside = summary.models[model], summary.baselines
    shown = [["metric", "score", "seeds", *beside]]
    for column in summary.columns:
        figures = [f"{values[column]:.2f}" if column in values else "" for values in beside.values()]
        shown.append([column_title(*column), cell_text(cells[column]), str(cells[column].seeds), *figures])
    means = summary.mean_of_columns(model), summary.mean_over_tasks(model)  # of its own columns, so they are there
    for title, mean in zip(average_titles(summary.averaged), cast("tuple[float, float]", means), strict=True):
        shown.append([f"**{title}**", f"**{number_text(mean)}**", "", *([""] * len(beside))])
    parts = [f"### Fine-tuned\n\n{_score_notes(rows, summary)}", markdown(shown)]
    if taken := settings_table(rows):
        heads, values = taken[0][1:], taken[1][1:]
        parts.append("\n".join(f"* {task_title(task)}: {text}" for task, text in zip(heads, values, strict=True)))
    return "\n\n".join(parts)


def model_index_results(rows: Sequence[Result]) -> list[dict]:
    """Returns the scores on GLUE's development sets as `results` of the hub's model-index, fractions in [-1, 1]."""
    if not rows:
        return []
    summary = summarise(rows)
    (cells,) = summary.models.values()
    # A folder of GLUE's name with another number of rows is other data.
    glue = {row["task"] for row in rows if row["task"] in TASKS and row.get("dev_rows") == TASKS[row["task"]].rows[1]}
    results: dict[tuple[str, str], dict] = {}
    for (task, metric), cell in cells.items():
        if task not in glue:
            continue
        split = "validation"
        if task == "mnli":
            split += "_mismatched" if metric == "accuracy_mismatched" else "_matched"
        result = results.setdefault(
            (task, split),
            {
                "task": {"type": "text-classification", "name": "Text Classification"},
                "dataset": {"type": "nyu-mll/glue", "name": f"GLUE {task_title(task)}", "config": task, "split": split},
                "metrics": [],
            },
        )
        kind, title = _METRICS.get(metric, (metric, metric))
        name = [title, f"mean of {cell.seeds} seeds" if cell.seeds > 1 else "one seed"]
        if cell.deviation is not None:
            name.append(f"standard deviation {cell.deviation / 100:.4f}")
        if _settings(rows, task) > 1:
            name.append("setting selected on this split")
        result["metrics"].append({"type": kind, "value": round(cell.mean / 100, 4), "name": ", ".join(name)})
    return list(results.values())


def latency_section(timings: Sequence[Timing]) -> str:
    """Returns what the model costs to serve."""
    return "\n\n".join(["### Latency", *(part for timing in timings for part in _timing(timing))])


def _score_notes(rows: Sequence[Result], summary: Summary) -> str:
    spread = ", mean ± sample standard deviation over seeds" if summary.seeds > 1 else ""
    notes = [f"Development sets, in per cent{spread}.", settings_note(rows), *applied_note(rows)]
    chosen = selected(rows)
    intermediates = {row["task"]: on for row in chosen if (on := row.get("intermediate"))}
    notes += [
        f"{task_title(task)} started from the model as fine-tuned on {task_title(on)}."
        for task, on in intermediates.items()
    ]
    if outside := [column_title(*column) for column in summary.columns if column not in summary.averaged]:
        notes.append(f"In neither average: {', '.join(outside)}.")
    if summary.majority:
        notes.append(MAJORITY_NOTE)
    if summary.bag_of_words:
        notes.append(BAG_OF_WORDS_NOTE)
    devices = {(row["device"], row["precision"]): None for row in chosen if {"device", "precision"} <= row.keys()}
    where = [f"{'a CPU' if device == 'cpu' else device} in {precision}" for device, precision in devices]
    if where:
        notes.append(f"Run on {', '.join(where)}.")
    return " ".join(notes)


def _settings(rows: Sequence[Result], task: str) -> int:
    kinds = ([row["hyperparameters"], row.get("intermediate")] for row in rows if row["task"] == task)
    return len({json.dumps(kind, sort_keys=True) for kind in kinds})


def _timing(timing: Timing) -> Iterator[str]:
    content, model = timing.content, timing.model
    first = next((row for row in timing.rows if row["runtime"] == "eager"), timing.rows[0])
    flops = ", ".join(f"{flops / 1e6:.2f} (length {length})" for length, flops in model["flops_per_token"].items())
    yield (
        f"The encoder, without head and pooler: {model['parameters']:,} parameters; MFLOPs a token: {flops}. "
        f"PyTorch {content['torch']}, medians of {content['rounds']} interleaved rounds."
    )
    batch = f"{counted(first['batch_size'], 'sequence')} of {first['length']} tokens"
    yield (
        f"**{first['p50_ms']:.2f} ms** a batch (p95 {first['p95_ms']:.2f} ms), "
        f"**{first['sequences_per_second']:,.0f} sequences/s**: {batch}, {_place(content, first)}, "
        f"{RUNTIMES.get(first['runtime'], first['runtime'])}, {first['dtype']}."
    )
    if len(timing.rows) > 1:
        shown = _timing_table(timing)
        if len(timing.rows) > _MANY:
            shown = f"<details><summary>All {len(timing.rows)} measurements</summary>\n\n{shown}\n\n</details>"
        yield shown
    difference = content.get("onnx_differences", {}).get(model["name"])
    if difference is not None:
        yield f"ONNX Runtime's outputs differ from PyTorch's by {difference:.1e} at most."


def _timing_table(timing: Timing) -> str:
    reference = timing.content["reference"]
    compared = reference != timing.model["name"]
    heads = ["on", "runtime", "dtype", "batch", "length", "p50 ms", "p95 ms", "sequences/s"]
    shown = [heads + ([f"speed-up over `{reference}`"] if compared else [])]
    for row in timing.rows:
        line = [
            _place(timing.content, row),
            RUNTIMES.get(row["runtime"], row["runtime"]),
            row["dtype"],
            str(row["batch_size"]),
            str(row["length"]),
        ]
        line += [f"{row['p50_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['sequences_per_second']:,.0f}"]
        speedup = "–" if row["speedup"] is None else f"{row['speedup']:.2f}"
        shown.append(line + ([speedup] if compared else []))
    return markdown(shown, names=3)


def _place(content: Latency, row: Measurement) -> str:
    device = content.get("cpu", "CPU") if row["device"] == "cpu" else row["device"]
    threads = row["threads"]
    return device if threads is None else f"{device}, {counted(threads, 'thread')}"
