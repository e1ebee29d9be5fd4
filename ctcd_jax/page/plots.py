"""Charts as SVG: lines, histograms and a labelled scatter.

Colours are the page's CSS variables --c0 ... --c7. Where several curves share a chart each has a dash pattern and marks
of its own as well, for print and for who does not see the colours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctcd_jax.page.markup import Html, element, join

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 70, 58, 14, 44
COLOURS = 8
MOST_POINTS = 400
MOST_MARKS = 6
LABEL_GAP = 15
_DASHES = ("", "8 4", "2 3.5", "11 3 2 3", "5 2.5", "14 5", "2 3 8 3", "11 3 2 3 2 3")
_LINES = ("solid", "dashed", "dotted", "dash-dotted", "short-dashed", "long-dashed", "dot-dashed", "dash-dot-dotted")
# Outlines around (0, 0), and whether they are filled.
_CIRCLE, _SQUARE, _DIAMOND = "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "m-3.5 -3.5h7v7h-7z", "m0 -5l5 5l-5 5l-5 -5z"
_MARKS = (
    ("circles", _CIRCLE, True),
    ("squares", _SQUARE, True),
    ("triangles", "m0 -5l5 9h-10z", True),
    ("open circles", _CIRCLE, False),
    ("diamonds", _DIAMOND, True),
    ("open squares", _SQUARE, False),
    ("triangles upside down", "m0 5l5 -9h-10z", True),
    ("open diamonds", _DIAMOND, False),
)


XY = tuple[float, float | None]


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
      points: (x, y); where y is None the curve has a gap.
      colour: the index of its colour, dashes and marks.
      bold: whether it is drawn bold, with its last value beside it.
      marked: whether marks are set on it.
      ringed: a point of it with a ring around; None for none.
    """

    name: str
    points: Sequence[XY]
    colour: int
    bold: bool
    marked: bool = False
    ringed: tuple[float, float] | None = None


@dataclass(frozen=True)
class Level:
    """A value to hold curves against: a level line with its name."""

    name: str
    value: float


@dataclass(frozen=True)
class Point:
    """A labelled point of a scatter."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Bin:
    """A histogram's bar over the whole numbers from `first` to `last`, both included."""

    name: str
    first: int
    last: int
    height: float


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing: linear axes over [x0, x1] and [y0, y1]."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    skip_start: float = 0.0,
    framed: Sequence[Series] | None = None,
    levels: Sequence[Level] = (),
) -> Html:
    """Returns a line chart as an <svg> element.

    Args:
      name: distinct on the page: an id and the aria label hang on it.
      title: what is drawn, for who cannot see it.
      series: the curves, of a number each.
      x_label, y_label: text at the axes.
      skip_start: share of the x axis whose values may leave the frame at the top, so that a steep start does not
        flatten all that follows.
      framed: the curves that the axes are made for, so that charts can be compared; None for `series`.
      levels: values within the frame, across its whole width.
    """
    points = [(x, y) for curve in framed or series for x, y in curve.points if y is not None]
    x1 = max(x for x, _ in points)
    x0 = min(0.0, min(x for x, _ in points))
    late = [y for x, y in points if x >= x0 + skip_start * (x1 - x0)] + [level.value for level in levels]
    frame = _frame(x0, x1, min([*(y for _, y in points), *late]), max(late))
    curves = (_curve(curve, frame) for curve in sorted(series, key=lambda curve: curve.bold))
    ends = [(curve.colour, _finite(curve.points)[-1][1]) for curve in series if curve.bold]
    heights = spread([frame.y(value) for _, value in ends], LABEL_GAP, TOP, HEIGHT - BOTTOM)
    labels = (
        element("text", _end(value), class_="end", x=WIDTH - RIGHT + 7, y=f"{y + 4:.1f}", style=_colour("fill", colour))
        for (colour, value), y in zip(ends, heights, strict=True)
    )
    inside = element("rect", x=LEFT, y=TOP - 2, width=WIDTH - LEFT - RIGHT + 2, height=HEIGHT - TOP - BOTTOM + 4)
    clip = element("clipPath", inside, id=name)
    lines = element("g", *curves, *(_ring(curve, frame) for curve in series), clip_path=f"url(#{name})")
    return _svg(
        title, clip, _axes(frame, x_label, y_label), *(_level(level, frame) for level in levels), lines, *labels
    )


