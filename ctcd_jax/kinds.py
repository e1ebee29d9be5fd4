"""Whether a value that was read from JSON is what it must be, and if not, where it is not."""

import math
from dataclasses import dataclass
from typing import Any

from ctcd_jax.ranges import Range

# A larger number is damage, and what is computed with it may overflow.
_LARGEST = 2**63


@dataclass(frozen=True)
class Each:
    """An object with any keys, its values all of one kind."""

    kind: object


@dataclass(frozen=True)
class Figure:
    """A measured number, also one that is not finite: a run that diverged has such losses."""

    def holds(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def __str__(self):
        return "a number"


@dataclass(frozen=True)
class Digits:
    """A whole number as text: what JSON makes of a number that is a key."""

    def holds(self, value: object) -> bool:
        return isinstance(value, str) and value.isdecimal() and len(value) < 10

    def __str__(self):
        return "a whole number"


def mismatch(value: object, kind: object, name: str = "") -> str:
    """Returns what is wrong with `value`, naming the place ("models[0].name is missing"), "" if nothing is.

    Args:
      value: parsed JSON.
      kind: a type; a `Range`, `Figure` or `Digits`; {key: kind} for an object, "?" at the end of a key that may be
        missing; [kind] for a list; `Each(kind)`; a tuple of alternatives, None being one.
      name: of the value.
    """
    if isinstance(kind, tuple):
        found = [mismatch(value, one, name) for one in kind]
        return "" if "" in found else found[0]
    if _is_too_large(value) and not (isinstance(kind, Figure) and isinstance(value, float)):
        return f"{name or 'it'} is a number beyond 2^63"
    if isinstance(kind, dict):
        return _object_mismatch(value, kind, name)
    if isinstance(kind, Each):
        if not isinstance(value, dict):
            return _is_not(value, "an object", name)
        return next(filter(None, (mismatch(inner, kind.kind, _below(name, key)) for key, inner in value.items())), "")
    if isinstance(kind, list):
        if not isinstance(value, list):
            return _is_not(value, "a list", name)
        return next(filter(None, (mismatch(inner, kind[0], f"{name}[{n}]") for n, inner in enumerate(value))), "")
    if kind is None:
        return "" if value is None else _is_not(value, "null", name)
    if isinstance(kind, type):
        return "" if isinstance(value, kind) else _is_not(value, _NAMES.get(kind, kind.__name__), name)
    checked: Any = kind  # a Range, a Figure or Digits
    return "" if checked.holds(value) else _is_not(value, str(kind), name)


_NAMES = {str: "text", bool: "true or false", dict: "an object"}
WHOLE = Range(0, whole=True)
AMOUNT = Range(0)
FIGURE = Figure()


def _object_mismatch(value: object, kinds: dict, name: str) -> str:
    if not isinstance(value, dict):
        return _is_not(value, "an object", name)
    for key, kind in kinds.items():
        own = key.removesuffix("?")
        if own in value:
            if found := mismatch(value[own], kind, _below(name, own)):
                return found
        elif own == key:
            return f"{_below(name, own)} is missing"
    return ""


def _is_too_large(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) >= _LARGEST and value != math.inf and value != -math.inf


def _is_not(value: object, wanted: str, name: str) -> str:
    kinds = {dict: "an object", list: "a list", type(None): "null"}
    shown = kinds.get(type(value)) or repr(value)
    return f"{name or 'it'} is {shown if len(shown) <= 40 else shown[:40] + '…'}, not {wanted}"


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
