"""What it took: steps, tokens, hours and devices; and what it takes to do it again."""

import json
import statistics
from collections.abc import Iterable, Mapping

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.reading import Run
from ctcd_jax.artifacts.runs import TimingLine
from ctcd_jax.page import Html
from ctcd_jax.page.tables import Column, data_table, fixed, hours, millions, percent

UNKNOWN = "not recorded"
_TIME = Column("time", "hours", hours)
_DEVICE = Column("device", "device")


def cost(artifacts: Artifacts) -> list[Html]:
    runs = {name: run for name, run in artifacts.runs.items() if run.metrics}
    parts = [_training(runs), _fine_tuning(artifacts), _total(runs, artifacts)]
    note = (
        "Time of training: its steps, over all sessions of a run, without validation and checkpoints, and without the "
        "steps that a kill undid or that no line of the log had counted yet. Tokens/s and MFU: medians over the lines "
        "of the log. Time of fine-tuning: its cells, added up. These are hours of work, whatever the number of devices "
        "that shared it."
    )
    return [*filter(None, parts), page.paragraph(note, "note")] if any(parts) else []


def _training(runs: Mapping[str, Run]) -> Html:
    columns = [
        Column("run", "run"),
        Column("steps", "steps", fixed(0)),
        Column("tokens", "tokens", millions),
        _TIME,
        _DEVICE,
        Column("devices", "devices"),
        Column("tokens/s", "tokens_per_second", fixed(0)),
        Column("MFU", "mfu", percent),
    ]
    rows = []
    for name, run in runs.items():
        spent = seconds_by_device(run.timing)
        used, counts = (
            list(dict.fromkeys(device for device, _ in spent)),
            list(dict.fromkeys(count for _, count in spent)),
        )
        rows.append(
            (
                name,
                run.metrics[-1]["step"],
                run.metrics[-1]["tokens"],
                sum(spent.values()) / 3600 if spent else None,
                ", then ".join(used) or None,
                counts[0] if len(counts) == 1 else ", then ".join(map(str, counts)) or None,
                _median(run.timing, "tokens_per_second"),
                _median(run.timing, "mfu"),
            )
        )
    return data_table("cost-training", columns, rows, "Training") if rows else Html()


def _fine_tuning(artifacts: Artifacts) -> Html:
    cells: dict[tuple[str, str, str], list[float]] = {}
    for name, results in artifacts.results.items():
        for row in results.rows:
            cells.setdefault((name, row["model"], row.get("device", UNKNOWN)), []).append(row.get("seconds", 0.0))
    columns = [Column("results", "results"), Column("model", "model"), _DEVICE, Column("cells", "cells"), _TIME]
    rows = [(*key, len(seconds), sum(seconds) / 3600) for key, seconds in cells.items()]
    return data_table("cost-fine-tuning", columns, rows, "Fine-tuning", names=2) if rows else Html()


def _total(runs: Mapping[str, Run], artifacts: Artifacts) -> Html:
    """Hours by device, training and fine-tuning, and their sum."""
    spent = [
        (device, 0, seconds) for run in runs.values() for (device, _), seconds in seconds_by_device(run.timing).items()
    ]
    spent += [
        (row.get("device", UNKNOWN), 1, row.get("seconds", 0.0))
        for results in artifacts.results.values()
        for row in results.rows
    ]
    figures: dict[str, list[float]] = {}
    for device, kind, seconds in spent:
        for name in (device, "all"):
            figures.setdefault(name, [0.0, 0.0])[kind] += seconds / 3600
    last = figures.pop("all", None)
    if last and len(figures) > 1:
        figures["all"] = last
    rows = [[name, *(part or None for part in (*parts, sum(parts)))] for name, parts in figures.items()]
    columns = [
        _DEVICE,
        Column("training", "training_hours", hours),
        Column("fine-tuning", "fine_tuning_hours", hours),
        Column("total", "total_hours", hours),
    ]
    return data_table("cost-total", columns, rows, "Total") if rows else Html()


def seconds_by_device(timing: Iterable[TimingLine]) -> dict[tuple[str, int | None], float]:
    """Returns {(device, how many): training seconds} of a run's timing.jsonl, over all its sessions.

    `seconds` counts on over interruptions; were it to begin again, the new count is added.
    """
    spent: dict[tuple[str, int | None], float] = {}
    before = 0.0
    for line in timing:
        key = line.get("device", UNKNOWN), line.get("devices")
        seconds = line["seconds"]
        spent[key] = spent.get(key, 0.0) + (seconds - before if seconds >= before else seconds)
        before = seconds
    return spent


def _median(timing: Iterable[TimingLine], field: str) -> float | None:
    values = [value for line in timing if (value := line.get(field)) is not None]
    return statistics.median(values) if values else None


def to_reproduce(artifacts: Artifacts) -> list[Html]:
    return [
        page.collapsed(f"config.json of {name}", json.dumps(run.config, indent=2, ensure_ascii=False))
        for name, run in artifacts.runs.items()
    ]
