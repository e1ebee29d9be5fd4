"""What ran, its curves, and where they ended."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.corpora import source_name
from ctcd_jax.artifacts.overfitting import Overfitting, teach_each_other
from ctcd_jax.artifacts.reading import Run
from ctcd_jax.artifacts.runs import MetricLine
from ctcd_jax.page import Html
from ctcd_jax.page.plots import COLOURS, MOST_POINTS, Level, Series, line_chart, swatch, thin
from ctcd_jax.page.tables import Column, data_table, download, fixed, percent
from ctcd_jax.report.graph import DIVERGENCES, cohort_graph
from ctcd_jax.report.held_out import is_finite
from ctcd_jax.report.shapes import member_shapes

_SPACE = "\N{NO-BREAK SPACE}"
# A page stays below a megabyte or so: this many points of a curve, however many runs there are.
_LEAST_POINTS = 60
_LARGEST = 1e100
_MOST_SOURCES = 3
_AT_ONE = f"at τ{_SPACE}={_SPACE}1"


@dataclass(frozen=True)
class _Family:
    """Panels of one kind, one for each key of a group of metric lines.

    Attributes:
      group, field: where a value stands: line[group][key][field], or line[group][key] without a field.
      title: of a panel, from the runs and the key.
      axis: label of its y axis.
      csv: name of the value in the CSV.
      skip: share of the steps whose values may leave the frame.
      level: field of a validation line with what word frequencies alone score, in the same unit; "" for none.
    """

    group: str
    field: str | None
    title: Callable[[Mapping[str, Run], str], str]
    axis: str
    csv: str
    skip: float = 0.0
    level: str = ""


def cohorts(artifacts: Artifacts) -> list[Html]:
    runs, figures = artifacts.runs, []
    groups = _alike(runs) if len(runs) > COLOURS else [[name] for name in runs]
    for index, names in enumerate(groups):
        run = runs[names[0]]
        shapes = member_shapes(run.config)
        members = [{"name": key} | member | shapes[key] for key, member in run.config["members"].items()]
        tables = ("members", members), ("edges", run.config.get("edges") or [])
        links = [_records(f"{names[0]}-{kind}", records) for kind, records in tables if records]
        title = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        common = [fact for fact in _setting(run) if all(fact in _setting(runs[name]) for name in names)]
        figures.append(page.figure(title, cohort_graph(f"run{index}", run.config), ", ".join(common), links))
    if not figures:
        return []
    note = "Boxes are models, arrows point from the one that teaches to the one that learns. Dashed: frozen."
    if len(groups) < len(runs):
        note += (
            " Runs whose drawings are the same are drawn once; under What differs stands what else tells them apart."
        )
    return [page.paragraph(note, "note"), page.grid(figures)]


def _alike(runs: Mapping[str, Run]) -> list[list[str]]:
    """The names of the runs, those together whose drawings are the same."""
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        groups.setdefault(cohort_graph("run", run.config), []).append(name)
    return list(groups.values())


def _records(file: str, records: Sequence[Mapping]) -> Html:
    """A link to flat records: what is nested in them is left out."""
    plain = [{key: value for key, value in record.items() if not isinstance(value, dict)} for record in records]
    head = list(dict.fromkeys(key for record in plain for key in record))
    return download(file, head, [[record.get(key) for key in head] for record in plain])


def _setting(run: Run) -> list[str]:
    """What a run was trained on and how long."""
    data, train = run.config.get("data", {}), run.config.get("train", {})
    resolved = run.config.get("resolved", {})
    path = data.get("corpus")
    corpus = f"corpus {Path(path).name}" if path else ""
    if run.corpus:
        names = list(dict.fromkeys(source_name(source["source"]) for source in run.corpus["sources"]))
        more = f" and {len(names) - _MOST_SOURCES} more" if len(names) > _MOST_SOURCES else ""
        listed = ", ".join(names[:_MOST_SOURCES])
        corpus = f"{corpus or 'corpus'} ({listed}{more}; {run.corpus['splits']['train']['tokens']:,} tokens)"
    steps = resolved.get("steps") or train.get("steps")
    facts = [
        corpus,
        f"{_steps_text(run, steps)} of {data.get('batch_size')} rows" if steps else "",
        f"seed {run.config['seed']}" if "seed" in run.config else "",
    ]
    return [fact for fact in facts if fact]


def _steps_text(run: Run, planned: int) -> str:
    """The steps of a run; where it was stopped by `train.early_stopping`, of how many."""
    train, lines = run.config.get("train", {}), run.lines("validation")
    patience, member = train.get("early_stopping"), train.get("keep_best")
    losses = [line.get("members", {}).get(str(member), {}).get("hard") for line in lines]
    known = [loss for loss in losses if isinstance(loss, int | float)]
    if not patience or not known or len(known) < len(losses) or lines[-1]["step"] >= planned:
        return f"{planned:,} steps"
    since = len(known) - 1 - known.index(min(known))  # else it is still going on, or was killed
    return f"{lines[-1]['step']:,} of {planned:,} steps (ended early)" if since >= patience else f"{planned:,} steps"


def curves(artifacts: Artifacts) -> list[Html]:
    runs = artifacts.runs
    figures = [
        chart
        for family in _FAMILIES
        for index, key in enumerate(_keys(runs, family))
        for chart in _panel(f"{family.csv}{index}", family, runs, key)
    ]
    if not figures:
        return []
    note = (
        "Thin: training. Bold: validation, with its last value at the right edge. A run is drawn in every panel it has "
        "a value for, in its colour, dashes and marks. A hard loss may lie above the frame for the first fifth of the "
        "steps. Losses and divergences are in nats, over masked positions; agreement is the share of them on which two "
        "members would answer the same. A gap is a step with no figure, or none that is finite."
    )
    if any(_levels(runs, family) for family in _FAMILIES):
        note += " Dotted: what the word frequencies of the corpus alone score on the same masked tokens."
    if any(_best(run, family, key) for family in _FAMILIES for key in _keys(runs, family) for run in runs.values()):
        note += " A ring marks the lowest validation loss of a curve that ends higher."
    several = len(runs) > COLOURS
    if several:
        note += f" A panel of more than {COLOURS} runs is several charts on the same axes."
    limit = _point_limit(runs)
    if any(len(run.lines(kind)) > limit for run in runs.values() for kind in ("train", "validation")):
        note += (
            f" Of a curve of more than {limit} lines the charts and their CSV hold {limit} at most: the first, the "
            "last, and the highest and the lowest of equal runs of neighbours; every line is in the run's "
            "metrics.jsonl."
        )
    found = [page.paragraph(f"{name}: {said}.", "note") for name, run in runs.items() if (said := _overfits(run))]
    legend = Html() if several else page.legend([(swatch(index), name) for index, name in enumerate(runs)])
    return [page.paragraph(note, "note"), *found, legend, page.grid(figures)]


def _overfits(run: Run) -> str | None:
    """What the log said, once, of a member that learns its rows by heart."""
    edges = [edge for edge in run.config.get("edges") or [] if edge.get("weight", 1)]
    watch = Overfitting(taught=teach_each_other((edge.get("source", ""), edge.get("target", "")) for edge in edges))
    return next((said for line in run.metrics if (said := watch.take(line))), None)


def _point_limit(runs: Mapping[str, Run]) -> int:
    return max(_LEAST_POINTS, min(MOST_POINTS, COLOURS * MOST_POINTS // len(runs)))


def _panel(identity: str, family: _Family, runs: Mapping[str, Run], key: str) -> Iterator[Html]:
    """Yields a figure for every eight runs: more curves in one chart cannot be distinguished."""
    title, limit = family.title(runs, key), _point_limit(runs)
    groups: dict[int, dict[str, list[Series]]] = {}
    for number, (name, run) in enumerate(runs.items()):
        points = {kind: thin(list(_points(run, kind, family, key)), limit) for kind in ("train", "validation")}
        drawn = [kind for kind, found in points.items() if any(value is not None for _, value in found)]
        for kind in drawn:
            bold = kind == "validation"
            best = _best(run, family, key) if bold else None
            curve = Series(f"{name}, {kind}", points[kind], number % COLOURS, bold, bold or len(drawn) == 1, best)
            groups.setdefault(number // COLOURS, {}).setdefault(name, []).append(curve)
    levels = _levels({name: run for group in groups.values() for name, run in runs.items() if name in group}, family)
    framed = [curve for group in groups.values() for found in group.values() for curve in found]
    for part, group in groups.items():
        series = [curve for found in group.values() for curve in found]
        place = f", {part + 1} of {math.ceil(len(runs) / COLOURS)}" if len(runs) > COLOURS else ""
        axes = {"skip_start": family.skip, "framed": framed, "levels": levels}
        svg = line_chart(f"{identity}-{part}", title + place, series, "step", family.axis, **axes)
        if place:
            key_to_curves = page.legend([(swatch(found[0].colour), name) for name, found in group.items()])
            svg = page.join([svg, key_to_curves])
        rows = [
            (name, "validation" if curve.bold else "train", *point)
            for name, found in group.items()
            for curve in found
            for point in curve.points
        ]
        link = download(f"{family.csv} {key}{place}", ("run", "kind", "step", family.csv), rows)
        yield page.figure(title + place, svg, links=[link])


def _best(run: Run, family: _Family, key: str) -> tuple[int, float] | None:
    """The lowest validation loss and its step, where it is not the last: what was learnt after it was unlearnt."""
    if not family.level:
        return None
    found = [(step, value) for step, value in _points(run, "validation", family, key) if value is not None]
    best = min(found, key=lambda point: point[1], default=None)
    return best if found and best != found[-1] else None


def _levels(runs: Mapping[str, Run], family: _Family) -> list[Level]:
    """What word frequencies score, once for all runs on one corpus."""
    lines = (line for run in runs.values() for line in run.lines("validation")) if family.level else ()
    values = dict.fromkeys(value for line in lines if is_finite(value := line.get(family.level)))
    return [Level("word frequencies", value) for value in values]


def _keys(runs: Mapping[str, Run], family: _Family) -> list[str]:
    """Members, edges or pairs that any run has a value for, in the order in which they appear."""
    return list(
        dict.fromkeys(
            key
            for run in runs.values()
            for line in run.metrics
            for key in line.get(family.group, {})
            if _value(line, family, key) is not None
        )
    )


def _points(run: Run, kind: str, family: _Family, key: str) -> Iterator[tuple[int, float | None]]:
    """The steps that have the key, with their figures."""
    for line in run.lines(kind):
        group = line.get(family.group, {})
        if key in group and (family.field is None or family.field in group[key]):
            yield line["step"], _value(line, family, key)


def _value(line: MetricLine, family: _Family, key: str) -> float | None:
    """The number under a line's group and key; None if it is absent or, in a run that diverged, cannot be drawn."""
    entry = line.get(family.group, {}).get(key)
    value = entry if family.field is None or entry is None else entry.get(family.field)
    return value if value is not None and abs(value) < _LARGEST else None  # not so of NaN either


