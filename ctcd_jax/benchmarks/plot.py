"""One bar plot of a suite: the peers, ours and the limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, DPI = 9.0, 100  # inches; 900 pixels
OWN, PEER, LIMIT = "#2f6db3", "#b9b4a8", "#1d1d1d"


@dataclass(frozen=True)
class Bar:
    """A figure, its least and greatest, and what bounds it (None: nothing)."""

    label: str
    value: float
    low: float
    high: float
    peer: bool = False
    limit: float | None = None


@dataclass(frozen=True)
class Panel:
    """Bars of one unit, from the top."""

    title: str
    bars: Sequence[Bar]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Writes the panels, one below another, as a PNG; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [len(panel.bars) + 2.2 for panel in panels]
    figure = Figure((WIDTH, 0.3 * sum(heights) + 0.5), DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel)
    figure.legend(handles=_legend(panels), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _draw(axis, panel: Panel) -> None:
    for row, bar in enumerate(panel.bars):
        axis.barh(row, bar.value, height=0.66, color=PEER if bar.peer else OWN)
        axis.plot([bar.low, bar.high], [row, row], color=LIMIT, linewidth=1)
        if bar.limit is not None:
            axis.plot([bar.limit, bar.limit], [row - 0.42, row + 0.42], color=LIMIT, linewidth=2.5)
        end = bar.high if bar.limit is None else max(bar.high, bar.limit)
        axis.annotate(_short(bar.value), (end, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yticks(range(len(panel.bars)), [bar.label for bar in panel.bars], fontsize=9)
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlim(left=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _legend(panels: Sequence[Panel]) -> list:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bars = [bar for panel in panels for bar in panel.bars]
    known = (
        (Patch(color=OWN, label="ours"), any(not bar.peer for bar in bars)),
        (Patch(color=PEER, label="peer"), any(bar.peer for bar in bars)),
        (
            Line2D([], [], color=LIMIT, linewidth=2.5, label="limit, by FLOPs"),
            any(bar.limit is not None for bar in bars),
        ),
    )
    return [handle for handle, used in known if used]
