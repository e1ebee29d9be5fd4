"""Draws a cohort: its members as boxes, who teaches whom as labelled arrows, in SVG."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ctcd_jax.artifacts.runs import EdgeConfig, MemberConfig, RunConfig, schedule_words
from ctcd_jax.page import Html, element
from ctcd_jax.report.shapes import member_shapes

BOX_WIDTH, BOX_HEIGHT = 164, 84
WIDTH = 440
LINE = 16
BEND = 34
DIVERGENCES = {"forward_kl": "forward KL", "reverse_kl": "reverse KL", "jensen_shannon": "Jensen–Shannon"}

Position = tuple[float, float]
Pair = tuple[str, str]


def cohort_graph(name: str, config: RunConfig) -> Html:
    """Returns the cohort of a run's config.json as an <svg> element; frozen members are dashed.

    Args:
      name: of the run; distinct on the page.
      config: with `members`, `edges` and, for the sizes, `resolved.models`.
    """
    members, edges = config["members"], config.get("edges") or []
    places, height = _layout(list(members))
    shapes = member_shapes(config)
    marker = f"tip-{name}"
    pairs: dict[Pair, list[EdgeConfig]] = {}  # an arrow a pair, whatever it is that one learns of the other
    for edge in edges:
        pairs.setdefault((edge["source"], edge["target"]), []).append(edge)
    drawn = [_arrow(pair, of_pair, pairs, places, marker) for pair, of_pair in pairs.items()]
    # All labels after all arrows, so that none is crossed out.
    arrows = [path for path, _ in drawn] + [line for _, label in drawn for line in label]
    tip = element(
        "marker",
        element("path", class_="tip", d="M0 0.5L10 5L0 9.5Z"),
        id=marker,
        viewBox="0 0 10 10",
        refX=9,
        refY=5,
        markerWidth=8,
        markerHeight=8,
        orient="auto",
        markerUnits="userSpaceOnUse",
    )
    return element(
        "svg",
        element("defs", tip),
        element("g", *arrows, class_="edges"),
        *(_box(member, members[member], shapes[member], places[member]) for member in members),
        class_="cohort",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        aria_label=describe(config),
    )


def describe(config: RunConfig) -> str:
    """Returns the graph in words: "teacher (trainable), student (trainable); teacher teaches student, weight 1"."""
    members = ", ".join(
        f"{name} ({'trainable' if member.get('trainable', True) else 'frozen'})"
        for name, member in config["members"].items()
    )
    edges = [
        f"{edge['source']} teaches {edge['target']}{_by(edge)}, weight {_number(edge.get('weight', 1.0))}"
        for edge in config.get("edges") or []
    ]
    return "; ".join([members, *edges])


def _layout(names: Sequence[str]) -> tuple[dict[str, Position], float]:
    """Centres of the boxes, and the height of the drawing.

    The first member, by custom the teacher, stands on top; rows stay narrow so that a telephone shows them legibly.
    """
    middle, top = WIDTH / 2, BOX_HEIGHT / 2 + 4
    if len(names) <= 2:
        below = top + BOX_HEIGHT + 92
        places = dict(zip(names, [(middle, top), (middle, below)], strict=False))
        return places, (top if len(names) == 1 else below) + BOX_HEIGHT / 2 + 4
    if len(names) == 3:
        below = top + BOX_HEIGHT + 104
        left, right = BOX_WIDTH / 2 + 4, WIDTH - BOX_WIDTH / 2 - 4
        places = dict(zip(names, [(middle, top), (left, below), (right, below)], strict=True))
        return places, below + BOX_HEIGHT / 2 + 40
    radius_x, radius_y = (WIDTH - BOX_WIDTH) / 2 - 4, 84 * len(names) / 2
    places = {}
    for index, name in enumerate(names):
        sine, cosine = (function(2 * math.pi * index / len(names)) for function in (math.sin, math.cos))
        # A ring, squarer than an ellipse, on which two boxes of the last row would overlap.
        across = math.copysign(abs(sine) ** 0.4, sine)
        places[name] = middle + radius_x * across, top + radius_y * (1 - cosine)
    return places, max(y for _, y in places.values()) + BOX_HEIGHT / 2 + 40


def _box(name: str, member: MemberConfig, shape: Mapping[str, Any], centre: Position) -> Html:
    x, y = centre[0] - BOX_WIDTH / 2, centre[1] - BOX_HEIGHT / 2
    trainable = member.get("trainable", True)
    layers, hidden, parameters = (shape.get(key) for key in ("layers", "hidden", "parameters"))
    size = [f"{layers} {'layer' if layers == 1 else 'layers'}" if layers else "", f"hidden {hidden}" if hidden else ""]
    lines = [
        ", ".join(filter(None, size)),
        f"{_millions(parameters)} parameters" if parameters else "",
        f"hard loss × {_number(member.get('hard_weight', 1.0))}" if trainable else "frozen",
    ]
    shown = [line for line in lines if line]
    start = centre[1] - LINE * len(shown) / 2 + 3
    middle = f"{centre[0]:.1f}"
    return element(
        "g",
        element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=BOX_WIDTH, height=BOX_HEIGHT, rx=10),
        element("text", name, class_="name", x=middle, y=f"{start:.1f}"),
        *(
            element("text", line, class_="detail", x=middle, y=f"{start + 3 + LINE * index:.1f}")
            for index, line in enumerate(shown, start=1)
        ),
        class_="member" if trainable else "member frozen",
    )


def _arrow(
    pair: Pair, edges: Sequence[EdgeConfig], pairs: Collection[Pair], places: Mapping[str, Position], marker: str
) -> tuple[Html, list[Html]]:
    """The arrow of a pair, which has these edges, and the lines of its label."""
    source, target = (places[name] for name in pair)
    opposite = pair[::-1] in pairs
    side = _side(source, target, places, opposite)
    bend = 2 * BEND if opposite else 0
    control = _point((a + b) / 2 + bend * n for a, b, n in zip(source, target, side, strict=True))
    curve = _bezier(source, control, target)
    start = next(t for t in _steps() if not _inside(curve(t), source))
    end = next(t for t in reversed(_steps()) if not _inside(curve(t), target))
    # The part between the boxes, by the rule for cutting a quadratic curve.
    (x0, y0), (x1, y1) = curve(start), curve(end)
    cx, cy = (
        (1 - start) * (1 - end) * a + (start + end - 2 * start * end) * c + start * end * b
        for a, c, b in zip(source, control, target, strict=True)
    )
    curve_between = f"M{x0:.1f} {y0:.1f}Q{cx:.1f} {cy:.1f} {x1:.1f} {y1:.1f}"
    path = element("path", class_="edge", d=curve_between, marker_end=f"url(#{marker})")
    lines = [line for edge in edges for line in _edge_lines(edge)]
    return path, _label(lines, curve((start + end) / 2), side)


def _edge_lines(edge: EdgeConfig) -> list[str]:
    when = [words] if (words := schedule_words(edge)) else []
    if not _of_logits(edge):
        return [f"weight {_number(edge.get('weight', 1.0))}, {edge['signal']}", *when]
    divergence = edge.get("divergence", "forward_kl")
    tau = f"τ {_number(edge.get('temperature', 1.0))}" + (", × τ²" if edge.get("tau_squared") else "")
    lines = [f"weight {_number(edge.get('weight', 1.0))}", *when, DIVERGENCES.get(divergence, divergence), tau]
    if edge.get("positions", "masked") != "masked":
        lines.append(edge["positions"])
    return lines


def _by(edge: EdgeConfig) -> str:
    return "" if _of_logits(edge) else f" by {edge['signal']}"


def _of_logits(edge: EdgeConfig) -> bool:
    return edge.get("signal", "logits") == "logits"


def _label(lines: Sequence[str], middle: Position, side: Position) -> list[Html]:
    if abs(side[0]) < 0.3:  # a level arrow has room above or below it
        lines = [lines[0], ", ".join(lines[1:])]
        anchor, x = "middle", middle[0]
        y = middle[1] + (LINE + 4 if side[1] > 0 else -9 - LINE)
    else:
        anchor = "start" if side[0] > 0 else "end"
        half = LINE * (len(lines) - 1) / 2
        # A slanting arrow comes nearer at the first or last line: stand back by as much.
        x = middle[0] + math.copysign(10 + half * abs(side[1] / side[0]), side[0])
        y = middle[1] - half + 5
    return [
        element(
            "text",
            line,
            class_="detail" if index else "weight",
            x=f"{x:.1f}",
            y=f"{y + LINE * index:.1f}",
            style=f"text-anchor:{anchor}",
        )
        for index, line in enumerate(lines)
    ]


def _side(source: Position, target: Position, places: Mapping[str, Position], opposite: bool) -> Position:
    """Unit vector across the edge: to its right where an opposite edge keeps to its own right, else outward."""
    dx, dy = target[0] - source[0], target[1] - source[1]
    length = math.hypot(dx, dy)
    normal = -dy / length, dx / length
    if opposite:
        return normal
    centre = [sum(place[axis] for place in places.values()) / len(places) for axis in (0, 1)]
    outward = sum(n * ((a + b) / 2 - c) for n, a, b, c in zip(normal, source, target, centre, strict=True))
    return normal if outward > 1e-9 else (-normal[0], -normal[1])


def _point(coordinates: Iterable[float]) -> Position:
    x, y = coordinates
    return x, y


def _bezier(a: Position, control: Position, b: Position) -> Callable[[float], Position]:
    def point(t: float) -> Position:
        return _point((1 - t) ** 2 * p + 2 * t * (1 - t) * c + t**2 * q for p, c, q in zip(a, control, b, strict=True))

    return point


def _steps() -> list[float]:
    return [index / 400 for index in range(401)]


def _inside(point: Position, centre: Position) -> bool:
    margin = 3
    return abs(point[0] - centre[0]) < BOX_WIDTH / 2 + margin and abs(point[1] - centre[1]) < BOX_HEIGHT / 2 + margin


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number:,}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
