import errno
import filecmp
import gzip
import json
import lzma
import os
import sys
from collections import Counter

import numpy as np
import pytest
import zstandard

from ctcd_jax.data import Corpus, prepare
from ctcd_jax.data.sentences import Sampling
from ctcd_jax.data.sources import Document
from ctcd_jax.data.tokenizer import load_tokenizer, train_wordpiece
from ctcd_jax.errors import UserError

FILES = ("a.txt", "b.txt", "sub/c.txt")


def texts(corpus, split):
    """The segments of a split as text, in the order of the rows."""
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    found = []
    for row in (row for shard in corpus.shards(split) for row in shard):
        for segment in np.split(row, np.flatnonzero(row == corpus.special_ids["cls"]))[1:]:
            end = np.flatnonzero(segment == corpus.special_ids["sep"])
            assert len(end) == 1
            assert (segment[end[0] + 1 :] == corpus.special_ids["pad"]).all()
            found.append(tokenizer.decode(segment.tolist()).replace(" ,", ","))
    return found


def written(library, sampling, held_out):
    """What the text files hold for one side of the split, said by reading them anew."""
    return [
        line.lower()
        for name in FILES
        for number, text in enumerate((library / name).read_text().strip().split("\n\n"))
        if sampling.holds_out(document := Document(name, number, text.split("\n"))) is held_out
        for i, line in enumerate(document.paragraphs)
        if sampling.keeps(document, i)
    ]


@pytest.mark.parametrize("packing", ["packed", "sentence"])
@pytest.mark.parametrize("every", [1, 3])
def test_every_sampled_sentence_is_in_its_split_once(make, library, packing, every):
    corpus = Corpus.open(make(packing=packing, every=every, seed=5))
    sampling = Sampling(5, every, 0.2)
    for split, held_out in (("train", False), ("validation", True)):
        expected = written(library, sampling, held_out)
        assert Counter(texts(corpus, split)) == Counter(expected)
        assert corpus.manifest["splits"][split]["sentences"] == len(expected) > 0
    [source] = corpus.manifest["sources"]
    assert (source["files"], source["documents"], source["sentences"]) == (3, 36, 360)
    assert source["kept"] == sum(len(written(library, sampling, side)) for side in (False, True))
    assert corpus.manifest["dropped"].get("not_sampled", 0) == 360 - source["kept"]


def test_packing_never_crosses_input_files(make, library):
    corpus = Corpus.open(make(length=128))
    origin = {line.lower(): name for name in FILES for line in (library / name).read_text().split("\n")}
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    files_of_rows = []
    for row in (row for split in ("train", "validation") for shard in corpus.shards(split) for row in shard):
        segments = np.split(row, np.flatnonzero(row == corpus.special_ids["cls"]))[1:]
        files_of_rows.append({origin[tokenizer.decode(segment.tolist()).replace(" ,", ",")] for segment in segments})
    assert all(len(files) == 1 for files in files_of_rows)
    assert set.union(*files_of_rows) == set(FILES)


def test_full_rows_are_running_text(make, library):
    corpus = Corpus.open(make(packing="full", length=32))
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    first = (library / "a.txt").read_text().split("\n\n")[0]  # held out or not, it is the start of one of the splits
    split = "validation" if Sampling(0, 1, 0.2).holds_out(Document("a.txt", 0, ())) else "train"
    row = corpus.shards(split)[0][0].tolist()
    ids = tokenizer.encode(first.replace("\n", " "), add_special_tokens=False).ids
    assert row == [2, *ids[:30], 3]


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst"])
def test_compression_changes_nothing(make, library, tmp_path, suffix):
    compress = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}[suffix]
    (tmp_path / f"a.txt.{suffix}").write_bytes(compress((library / "a.txt").read_bytes()))
    (tmp_path / "a.txt").write_bytes((library / "a.txt").read_bytes())
    corpora = [Corpus.open(make(f"text:{tmp_path}/{name}", seed=1)) for name in (f"a.txt.{suffix}", "a.txt")]
    both = [sorted(texts(corpus, "train") + texts(corpus, "validation")) for corpus in corpora]
    assert both[0] == both[1] != []


def test_the_same_recipe_gives_the_same_bytes(make):
    for options in ({}, {"vocab_size": 200, "every": 2}, {"packing": "sentence"}):
        first, second = make(**options), make(**options)
        names = sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file())
        assert names == sorted(path.relative_to(second).as_posix() for path in second.rglob("*") if path.is_file())
        assert filecmp.cmpfiles(first, second, names, shallow=False)[0] == names