def _divergence(runs: Mapping[str, Run], key: str) -> str:
    """What `soft_t1` of an edge is called: the divergence that its runs agree on."""
    kinds = {
        edge.get("divergence", "forward_kl")
        for run in runs.values()
        for edge in run.config.get("edges") or []
        if f"{edge['source']}->{edge['target']}" == key and edge.get("signal", "logits") == "logits"
    }
    if kinds == {"forward_kl"}:
        return "KL"
    kind = kinds.pop() if len(kinds) == 1 else ""
    return DIVERGENCES.get(kind, "divergence")


def _shown(key: str) -> str:
    return key.replace("->", " → ").replace("~", " ~ ")


def last_validation(artifacts: Artifacts) -> list[Html]:
    last = {name: lines[-1] for name, run in artifacts.runs.items() if (lines := run.lines("validation"))}
    tables = []
    for group, heading, fields in _LAST:
        keys = dict.fromkeys(key for line in last.values() for key in line.get(group, {}))
        rows = [
            (key, run, *(entry if field is None else entry.get(field) for field, _ in fields), line["step"])
            for key in keys
            for run, line in last.items()
            if (entry := line.get(group, {}).get(key)) is not None
        ]
        columns = [Column(heading, heading, _shown), Column("run", "run"), *(column for _, column in fields)]
        if rows:
            step = Column("step", "step", fixed(0))
            tables.append(data_table(f"last validation {group}", [*columns, step], rows, _CAPTIONS[group], names=2))
    return tables


