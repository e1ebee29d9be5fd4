"""What is dropped, replaced or chosen by itself is counted, and said."""

import json

import numpy as np
import pytest

from ctcd_jax.data import Corpus, prepare
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.errors import UserError
from tests.data.conftest import sentence


@pytest.fixture
def ask(vocabulary, tmp_path):
    """Prepares text into an `out` of its own; returns the corpus, lines and warnings."""

    def ask(data: bytes | str, **options):
        (tmp_path / "a.txt").write_bytes(data.encode() if isinstance(data, str) else data)
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        said, warned = [], []
        options = {"tokenizer": str(vocabulary), "length": 48, "validation": 0.2} | options
        prepare([f"text:{tmp_path}/a.txt"], out, **options, log=said.append, warn=warned.append)
        return Corpus.open(out), said, warned

    return ask


def text(documents: int, sentences: int = 5, bad: int = 0, first: int = 0) -> bytes:
    """Documents of different sentences, in the first `bad` of which a byte is not UTF-8."""
    lines = [sentence(n).encode() for n in range(first, first + documents * sentences)]
    lines = [line.replace(b"The ", b"Th\xe4 ") for line in lines[:bad]] + lines[bad:]
    return b"\n\n".join(b"\n".join(lines[i : i + sentences]) for i in range(0, len(lines), sentences)) + b"\n"


def test_a_few_lines_of_invalid_utf8_are_a_warning_with_their_count(ask, tmp_path):
    corpus, _, warned = ask(text(40, bad=4))
    assert warned == [
        f"source 'text:{tmp_path}/a.txt': 4 of 200 lines (2.00%) are not UTF-8; most of them, 4, are in a.txt (the"
        f" first is {tmp_path}/a.txt:1); their bad bytes became U+FFFD; convert it with `iconv -f ISO-8859-1 -t UTF-8"
        " FILE > NEW`, or from whatever it is"
    ]
    [source] = corpus.manifest["sources"]
    assert (source["lines"], source["invalid_lines"]) == (200, 4)


def test_more_of_them_are_an_error_which_keeps_what_is_not_concerned(ask, tmp_path, vocabulary, monkeypatch):
    monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", 1)
    (tmp_path / "b.txt").write_bytes(text(40, first=1000))
    (tmp_path / "a.txt").write_bytes(text(40, bad=9))
    options = {"tokenizer": str(vocabulary), "validation": 0.2, "log": lambda line: None, "warn": pytest.fail}
    with pytest.raises(UserError) as caught:
        prepare([f"text:{tmp_path}/*.txt"], tmp_path / "out", **options)
    assert "9 of 400 lines (2.25%) are not UTF-8; most of them, 9, are in a.txt (the first is" in str(caught.value)
    assert str(caught.value).endswith(
        "`iconv -f ISO-8859-1 -t UTF-8 FILE > NEW`, or from whatever it is; `iconv -f UTF-8 -t UTF-8 -c` leaves out"
        " what is none"
    )
    assert len(list((tmp_path / "out.partial").iterdir())) == 1  # of b.txt
    (tmp_path / "a.txt").write_bytes(text(40))
    prepare([f"text:{tmp_path}/*.txt"], tmp_path / "out", **options)


def test_strict_holds_for_what_an_earlier_call_has_read(ask, tmp_path, vocabulary):
    ask(text(40, bad=1))
    options = {"tokenizer": str(vocabulary), "length": 48, "validation": 0.2, "strict": True, "log": lambda line: None}
    with pytest.raises(UserError, match=r"--strict: \S+ was prepared without it, and 1 lines of text:\S+ were not UTF"):
        prepare([f"text:{tmp_path}/a.txt"], tmp_path / "out0", **options)

    def stop(line):
        if "1 of 200 lines" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([f"text:{tmp_path}/a.txt"], tmp_path / "out", **options | {"strict": False}, warn=stop)
    assert list((tmp_path / "out.partial").glob("read-*"))
    with pytest.raises(UserError, match=r"1 of 200 lines .* \(the first is \S+a\.txt:1\); convert it"):
        prepare([f"text:{tmp_path}/a.txt"], tmp_path / "out", **options)


def test_what_is_left_out_or_cut_is_said(ask):
    corpus, said, _ = ask(text(40), every=2, length=24, max_characters=200)
    assert {"not_sampled", "too_many_characters"} <= corpus.manifest["dropped"].keys()
    left_out = ", ".join(
        f"{reason.replace('_', ' ')}: {count}" for reason, count in sorted(corpus.manifest["dropped"].items())
    )
    assert said[-1] == f"left out: {left_out}"
    cut = corpus.manifest["splits"]["validation"]["cut_rows"]
    assert cut == len(corpus.manifest["validation_cut_rows"]) > 0
    assert said[-2].endswith(f"padding, {cut} rows with part of a sentence only")
    assert not any("left out" in line for line in ask(text(40))[1])


def test_a_vocabulary_of_other_text_is_warned_of(ask):
    corpus, _, warned = ask(text(40).replace(b"castle", "漢字".encode()))
    rows = np.concatenate(corpus.shards("train"))
    share = (rows == 1).sum() / (~np.isin(rows, (0, 2, 3))).sum()
    assert corpus.manifest["splits"]["train"]["unknown"] == pytest.approx(share, abs=1e-6)
    assert warned == [
        f"{share:.1%} of the training tokens are [UNK]: this vocabulary is not made for this text; choose another"
        " --tokenizer, or train one with a larger --vocab-size"
    ]
    assert share > 0.01
    assert ask(text(40))[2] == []