def test_held_out_sentences_that_training_has_are_dropped(make, tmp_path, library):
    repeated = "An old river quietly followed an old river."
    parts = (library / "a.txt").read_text().strip().split("\n\n")
    text = "\n\n".join(f"{part}\n{repeated if i % 2 else repeated.upper()}" for i, part in enumerate(parts))
    (tmp_path / "a.txt").write_text(text)
    corpus = Corpus.open(make(f"text:{tmp_path}/a.txt"))
    held_out = corpus.manifest["splits"]["validation"]["documents"]
    assert held_out > 0
    assert repeated.lower() in texts(corpus, "train")
    assert not set(texts(corpus, "validation")) & set(texts(corpus, "train"))
    assert corpus.manifest["dropped"]["validation_in_training"] == held_out


def test_special_tokens_in_the_text_are_text(make, tmp_path, library):
    text = (library / "a.txt").read_text().replace("The river", "[CLS] the [SEP] river [PAD]")
    (tmp_path / "a.txt").write_text(text)
    corpus = Corpus.open(make(f"text:{tmp_path}/a.txt", length=128))
    assert (
        sum("[ cls ]" in segment for segment in texts(corpus, "train") + texts(corpus, "validation"))
        == text.count("\n[CLS]") + 1
    )


def test_the_manifest_adds_up(packed):
    manifest = packed.manifest
    rows = np.concatenate(packed.shards("train"))
    assert rows.dtype == np.uint16
    assert manifest["token_frequencies"] == (np.bincount(rows[rows != 0], minlength=packed.vocab_size)).tolist()
    tokens = int((rows != 0).sum())
    assert manifest["splits"]["train"]["tokens"] == tokens
    assert manifest["splits"]["train"]["padding"] == pytest.approx(1 - tokens / rows.size, abs=1e-6)
    assert manifest["splits"]["train"]["rows"] == len(rows)


def test_rows_with_a_part_of_a_sentence_are_listed(make):
    corpus = Corpus.open(make(length=24))
    rows = np.concatenate(corpus.shards("validation"))
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    whole = [
        tokenizer.decode(row.tolist()).startswith("the") and tokenizer.decode(row.tolist()).endswith(".")
        for row in rows
    ]
    assert set(corpus.manifest["validation_cut_rows"]) >= {i for i, good in enumerate(whole) if not good}
    assert 0 < len(corpus.manifest["validation_cut_rows"]) < len(rows)


def test_cut_rows_are_numbered_over_all_lengths(make):
    corpus = Corpus.open(make(packing="sentence", length=40))
    rows = [row[row != 0] for shard in corpus.shards("validation") for row in shard]
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    cut = [i for i, row in enumerate(rows) if tokenizer.id_to_token(int(row[-2])) != "."]
    assert corpus.manifest["validation_cut_rows"] == cut != []
    assert len(corpus.lengths("validation")) == 2


