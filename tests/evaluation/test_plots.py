import math
import xml.etree.ElementTree as ET

import pytest

from ctcd_jax.evaluation.plots import Point, Series, line_chart, scatter, spread, thin, ticks


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


def test_thinning_averages_equal_groups():
    points = [(x, 2 * x) for x in range(10)]
    assert thin(points, 5) == [(0.5, 1), (2.5, 5), (4.5, 9), (6.5, 13), (8.5, 17)]
    assert thin(points, 10) == points


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
