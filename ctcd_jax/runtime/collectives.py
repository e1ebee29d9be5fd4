"""What devices send each other in a compiled program, read from its text."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ctcd_jax.runtime import hlo

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (.*?) ({'|'.join(_KINDS)})(-start)?\(.*?\)(.*)$")
_UNKNOWN = re.compile(r" (ragged-all-to-all|collective-broadcast)(?:-start)?\(")
_PAIR = re.compile(r"(?<=[{,])\{(\d+),(\d+)\}(?=[,}])")
# TPUs' compiler spreads a collective over several computations, beside what they compute.
_SPREAD = re.compile(r"channel_id=(\d+).*chain_id=")


class Collective(NamedTuple):
    """A collective of a program.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      size: bytes of the whole array: before it is scattered, after it is gathered.
      devices: that take part in one group of it.
      machines: that the devices of a group are in; of groups that differ, the most.
    """

    kind: str
    size: int
    devices: int
    machines: int = 1

    @property
    def sent(self) -> float:
        """Bytes that each device sends at the least, by a ring: an array is reduced by scattering and gathering it."""
        return self._sent(self.devices)

    @property
    def sent_far(self) -> float:
        """Bytes of these that go to another machine, a device, at the least.

        Each machine sends what it holds once, not once a device, and its devices share the work; but for what is meant
        for one device alone.
        """
        shared = 1 if self.kind == "all-to-all" else self.machines / self.devices
        return self._sent(self.machines) * shared

    def _sent(self, parts: int) -> float:
        if self.kind == "collective-permute":
            return self.size if parts > 1 else 0
        return self.size * (parts - 1) / parts * (2 if self.kind == "all-reduce" else 1)


def collectives(program: str, devices: int, machine: int | None = None) -> list[Collective]:
    """Returns the collectives of a program, each as often as it is executed.

    Args:
      program: the text of a compiled program, of one device.
      devices: that it runs on.
      machine: devices of one machine, which follow each other; None: one holds all.

    Raises:
      ValueError: something is written in a way that is not known.
    """
    parts = hlo.computations(program)
    times = hlo.executions(parts, lambda line: bool(_INSTRUCTION.match(line)))
    found, spread = [], set()
    for computation, lines in parts.items():
        for line in lines:
            if unknown := _UNKNOWN.search(line):
                raise ValueError(f"{unknown[1]} is not known")
            if not (instruction := _INSTRUCTION.match(line)):
                continue
            if part := _SPREAD.search(line):
                if part[1] in spread:
                    continue
                spread.add(part[1])
            # TPUs scatter by a fusion of this name that holds a sum and a slice.
            fused = "all-reduce-scatter" in computation
            found += [_collective(instruction, fused, devices, machine or devices)] * times[computation]
    return found


def _collective(instruction: re.Match[str], fused: bool, devices: int, machine: int) -> Collective:
    shape, kind, started, attributes = instruction.groups()
    in_and_out = started and kind != "all-reduce"
    size = max(map(hlo.size, hlo.elements(shape)[:2])) if in_and_out else hlo.size(shape)
    if kind == "collective-permute":
        pairs = [(int(source), int(target)) for source, target in _PAIR.findall(attributes)]
        # As around a ring: of every machine one device sends to the next machine.
        far = any(source // machine != target // machine for source, target in pairs)
        return Collective(kind, size, devices, math.ceil(devices / machine) if far else 1)
    joined = hlo.groups(attributes, devices)
    if kind == "reduce-scatter" and not started:
        size *= joined.shape[1]
    machines = max(len(np.unique(group // machine)) for group in joined)
    return Collective("reduce-scatter" if fused and kind == "all-reduce" else kind, size, joined.shape[1], machines)


def in_words(found: Iterable[Collective]) -> str:
    """Returns how many collectives of each kind there are and how large they are together."""
    kinds: dict[str, list[int]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each.size)
    return ", ".join(f"{len(sizes)} {kind} of {sum(sizes) / 1e6:,.1f} MB" for kind, sizes in kinds.items()) or "none"
