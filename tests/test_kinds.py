import pytest

from ctcd_jax.kinds import AMOUNT, FIGURE, WHOLE, Digits, Each, mismatch
from ctcd_jax.ranges import COUNT


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("a", str, ""),
        (None, str, "it is null, not text"),
        (True, bool, ""),
        (1, bool, "it is 1, not true or false"),
        (True, WHOLE, "it is True, not a whole number at least 0"),
        (1.5, WHOLE, "it is 1.5, not a whole number at least 0"),
        (float("nan"), AMOUNT, "it is nan, not a number at least 0"),
        (float("nan"), FIGURE, ""),
        (1e38, FIGURE, ""),
        (1e38, AMOUNT, "it is a number beyond 2^63"),
        (10**400, (FIGURE, None), "it is a number beyond 2^63"),
        (float("inf"), AMOUNT, "it is inf, not a number at least 0"),
        (None, (COUNT, None), ""),
        (0, (COUNT, None), "it is 0, not a whole number at least 1"),
        ("128", Digits(), ""),
        ("²", Digits(), "it is '²', not a whole number"),
        ([1, {}], [WHOLE], "[1] is an object, not a whole number at least 0"),
        ({"a": {"b": []}}, Each({"b": str}), "a.b is a list, not text"),
        ({"a": {}}, {"a": {"b": str}}, "a.b is missing"),
        ({"a": {}}, {"a": {"b?": str}, "c?": str}, ""),
        ([], {"a": str}, "it is a list, not an object"),
        ({}, [str], "it is an object, not a list"),
        ("x" * 99, Each(str), f"it is '{'x' * 39}…, not an object"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named_with_its_place(value, kind, said):
    assert mismatch(value, kind) == said


def test_the_name_of_the_value_stands_before_the_place():
    assert mismatch({"models": [{}]}, {"models": [{"name": str}]}, "latency") == "latency.models[0].name is missing"
