"""What `ctcd inspect` says, against what is counted row by row."""

import json
import random
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from collections import Counter

import jax
import numpy as np
import pytest

from ctcd_jax.cli import main
from ctcd_jax.data import Corpus, ValidationBatches, prepare
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.inspection.examples import HIDDEN, KEPT, RANDOM, example_rows
from ctcd_jax.inspection.facts import bins, token_lengths, trained_positions, vocabulary
from ctcd_jax.inspection.words import DROPPED
from ctcd_jax.page.plots import Bin, bar_chart
from ctcd_jax.training.masking import Masker, validation_keys
from ctcd_jax.training.validation_masks import mask_validation_rows
from tests.report.reporting import Page
from tests.small import ADJECTIVES, NOUNS, VERBS

PACKINGS = ("sentence", "packed", "full")
MARKUP = "<script>"


def write_text(path, documents=60, seed=0):
    """Sentences of 3 to 40 words, some of them markup."""
    rng = random.Random(seed)
    words = [*NOUNS, *VERBS, *ADJECTIVES, *[MARKUP] * 5]
    sentences = (" ".join(rng.choices(words, k=rng.randint(3, 40))) + " ." for _ in range(8 * documents))
    path.write_text("\n".join(line + "\n" * (n % 8 == 7) for n, line in enumerate(sentences)))


