"""Which setting a model and a task report where a grid was run, and how the settings are told to the reader."""

import json
import statistics
from collections.abc import Iterable, Sequence


def selected(rows: Sequence[dict]) -> list[dict]:
    """Returns the lines of `results.jsonl` that the table is made of: one setting a (model, task), one line a seed.

    The setting is the one whose headline is best in the mean over its seeds. Those with fewer seeds than another (a
    grid that is still running, a seed that failed) do not compete: one lucky seed would win too easily. A cell that was
    run twice counts as it was last.
    """
    chosen = []
    for settings in _competing(rows).values():
        best = max(settings.values(), key=_headline) if len(settings) > 1 else next(iter(settings.values()))
        chosen += best.values()
    return chosen


def settings_note(rows: Sequence[dict]) -> str:
    """Says in a few sentences with which settings `rows` were run and how they were chosen."""
    values = _hyperparameters(rows)
    common = ", ".join(f"{_plain(name)} {texts[0]}" for name, texts in values.items() if len(texts) == 1)
    varied = ", ".join(f"{_plain(name)} ({', '.join(texts)})" for name, texts in values.items() if len(texts) > 1)
    counts = sorted({len(settings) for settings in _competing(rows).values()})
    if counts == [1] and not varied:
        return f"One setting for all tasks: {common}."
    notes = [f"The same everywhere: {common}."] if common else []
    if varied:
        notes.append(f"Varied: {varied}.")
    if counts[-1] > 1:
        number = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        notes.append(
            f"Each model and task shows the best of {number} settings by its first metric, the mean over seeds. That "
            "was selected on the development set that it is reported on, so the figures are somewhat too high."
        )
    return " ".join(notes)


def settings_table(rows: Sequence[dict]) -> list[list[str]]:
    """Returns a header and one line a model: what its cells have of the settings that were varied; [] if none was."""
    varied = [name for name, texts in _hyperparameters(rows).items() if len(texts) > 1]
    if not varied:
        return []
    chosen = selected(rows)
    taken: dict[str, dict[str, str]] = {}
    for row in chosen:
        texts = (f"{_plain(name)} {_text(row['hyperparameters'].get(name))}" for name in varied)
        taken.setdefault(row["model"], {})[row["task"]] = ", ".join(texts)
    tasks = list(dict.fromkeys(row["task"] for row in chosen))
    return [["model", *tasks], *([model, *(cells.get(task, "–") for task in tasks)] for model, cells in taken.items())]


def _competing(rows: Iterable[dict]) -> dict[tuple[str, str], dict[str, dict[int, dict]]]:
    """{(model, task): {setting: {seed: line}}}, less the settings with fewer seeds than another of their cell."""
    cells: dict[tuple[str, str], dict[str, dict[int, dict]]] = {}
    for row in rows:
        settings = cells.setdefault((row["model"], row["task"]), {})
        settings.setdefault(_setting(row), {})[row["seed"]] = row
    return {
        cell: {name: seeds for name, seeds in settings.items() if len(seeds) == max(map(len, settings.values()))}
        for cell, settings in cells.items()
    }


def _setting(row: dict) -> str:
    return json.dumps([row["hyperparameters"], row.get("intermediate")], sort_keys=True)


def _headline(seeds: dict[int, dict]) -> float:
    return statistics.fmean(row["value"] for row in seeds.values())


def _hyperparameters(rows: Iterable[dict]) -> dict[str, list[str]]:
    """Every name with its distinct values as text, in the order in which they appear."""
    values: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in row["hyperparameters"].items():
            values.setdefault(name, {})[_text(value)] = None
    return {name: list(texts) for name, texts in values.items()}


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
