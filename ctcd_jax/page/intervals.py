"""A chart of figures with their intervals, one below the other, as SVG."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ctcd_jax.page.markup import Html, element
from ctcd_jax.page.plots import ticks

WIDTH, SIDE, LINE, MARKS, TOP, BOTTOM = 460, 10, 14, 24, 4, 44
_LETTERS = 58  # of a name that fit a line


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
      name: above it.
      values: single ones, e.g. a seed each; small dots.
      mean: the large one.
      low, high: ends of its interval; None for none.
      colour: index of its colour.
    """

    name: str
    values: Sequence[float]
    mean: float
    low: float | None
    high: float | None
    colour: int = 0


def interval_chart(title: str, rows: Sequence[Row], x_label: str, zero: bool = False) -> Html:
    """Returns the chart as an <svg> element.

    Args:
      title: what is drawn, for who cannot see it.
      rows: from top to bottom; at least one.
      x_label: text at the axis.
      zero: whether a line at 0 is drawn, which is then within the frame.
    """
    numbers = [number for row in rows for number in (*row.values, row.mean, row.low, row.high) if number is not None]
    numbers += [0.0] if zero else []
    low, high = min(numbers), max(numbers)
    margin = 0.04 * (high - low) or 0.05 * (abs(high) or 1.0)
    low, high = low - margin, high + margin
    names = [textwrap.wrap(row.name, _LETTERS) for row in rows]
    base = TOP + sum(LINE * len(lines) + MARKS for lines in names)

    def x(value: float) -> str:
        return f"{SIDE + (value - low) / (high - low) * (WIDTH - 2 * SIDE):.1f}"

    parts = []
    for tick in ticks(low, high):
        parts.append(element("path", class_="grid", d=f"M{x(tick)} {TOP}V{base}"))
        parts.append(element("text", f"{tick:g}", class_="tick", x=x(tick), y=base + 18, text_anchor="middle"))
    if zero:
        parts.append(element("path", class_="level", d=f"M{x(0.0)} {TOP}V{base}"))
    y = TOP
    for row, lines in zip(rows, names, strict=True):
        colour = f"var(--c{row.colour % 8})"
        for line in lines:
            y += LINE
            parts.append(element("text", line, class_="mark", x=SIDE, y=y + 2, style=f"fill:{colour}"))
        y += 13
        bar = []
        if row.low is not None and row.high is not None:
            bar = [element("path", class_="bold", d=f"M{x(row.low)} {y}H{x(row.high)}", style=f"stroke:{colour}")]
        said = element("title", f"{row.name}: {row.mean:.4f}")
        mean = element("circle", said, cx=x(row.mean), cy=y, r=5, style=f"fill:{colour}")
        dots = [
            element("circle", cx=x(value), cy=y, r=3, style=f"fill:var(--paper);stroke:{colour};stroke-width:1.3")
            for value in row.values
        ]
        parts += [*bar, mean, *dots]
        y += MARKS - 13
    parts.append(element("path", class_="axis", d=f"M{SIDE} {base}H{WIDTH - SIDE}"))
    parts.append(element("text", x_label, class_="label", x=WIDTH // 2, y=base + 36, text_anchor="middle"))
    return element("svg", *parts, class_="chart", viewBox=f"0 0 {WIDTH} {base + BOTTOM}", role="img", aria_label=title)
