"""Damage that somebody may have done on purpose: strategies that change a place in a JSON document, or bytes."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

VALUES = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 3, 2**31, 2**63 - 1, 2**63, 2**70, -(2**70), 0.5, -0.5, 1e308, float("inf"),
        float("nan"), "", "a", "../../etc/passwd", "/etc/passwd", "a/../../b", "\x00", "<script>alert(1)</script>",
        "é" * 5000, "\ud800", [], [None], [[]], {}, {"a": {}}, [1] * 1000,
    ]
)  # fmt: skip


def places(content: Any, below: tuple = ()) -> Iterator[tuple]:
    """Yields the path of everything in a JSON document, of a list the first three entries alone."""
    entries = enumerate(content[:3]) if isinstance(content, list) else ()
    items = content.items() if isinstance(content, dict) else entries
    for key, inner in items:
        yield (*below, key)
        yield from places(inner, (*below, key))


@st.composite
def changed(draw, content: dict) -> dict:
    """A document in which one or two places hold something else, or are gone."""
    made = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(made))
        if not found:
            break
        *above, last = draw(st.sampled_from(found))
        inner = made
        for key in above:
            inner = inner[key]
        if draw(st.integers(0, 4)):
            inner[last] = copy.deepcopy(draw(VALUES))
        else:
            del inner[last]
    return made


@st.composite
def torn(draw, data: bytes) -> bytes:
    """Bytes of which a few are others, or that end early, or go on."""
    made = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    end = draw(st.sampled_from(["as it is", "early", "late"]))
    if end == "early":
        del made[draw(st.integers(0, len(made))) :]
    return bytes(made) + (draw(st.binary(max_size=9)) if end == "late" else b"")
