"""Which sentences are not the first of their kind, whatever their number."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTITION = 2**23
"""Hashes looked at together, on average: 64 MB, and about five times that while they are sorted."""


def mark_duplicates(hashes: Sequence[np.ndarray], out: Path) -> None:
    """Writes bool[n] to `out`: whether a sentence's hash has occurred before.

    Args:
      hashes: uint64[n_i] each, mapped; n is their sum.

    The hashes are taken range by range, so that memory does not grow with their number.
    """
    total = sum(map(len, hashes))
    duplicate: Any = np.lib.format.open_memmap(out, "w+", bool, (total,)) if total else np.empty(0, bool)
    if total:
        with open(out, "r+b") as file:  # on a full disk a map of a hole would end the process by SIGBUS
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    shift = np.uint64(64 - max(0, (total // PARTITION).bit_length()))
    for partition in range(2 ** (64 - int(shift))):
        chosen, places, first = [], [], 0
        for part in hashes:
            inside = np.flatnonzero(part >> shift == partition) if shift < 64 else np.arange(len(part))
            chosen.append(part[inside])
            places.append(inside + first)
            first += len(part)
        values, where = np.concatenate(chosen), np.concatenate(places)
        order = np.argsort(values, kind="stable")  # stable: the first of equals is the first in the input
        values, where = values[order], where[order]
        duplicate[where[1:][values[1:] == values[:-1]]] = True
    if total:
        duplicate.flush()