def bar_chart(title: str, columns: Sequence[Bin], x_label: str, y_label: str) -> Html:
    """Returns a histogram as an <svg> element; y starts at 0.

    Args:
      title: what is drawn, for who cannot see it.
      columns: the bars, in the order of x.
      x_label, y_label: text at the axes.
    """
    highest = max(column.height for column in columns)
    frame = _Frame(columns[0].first - 0.5, columns[-1].last + 0.5, 0.0, 1.05 * highest or 1.0)
    return _svg(title, _axes(frame, x_label, y_label), *(_bar(column, frame) for column in columns))


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str) -> Html:
    """Returns a chart of labelled points as an <svg> element; x starts at 0.

    Args:
      title: what is drawn, for who cannot see it.
      points: each with its name.
      x_label, y_label: text at the axes.
    """
    values = [point.y for point in points]
    frame = _frame(0.0, 1.15 * max(point.x for point in points), min(values), max(values), padding=0.15)
    heights = spread([frame.y(point.y) for point in points], LABEL_GAP, TOP, HEIGHT - BOTTOM)
    marks = []
    for index, (point, height) in enumerate(zip(points, heights, strict=True)):
        x, y, colour = frame.x(point.x), frame.y(point.y), _colour("fill", index)
        side, anchor = (-10, "end") if x > (LEFT + WIDTH - RIGHT) / 2 else (10, "start")
        marks.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=5, style=colour))
        marks.append(_text(point.name, "mark", anchor, x=f"{x + side:.1f}", y=f"{height + 4:.1f}", style=colour))
    return _svg(title, _axes(frame, x_label, y_label), *marks)