def test_of_few_documents_one_is_held_out_by_itself_and_that_is_said(ask, monkeypatch):
    corpora = []
    for part_bytes in (1, 2**22):
        monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", part_bytes)
        corpus, _, warned = ask(text(3), validation=1e-3)
        assert warned == [
            "--validation 0.001 of so few documents is less than one: one is held out nevertheless, 33.3% of the"
            " sentences; --validation-by sentences holds out single sentences"
        ]
        splits = corpus.manifest["splits"]
        assert [splits[split]["documents"] for split in ("train", "validation")] == [2, 1]
        assert [splits[split]["sentences"] for split in ("train", "validation")] == [10, 5]
        corpora.append(corpus.hash)
    assert corpora[0] == corpora[1]


@pytest.mark.parametrize("validation", [1e-3, 0.5, 0.999])
def test_one_document_says_what_to_do(ask, validation):
    with pytest.raises(UserError, match=r"there is only one document .* by blank lines\), or .* --validation-by"):
        ask(text(1, sentences=100), validation=validation)


@pytest.mark.parametrize("packing", ["packed", "sentence", "full"])
def test_single_sentences_can_be_held_out(ask, packing):
    corpus, _, warned = ask(text(1, sentences=200), validation_by="sentences", packing=packing, validation=0.1)
    assert warned == []
    splits = corpus.manifest["splits"]
    assert 8 < splits["validation"]["sentences"] < 36  # of 200: 20 +- 4.2
    assert splits["train"]["sentences"] + splits["validation"]["sentences"] == 200
    assert corpus.manifest["recipe"]["validation_by"] == "sentences"
    if packing == "packed":
        parts = []
        for split in ("train", "validation"):
            rows = np.concatenate(corpus.shards(split))
            segments = [part[part != 0] for row in rows for part in np.split(row, np.flatnonzero(row == 2))]
            parts.append({tuple(part.tolist()) for part in segments if len(part)})
        assert not parts[0] & parts[1]


def test_a_single_held_out_sentence_is_said_too(ask):
    corpus, _, warned = ask(text(1, sentences=20), validation_by="sentences", validation=1e-3)
    assert corpus.manifest["splits"]["validation"]["sentences"] == 1
    assert warned == [
        "--validation 0.001 of so few sentences is less than one: one is held out nevertheless, 5.0% of the sentences"
    ]


def test_another_way_to_hold_out_is_another_recipe(ask, tmp_path, vocabulary):
    ask(text(40))
    with pytest.raises(UserError, match="was prepared with validation_by = documents, not sentences"):
        prepare([f"text:{tmp_path}/a.txt"], tmp_path / "out0", tokenizer=str(vocabulary), length=48, validation=0.2,
                validation_by="sentences")  # fmt: skip


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "length": [7, -1, 10**400, NAN, INF, 64.5, "64", None, True],
        "every": [0, -3, NAN, INF, 1.5, None],
        "seed": [-1, 2**63, 10**400, NAN, INF, "0", None],
        "vocab_size": [0, -5, 10**9, NAN],
        "validation": [0, 1, -0.1, 1.5, NAN, INF, "0.1", None],
        "min_characters": [-1, NAN, None],
        "max_characters": [-1, INF],
        "max_unknown": [-0.1, 1.1, NAN, INF, None],
        "cased": ["no", 1],
        "deduplicate": [None],
        "packing": [None, 3, ["packed"]],
        "validation_by": ["sentence", None],
        "language": ["", None, 3],
        "tokenizer": [3],
        "sources": [(3,), (None,)],
    }.items(),
)
def test_every_number_of_a_recipe_has_a_range(field, values):
    for value in values:
        with pytest.raises(UserError) as caught:
            Recipe(**{"sources": ("text:a.txt",)} | {field: value})
        option = "--source" if field == "sources" else f"--{field.replace('_', '-')}"
        assert str(caught.value).startswith(option)
        assert "\n" not in str(caught.value)


def test_a_recipe_in_json_is_the_same_one():
    made = Recipe(("text:é", "text:\udcff"), tokenizer="\udcff")
    assert made.difference(json.loads(json.dumps(made.recorded()))) is None


@pytest.mark.parametrize("part_bytes", [1, 2**22])
def test_of_files_of_one_name_one_document_is_held_out(vocabulary, tmp_path, monkeypatch, part_bytes):
    """Their draws are equal: a draw is of the path below a source, so that it is the same wherever the source lies."""
    monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", part_bytes)
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_bytes(text(1, first=100 * number))
    out = tmp_path / "two"
    sources = [f"text:{tmp_path}/{name}/x.txt" for name in "ab"]
    options = {"tokenizer": str(vocabulary), "length": 48, "log": lambda line: None, "warn": lambda line: None}
    prepare(sources, out, validation=1e-3, **options)
    splits = Corpus.open(out).manifest["splits"]
    assert [splits[split]["documents"] for split in ("train", "validation")] == [1, 1]


@pytest.mark.parametrize("validation", [1e-3, 0.5, 0.999])
def test_one_sentence_says_what_to_do(ask, validation):
    with pytest.raises(UserError, match=r"there is only one sentence to keep, .* give more text"):
        ask(text(1, sentences=1), validation_by="sentences", validation=validation)


def test_held_out_text_that_training_has_too_says_what_to_do(ask):
    with pytest.raises(UserError, match=r"every sentence that was held out is in the training text, too .* --seed"):
        ask(b"\n\n".join([text(1).strip()] * 2))
