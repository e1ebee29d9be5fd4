import json
import math
from typing import get_type_hints

import pytest

from ctcd_jax.artifacts.scoring import Evaluation, PairScore, read_evaluations, read_pair_scores

EVALUATION: Evaluation = {
    "format": 1, "model": "student", "path": "runs/ctcd#student", "parameters": "a" * 64, "shape": "b" * 64,
    "weights": None, "step": 20, "corpus": "novels", "corpus_hash": "c" * 64, "rows": 10, "predicted": 50,
    "loss": 4.0, "loss_low": 3.5, "loss_high": 4.5, "accuracy": 0.25, "unigram_loss": 6.0, "backend": "jax",
}  # fmt: skip
PAIR_SCORE: PairScore = {
    "format": 1, "model": "student", "path": "student", "weights": "a" * 64, "tokenizer": "b" * 64, "config": "c" * 64,
    "data": "d" * 64, "paradigm": "wh_island", "phenomenon": "island_effects", "pairs": 10, "correct": 6, "ties": 1,
    "unknown": 0, "backend": "jax",
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "good", "change", "fault"),
    [
        (read_evaluations, EVALUATION, {"format": 2}, "format 2, this version reads 1"),
        (read_evaluations, EVALUATION, {"loss": math.nan}, "loss is nan, not a number at least 0"),
        (read_evaluations, EVALUATION, {"loss": 4.6}, "loss is outside its interval"),
        (read_evaluations, EVALUATION, {"accuracy": 1.5}, "accuracy is 1.5, not a number at least 0 and at most 1"),
        (read_evaluations, EVALUATION, {"weights": 3}, "weights is 3, not text"),
        (read_pair_scores, PAIR_SCORE, {"format": None}, "format None, this version reads 1"),
        (read_pair_scores, PAIR_SCORE, {"pairs": 0}, "pairs is 0, not a whole number at least 1"),
        (read_pair_scores, PAIR_SCORE, {"correct": 10}, "correct and ties are more than pairs"),
        (read_pair_scores, PAIR_SCORE, {"phenomenon": None}, "phenomenon is null, not text"),
    ],
)
def test_a_damaged_line_is_named_and_hides_no_other(tmp_path, read, good, change, fault):
    path = tmp_path / "lines.jsonl"
    assert read(path) == []
    lines = [good, {**good, **change}, good]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    warned = []
    assert read(path, warned.append) == [good, good]
    assert warned == [f"{path}:2: {fault}; left out"]


@pytest.mark.parametrize(("kind", "line"), [(Evaluation, EVALUATION), (PairScore, PAIR_SCORE)])
def test_the_lines_tried_here_are_whole(kind, line):
    assert line.keys() == get_type_hints(kind).keys()