def ticks(minimum: float, maximum: float, limit: int = 6) -> list[float]:
    """Returns multiples of 1, 2 or 5 x 10^n that lie in [minimum, maximum].

    Args:
      minimum, maximum: of the axis.
      limit: on how many.
    """
    raw = (maximum - minimum) / limit
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(
        step
        for step in (factor * magnitude for factor in (1, 2, 5, 10, 20))
        if math.floor(maximum / step + 1e-9) - math.ceil(minimum / step - 1e-9) + 1 <= limit
    )
    first, last = math.ceil(minimum / step - 1e-9), math.floor(maximum / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def spread(positions: Sequence[float], gap: float, minimum: float, maximum: float) -> list[float]:
    """Moves labels so that they do not overlap, keeping their order.

    Args:
      positions: of the labels along one axis, in pixels.
      gap: between neighbours, at least.
      minimum, maximum: that they stay within while they fit.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = list(positions)
    previous = -math.inf
    for index in order:
        previous = placed[index] = max(placed[index], previous + gap, minimum)
    following = maximum + gap
    for index in reversed(order):
        following = placed[index] = min(placed[index], following - gap)
    return placed


def thin(points: Sequence[XY], limit: int = MOST_POINTS) -> list[XY]:
    """Returns at most `limit` of the points: the first, the last, and the extremes of equal runs of neighbours.

    Of each run that has one, a gap stays as well.
    """
    if len(points) <= limit:
        return list(points)
    gaps = any(y is None for _, y in points)
    size = math.ceil(len(points) / ((limit - 2) // (3 if gaps else 2)))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), size):
        group = range(start, min(start + size, len(points)))
        if finite := {index: y for index in group if (y := points[index][1]) is not None}:
            kept |= {choose(finite, key=finite.__getitem__) for choose in (min, max)}
        kept.update([index for index in group if points[index][1] is None][:1])
    return [points[index] for index in sorted(kept)]


def swatch(colour: int) -> Html:
    """Returns a piece of a curve of this colour as an <svg> element, for a legend."""
    mark = colour % len(_MARKS)
    line = element("path", class_="bold", d="M2 8H46", **_line(colour))
    label = f"{_LINES[mark]}, {_MARKS[mark][0]}"
    return element(
        "svg", line, _marks([(24.0, 8.0)], colour), class_="chart", viewBox="0 0 48 16", role="img", aria_label=label
    )


def _frame(x0: float, x1: float, y0: float, y1: float, padding: float = 0.04) -> _Frame:
    margin = padding * (y1 - y0) or 0.05 * (abs(y1) or 1.0)
    return _Frame(x0, x1 if x1 > x0 else x0 + 1.0, y0 - margin, y1 + margin)


def _curve(curve: Series, frame: _Frame) -> Html:
    points = thin(curve.points)
    title = element("title", curve.name)
    places = [(frame.x(x), frame.y(y)) for x, y in _finite(points)]
    if len(places) == 1:
        ((x, y),) = places
        return element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5, style=_colour("fill", curve.colour))
    parts, pen = [], "M"
    for (x, y), following in zip(points, [*points[1:], (0, None)], strict=True):
        if y is not None:
            alone = pen == "M" and following[1] is None
            parts.append(f"{pen}{frame.x(x):.1f} {frame.y(y):.1f}{'h0' * alone}")  # of no length, but with round ends
        pen = "M" if y is None else "L"
    every = math.ceil(len(places) / MOST_MARKS)
    last = len(places) - 1 - curve.colour % every  # staggered, so that the marks of near curves do not hide each other
    weight = "bold" if curve.bold else "thin"
    line = element("path", title, class_=weight, d="".join(parts), **_line(curve.colour))
    return join([line, _marks(places[last::-every], curve.colour)]) if curve.marked else line


def _ring(curve: Series, frame: _Frame) -> Html:
    if curve.ringed is None:
        return Html()
    x, y = curve.ringed
    title = element("title", f"{curve.name}: {_end(y)} at {x:,.0f}")
    place = {"cx": f"{frame.x(x):.1f}", "cy": f"{frame.y(y):.1f}"}
    return element("circle", title, class_="ring", **place, r=8, style=_colour("stroke", curve.colour))


def _level(level: Level, frame: _Frame) -> Html:
    y = frame.y(level.value)
    line = element("path", class_="level", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}")
    # Above the line, but below it where it is near the top.
    below = y < TOP + 18
    place = {"x": WIDTH - RIGHT - 4, "y": f"{y + (15 if below else -5):.1f}"}
    return join([line, _text(f"{level.name}: {_end(level.value)}", "mark", "end", **place)])


def _line(colour: int) -> dict[str, str | None]:
    """The attributes of a curve's look."""
    return {"style": _colour("stroke", colour), "stroke_dasharray": _DASHES[colour % len(_DASHES)] or None}


def _marks(places: Sequence[tuple[float, float]], colour: int) -> Html:
    _, outline, filled = _MARKS[colour % len(_MARKS)]
    path = "".join(f"M{x:.1f} {y:.1f}{outline}" for x, y in places)
    own = f"var(--c{colour % COLOURS})"
    return element("path", class_="marks", d=path, style=f"stroke:{own};fill:{own if filled else 'var(--paper)'}")


def _finite(points: Sequence[XY]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None]


def _bar(column: Bin, frame: _Frame) -> Html:
    left, right, top = frame.x(column.first - 0.5), frame.x(column.last + 0.5), frame.y(column.height)
    return element(
        "rect",
        element("title", f"{column.name}: {column.height:.3g}"),
        class_="bar",
        x=f"{left + 0.5:.1f}",
        y=f"{top:.1f}",
        width=f"{right - left - 1:.1f}",
        height=f"{HEIGHT - BOTTOM - top:.1f}",
    )


def _axes(frame: _Frame, x_label: str, y_label: str) -> Html:
    base = HEIGHT - BOTTOM
    parts = []
    for tick in ticks(frame.y0, frame.y1):
        y = frame.y(tick)
        parts.append(element("path", class_="grid", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}"))
        parts.append(_text(f"{tick:g}", "tick", "end", x=LEFT - 7, y=f"{y + 4:.1f}"))
    for tick in ticks(frame.x0, frame.x1, 5):
        x = frame.x(tick)
        parts.append(element("path", class_="axis", d=f"M{x:.1f} {base}v4"))
        parts.append(_text(_short(tick), "tick", "middle", x=f"{x:.1f}", y=base + 18))
    turned = f"translate(15 {(TOP + base) / 2:.0f}) rotate(-90)"
    parts.append(element("path", class_="axis", d=f"M{LEFT} {base}H{WIDTH - RIGHT}"))
    parts.append(_text(x_label, "label", "middle", x=f"{(LEFT + WIDTH - RIGHT) / 2:.0f}", y=HEIGHT - 6))
    parts.append(_text(y_label, "label", "middle", transform=turned))
    return join(parts)


def _text(text: str, kind: str, anchor: str, style: str | None = None, **place: object) -> Html:
    return element("text", text, class_=kind, **place, text_anchor=anchor, style=style)


def _short(value: float) -> str:
    return f"{value / 1e6:g} M" if abs(value) >= 1e6 else f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:g}"


def _end(value: float) -> str:
    """A curve's last value, in five characters: more do not fit beside it."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _colour(attribute: str, index: int) -> str:
    return f"{attribute}:var(--c{index % COLOURS})"


def _svg(title: str, *parts: Html) -> Html:
    return element("svg", *parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
