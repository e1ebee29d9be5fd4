"""samples.json: read whole or not at all, and put into words."""

import json

import pytest

from ctcd_jax.artifacts.samples import read_samples, sentence, write_samples
from ctcd_jax.errors import UserError

HIDDEN = {"position": 2, "token": "cat", "guesses": [{"token": "dog", "probability": 0.5}]}
ROW = {"row": 3, "tokens": ["the", "##n", "[MASK]", "##s", "sleep", "##s", "…"], "hidden": [HIDDEN]}
SAMPLES = {"format": 1, "corpus_hash": "c0ffee", "rows": [ROW]}


def test_what_was_written_is_read(tmp_path):
    assert read_samples(tmp_path) is None
    write_samples(tmp_path, SAMPLES)
    assert read_samples(tmp_path) == SAMPLES


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"rows": None}, "rows is null, not a list"),
        ({"rows": [ROW | {"hidden": [HIDDEN | {"position": 7}]}]}, "row 3 hides more than it holds"),
        (
            {"rows": [ROW | {"hidden": [HIDDEN | {"guesses": [{"token": "dog", "probability": 2}]}]}]},
            r"rows\[0\].hidden\[0\].guesses\[0\].probability is 2, not .*",
        ),
    ],
)
def test_what_is_damaged_is_an_error_that_names_the_place(changes, why, tmp_path):
    (tmp_path / "samples.json").write_text(json.dumps(SAMPLES | changes))
    with pytest.raises(UserError, match=f"samples.json: {why}; export the model again, or remove the file"):
        read_samples(tmp_path)


def test_pieces_of_words_are_joined_and_hidden_places_stand_alone():
    assert sentence(ROW) == ["then", "[1]", "##s", "sleeps", "…"]
