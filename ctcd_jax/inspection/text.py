"""Sections on a corpus as lines of text, for a terminal or a file."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence

from ctcd_jax.inspection.blocks import Curve, Examples, Facts, Histogram, Note, Section, Table
from ctcd_jax.inspection.examples import HIDDEN, KEPT, RANDOM, ExampleRow, Token
from ctcd_jax.inspection.facts import Bar

BAR_WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉"

_CODES = {"title": "1", "quiet": "2", "bar": "34", HIDDEN: "1;34", RANDOM: "1;31", KEPT: "1;32"}

Paint = Callable[[str, str], str]
"""(text, what it is) -> the text in its colour."""


def coloured(text: str, what: str) -> str:
    """Puts the ANSI codes of what the text is around it."""
    return f"\x1b[{_CODES[what]}m{text}\x1b[0m" if what in _CODES else text


def plain(text: str, what: str) -> str:
    """Leaves the text alone."""
    return text


def lines(sections: Sequence[Section], paint: Paint = plain, width: int = 100) -> Iterator[str]:
    """Yields the sections line by line; prose and tokens are broken before `width`, tables are not."""
    for section in sections:
        yield ""
        yield paint(section.title, "title")
        drawable = (block for block in section.blocks if not isinstance(block, Curve))
        for number, block in enumerate(drawable):
            if number:
                yield ""
            match block:
                case Facts(pairs):
                    yield from _facts(pairs, paint, width)
                case Table(rows):
                    yield from _table(rows, paint)
                case Note(text):
                    yield from _prose(text, width)
                case Histogram():
                    yield f"  {block.title}"
                    yield from _prose(block.note, width)
                    yield from _histogram(block.x, block.y, block.bars, paint)
                case Examples(rows):
                    yield from _examples(rows, paint, width)


def _facts(pairs: Sequence[tuple[str, str]], paint: Paint, width: int) -> Iterator[str]:
    names = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        first, *rest = _prose(text, width - names - 4, "")
        yield f"  {paint(name.ljust(names), 'quiet')}  {first}"
        yield from (" " * (names + 4) + line for line in rest)


def _table(rows: Sequence[Sequence[str]], paint: Paint) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        first, *rest = (" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        cells = [row[0] + first, *(gap + cell for gap, cell in zip(rest, row[1:], strict=True))]
        line = "  " + "  ".join(cells).rstrip()
        yield line if number else paint(line, "quiet")


def _histogram(x: str, y: str, bars: Sequence[Bar], paint: Paint) -> Iterator[str]:
    most = max(bar.share for bar in bars)
    numbers = max(len(x), *(len(bar.label) for bar in bars))
    yield paint(f"  {x:>{numbers}}  {y}", "quiet")
    for bar in bars:
        line = f"  {bar.label:>{numbers}}  {100 * bar.share:>{len(y)}.1f}"
        yield f"{line}  {paint(_blocks(bar.share / most), 'bar')}" if bar.count else line


def _blocks(share: float) -> str:
    """A bar of eighths of characters; what is there at all is seen."""
    whole, eighths = divmod(max(round(8 * BAR_WIDTH * share), share > 0), 8)
    return "█" * whole + EIGHTHS[eighths].strip()


def _examples(rows: Sequence[ExampleRow], paint: Paint, width: int) -> Iterator[str]:
    key = (
        (Token("word", fate=HIDDEN, seen="[MASK]"), "hidden,"),
        (Token("word", fate=RANDOM, seen="other"), "another in its place,"),
        (Token("word", fate=KEPT, seen="word"), "left as it is"),
    )
    yield "  Asked for: " + " ".join(f"{paint(_token(token), token.fate)} {meaning}" for token, meaning in key)
    for row in rows:
        yield ""
        yield f"  {row.summary}"
        for number, segment in enumerate(row.segments, 1):
            words = [(_token(token), token.fate or ("quiet" if token.special else "")) for token in segment]
            label, *more = _wrapped(words, paint, width - 6, "")
            yield f"  {paint(f'{number:>2} │', 'quiet')} {label}"
            yield from (f"  {paint('   │', 'quiet')} {line}" for line in more)


def _token(token: Token) -> str:
    return f"{{{token.text}→{token.seen}}}" if token.fate else token.text


def _prose(text: str, width: int, indent: str = "  ") -> Iterator[str]:
    return _wrapped([(word, "") for word in text.split()], plain, width, indent)


def _wrapped(words: Sequence[tuple[str, str]], paint: Paint, width: int, indent: str = "  ") -> Iterator[str]:
    """Yields lines of (text, what it is); colour codes take no room."""
    line, used = [], len(indent)
    for text, what in words:
        if line and used + 1 + _width(text) > width:
            yield indent + " ".join(line)
            line, used = [], len(indent)
        line.append(paint(text, what))
        used += 1 + _width(text)
    yield indent + " ".join(line)


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
