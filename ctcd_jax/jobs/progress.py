"""How long work tells that it is alive: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_LINE_EVERY = 10.0  # seconds


def watch(items: Iterable[T], label: str, unit: str, log: Callable[[str], None]) -> Iterator[T]:
    """Yields `items`, showing a tqdm bar if stderr is a terminal, else a line through `log` about every ten seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, unit=f" {unit}", leave=False)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > _LINE_EVERY:
            log(f"{label}: {count:,} {unit}")
            last = time.monotonic()
