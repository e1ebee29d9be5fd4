import csv
import json

import pytest

from ctcd_jax.data import Corpus
from ctcd_jax.data.bigram_shift import main, swap_candidates, write_bigram_shift
from ctcd_jax.errors import UserError


@pytest.fixture(scope="module", params=["packed", "sentence"])
def corpus(request, make, tmp_path_factory):
    """Short rows, so that the long sentences are cut; every third sentence is long."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    nouns = ["river", "castle", "garden", "teacher", "student", "mountain", "letter", "engine", "window", "island"]
    ends = [
        ", and the river followed the castle, and the river quietly followed the old garden near the castle.",
        ".",
        ".",
    ]
    lines = [
        f"The {nouns[i % 10]} quietly followed the {nouns[i // 10 % 10]} near {nouns[i // 100]} after the old chapter"
        + ends[i % 3]
        for i in range(1000)
    ]
    path.write_text("\n\n".join("\n".join(lines[i : i + 5]) for i in range(0, 1000, 5)))
    return Corpus.open(make(f"text:{path}", length=20, validation=0.6, packing=request.param, vocab_size=300))


def read(path):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_the_task_is_balanced_separate_and_made_of_whole_held_out_sentences(corpus, tmp_path):
    assert write_bigram_shift(corpus, tmp_path, train=150, dev=50, seed=1) == {"train": 150, "dev": 50}
    files = {name: read(tmp_path / f"{name}.tsv") for name in ("train", "dev")}
    for rows in files.values():
        assert all(len(row) == 4 for row in rows)
        labels = [row[1] for row in rows]
        assert labels.count("1") == labels.count("0") == len(rows) / 2
        assert {(row[1], row[2]) for row in rows} == {("1", ""), ("0", "*")}
    rows = files["train"] + files["dev"]
    originals = [original(text) for _, _, _, text in rows]
    assert len(set(originals)) == 200
    assert [row[3] == before for row, before in zip(rows, originals, strict=True)] == [row[1] == "1" for row in rows]
    pairs = [json.loads(line) for line in (tmp_path / "bigram-shift.jsonl").read_text().splitlines()]
    assert [pair["sentence_good"] for pair in pairs] == originals[150:]
    for pair, row in zip(pairs, files["dev"], strict=True):
        assert original(pair["sentence_bad"]) == pair["sentence_good"] != pair["sentence_bad"]
        assert row[3] == pair["sentence_good" if row[1] == "1" else "sentence_bad"]


PATTERN = ["the", None, "quietly", "followed", "the", None, "near", None, "after", "the", "old", "chapter", "."]


def original(text):
    """The sentence before the swap, found by undoing each possible one; fails for a long sentence or a piece of it."""
    words = text.split(" ")
    candidates = [words] + [[*words[:i], words[i + 1], words[i], *words[i + 2 :]] for i in range(11)]
    [found] = [c for c in candidates if all(p in (None, w) for p, w in zip(PATTERN, c, strict=True))]
    return " ".join(found)


def test_it_is_deterministic_and_depends_on_the_seed(corpus, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_bigram_shift(corpus, tmp_path / name, train=100, dev=50, seed=seed)
    a, b, c = ((tmp_path / name / "train.tsv").read_bytes() for name in "abc")
    assert a == b != c


def test_too_few_sentences_are_all_used_four_to_one(corpus, tmp_path):
    counts = write_bigram_shift(corpus, tmp_path)
    total = sum(counts.values())
    assert 200 <= total < 1000
    assert counts["train"] == int(0.8 * total)
    assert len(read(tmp_path / "dev.tsv")) == counts["dev"]


def test_what_cannot_be_made_is_an_error(packed, make, tmp_path, capsys):
    with pytest.raises(UserError, match="fit held-out sentences, 200 needed"):
        write_bigram_shift(packed, tmp_path / "out")
    with pytest.raises(UserError, match="'full' joins sentences"):
        write_bigram_shift(Corpus.open(make(packing="full")), tmp_path / "out")
    assert main(["--corpus", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_line_writes_the_files(corpus, tmp_path, capsys):
    arguments = ["--corpus", str(corpus.directory), "--out", str(tmp_path), "--train", "100", "--dev", "50"]
    assert main(arguments) == 0
    assert "100 training and 50 development sentences" in capsys.readouterr().out
    assert len(read(tmp_path / "train.tsv")) == 100


def test_only_two_different_words_are_swapped():
    assert swap_candidates(["the", "The", "cat", ",", "sat", "3", "on", "it", "."]) == [1, 6]


@pytest.mark.parametrize(("option", "value"), [("train", 0), ("dev", -1), ("train", 1.5)])
def test_a_number_that_does_not_do_is_named(packed, tmp_path, option, value):
    with pytest.raises(UserError, match=rf"^--{option} is {value}; it must be a whole number at least 1"):
        write_bigram_shift(packed, tmp_path / "out", **{option: value})
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(corpus, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert main(["--corpus", str(corpus.directory), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"--out {tmp_path}/out: cannot be written (File exists)")
