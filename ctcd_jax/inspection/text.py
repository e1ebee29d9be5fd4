"""Sections on a corpus as lines of text, for a terminal or a file."""

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ctcd_jax.inspection.blocks import Curve, Examples, Facts, Histogram, Note, Section, Table
from ctcd_jax.inspection.examples import HIDDEN, KEPT, RANDOM, ExampleRow, Token
from ctcd_jax.inspection.facts import Bar
from ctcd_jax.text_tables import aligned

BAR_WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉"

_QUIET, _BAR = "dim", "blue"
_FATES = {HIDDEN: "bold blue", RANDOM: "bold red", KEPT: "bold green"}


def as_text(sections: Sequence[Section], colour: bool = False, width: int = 100) -> str:
    """Returns the sections as text.

    Args:
      sections: in their order.
      colour: with ANSI codes.
      width: columns at which prose and tokens are broken; tables are not.
    """
    system = "standard" if colour else None
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=colour, color_system=system)
    for line in _lines(sections, console):
        console.print(line, soft_wrap=True)
    return written.getvalue().removesuffix("\n")


def _lines(sections: Sequence[Section], console: Console) -> Iterator[Text]:
    for section in sections:
        yield Text()
        yield Text(section.title, "bold")
        drawable = (block for block in section.blocks if not isinstance(block, Curve))
        for number, block in enumerate(drawable):
            if number:
                yield Text()
            match block:
                case Facts(pairs):
                    yield from _facts(pairs, console)
                case Table(rows):
                    head, *rest = aligned(rows).splitlines()
                    yield from _indented([Text(head, _QUIET), *map(Text, rest)])
                case Note(prose):
                    yield from _wrapped(Text(prose), console)
                case Histogram():
                    yield Text(f"  {block.title}")
                    yield from _wrapped(Text(block.note), console)
                    yield from _histogram(block.x, block.y, block.bars)
                case Examples(rows):
                    yield from _examples(rows, console)


def _indented(lines: Iterable[Text], first: Text | str = "  ", rest: Text | str = "  ") -> Iterator[Text]:
    """Yields the lines behind an indent of their own for the first."""
    for number, line in enumerate(lines):
        yield Text.assemble(rest if number else first, line)


def _wrapped(line: Text, console: Console, first: Text | str = "  ", rest: Text | str = "  ") -> Iterator[Text]:
    lines = line.wrap(console, console.width - 1 - cell_len(str(rest)))
    for broken in lines:
        broken.rstrip()
    return _indented(lines, first, rest)


def _facts(pairs: Sequence[tuple[str, str]], console: Console) -> Iterator[Text]:
    names = max(len(name) for name, _ in pairs)
    for name, fact in pairs:
        label = Text.assemble("  ", (name.ljust(names), _QUIET), "  ")
        yield from _wrapped(Text(fact), console, label, " " * (names + 4))


def _histogram(x: str, y: str, bars: Sequence[Bar]) -> Iterator[Text]:
    largest = max(bar.share for bar in bars)
    numbers = max(len(x), *(len(bar.label) for bar in bars))
    yield Text(f"  {x:>{numbers}}  {y}", _QUIET)
    for bar in bars:
        line = Text(f"  {bar.label:>{numbers}}  {100 * bar.share:>{len(y)}.1f}")
        yield line.append("  ").append(_blocks(bar.share / largest), _BAR) if bar.count else line


def _blocks(share: float) -> str:
    """A bar of eighths of characters; what is there at all is seen."""
    whole, eighths = divmod(max(round(8 * BAR_WIDTH * share), share > 0), 8)
    return "█" * whole + EIGHTHS[eighths].strip()


def _examples(rows: Sequence[ExampleRow], console: Console) -> Iterator[Text]:
    key = (
        (Token("word", fate=HIDDEN, seen="[MASK]"), "hidden,"),
        (Token("word", fate=RANDOM, seen="other"), "another in its place,"),
        (Token("word", fate=KEPT, seen="word"), "left as it is"),
    )
    yield Text(" ").join([Text("  Asked for:"), *(_token(token).append(f" {meaning}", "") for token, meaning in key)])
    for row in rows:
        yield Text()
        yield Text(f"  {row.summary}")
        for number, segment in enumerate(row.segments, 1):
            label, below = (Text.assemble("  ", (f"{edge} │", _QUIET), " ") for edge in (f"{number:>2}", "  "))
            yield from _wrapped(Text(" ").join(map(_token, segment)), console, label, below)


def _token(token: Token) -> Text:
    if token.fate:
        return Text.assemble((f"{{{token.text}→{token.seen}}}", _FATES[token.fate]))
    return Text.assemble((token.text, _QUIET if token.special else ""))
