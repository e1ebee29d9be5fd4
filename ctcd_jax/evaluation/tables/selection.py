"""Which setting a model and a task report where a grid was run, and how the settings are put to the reader."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from ctcd_jax.artifacts.results import Result
from ctcd_jax.evaluation.tasks.tasks import TASKS


def selected(rows: Sequence[Result]) -> list[Result]:
    """Returns the lines of `results.jsonl` that the table is made of: one setting a (model, task), one line a seed.

    The setting is the one whose headline is best in the mean over its seeds. Those with fewer seeds than another (a
    grid that is still running, a seed that failed) do not compete: one lucky seed would win too easily. A cell that was
    run twice counts as it was last. Cells computed in another precision than most of their setting do not count:
    `applied_note` says so.
    """
    chosen = []
    for settings in _competing(rows).values():
        best = max(settings.values(), key=_headline) if len(settings) > 1 else next(iter(settings.values()))
        chosen += best.values()
    return chosen


def settings_note(rows: Sequence[Result]) -> str:
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


def settings_table(rows: Sequence[Result]) -> list[list[str]]:
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


def applied_note(rows: Sequence[Result]) -> list[str]:
    """Says in sentences how the cells of the table were computed, where that is not what a reader would expect.

    What was cut, and to which length; of which class F1 is; what was computed in more than one way; which cells are
    left out because the others of their mean were computed in another precision or cut to another length.
    """
    chosen = selected(rows)
    notes = []
    if cuts := {(row["model"], row["task"]): cut_text(row) for row in chosen if was_cut(row)}:
        notes.append(f"Cut: {'; '.join(cuts.values())}.")
    for task, name in {row["task"]: row.get("positive") for row in chosen}.items():
        if name is not None and task not in TASKS:
            notes.append(f"F1 of {task} is that of class {name}.")
    for field in ("precision", "compiled"):  # unlike between models as well as between the seeds of one
        if len(values := _values(chosen, field)) > 1:
            notes.append(f"Cells were computed with more than one {field}: {', '.join(values)}.")
    for field in ("device", "threads"):
        unlike: dict[tuple[str, ...], list[str]] = {}
        for model, task in dict.fromkeys((row["model"], row["task"]) for row in chosen):
            seeds = [row for row in chosen if (row["model"], row["task"]) == (model, task)]
            if len(values := _values(seeds, field)) > 1:
                unlike.setdefault(tuple(values), []).append(f"{model} on {task}")
        for values, means in unlike.items():
            notes.append(f"The seeds of one mean differ in {field} ({', '.join(values)}): {'; '.join(means)}.")
    left = [
        f"{model} {task} seed {seed}"
        for (model, task), settings in _grouped(rows).items()
        for seeds in settings.values()
        for seed in sorted(seeds.keys() - _alike(seeds).keys())
    ]
    if left:
        notes.append(
            f"Left out, being computed in another precision or cut to another length than the others of their mean: "
            f"{', '.join(left)}."
        )
    return notes


def was_cut(row: Result) -> bool:
    """Whether a line says that examples were longer than the model takes, or than the settings allow."""
    return bool(row.get("cut_train") or row.get("cut_dev") or row.get("cut_dev_mismatched"))


def cut_text(row: Result) -> str:
    """Says which share of the examples of a line was cut, and to how many tokens."""
    parts = [
        f"{row[count] / row[total]:.1%} of the {name} examples"
        for count, total, name in (("cut_train", "train_rows", "training"), ("cut_dev", "dev_rows", "development"))
        if row.get(count) and row.get(total)
    ]
    if count := row.get("cut_dev_mismatched"):
        parts.append(f"{count:,} of the mismatched development examples")
    used = row.get("max_length_used")
    asked = row["hyperparameters"].get("max_length", used)
    more = "" if asked == used else f", all that the model takes of {asked}"
    return f"{row['model']} on {row['task']} {' and '.join(parts)} to {used or 'fewer'} tokens{more}"


def _values(rows: Iterable[Result], field: str) -> list[str]:
    return list(dict.fromkeys(str(row[field]) for row in rows if row.get(field) is not None))


def _competing(rows: Iterable[Result]) -> dict[tuple[str, str], dict[str, dict[int, Result]]]:
    """{(model, task): {setting: {seed: line}}}, less the settings with fewer seeds than another of their cell."""
    competing = {}
    for cell, settings in _grouped(rows).items():
        alike = {name: _alike(seeds) for name, seeds in settings.items()}
        most_seeds = max(map(len, alike.values()))
        competing[cell] = {name: seeds for name, seeds in alike.items() if len(seeds) == most_seeds}
    return competing


def _grouped(rows: Iterable[Result]) -> dict[tuple[str, str], dict[str, dict[int, Result]]]:
    """{(model, task): {setting: {seed: its last line}}}."""
    cells: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    for row in rows:
        settings = cells.setdefault((row["model"], row["task"]), {})
        settings.setdefault(_setting(row), {})[row["seed"]] = row
    return cells


def _alike(seeds: dict[int, Result]) -> dict[int, Result]:
    """Those of the precision and the applied length that most have; a line that does not say goes with any."""
    for field in ("precision", "max_length_used"):
        counts = Counter(row[field] for row in seeds.values() if row.get(field) is not None)
        if len(counts) > 1:
            commonest = counts.most_common(1)[0][0]
            seeds = {seed: row for seed, row in seeds.items() if row.get(field) in (None, commonest)}
    return seeds


def _setting(row: Result) -> str:
    return json.dumps([row["hyperparameters"], row.get("intermediate")], sort_keys=True)


def _headline(seeds: dict[int, Result]) -> float:
    return statistics.fmean(row.get("value", next(iter(row["metrics"].values()))) for row in seeds.values())


def _hyperparameters(rows: Iterable[Result]) -> dict[str, list[str]]:
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
