"""Which numbers an option may take. Every number that a user can set has a range, and one function checks it."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctcd_jax.errors import UserError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included unless said otherwise; never NaN nor infinite.

    Attributes:
      above, below: whether `low`, and whether `high`, are themselves left out.
      whole: whether only whole numbers will do.
      off: what to give instead to have none of it, the end of the error's line, e.g. "None for no clipping".
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    off: str = ""

    def check(self, field: str, value: object) -> None:
        """Raises UserError, which names `field`, unless `value` is a number in the range."""
        if not self.holds(value):
            raise UserError(self.fault(field, value))

    def fault(self, field: str, value: object) -> str:
        """Returns what is said of a `value` outside the range."""
        return f"{field} is {value!r}; it must be {self}" + (f", or {self.off}" if self.off else "")

    def holds(self, value: object) -> bool:
        """Whether `value` is a number (a bool is none) in the range."""
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        # A whole number may be too large to become a float.
        if not isinstance(value, numbers.Integral) and not math.isfinite(value):
            return False
        number: Any = value  # to type checkers, numbers.Real cannot be compared with floats
        low = number > self.low if self.above else number >= self.low
        return low and (number < self.high if self.below else number <= self.high)

    def __str__(self):
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'above' if self.above else 'at least'} {_plain(self.low)}")
        if self.high < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {_plain(self.high)}")
        return f"a {'whole ' if self.whole else ''}number" + (f" {' and '.join(parts)}" if parts else "")


def _plain(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def require(owner: str, holder: object, allowed: Mapping[str, Range]) -> None:
    """Raises ValueError, with the words of `Range.check`, for the first attribute of `holder` outside its range.

    For objects that are built from Python; those of a config are checked before they are built.

    Args:
      owner: what the line begins with, e.g. "edge a->b: ".
      holder: whose attributes are checked.
      allowed: ranges by the names of the attributes.
    """
    for name, within in allowed.items():
        if not within.holds(getattr(holder, name)):
            raise ValueError(owner + within.fault(name, getattr(holder, name)))


COUNT = Range(1, whole=True)
"""How many of something there must be: 1 or more."""

SHARE = Range(0, 1)
"""A share or a probability, both ends included."""
