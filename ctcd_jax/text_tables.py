"""Tables as text: aligned columns for a terminal or a log, Markdown for a document; and numbers as they show them.

The first row heads the columns.
"""

from collections.abc import Sequence

from rich.cells import cell_len

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows) -> str:
    """Returns lines whose columns line up on a terminal: the first to the left, the others to the right."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    gaps = ([" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows)
    lines = (
        "  ".join([row[0] + first, *(gap + cell for gap, cell in zip(rest, row[1:], strict=True))])
        for row, (first, *rest) in zip(rows, gaps, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Rows, names: int = 1) -> str:
    """Returns a Markdown table; the first `names` columns are to the left, the others to the right."""
    rule = ["---"] * names + ["---:"] * (len(rows[0]) - names)
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in (rows[0], rule, *rows[1:]))
    return "\n".join(f"| {line} |" for line in lines)


def counted(number: int, noun: str) -> str:
    """Returns "1 thread", "2 threads", "1,000 threads"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def number_text(value: float, digits: int = 2, plus: str = "") -> str:
    """Returns a number for people; what rounds to zero has no sign.

    Args:
      value: the number.
      digits: after the point.
      plus: the sign of what is not negative.
    """
    text = f"{abs(value):,.{digits}f}"
    sign = "−" if value < 0 else plus
    return sign + text if text.strip("0.,") else text