@pytest.fixture(scope="module", params=PACKINGS)
def corpus(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    text = directory / "<b>.txt"
    write_text(text)
    options = {"length": 48, "vocab_size": 200, "validation": 0.2, "packing": request.param}
    prepare([f"text:{text}"], directory / "corpus", **options, log=lambda _: None)
    return Corpus.open(directory / "corpus")


@pytest.fixture
def changed(corpus, tmp_path):
    """Returns a function that copies the corpus with a changed manifest."""

    def change(edit):
        shutil.copytree(corpus.directory, tmp_path / "changed")
        manifest = json.loads((corpus.directory / "corpus.json").read_text())
        edit(manifest)
        (tmp_path / "changed/corpus.json").write_text(json.dumps(manifest))
        return tmp_path / "changed"

    return change


def said(capsys, *arguments):
    assert main(["inspect", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def segments(corpus, split="train"):
    """Yields each row as the list of its segments, each a list of ids."""
    special = corpus.special_ids
    for shard in corpus.shards(split):
        for row in shard.tolist():
            found = []
            for number in row:
                if number == special["cls"]:
                    found.append([])
                if number != special["pad"]:
                    found[-1].append(number)
            yield found


# The numbers.


@pytest.mark.parametrize(
    ("length", "width", "count"), [(128, 16, 8), (512, 64, 8), (48, 6, 8), (100, 10, 10), (37, 4, 10)]
)
def test_bins_cover_every_length_once(length, width, count):
    found = bins(length)
    assert [n for first, last in found for n in range(first, last + 1)] == list(range(1, length + 1))
    assert len(found) == count
    assert {last - first + 1 for first, last in found[:-1]} == {width}


def test_lengths_are_those_of_the_rows(corpus):
    rows = list(segments(corpus))
    sizes = {
        "row_tokens": [sum(map(len, row)) for row in rows],
        "segment_tokens": [len(segment) for row in rows for segment in row],
    }
    for key, expected in sizes.items():
        found = token_lengths(corpus.manifest[key])
        assert found.total == len(expected)
        assert found.mean == pytest.approx(np.mean(expected))
        assert found.median == sorted(expected)[(len(expected) - 1) // 2]
        for bar in found.bars:
            assert bar.count == sum(bar.first <= size <= bar.last for size in expected)
            assert bar.share == pytest.approx(bar.count / len(expected))


def test_positions_start_again_with_each_segment(corpus):
    used = Counter(position for row in segments(corpus) for segment in row for position in range(len(segment)))
    found = trained_positions(corpus.manifest["segment_tokens"])
    assert found.trained.tolist() == [used[position] for position in range(corpus.max_length)]
    assert found.never == corpus.max_length - len(used)
    assert found.last_ratio == used[corpus.max_length - 1] / used[0]
    for bar in found.bars:
        counts = [used[position] for position in range(bar.first, bar.last + 1)]
        assert bar.count == sum(counts)
        assert bar.share == pytest.approx(np.mean(counts) / used[0])
    assert (found.bars[0].first, found.bars[-1].last) == (0, corpus.max_length - 1)


@pytest.mark.parametrize(
    ("longest", "words"),
    [
        (48, "position 47 is trained 0.25 times as often as position 0. Every position is trained."),
        (47, "position 47 is trained 0 times as often as position 0. Position 47 alone is never trained."),
        (39, "position 47 is trained 0 times as often as position 0. 9 positions, 39 to 47, are never trained."),
    ],
)
def test_positions_beyond_the_longest_segment_are_never_trained(longest, words, changed, capsys):
    def count(manifest):
        manifest["segment_tokens"] = [3 * (n == 5) + (n == longest) for n in range(49)]

    assert words in " ".join(said(capsys, changed(count), "--rows", 0).split())


def test_the_vocabulary_is_that_of_the_rows(corpus):
    special = set(corpus.special_ids.values())
    used = Counter(number for row in segments(corpus) for segment in row for number in segment)
    ordinary = {number: used[number] for number in range(corpus.vocab_size) if number not in special}
    text = sum(ordinary.values())
    found = vocabulary(corpus.token_frequencies, corpus.special_ids)
    assert (found.size, found.ordinary) == (corpus.vocab_size, corpus.vocab_size - 5)
    assert found.never == sum(not count for count in ordinary.values()) > 0
    assert found.rarer == {limit: sum(count < limit for count in ordinary.values()) for limit in (10, 100)}
    assert found.unknown == used[corpus.special_ids["unk"]] / (text + used[corpus.special_ids["unk"]])
    descending = sorted(ordinary.items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(found.frequent) == descending[:10]
    seen = [pair for pair in ordinary.items() if pair[1]]
    assert list(found.rarest) == sorted(seen, key=lambda pair: (pair[1], pair[0]))[:10]
    for percent, ids in found.coverage.items():
        assert sum(count for _, count in descending[:ids]) >= percent / 100 * text
        assert sum(count for _, count in descending[: ids - 1]) < percent / 100 * text
    assert found.curve[0] == (1, descending[0][1])
    assert all(descending[rank - 1][1] == count for rank, count in found.curve)
    assert found.curve[-1][0] == len(seen)


def test_a_vocabulary_that_knows_nothing():
    special = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    found = vocabulary(np.array([0, 7, 2, 2, 0, 0, 0]), special)
    assert (found.never, found.unknown, found.coverage[99], list(found.curve)) == (2, 1.0, 0, [])


# The rows.


def test_the_masks_are_those_of_validation(corpus):
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    masker = jax.jit(Masker(corpus.vocab_size, corpus.special_ids))
    shown = {row.number: row for row in example_rows(corpus, 10**6, tokenizer, mask_validation_rows)}
    assert sorted(shown) == list(range(corpus.rows("validation")))
    fates = Counter()
    batches = ValidationBatches(corpus, 7)
    for batch in (batches[index] for index in range(len(batches))):
        masked = masker(validation_keys(batch["rows"]), batch["input_ids"])
        for number, ids, seen, labels in zip(
            batch["rows"].tolist(), batch["input_ids"], masked.input_ids, masked.row_labels, strict=True
        ):
            if number not in shown:  # it fills up the batch
                continue
            tokens = [token for segment in shown[number].segments for token in segment]
            names = [tokenizer.id_to_token(int(n)) for n in ids[ids != corpus.special_ids["pad"]]]
            assert [token.text for token in tokens] == names
            assert len(tokens) + shown[number].padding == shown[number].length == len(ids)
            for token, original, input_id, label in zip(
                tokens, ids.tolist(), seen.tolist(), labels.tolist(), strict=False
            ):
                assert bool(token.fate) == (label != -100)
                assert token.special == (original in corpus.special_ids.values())
                assert not token.fate or token.seen == tokenizer.id_to_token(input_id)
                fates[token.fate] += 1
    assert set(fates) == {"", HIDDEN, RANDOM, KEPT}
    assert fates[HIDDEN] > 4 * max(fates[RANDOM], fates[KEPT])


def test_segments_are_those_of_the_rows(corpus):
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    rows = example_rows(corpus, 10**6, tokenizer, mask_validation_rows)
    for row, expected in zip(rows, segments(corpus, "validation"), strict=True):
        found = [[tokenizer.token_to_id(token.text) for token in segment] for segment in row.segments]
        assert found == expected


def test_rows_are_spread_over_the_split(corpus):
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    total = corpus.rows("validation")
    numbers = [row.number for row in example_rows(corpus, 3, tokenizer, mask_validation_rows)]
    assert numbers == [total // 6, total // 2, 5 * total // 6]


# The text.


def test_piped_text_holds_everything_and_no_codes(corpus, capsys):
    text = said(capsys, corpus.directory, "--rows", 2)
    assert "\x1b" not in text
    manifest = corpus.manifest
    for part in (
        f"packing {manifest['recipe']['packing']}",
        corpus.hash[:12],
        corpus.tokenizer_hash[:12],
        *(f"{split['tokens']:,}" for split in manifest["splits"].values()),
        "<b>.txt",
        "Tokens a row",
        "Tokens a segment",
        "Trained positions",
        "% of position 0",
        "[UNK] 1",
        "rarest seen",
        "→[MASK]}",
    ):
        assert part in text, part
    assert "█" in text
    assert len(re.findall(r"^  row \d+: ", text, re.MULTILINE)) == 2
    rows_of = [int(n) for n in re.findall(r"^  (\d+) tokens ", text, re.MULTILINE)]
    assert rows_of == (corpus.lengths("train") if manifest["recipe"]["packing"] == "sentence" else [])


def test_a_terminal_gets_the_same_in_colour(corpus, capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    plain = said(capsys, corpus.directory)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    coloured = said(capsys, corpus.directory)
    assert "\x1b[1;34m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert said(capsys, corpus.directory) == plain


def test_prose_and_rows_fit_the_terminal(corpus, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = said(capsys, corpus.directory).split("Validation rows\n")[1].split("left as it is\n")[1]
    assert max(map(len, rows.splitlines())) <= 70


def test_reasons_have_words_and_unknown_ones_print(changed, capsys):
    def drop(manifest):
        manifest["dropped"] = {**{reason: 1000 + n for n, reason in enumerate(DROPPED)}, "too_dull": 77}
        manifest["sources"][0] |= {"invalid_lines": 12, "revision": "abc"}

    text = said(capsys, changed(drop), "--rows", 0)
    for number, words in enumerate(DROPPED.values()):
        assert f"{1000 + number:,}  {words}" in text
    assert re.search(r"^  77 +too dull$", text, re.MULTILINE)
    assert "invalid UTF-8 lines" in text
    assert "revision abc" in text


def test_filters_that_are_on_are_named(changed, capsys):
    def filter_(manifest):
        manifest["recipe"] |= {"min_characters": 5, "max_characters": 900, "max_unknown": 0.25, "deduplicate": True}

    text = said(capsys, changed(filter_), "--rows", 0)
    assert (
        "filters         sentences of at least 5 characters, sentences of at most 900 characters, at most\n"
        "                  25.0 % [UNK] a sentence, duplicate sentences dropped\n"
    ) in text


def test_an_earlier_versions_corpus(changed, capsys, tmp_path):
    def age(manifest):
        del manifest["row_tokens"], manifest["segment_tokens"]
        for field in ("language", "min_characters", "max_characters", "max_unknown", "deduplicate", "cased"):
            del manifest["recipe"][field]
        for source in manifest["sources"]:
            source.pop("invalid_lines")

    text = said(capsys, changed(age), "--html", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    for missing in ("Lengths", "Tokens a row", "Trained positions"):
        assert missing not in text + html
    for present in ("Vocabulary", "Validation rows"):
        assert present in text
        assert f"<h2>{present}</h2>" in html


# The page.


@pytest.fixture
def html(corpus, tmp_path, capsys):
    said(capsys, corpus.directory, "--html", tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_needs_no_network(html):
    found = Page(html)
    for tag, attributes in found.tags:
        assert tag not in ("script", "link", "img", "iframe", "b")
        assert not {"src", "href"} & set(attributes)
        assert tag != "svg" or (attributes["role"] == "img" and attributes["aria-label"])
    assert "http" not in html
    assert "@import" not in html
    assert sum(tag == "svg" for tag, _ in found.tags) == 4
    headings = re.findall("<h2>(.*?)</h2>", html)
    assert headings[:3] == ["Recipe", "Sources", "Splits"]
    assert headings[-3:] == ["Lengths", "Vocabulary", "Validation rows"]


def test_the_page_shows_the_rows(corpus, html, capsys):
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    rows = example_rows(corpus, 3, tokenizer, mask_validation_rows)
    tokens = [token for row in rows for segment in row.segments for token in segment]
    assert any(token.text == "<" for token in tokens)
    after_key = html.split('<ul class="legend">')[1].split("</ul>")[1]
    for fate in (HIDDEN, RANDOM, KEPT):
        assert after_key.count(f'<mark class="{fate}">') == sum(token.fate == fate for token in tokens)
    assert after_key.count("<li>") == sum(len(row.segments) for row in rows)
    assert "&lt;" in after_key  # the tokens of <script>
    assert "&lt;b&gt;.txt" in html


def test_the_same_corpus_gives_the_same_bytes(corpus, html, tmp_path, capsys):
    said(capsys, corpus.directory, "--html", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_bars_are_as_high_as_their_values():
    columns = [Bin("<1–4>", 1, 4, 50.0), Bin("5–8", 5, 8, 0.0), Bin("9", 9, 9, 25.0)]
    root = ET.fromstring(bar_chart("t", columns, "tokens", "%"))
    bars = [node for node in root.iter("rect") if node.get("class") == "bar"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[2], abs=0.11)
    assert heights[1] == 0
    assert float(bars[0].get("width")) + 1 == pytest.approx(4 * (float(bars[2].get("width")) + 1), abs=0.5)
    assert bars[0].find("title").text == "<1–4>: 50"
    assert len({float(bar.get("y")) + float(bar.get("height")) for bar in bars[::2]}) == 1


# Mistakes.


def test_mistakes_are_one_line(corpus, changed, capsys, tmp_path):
    def fails(*arguments):
        try:
            code = main(["inspect", *map(str, arguments)])
        except SystemExit as stopped:  # what argparse finds
            code = stopped.code
        assert code == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert not said.out
        return said.err

    assert "no such directory" in fails(tmp_path / "none")
    assert "corpus.json: no such file" in fails(tmp_path)
    assert "--html" in fails(corpus.directory, "--html", tmp_path / "none/page.html")
    assert "--rows: -1 is not" in fails(corpus.directory, "--rows", -1)
    copy = changed(lambda manifest: None)
    shard = next(copy.glob("validation-*.npy"))
    shard.unlink()
    assert shard.name in fails(copy)
    (copy / "corpus.json").write_text('{"format": 7}')
    assert "format 7" in fails(copy)


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", "--help"])
    assert stopped.value.code == 0
    assert "--html" in capsys.readouterr().out
