"""Every number has a range, and what is outside it is named with what it must be."""

import math

import numpy as np
import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.ranges import COUNT, SHARE, Range


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (COUNT, [1, 10**9, np.int64(3)], [0, -1, 1.0, 1.5, True, None, "1", math.nan]),
        (SHARE, [0, 0.0, 0.5, 1], [-1e-9, 1.0001, math.nan, math.inf, False, None]),
        (Range(0, above=True), [1e-30, 5], [0, 0.0, -1, math.inf, math.nan]),
        (Range(0, 1, below=True), [0, 0.999], [1, 1.0]),
        (Range(), [-1e9, 0], [math.inf, -math.inf, math.nan]),
    ],
)
def test_what_is_inside_and_what_is_not(allowed, inside, outside):
    assert all(allowed.holds(value) for value in inside)
    assert not any(allowed.holds(value) for value in outside)
    for value in outside:
        with pytest.raises(UserError, match=r"^optimizer\.b1 is "):
            allowed.check("optimizer.b1", value)


def test_the_line_says_what_will_do_and_what_off_is():
    with pytest.raises(UserError) as error:
        Range(0, 1, above=True, off="None for no clipping").check("clip_norm", -1)
    assert str(error.value) == "clip_norm is -1; it must be a number above 0 and at most 1, or None for no clipping"
