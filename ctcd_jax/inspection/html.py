"""Sections on a corpus as one HTML page."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ctcd_jax import page
from ctcd_jax.inspection.blocks import Block, Curve, Examples, Facts, Histogram, Note, Section, Table
from ctcd_jax.inspection.examples import HIDDEN, KEPT, RANDOM, ExampleRow, Token
from ctcd_jax.page import Html, element
from ctcd_jax.page.plots import Bin, Series, bar_chart, line_chart

STYLE = """
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.25rem 1.2rem; font-size: 0.95rem; }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.chart .thin { stroke-width: 2.2; opacity: 1; }
.legend { margin-bottom: 1.6rem; }
.tokens { list-style: none; padding: 0; margin: 0.3rem 0 1.6rem; font-size: 0.95rem; line-height: 1.75; }
.tokens li { padding: 0.2rem 0.7rem; border-left: 3px solid var(--rule); overflow-wrap: anywhere; }
.tokens li:nth-child(odd) { background: var(--wash); border-color: var(--quiet); }
.tokens .special { color: var(--quiet); font-size: 0.8rem; }
mark { padding: 0.05rem 0.25rem; border-radius: 3px; font-weight: 600; background: none; }
mark.hidden { background: var(--c0); color: var(--paper); }
mark.random { color: var(--c1); box-shadow: inset 0 0 0 1.5px var(--c1); }
mark.kept { padding: 0; color: var(--c2); text-decoration: underline 2px; text-underline-offset: 0.2em; }
"""

KEY = (
    (Token("word", fate=HIDDEN, seen="[MASK]"), "asked for, hidden by [MASK]"),
    (Token("word", fate=RANDOM, seen="other"), "asked for, another in its place"),
    (Token("word", fate=KEPT, seen="word"), "asked for, left as it is"),
)


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Returns the page; it loads nothing.

    Args:
      title: of the page.
      lead: the sentence below the title.
      sections: in their order.
    """
    return page.page(title, lead, [page.section(section.title, *_parts(section.blocks)) for section in sections], STYLE)


def _parts(blocks: Sequence[Block]) -> Iterator[Html]:
    """Yields the blocks as HTML; neighbouring drawings share a grid."""
    for _, group in groupby(blocks, lambda block: isinstance(block, Histogram | Curve)):
        alike = list(group)
        if figures := [_figure(block) for block in alike if isinstance(block, Histogram | Curve)]:
            yield page.grid(figures)
        yield from (_block(block) for block in alike if not isinstance(block, Histogram | Curve))


def _block(block: Facts | Table | Note | Examples) -> Html:
    match block:
        case Facts(pairs):
            return _facts(pairs)
        case Table(rows):
            return page.table(rows)
        case Note(text):
            return page.paragraph(text, "note")
        case Examples(rows):
            return page.join([_key(), *map(_row, rows)])


def _figure(block: Histogram | Curve) -> Html:
    match block:
        case Histogram(title, note, x, y, bars):
            columns = [Bin(bar.label, bar.first, bar.last, 100 * bar.share) for bar in bars]
            spoken = ", ".join(f"{bar.label}: {100 * bar.share:.1f}" for bar in bars)
            return page.figure(title, bar_chart(f"{title}, {y}: {spoken}", columns, x, y), note)
        case Curve(title, x, y, points):
            return page.figure(title, line_chart("curve", title, [Series(title, points, 0, bold=False)], x, y))


def _facts(pairs: Sequence[tuple[str, str]]) -> Html:
    items = (element(tag, text) for pair in pairs for tag, text in zip(("dt", "dd"), pair, strict=True))
    return element("dl", *items, class_="facts")


def _key() -> Html:
    return page.legend([(_token(token), f" {meaning}") for token, meaning in KEY])


def _row(row: ExampleRow) -> Html:
    segments = (element("li", page.join(map(_token, segment), " ")) for segment in row.segments)
    return page.join([page.heading(row.summary), element("ol", *segments, class_="tokens")])


def _token(token: Token) -> Html | str:
    if token.fate:
        shown = f"{token.text}→{token.seen}" if token.fate == RANDOM else token.text
        return element("mark", shown, class_=token.fate)
    return element("span", token.text, class_="special") if token.special else token.text
