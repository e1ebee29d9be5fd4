"""The one exception that becomes a line on stderr and exit code 2, and the hint that goes with it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend.

    The message is one line that names the field or file and the fix; `ctcd` prints it without a traceback and exits
    with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the name nearest to `name`, or " (known: a, b)" when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(known)})"
