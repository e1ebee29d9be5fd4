import math
import re
import xml.etree.ElementTree as ET

import pytest

from ctcd_jax.page.plots import COLOURS, Point, Series, line_chart, scatter, spread, swatch, thin, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (4.9, 9.2, [5, 6, 7, 8, 9]),
        (0.32, 0.71, [0.4, 0.5, 0.6, 0.7]),
        (-0.15, 0.05, [-0.15, -0.1, -0.05, 0, 0.05]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_labels_are_moved_apart_and_stay_inside_in_their_order():
    placed = spread([50, 50, 52, 98], 10, 0, 100)
    assert placed == [50, 60, 70, 98]
    crowded = spread([95, 99, 97], 10, 0, 100)
    assert crowded == [80, 100, 90]


def test_thinning_keeps_the_ends_and_the_extremes_of_equal_groups():
    points = [(x, value) for x, value in enumerate([5, 1, 2, 9, 3, 4, 4, 8, 0, 7, 6, 3])]
    assert thin(points, 12) == points
    # Two groups of six: 5 1 2 9 3 4 and 4 8 0 7 6 3.
    assert thin(points, 6) == [(0, 5), (1, 1), (3, 9), (7, 8), (8, 0), (11, 3)]


def test_a_spike_in_100_000_points_and_a_gap_stay():
    points = [(x, math.sin(x)) for x in range(100_000)]
    points[31_415] = 31_415, 50.0
    kept = thin(points, 400)
    assert len(kept) <= 400
    assert {points[0], points[-1], (31_415, 50.0)} <= set(kept)
    assert kept == sorted(kept)
    points[77] = 77, None
    kept = thin(points, 400)
    assert len(kept) <= 400
    assert (77, None) in kept


def path_of(svg, weight):
    return next(node for node in ET.fromstring(svg).iter("path") if node.get("class") == weight)


def test_a_curve_is_linear_in_the_data_and_labelled_with_its_last_value():
    svg = line_chart(
        "c", "loss <of> all", [Series("a & b", [(0, 4.0), (50, 3.0), (100, 2.0)], 1, True)], "step", "loss"
    )
    root = ET.fromstring(svg)
    assert root.get("aria-label") == "loss <of> all"
    path = path_of(svg, "bold")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split()) for pair in path.get("d")[1:].split("L"))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.11)
    assert y2 > y0  # a falling loss goes down on the screen
    assert path.find("title").text == "a & b"
    assert [node.text for node in root.iter("text") if node.get("class") == "end"] == ["2.000"]


def test_the_last_value_has_at_most_five_characters():
    for value, text in ((0.12345, "0.123"), (9.87654, "9.877"), (10.0617, "10.06"), (123.456, "123.5")):
        svg = line_chart("c", "t", [Series("a", [(0, 1.0), (1, value)], 0, True)], "step", "loss")
        assert [node.text for node in ET.fromstring(svg).iter("text") if node.get("class") == "end"] == [text]


def test_a_steep_start_may_leave_the_frame():
    points = [(0, 1000.0), *((step, 5.0 + math.sin(step)) for step in range(20, 101))]
    tall, cut = (
        line_chart("c", "t", [Series("a", points, 0, False)], "step", "loss", skip_start=skip) for skip in (0, 0.1)
    )
    heights = [
        [float(pair.split()[1]) for pair in path_of(svg, "thin").get("d")[1:].split("L")[1:]] for svg in (tall, cut)
    ]
    assert max(heights[0]) - min(heights[0]) < 2
    assert max(heights[1]) - min(heights[1]) > 100


def test_scatter_names_its_points():
    root = ET.fromstring(scatter("t", [Point("<a>", 10, 50), Point("b", 20, 60)], "ms", "score"))
    circles = [(float(node.get("cx")), float(node.get("cy"))) for node in root.iter("circle")]
    assert circles[0][0] < circles[1][0]
    assert circles[0][1] > circles[1][1]
    assert [node.text for node in root.iter("text") if node.get("class") == "mark"] == ["<a>", "b"]


def test_a_curve_has_a_gap_where_there_is_no_value():
    points = [(0, 1.0), (1, None), (2, 2.0), (3, 3.0), (4, None), (5, None), (6, 2.0), (7, 1.0)]
    svg = line_chart("c", "t", [Series("a", points, 0, True)], "step", "loss")
    pieces = path_of(svg, "bold").get("d").split("M")[1:]
    assert [piece.count("L") for piece in pieces] == [0, 1, 1]
    assert pieces[0].endswith("h0")  # a dot
    assert [node.text for node in ET.fromstring(svg).iter("text") if node.get("class") == "end"] == ["1.000"]


def test_charts_of_the_same_panel_share_their_axes():
    low, high = Series("low", [(0, 1.0), (10, 1.5)], 0, False), Series("high", [(0, 5.0), (99, 9.0)], 1, False)
    apart = [line_chart("c", "t", [curve], "step", "loss", framed=[low, high]) for curve in (low, high)]
    labels = [[node.text for node in ET.fromstring(svg).iter("text")] for svg in apart]
    assert labels[0] == labels[1]
    assert path_of(apart[0], "thin").get("d") != path_of(apart[1], "thin").get("d")


def test_no_two_of_eight_curves_look_alike_without_their_colours():
    def looks(colour):
        series = [Series("a", [(0, 1.0), (1, 2.0)], colour, True, marked=True)]
        curve, marks = (path_of(line_chart("c", "t", series, "x", "y"), kind) for kind in ("bold", "marks"))
        plain = re.sub(r"[\d.]+ [\d.]+m", "m", marks.get("d"))
        return curve.get("stroke-dasharray"), (plain, marks.get("style").endswith("paper)"))

    dashes, marks = zip(*map(looks, range(COLOURS)), strict=True)
    assert len(set(dashes)) == len(set(marks)) == COLOURS == 8
    labels = {ET.fromstring(swatch(colour)).get("aria-label") for colour in range(COLOURS)}
    assert len(labels) == 8
    assert "dotted, triangles" in labels
