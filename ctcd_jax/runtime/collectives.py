"""What devices send each other in a compiled program, read from its text."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_BITS = {"pred": 8, "bf16": 16}
_TYPE = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (.*?) ({'|'.join(_KINDS)})(-start)?\(.*?\)(.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(\S+) \(.*\{$")
_CALLED = re.compile(r"\b(?:calls|to_apply|(?:called|branch|true|false)_computations?)=\{?((?:%?[\w.-]+(?:, )?)+)")
_LOOP = re.compile(r" while\(.*\bcondition=%?([\w.-]+), body=%?([\w.-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r"^\s*%?(\S+) = [su]\d+\[\]\S* constant\((\d+)\)", re.MULTILINE)
# TPUs' compiler spreads a collective over several computations, beside what they compute.
_PART = re.compile(r"channel_id=(\d+).*chain_id=")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_IOTA = re.compile(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((?:\[([\d,]+)\](?:T\(([\d,]+)\))?)?([\d,]*)\))? ?\{(.*?)\}"
)


class Collective(NamedTuple):
    """A collective of a program.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      size: bytes of the whole array: before it is scattered, after it is gathered.
      devices: that take part in one group of it.
      machines: that these devices are in.
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
        """Bytes of these that go to another machine, a device, at the least: each machine sends what it holds once, not
        once a device, and its devices share the work."""
        return self._sent(self.machines) * self.machines / self.devices

    def _sent(self, parts: int) -> float:
        if self.kind == "collective-permute":
            return self.size if parts > 1 else 0
        return self.size * (parts - 1) / parts * (2 if self.kind == "all-reduce" else 1)


def collectives(program: str, devices: int, machine: int | None = None) -> list[Collective]:
    """Returns the collectives of a program, each as often as it is executed.

    Args:
      program: the text of a compiled program, of one device. Its loops count from zero.
      devices: that it runs on.
      machine: devices of one machine, which follow each other; None: one holds all.
    """
    machine = machine or devices
    computations = _computations(program)
    times = _times(computations)
    found, spread = [], set()
    for computation, lines in computations.items():
        for line in lines:
            instruction = _INSTRUCTION.match(line)
            if not instruction:
                continue
            if part := _PART.search(line):
                if part[1] in spread:
                    continue
                spread.add(part[1])
            shape, kind, started, rest = instruction.groups()
            group = _group(rest, devices)
            if started and kind != "all-reduce":
                size = max(map(_bytes, _parts(shape)[:2]))  # what goes in, what comes out
            else:
                size = _bytes(shape) * (len(group) if kind == "reduce-scatter" else 1)
            # TPUs scatter by a fusion of this name that holds a sum and a slice.
            if kind == "all-reduce" and "all-reduce-scatter" in computation:
                kind = "reduce-scatter"
            machines = len({device // machine for device in group})
            found += [Collective(kind, size, len(group), machines)] * times[computation]
    return found


def _computations(program: str) -> dict[str, list[str]]:
    """Returns the lines of each computation, what is called before who calls it."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in program.splitlines():
        if begins := _COMPUTATION.match(line):
            lines = found[begins[1]] = []
        else:
            lines.append(line)
    return found


def _times(computations: dict[str, list[str]]) -> Counter[str]:
    """Returns how often each computation is executed: the last one, the program's own, once."""
    times = Counter(dict.fromkeys(list(computations)[-1:], 1))
    for name, lines in reversed(computations.items()):
        for line in lines:
            if loop := _LOOP.search(line):
                known = _TURNS.search(line)
                turns = int(known[1]) if known else _turns(*("\n".join(computations[part]) for part in loop.groups()))
                times[loop[2]] += times[name] * turns
            for called in _CALLED.findall(line):
                times.update(dict.fromkeys(called.replace("%", "").split(", "), times[name]))
    return times


def _turns(condition: str, body: str) -> int:
    """Returns how often a loop goes round whose condition compares a counter, from zero, with a constant."""
    ((_, most),) = _CONSTANT.findall(condition)
    steps = dict(_CONSTANT.findall(body))
    place = re.search(r"get-tuple-element\(.*\), index=(\d+)", condition)
    after = re.search(r"ROOT .* tuple\((.*?)\)(?:,|$)", body, re.MULTILINE)
    if not (place and after):
        return int(most)
    counter = re.sub(r"/\*.*?\*/|[%\s]", "", after[1]).split(",")[int(place[1])]
    added = re.search(rf"^\s*%?{re.escape(counter)} = .* add\(%?(\S+), %?(\S+)\)", body, re.MULTILINE)
    step = next((int(steps[operand]) for operand in (added.groups() if added else ()) if operand in steps), 1)
    return math.ceil(int(most) / step)


def in_words(found: Iterable[Collective]) -> str:
    """Returns how many collectives of each kind there are and how large they are together."""
    kinds: dict[str, list[int]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each.size)
    return ", ".join(f"{len(sizes)} {kind} of {sum(sizes) / 1e6:,.1f} MB" for kind, sizes in kinds.items()) or "none"


def _bytes(shape: str) -> int:
    return (
        sum(
            math.prod(map(int, filter(None, sizes.split(","))))
            * _BITS.get(kind, int(kind[1:]) if kind[1:].isdigit() else 8)
            for kind, sizes in _TYPE.findall(shape)
        )
        // 8
    )


def _parts(shape: str) -> list[str]:
    """Returns the elements of a tuple's type, without layouts."""
    shape, parts, depth = re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape), [""], 0
    for letter in shape[1:-1]:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _group(rest: str, devices: int) -> list[int]:
    """Returns the devices of the first of a collective's groups, all alike but for which devices they are."""
    if listed := _LISTED.search(rest):
        return [int(device) for device in listed[1].split(",")]
    if iota := _IOTA.search(rest):
        size, shape, order = iota.groups()
        return _in_order(shape, order)[: int(size)].tolist()
    if mesh := _MESH.search(rest):
        axes, shape, order, listed, along = mesh.groups()
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", axes)}
        ids = np.array(_numbers(listed)) if listed else _in_order(shape or str(math.prod(sizes.values())), order)
        within = re.findall(r"'(\w+)'", along)
        return (
            ids.reshape(*sizes.values())[tuple(slice(None) if axis in within else 0 for axis in sizes)].ravel().tolist()
        )
    if "replica_groups={}" not in rest and "source_target_pairs" not in rest:
        raise ValueError(f"groups of devices that are not known: {rest:.200}")
    return list(range(devices))


def _in_order(shape: str, order: str | None) -> np.ndarray:
    """Returns the devices of "[2,4]T(1,0)": numbered in that shape, transposed, one after another."""
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return (ids.transpose(_numbers(order)) if order else ids).ravel()


def _numbers(listed: str) -> tuple[int, ...]:
    return tuple(map(int, listed.split(",")))