_FAMILIES = (
    _Family("members", "hard", lambda _, key: f"hard loss of {key}", "hard loss (nats)", "hard_loss", 0.2, "unigram"),
    _Family("members", "accuracy", lambda _, key: f"accuracy of {key}", "share of masked tokens", "accuracy"),
    _Family("edges", "soft", lambda _, key: f"soft loss {_shown(key)}", "soft loss (nats)", "soft_loss"),
    _Family(
        "edges",
        "soft_t1",
        lambda runs, key: f"{_divergence(runs, key)} {_shown(key)} {_AT_ONE}",
        f"divergence {_AT_ONE} (nats)",
        "divergence_t1",
    ),
    _Family("agreement", None, lambda _, key: f"agreement {_shown(key)}", "share with equal argmax", "agreement"),
)

_LAST = (
    (
        "members",
        "member",
        (("hard", Column("hard loss", "hard_loss", fixed(4))), ("accuracy", Column("accuracy", "accuracy", percent))),
    ),
    (
        "edges",
        "edge",
        (
            ("soft", Column("soft loss", "soft_loss", fixed(4))),
            ("soft_t1", Column(f"divergence {_AT_ONE}", "divergence_t1", fixed(4))),
        ),
    ),
    ("agreement", "pair", ((None, Column("agreement", "agreement", percent)),)),
)
_CAPTIONS = {
    "members": "Members at the last validation",
    "edges": "Edges at the last validation: how far the learner is from its teacher",
    "agreement": "Pairs at the last validation: how often they answer alike",
}