def test_preparing_again_does_nothing(make, library, vocabulary):
    out = make()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    lines = []
    options = {"tokenizer": str(vocabulary), "length": 48, "validation": 0.2}
    manifest = prepare([f"text:{library}/**/*.txt"], out, **options, log=lines.append)
    assert manifest == json.loads((out / "corpus.json").read_text())
    assert "already prepared" in lines[-1]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(UserError, match="was prepared with length = 48, not 64"):
        prepare([f"text:{library}/**/*.txt"], out, **options | {"length": 64})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": []}, "--source: give at least one"),
        ({"sources": ["text:{tmp}/none.txt"]}, "no file matches"),
        ({"sources": ["text:{tmp}/empty.txt"]}, "empty.txt': no text in it"),
        ({"sources": ["text:{library}/a.txt", "text:{tmp}/cut.gz"]}, "cut.gz: damaged"),
        ({"packing": "pack"}, "--packing: unknown 'pack' (did you mean 'packed'?)"),
        ({"length": 4}, "--length 4"),
        ({"every": 0}, "--every 0"),
        ({"every": 10**9}, "--every 1000000000: none of the 360 sentences was kept"),
        ({"validation": 0.0}, "--validation 0.0: give a share"),
        ({"workers": 0}, "--workers 0"),
        ({"shard": (2, 2)}, "--shard 2/2: give i/n with i from 0 to n - 1"),
        ({"min_characters": 5, "max_characters": 4}, "--max-characters 4"),
        ({"min_characters": 10**6}, "too few characters: 360"),
        ({"max_unknown": 2.0}, "--max-unknown 2.0"),
        ({"cased": True}, "--cased: it is for training"),
        ({"keep_accents": True}, "--keep-accents: it is for training"),
        ({"keep_accents": "no"}, "--keep-accents 'no': it is True or False"),
        ({"validation": 1e-9}, "--validation 1e-09: none of the 36 documents was held out"),
        ({"validation": 1 - 1e-9}, "nothing is left to train on"),
        ({"vocab_size": 300}, "--vocab-size: it is for training"),
        ({"tokenizer": None, "vocab_size": 10}, "--vocab-size 10"),
        ({"tokenizer": "./none/vocab.txt"}, "tokenizer ./none/vocab.txt: no such file"),
        ({"packing": "sentence", "sources": ["text:{tmp}/short.txt"]}, "not one train row came out"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_leaves_nothing(tmp_path, library, vocabulary, options, message):
    (tmp_path / "empty.txt").write_text("\n \n\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress((library / "b.txt").read_bytes())[:-20])
    (tmp_path / "short.txt").write_text("\n\n".join(f"Short {i}." for i in range(50)))
    before = sorted(tmp_path.iterdir())
    options = {"sources": ["text:{library}/**/*.txt"], "tokenizer": str(vocabulary), "validation": 0.2} | options
    options["sources"] = [spec.format(tmp=tmp_path, library=library) for spec in options["sources"]]
    with pytest.raises(UserError) as caught:
        prepare(**options, out=tmp_path / "out", log=lambda line: None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_not_a_corpus_is_left_alone(tmp_path, library):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a prepared corpus"):
        prepare([f"text:{library}/a.txt"], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_an_interrupted_run_leaves_nothing_and_a_killed_one_is_no_obstacle(tmp_path, library, vocabulary):
    def interrupt(line):
        raise KeyboardInterrupt

    options = {"tokenizer": str(vocabulary), "validation": 0.2}
    with pytest.raises(KeyboardInterrupt):
        prepare([f"text:{library}/**/*.txt"], tmp_path / "out", **options, log=interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "train-00000.npy").write_text("torn")
    prepare([f"text:{library}/**/*.txt"], tmp_path / "out", **options, log=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    Corpus.open(tmp_path / "out")


def test_sentences_of_other_lengths_are_dropped_and_counted(make, library):
    lines = [line for name in FILES for line in (library / name).read_text().split("\n") if line]
    corpus = Corpus.open(make(min_characters=60, max_characters=70, length=128))
    wanted = Counter(line.lower() for line in lines if 60 <= len(line) <= 70)
    assert Counter(texts(corpus, "train") + texts(corpus, "validation")) == wanted
    assert corpus.manifest["dropped"] == {
        "too_few_characters": sum(len(line) < 60 for line in lines),
        "too_many_characters": sum(len(line) > 70 for line in lines),
    }


def test_sentences_of_unknown_words_are_dropped_and_counted(make, tmp_path, library, vocabulary):
    parts = (library / "a.txt").read_text().strip().split("\n\n")
    half = "The river 漢 字 語 quietly."  # 3 of its 7 tokens are unknown
    (tmp_path / "a.txt").write_text("\n\n".join(f"{part}\n{half}" for part in parts))
    unknown = load_tokenizer(vocabulary).token_to_id("[UNK]")
    kept = Corpus.open(make(f"text:{tmp_path}/a.txt", max_unknown=3 / 7))
    assert "too_many_unknown" not in kept.manifest["dropped"]
    dropped = Corpus.open(make(f"text:{tmp_path}/a.txt", max_unknown=0.42))
    assert dropped.manifest["dropped"]["too_many_unknown"] == sum(
        manifest["documents"] for manifest in dropped.manifest["splits"].values()
    ) - dropped.manifest["dropped"].get("validation_in_training", 0)
    assert kept.token_frequencies[unknown] == 3 * kept.manifest["splits"]["train"]["documents"]
    assert dropped.token_frequencies[unknown] == 0


def test_each_source_has_its_own_share_and_its_own_lines(make, library):
    corpus = Corpus.open(make(f"text:{library}/a.txt,share=0.25", f"text:{library}/b.txt", seed=3))
    first, second = corpus.manifest["sources"]
    assert 10 < first["kept"] < 50  # of 120: 30 +- 4.7
    assert second["kept"] == second["sentences"] == 120


def test_a_line_can_be_a_sentence_whatever_is_in_it(make, tmp_path, library):
    text = (library / "a.txt").read_text().replace("The ", "Well. The ")
    (tmp_path / "a.txt").write_text(text)
    split = Corpus.open(make(f"text:{tmp_path}/a.txt"))
    whole = Corpus.open(make(f"text:{tmp_path}/a.txt,lines=sentences"))
    assert [corpus.manifest["sources"][0]["sentences"] for corpus in (split, whole)] == [240, 120]


def test_equal_sentences_are_kept_once_if_asked(make, tmp_path, library):
    parts = (library / "a.txt").read_text().strip().split("\n\n")
    (tmp_path / "a.txt").write_text("\n\n".join(f"{part}\n{part.upper()}" for part in parts))
    twice = Corpus.open(make(f"text:{tmp_path}/a.txt", length=128))
    once = Corpus.open(make(f"text:{tmp_path}/a.txt", length=128, deduplicate=True))
    assert max(Counter(texts(twice, "train")).values()) == 2
    assert Counter(texts(once, "train")) == Counter(set(texts(twice, "train")))
    assert Counter(texts(once, "validation")) == Counter(set(texts(twice, "validation")))
    assert once.manifest["dropped"]["duplicates"] > 0
    assert sum(once.manifest["splits"][split]["sentences"] for split in ("train", "validation")) == 120


def test_a_cased_tokenizer_keeps_case(make):
    vocabulary = [
        load_tokenizer(make(vocab_size=200, cased=cased) / "tokenizer").get_vocab() for cased in (True, False)
    ]
    assert "The" in vocabulary[0]
    assert "The" not in vocabulary[1]
    assert "the" in vocabulary[1]


def test_a_tokenizer_in_lower_case_keeps_accents_if_asked(make, tmp_path):
    documents = (f"Die Brücke möchte Haus {n} sehen.\nÜber {n} Äpfel möchte ich schweigen." for n in range(40))
    (tmp_path / "german.txt").write_text("\n\n".join(documents), encoding="utf-8")
    trained = [
        load_tokenizer(make(f"text:{tmp_path}/german.txt", vocab_size=200, **asked) / "tokenizer").get_vocab()
        for asked in ({}, {"keep_accents": True})
    ]
    assert ["mochte" in vocabulary for vocabulary in trained] == [True, False]
    assert ["möchte" in vocabulary for vocabulary in trained] == [False, True]


def test_a_tokenizer_is_trained_on_an_even_sample_of_many_sentences(make, library, monkeypatch):
    seen = []

    def spy(passes, *arguments):
        seen.append(list(passes()))
        return train_wordpiece(passes, *arguments)

    monkeypatch.setattr(sys.modules["ctcd_jax.data.prepare"], "train_wordpiece", spy)  # the name is a function's, too
    make(vocab_size=200)
    monkeypatch.setattr("ctcd_jax.data.totals.TOKENIZER_SENTENCES", 100)
    make(vocab_size=200)
    every, sample = seen
    assert Counter(map(str.lower, every)) == Counter(written(library, Sampling(0, 1, 0.2), held_out=False))
    assert 60 < len(sample) < 140
    assert not Counter(sample) - Counter(every)
    assert len({sentence.split(" after")[0] for sentence in sample}) > 30  # from everywhere


def test_invalid_utf8_is_counted_or_an_error(make, tmp_path, library):
    lines = (library / "a.txt").read_bytes().split(b"\n")
    lines[3] = b"The \xff river quietly watched an old river."
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    corpus = Corpus.open(make(f"text:{tmp_path}/a.txt"))
    assert corpus.manifest["sources"][0]["invalid_lines"] == 1
    with pytest.raises(UserError, match=r"a\.txt:4: not UTF-8 .*omit --strict"):
        make(f"text:{tmp_path}/a.txt", strict=True)


def test_how_many_tokens_rows_and_segments_have(packed):
    rows = np.concatenate(packed.shards("train"))
    sizes = (rows != 0).sum(axis=1)
    assert packed.manifest["row_tokens"] == np.bincount(sizes, minlength=49).tolist()
    segments = [
        len(part)
        for row, size in zip(rows, sizes, strict=True)
        for part in np.split(row[:size], np.flatnonzero(row == 2))[1:]
    ]
    assert packed.manifest["segment_tokens"] == np.bincount(segments, minlength=49).tolist()


def test_an_earlier_versions_corpus_of_the_same_recipe_is_the_same(make):
    out = make()
    manifest = json.loads((out / "corpus.json").read_text())
    recipe = manifest["recipe"]
    for name in ("cased", "language", "deduplicate", "min_characters", "max_characters", "max_unknown"):
        del recipe[name]
    (out / "corpus.json").write_text(json.dumps(manifest))
    assert prepare(**recipe, out=out, log=lambda line: None)["recipe"] == recipe
    with pytest.raises(UserError, match="was prepared with deduplicate = False, not True"):
        prepare(**recipe, deduplicate=True, out=out)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, library, vocabulary, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    options = {"sources": [f"text:{library}/**/*.txt"], "tokenizer": str(vocabulary), "validation": 0.2}
    for name in ("ctcd_jax.data.parts.np.save", "ctcd_jax.data.shards.np.lib.format.write_array_header_1_0"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(UserError, match=r"out: cannot be written \(No space left"):
                prepare(**options, out=tmp_path / "out", log=lambda line: None)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.rglob("*.tmp"))
    prepare(**options, out=tmp_path / "out", log=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_long_work_says_so_in_a_log(monkeypatch):
    from ctcd_jax.jobs import progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = []
    assert list(progress.watch(range(9), "reading", "documents", lines.append)) == list(range(9))
    assert lines[0] == "reading: 3 documents"
    assert 1 < len(lines) < 9
