"""Quality against latency: GLUE scores of the models that were measured, over the milliseconds of a batch."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.artifacts.latency import Latency, Measurement
from ctcd_jax.artifacts.reading import Reader
from ctcd_jax.artifacts.results import RESULTS, Result
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tables.summary import column_title, summarise
from ctcd_jax.files import writing_whole
from ctcd_jax.latency.settings import counted, placement
from ctcd_jax.page.plots import spread

WIDTH, HEIGHT, DPI = 7.2, 4.6, 150
# Okabe and Ito's colours, which differ for colour-blind eyes too (their yellow is too light on white), and shapes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"
LABEL_GAP = 14.0  # points
LOGARITHMIC_FROM = 10.0


@dataclass(frozen=True)
class ScoredModel:
    """A model: milliseconds of a batch, and its score in per cent."""

    name: str
    p50: float
    p95: float
    score: float


def check_plot(results: Path | None, out: Path | None, models: Iterable[Path], warn: Callable[[str], None]) -> None:
    """Raises UserError, before anything is measured, where the plot that was asked for cannot be drawn.

    Damaged lines of the results are left out, and said by `warn`.
    """
    if results is None:
        return
    if out is None:
        raise UserError(f"--results {results}: the plot is written beside the figures; give --out FILE as well")
    if out.suffix == ".png":
        raise UserError(
            f"--out {out}: is for the figures, and the plot lies beside it; give {out.with_suffix('.json')}"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("--results: matplotlib is not installed; run: pip install 'ctcd-jax[torch]'")
    scored = {row.get("weights") for row in _rows(results, warn)}
    if not scored & {weights_digest(directory) for directory in models}:
        raise UserError(f"--results {results}: none of its lines is of a --model; run `ctcd glue` on the same exports")


def points(result: Latency, rows: Sequence[Result]) -> list[ScoredModel]:
    """Returns the models that have every column of the averages of `rows`, matched by their weights.

    Args:
      result: of `latency`; its first setting counts.
      rows: of a results.jsonl; a model may have another name there.
    """
    summary = summarise(rows)
    names = {row["weights"]: row["model"] for row in rows if row.get("weights")}
    scores = {digest: summary.mean_of_columns(name) for digest, name in names.items()}
    measured: dict[str, Measurement] = {}
    for row in result["measurements"]:
        if row["model"] in measured:  # the next setting begins
            break
        measured[row["model"]] = row
    return [
        ScoredModel(model["name"], measured[model["name"]]["p50_ms"], measured[model["name"]]["p95_ms"], score)
        for model in result["models"]
        if (score := scores.get(model["weights"])) is not None and model["name"] in measured
    ]


def draw(result: Latency, results: Path, path: Path, log: Callable[[str], None]) -> None:
    """Writes the plot as a PNG, and says of which models it shows nothing."""
    rows = _rows(results, lambda text: None)  # it was said before anything was measured
    found = points(result, rows)
    missing = [model["name"] for model in result["models"] if model["name"] not in {point.name for point in found}]
    if missing:
        log(
            f"{path}: without {', '.join(missing)}, which the first setting or an averaged column of "
            f"{results / RESULTS} lacks"
        )
    if found:
        made = figure(found, _setting(result), score_title(rows))
        with writing_whole(path) as partial:
            made.savefig(partial, format="png", metadata={"Software": None})


def figure(found: Sequence[ScoredModel], setting: str, score: str):
    """Returns the plot as a matplotlib figure; `setting` and `score` say what its axes are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    made = Figure((WIDTH, HEIGHT), DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    axis = made.subplots()
    logarithmic = max(point.p50 for point in found) > LOGARITHMIC_FROM * min(point.p50 for point in found)
    if logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    for index, point in enumerate(found):
        colour = COLOURS[index % len(COLOURS)]
        axis.plot([point.p50, point.p95], [point.score] * 2, color=colour, linewidth=1.5, alpha=0.5, zorder=2)
        axis.plot(
            point.p50,
            point.score,
            MARKERS[index % len(MARKERS)],
            color=colour,
            markersize=9,
            markeredgecolor="white",
            zorder=3,
        )
    axis.margins(x=0.12, y=0.2)
    if not logarithmic:
        axis.set_xlim(left=0, right=1.15 * max(point.p95 for point in found))
    axis.set_xlabel(f"milliseconds a batch: median, line to the 95th percentile{', logarithmic' * logarithmic}")
    axis.set_ylabel(score)
    axis.set_title("Quality against latency", loc="left", fontsize=12, fontweight="bold", pad=22)
    axis.annotate(setting, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, color="#444444")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    made.draw_without_rendering()
    _label(axis, found)
    return made


def _label(axis, found: Sequence[ScoredModel]) -> None:
    """Writes each name beside its point, away from the nearer edge and from the names above and below."""
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    scale = 72 / axis.figure.dpi
    places = [axis.transData.transform((point.p50, point.score)) * scale for point in found]
    box = axis.get_window_extent()
    low, high = box.y0 * scale + LABEL_GAP / 2, box.y1 * scale - LABEL_GAP / 2
    heights = spread([place[1] for place in places], LABEL_GAP, low, high)
    for index, (point, place, height) in enumerate(zip(found, places, heights, strict=True)):
        right = place[0] > (box.x0 + box.x1) / 2 * scale
        axis.annotate(
            point.name,
            (point.p50, point.score),
            (-9 if right else 9, height - place[1] + (0 if right else LABEL_GAP / 2)),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=10,
            color=[0.7 * part for part in to_rgb(COLOURS[index % len(COLOURS)])],  # darker: thin strokes look paler
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _setting(result: Latency) -> str:
    first = result["measurements"][0]
    device = result["cpu"] if first["device"] == "cpu" else first["device"]
    return (
        f"{placement(device, first['threads'])}, {first['runtime']} {first['dtype']}; "
        f"{counted(first['batch_size'], 'sequence')} of {counted(first['length'], 'token')}; torch {result['torch']}"
    )


def score_title(rows: Sequence[Result]) -> str:
    """Returns what the plot's y axis is called: the columns that the averages of `rows` are over."""
    columns = [column_title(*column) for column in summarise(rows).averaged]
    if len(columns) == 1:
        return f"{columns[0]}, dev set (%)"
    return f"mean of {' and '.join(columns) if len(columns) == 2 else 'the metric columns'}, dev sets (%)"


def _rows(results: Path, warn: Callable[[str], None]) -> list[Result]:
    if not (results / RESULTS).is_file():
        raise UserError(f"--results {results}: no {RESULTS}; give a folder written by `ctcd glue`")
    return Reader(warn).results(results / RESULTS)
