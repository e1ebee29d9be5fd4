"""Whether a JSON object has the fields that are read from it, each of its type: whatever else it holds is let be."""

from collections.abc import Mapping
from typing import NamedTuple

from ctcd_jax.ranges import Range

_NUMBER, _COUNTED = Range(), Range(0, 2**63 - 1, whole=True)


class Optional(NamedTuple):
    """A field that may be missing: an earlier version did not write it."""

    shape: object


def problem(value: object, shape: object, name: str = "") -> str | None:
    """Returns what is wrong with `value`, or None.

    Args:
      value: parsed JSON.
      shape: {field: its shape}; [the shape of every entry]; a set of the strings allowed; str; int, a whole number from
        0 on; float, any number; None, null or a string; Mapping, an object of whole numbers.
      name: of the value, for what is returned.
    """
    found: str | None = None
    if isinstance(shape, Optional):
        found = problem(value, shape.shape, name)
    elif isinstance(shape, dict):
        found = _fields_problem(value, shape, name)
    elif isinstance(shape, list):
        entries = enumerate(value) if isinstance(value, list) else ()
        wrong = (text for i, entry in entries if (text := problem(entry, shape[0], f"{name}[{i}]")))
        found = next(wrong, None) if isinstance(value, list) else f"{name} is no list"
    elif shape is Mapping:
        entries = value.items() if isinstance(value, dict) else ()
        wrong = (text for key, entry in entries if (text := problem(entry, int, f"{name}.{key}")))
        found = next(wrong, None) if isinstance(value, dict) else f"{name} is no object"
    elif isinstance(shape, set):
        found = None if isinstance(value, str) and value in shape else f"{name} is {value!r:.60}"
    elif shape is int:
        found = None if _COUNTED.holds(value) else f"{name} is {value!r:.60} and no count"
    elif shape is float:
        found = None if _NUMBER.holds(value) else f"{name} is {value!r:.60} and no number"
    elif not isinstance(value, str) and not (shape is None and value is None):
        found = f"{name} is {value!r:.60} and no string"
    return found


def _fields_problem(value: object, shape: Mapping[str, object], name: str) -> str | None:
    if not isinstance(value, dict):
        return f"{name or 'it'} is no object"
    for key, inner in shape.items():
        field = f"{name}.{key}" if name else key
        if key in value:
            if found := problem(value[key], inner, field):
                return found
        elif not isinstance(inner, Optional):
            return f"{field} is missing"
    return None
