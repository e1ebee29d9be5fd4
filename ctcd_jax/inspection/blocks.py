"""What is said about a corpus, not yet laid out: `words` makes it, `text` and `html` show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ctcd_jax.inspection.examples import ExampleRow
from ctcd_jax.inspection.facts import Bar


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of text; the first heads the columns, the first column the rows."""

    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Note:
    """A sentence or two."""

    text: str


@dataclass(frozen=True)
class Histogram:
    """Bars over the numbers `x`; a bar is as high as its share, which is called `y`. `note` says what is to be seen."""

    title: str
    note: str
    x: str
    y: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Curve:
    """A line through `points`; a page draws it, plain text leaves it out."""

    title: str
    x: str
    y: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Examples:
    """Rows of tokens."""

    rows: Sequence[ExampleRow]


Block = Facts | Table | Note | Histogram | Curve | Examples


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]
