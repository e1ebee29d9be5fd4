"""Reading the text of a compiled program (XLA's HLO): how often each part of it is executed, and which devices a
collective joins. What is written in a way that is not known here is an error, not a guess."""

import math
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{$")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|(?:called|branch|true|false)_computations?)=(?:\{([^}]*)\}|%?([\w.-]+))"
)  # fmt: skip
_LOOP = re.compile(r" while\(.*\bcondition=%?([\w.-]+), body=%?([\w.-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r"^\s*%?(\S+) = [su]\d+\[\]\S* constant\((\d+)\)", re.MULTILINE)
_ELEMENT = re.compile(r"^\s*%?(\S+) = .* get-tuple-element\(.*\), index=(\d+)", re.MULTILINE)
_LESS = re.compile(r"ROOT .* compare\(%?(\S+), %?(\S+)\), direction=LT")
_TUPLE = re.compile(r"ROOT .* tuple\((.*?)\)(?:,|$)", re.MULTILINE)
_LISTED = re.compile(r"replica_groups=\{(\{[\d,{}]+\})\}")
_IOTA = re.compile(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[((?:'\w+'=\d+,?)+)\]"
    r"(?:, device_ids=\((?:\[([\d,]+)\](?:T\(([\d,]+)\))?|([\d,]+))\))? ?\{((?:'\w+',?)*)\}"
)  # fmt: skip
_TYPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


def computations(program: str) -> dict[str, list[str]]:
    """Returns the lines of each computation, what is called before who calls it, the program's own last.

    Raises:
      ValueError: it is no program.
    """
    found: dict[str, list[str]] = {}
    own = ""
    lines: list[str] = []
    for line in program.splitlines():
        if begins := _COMPUTATION.match(line):
            lines = found[begins[2]] = []
            own = begins[2] if begins[1] else own
        else:
            lines.append(line)
    if not own:
        raise ValueError("no ENTRY in it")
    return {name: lines for name, lines in found.items() if name != own} | {own: found[own]}


def executions(parts: dict[str, list[str]], wanted: Callable[[str], bool]) -> Counter[str]:
    """Returns how often each computation is executed in which a wanted line stands, or in one that it calls.

    All branches of a condition count as executed.

    Args:
      parts: of `computations`.
      wanted: whether a line is.

    Raises:
      ValueError: how often a loop goes round cannot be told.
    """
    relevant: set[str] = set()
    for name, lines in parts.items():
        if any(wanted(line) or relevant.intersection(_called(line)) for line in lines):
            relevant.add(name)
    times = Counter(dict.fromkeys(list(parts)[-1:], 1))
    for name, lines in reversed(parts.items()):
        for line in lines if name in relevant else ():
            loop = _LOOP.search(line)
            turns = _turns(line, parts) if loop and relevant.intersection(loop.groups()) else 1
            for called in _called(line):
                times[called] += times[name] * turns
    if lost := [name for name in relevant if not times[name]]:
        raise ValueError(f"nothing calls {lost[0]:.60}")
    return times


def _called(line: str) -> list[str]:
    loop = _LOOP.search(line)
    names = [name.strip(" %") for several, one in _CALLED.findall(line) for name in (one or several).split(",")]
    return [*names, *(loop.groups() if loop else ())]


def _turns(line: str, parts: dict[str, list[str]]) -> int:
    """Returns how often a loop goes round: as the compiler says, or as a counter from zero that is below a constant."""
    if known := _TURNS.search(line):
        return int(known[1])
    loop = _LOOP.search(line)
    assert loop
    condition, body = ("\n".join(parts[part]) for part in loop.groups())
    less, after = _LESS.search(condition), _TUPLE.search(body)
    counter = dict(_ELEMENT.findall(condition)).get(less[1]) if less else None
    most = dict(_CONSTANT.findall(condition)).get(less[2]) if less else None
    if counter and most and after:
        constants = dict(_CONSTANT.findall(body))
        result = re.sub(r"/\*.*?\*/|[%\s]", "", after[1]).split(",")[int(counter)]
        added = re.search(rf"^\s*%?{re.escape(result)} = .* add\(%?(\S+), %?(\S+)\)", body, re.MULTILINE)
        for operand in added.groups() if added else ():
            if operand in constants:
                return math.ceil(int(most) / int(constants[operand]))
    raise ValueError(f"how often the loop {loop[2]:.60} goes round cannot be told")


def groups(attributes: str, devices: int) -> np.ndarray:
    """Returns the devices of each group of a collective, int[groups, devices of one].

    Args:
      attributes: of its line.
      devices: of the program, who are one group where nothing else is said.

    Raises:
      ValueError: groups in a notation that is not known.
    """
    if listed := _LISTED.search(attributes):
        return np.array([_numbers(group) for group in re.findall(r"\{([\d,]+)\}", listed[1])])
    if iota := _IOTA.search(attributes):
        size, shape, order = iota.groups()
        return _in_order(shape, order).reshape(-1, int(size))
    if mesh := _MESH.search(attributes):
        axes, shape, order, ids, along = mesh.groups()
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", axes)}
        within = re.findall(r"'(\w+)'", along)
        every = np.array(_numbers(ids)) if ids else _in_order(shape or str(math.prod(sizes.values())), order)
        placed = every.reshape(tuple(sizes.values()))
        last = [place for place, axis in enumerate(sizes) if axis in within]
        first = [place for place, axis in enumerate(sizes) if axis not in within]
        return placed.transpose(*first, *last).reshape(-1, math.prod(sizes[axis] for axis in within))
    if "replica_groups={}" not in attributes and "replica_groups=" in attributes:
        raise ValueError(f"groups of devices in an unknown notation: {attributes:.200}")
    return np.arange(devices)[None]


def size(shape: str) -> int:
    """Returns the bytes of arrays, "(f32[4]{0}, bf16[2,2]{1,0})".

    Raises:
      ValueError: an unknown type.
    """
    return (
        sum(math.prod(map(int, filter(None, sizes.split(",")))) * _bits(kind) for kind, sizes in _TYPE.findall(shape))
        // 8
    )


def elements(shape: str) -> list[str]:
    """Returns the elements of a tuple's type, without layouts."""
    shape, parts, depth = re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape), [""], 0
    for letter in shape[1:-1]:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _bits(kind: str) -> int:
    if kind in ("pred", "token"):
        return 8 if kind == "pred" else 0
    if known := re.match(r"(?:bf|[fsuc])(\d+)", kind):
        return int(known[1])
    raise ValueError(f"unknown type {kind}")


def _in_order(shape: str, order: str | None) -> np.ndarray:
    """Returns the devices of "[2,4]T(1,0)": numbered in that shape, transposed, one after another."""
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return (ids.transpose(_numbers(order)) if order else ids).ravel()


def _numbers(listed: str) -> tuple[int, ...]:
    return tuple(map(int, listed.split(",")))
