import unicodedata

import pytest

from ctcd_jax.text_tables import aligned, markdown, number_text


def test_names_stand_to_the_left_and_figures_to_the_right():
    assert aligned([["name", "ms", ""], ["a", "1.0", "x"], ["long name", "1,000.0", ""]]) == (
        "name            ms\na              1.0  x\nlong name  1,000.0"
    )


def test_columns_line_up_on_a_terminal_whatever_the_letters():
    names = ["name", "中文", "e\N{COMBINING ACUTE ACCENT}", "…[bold]x[/]", "ｗide"]
    lines = aligned([[name, "7"] for name in names]).splitlines()

    def columns(text):
        return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)

    assert len({columns(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == names


def test_a_bar_in_a_cell_does_not_end_it():
    assert markdown([["a", "b", "c"], ["x|y", "", "1"]], names=2) == (
        "| a | b | c |\n| --- | --- | ---: |\n| x\\|y |  | 1 |"
    )


@pytest.mark.parametrize(
    ("value", "digits", "plus", "text"),
    [
        (1234.5, 0, "", "1,234"),
        (-1234.567, 2, "+", "−1,234.57"),
        (0.5, 1, "+", "+0.5"),
        (-0.004, 2, "+", "0.00"),
        (0.004, 2, "+", "0.00"),
        (-0.5, 0, "", "0"),
        (-1000.0, 0, "", "−1,000"),
    ],
)
def test_what_rounds_to_nothing_has_no_sign(value, digits, plus, text):
    assert number_text(value, digits, plus) == text
