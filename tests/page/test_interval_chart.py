"""A chart of intervals names what it shows, in full."""

import re
from xml.etree import ElementTree

from ctcd_jax.page.intervals import TOP, Row, interval_chart


def test_long_names_are_broken_and_not_cut_and_what_follows_moves_down():
    long = "the student that CTCD has taught is better than the student of one-way distillation by half a nat a token"
    rows = [Row("short", [1.0, 2.0], 1.5, 1.2, 1.8), Row(long, [], 3.0, None, None), Row("last", [], 2.0, 1.0, 3.0)]
    chart = ElementTree.fromstring(str(interval_chart("title", rows, "nats")))
    texts = [text for text in chart.iter("text") if text.get("class") == "mark"]
    assert [text.text for text in texts if text.text in ("short", "last")] == ["short", "last"]
    assert " ".join(text.text for text in texts[1:-1]) == long
    assert len(texts) == 4
    heights = [float(text.get("y")) for text in texts]
    means = [float(circle.get("cy")) for circle in chart.iter("circle") if circle.get("r") == "5"]
    in_order = [heights[0], means[0], *heights[1:3], means[1], heights[3], means[2]]
    assert in_order == sorted(set(in_order))
    assert in_order[0] > TOP
    assert means[-1] < float(re.search(r"V([\d.]+)", next(chart.iter("path")).get("d"))[1])
