"""Tables and curves as CSV that a page carries within itself, as links that save a file without a network."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ctcd_jax import page
from ctcd_jax.page.markup import Html, element
from ctcd_jax.text_tables import number_text

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column: its heading on the page, its name in the CSV, and how the page shows a value (None is a dash).

    A column without a heading is in the CSV alone.
    """

    heading: str
    name: str
    show: Callable[[Any], str] = str


def data_table(
    file: str, columns: Sequence[Column], rows: Iterable[Sequence], caption: str = "", names: int = 1
) -> Html:
    """Returns a table with a link to its values, unrounded, as CSV.

    Args:
      file: name of the CSV file, without the suffix.
      columns: of the CSV file; those with a heading are shown.
      rows: values in the order of `columns`, numbers as numbers.
      caption: text.
      names: how many of the columns shown head the rows.
    """
    rows = list(rows)
    shown = [index for index, column in enumerate(columns) if column.heading]
    words = {
        place
        for place, index in enumerate(shown)
        if all(isinstance(row[index], str | None) for row in rows) and any(row[index] for row in rows)
    }
    body = [[MISSING if row[index] is None else columns[index].show(row[index]) for index in shown] for row in rows]
    head = [columns[index].heading for index in shown]
    link = download(file, [column.name for column in columns], rows)
    return page.table([head, *body], caption, names, [link], words)


def download(file: str, head: Sequence[str], rows: Iterable[Sequence]) -> Html:
    """Returns a link that saves rows as CSV: UTF-8, a header line, "." in numbers, nothing where None is.

    Args:
      file: name of the file, without the suffix.
      head: names of the columns.
      rows: values in their order.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return download_text(file, text.getvalue())


def download_text(file: str, text: str) -> Html:
    """Returns a link that saves a CSV that has been written already."""
    name = f"{page.slug(file)}.csv"
    data = quote(page.plain(text), safe=",:;/()*!~@$=+")
    return element("a", name, download=name, href=f"data:text/csv;charset=utf-8,{data}")


def fixed(digits: int, unit: str = "", scale: float = 1.0) -> Callable[[float], str]:
    """Returns a function that formats a number for a table.

    Args:
      digits: after the point.
      unit: what follows the number, with a space if there is to be one.
      scale: what the number is multiplied by first.
    """
    return lambda value: number_text(scale * value, digits) + unit


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def millions(value: float) -> str:
    return f"{value / 1e6:,.2f} M"


def hours(value: float) -> str:
    """Shows hours as h:mm:ss."""
    minutes, seconds = divmod(round(3600 * value), 60)
    whole, minutes = divmod(minutes, 60)
    return f"{whole}:{minutes:02}:{seconds:02}"
