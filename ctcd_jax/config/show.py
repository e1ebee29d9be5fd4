"""`ctcd train --show`: every field of a config with its value, where that comes from, and what it means."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from rich.cells import cell_len

from ctcd_jax.config.builders import from_preset
from ctcd_jax.config.fields import FIELDS
from ctcd_jax.config.file import field_path, value_at

WIDEST_VALUE = 24  # columns where lines are wrapped; what is wider has the rest of its row below it
NARROWEST_MEANING = 20
SECTIONS_OF_MANY = ("members.", "edges.")


class Row(NamedTuple):
    """A field as it is shown.

    Attributes:
      prefix: what its name has before it on the command line, e.g. "--config.train.".
      name: its own.
      value: as the command line would take it.
      origin: where the value comes from.
      meaning: of the field.
    """

    prefix: str
    name: str
    value: str
    origin: str
    meaning: str


def show(rows: Sequence[Row], log: Callable[[str], None] = print, width: int | None = None) -> None:
    """Says the fields, section by section, in aligned columns.

    Args:
      rows: of `config_rows`.
      log: called with each line.
      width: columns that there are; None: as many as it takes, and a field has one line.
    """
    cells = [("  " + row.name, row.value, row.origin, row.meaning) for row in rows]
    most = (None, WIDEST_VALUE if width else None, None)
    widths = [
        max(cell_len(cell) for cell in column if limit is None or cell_len(cell) <= limit)
        for column, limit in zip(list(zip(*cells, strict=True))[:3], most, strict=True)
    ]
    texts = iter(cells)
    for prefix, section in groupby(rows, lambda row: row.prefix):
        log(prefix)
        for _ in section:
            for line in _lines(next(texts), widths, width):
                log(line)


def _lines(cells: tuple[str, str, str, str], widths: Sequence[int], width: int | None) -> Iterator[str]:
    """Yields the lines of a field, none of them longer than `width`, if that can be."""
    *columns, meaning = cells
    margin = sum(widths) + 2 * len(widths)
    if width is not None and width - margin < NARROWEST_MEANING:
        yield _padded(columns, widths).rstrip()
        yield from textwrap.wrap(meaning, max(width, 26), initial_indent=" " * 6, subsequent_indent=" " * 6)
        return
    name, value, origin = columns
    if cell_len(value) > widths[1]:
        yield f"{name}{' ' * (widths[0] - cell_len(name))}  {value}"
        name = value = ""
    first, *rest = textwrap.wrap(meaning, width - margin, break_long_words=False) if width else [meaning]
    yield _padded((name, value, origin), widths) + first
    yield from (" " * margin + line for line in rest)


def _padded(columns: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell + " " * (wide - cell_len(cell) + 2) for cell, wide in zip(columns, widths, strict=True))


def config_rows(config: ConfigDict, before: ConfigDict, overrides: Sequence[str], source: str) -> list[Row]:
    """Returns a row for every field of a checked config.

    A value that is the field's default, or that of the preset, is called so wherever it was written.

    Args:
      config: with the overrides applied.
      before: the same without them.
      overrides: `--config.FIELD=VALUE`, each one argument.
      source: what has made `before`, e.g. "config file".
    """
    given = [field_path(override.partition("=")[0]) for override in overrides]
    rows = []
    for place, field, (preset, of_preset) in _places(config):
        value, path = value_at(config, place), field_path(f"--config.{place}")
        if value != value_at(before, place) or any(path[: len(start)] == start for start in given):
            origin = "command line"
        elif value == of_preset.get(field, FIELDS[field].default):
            origin = f"preset {preset}" if field in of_preset else "default"
        else:
            origin = source
        section, dot, name = place.rpartition(".")
        rows.append(Row(f"--config.{section}{dot}", name, _typed(value), origin, FIELDS[field].meaning))
    return rows


def _places(config: ConfigDict) -> Iterator[tuple[str, str, tuple[str, Mapping[str, Any]]]]:
    """Yields (dotted name, name in FIELDS, the preset of the section and what it gave) of every field of a config."""
    own: Any = config
    for field in FIELDS:
        if not field.startswith(SECTIONS_OF_MANY):
            yield field, field, from_preset(config)
    many = {f"members.{name}": member for name, member in own.members.items()}
    many |= {f"edges[{number}]": edge for number, edge in enumerate(own.edges)}
    for place, section in many.items():
        kind = "members." if place.startswith("members.") else "edges."
        for field in FIELDS:
            if field.startswith(kind):
                yield f"{place}.{field.removeprefix(kind)}", field, from_preset(section)


def _typed(value: object) -> str:
    """Returns a value as one would type it."""
    return ",".join(map(str, value)) or "()" if isinstance(value, tuple | list) else str(value)
