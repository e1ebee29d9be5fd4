"""Malformed rows: every one is named by FILE:LINE, or mended and said; nothing is swallowed."""

import gzip
import json

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.data import classes_line, departures, load, open_source
from ctcd_jax.evaluation.tasks.files import Folder
from ctcd_jax.evaluation.tasks.rows import json_objects, table_rows
from ctcd_jax.evaluation.tasks.tasks import TASKS, own_task

ROWS = [(f"the room was {'quick' if n % 2 else 'ugly'} number {n}", "pos" if n % 2 else "neg") for n in range(8)]


def csv(rows=ROWS):
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def put(folder, content, ending="csv", split="train"):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / f"{split}.{ending}").write_bytes(data)


def read(folder, columns="text,label", metrics="accuracy", positive=None):
    source = open_source(str(folder), own_task("mine", columns, metrics, positive))
    return load(source, source.find("mine"))


def refusal(folder, columns="text,label", metrics="accuracy"):
    with pytest.raises(UserError) as caught:
        read(folder, columns, metrics)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        # Two marks that begin fields; two around several rows, which is legal CSV; one at the end of the file; one
        # inside a field; text after a field; the last of a long row.
        ({2: '"', 6: '"'}, {}, 4),
        ({2: '"'}, {6: '"'}, 4),
        ({7: '"'}, {}, 9),
        ({3: 'so "'}, {}, 5),
        ({3: '"'}, {3: '" then'}, 5),
    ],
)
def test_a_stray_quotation_mark_is_named_where_its_field_begins(tmp_path, before, after, line):
    rows = [(before.get(n, "") + text + after.get(n, ""), label) for n, (text, label) in enumerate(ROWS)]
    put(tmp_path, csv(rows))
    put(tmp_path, csv(), split="dev")
    text = refusal(tmp_path)
    assert text.startswith(f"train.csv:{line}: ")
    assert "quotation mark" in text


def test_rows_swallowed_between_two_marks_are_found_wherever_the_label_stands(tmp_path):
    swallowed = {
        "label,text": 'label,text\nneg,a\npos,"b\nneg,c"\npos,d\n',
        "text,score": 'text,score\na,1\n"b,2\nc",3\nd,1.5\n',
        "a,b,label": 'a,b,label\nx,y,1\n"x,y,0\nx,y,1\nx",y,0\n',
    }
    for columns, text in swallowed.items():
        put(tmp_path, text)
        metric = "pearson" if "score" in columns else "accuracy"
        wanted = "text,label" if columns == "label,text" else columns
        line = refusal(tmp_path, wanted, metric)
        assert line.startswith("train.csv:3: a quoted field that begins here holds line ")


def test_a_field_that_rightly_runs_over_lines_is_one_text(tmp_path):
    put(tmp_path, 'text,label\n"good room, nice\nbut loud",pos\n"so ""bad"", pos,\r\nneg",neg\nplain,neg\n')
    put(tmp_path, 'label,text\npos,"good\n\nnot, indeed"\nneg,bad\n', split="dev")
    assert [row.line for row in table_rows(tmp_path / "train.csv")] == [1, 2, 4, 6]
    data = read(tmp_path)
    assert data.train.sentences == (["good room, nice\nbut loud", 'so "bad", pos,\r\nneg', "plain"],)
    assert data.dev[0].sentences == (["good\n\nnot, indeed", "bad"],)
    assert data.train.labels == [1, 0, 0]


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("csv", "text,label\na,pos\nb, or c,neg\n", "train.csv:3: 3 columns, the header has 2; in CSV a text with"),
        ("csv", "text,label\na,pos\nb\n", "train.csv:3: 1 columns, column 2 is needed"),
        ("tsv", "text\tlabel\na\tpos\nb\tneg\t\n", "train.tsv:3: 3 columns, the header has 2"),
        ("csv", "text,label\na,pos\nb,  \n", "train.csv:3: the label is empty"),
        ("tsv", "text\tlabel\na\tpos\nb\t\n", "train.tsv:3: the label is empty"),
        ("jsonl", '{"text": "a", "label": "pos"}\n{"text": "b", "label": " "}\n', "train.jsonl:2: the label is empty"),
        ("jsonl", '{"text": ["a"], "label": "pos"}\n', "train.jsonl:1: field 'text' is neither a text nor a number"),
        ("jsonl", '[{"text": "a", "label": "pos"}]\n', "train.jsonl:1: not a JSON object; give one a line"),
        ("csv", 'text,label\na,"pos\n"\nb,"ne\ng"\n', "train.csv:4: the label runs over several lines"),
        ("csv", "text,label\na,pos\n\0b,neg\n", "train.csv:3: a NUL byte"),
        ("tsv", "text\tlabel\na\tpos\n".encode("utf-16-le"), "train.tsv:1: a NUL byte, which no text has (UTF-16?)"),
        ("tsv", "text\tlabel\na\tpos\né\tneg\n".encode("latin-1"), "train.tsv:3: cannot be read ('utf-8' codec"),
        ("csv", "text,label\na,pos\né,neg\n".encode("latin-1"), "train.csv:3: cannot be read ('utf-8' codec"),
        ("jsonl", '{"text": "é", "label": 1}\n'.encode("latin-1"), "train.jsonl:1: cannot be read ('utf-8' codec"),
        ("csv", "text,label,label\na,pos,neg\n", "train.csv:1: 2 columns are called 'label'; rename one"),
        ("csv", "text;label\na;pos\n", "train.csv:1: no column 'text' in the header"),
    ],
)
def test_every_malformed_row_is_named(tmp_path, ending, content, message):
    put(tmp_path, content, ending)
    assert refusal(tmp_path).startswith(message)


@pytest.mark.parametrize(("ending", "tab"), [("csv", ","), ("tsv", "\t")])
def test_a_header_in_a_file_read_by_positions_is_no_example(tmp_path, ending, tab):
    put(tmp_path, "text,label\na,pos\nb,neg\nc,neg\n".replace(",", tab), ending)
    text = refusal(tmp_path, "0,1")
    assert text.startswith(f"train.{ending}:1: no other row has the label 'label'; if it is a header")
    text = refusal(tmp_path, "0,1", "pearson")
    assert text == f"train.{ending}:1: score 'label' of mine is not a number; if it is a header, give --columns by name"
    put(tmp_path, "a,pos\nb,neg\nc,neg\nd,pos\n".replace(",", tab), ending)
    put(tmp_path, "text,label\na,pos\n".replace(",", tab), ending, "dev")
    assert "label 'label' of mine is none of neg, pos; if it is a header" in refusal(tmp_path, "0,1")


def test_a_guessed_header_is_said_and_must_be_in_both_files(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    put(folder, "text\tlabel\na\t1\nb\t0\nc\t0\n", "tsv")
    put(folder, "text\tlabel\na\t1\nb\t0\n", "tsv", "dev")
    source = Folder(tmp_path)
    task = source.find("pets")
    assert list(departures(load(source, task))) == [
        "pets train: the first row is taken as a header",
        "pets train: only one row with label 1",
        "pets dev: the first row is taken as a header",
    ]
    put(folder, "a\t1\nb\t0\n", "tsv", "dev")
    with pytest.raises(UserError, match=r"dev\.tsv:1: an example, where train has a header; give both files one"):
        source.read(task, "dev")


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("csv", "text,label\na, pos\nb,neg \nc,neg\n"),
        ("tsv", "text\tlabel\na\t pos\nb\tneg \nc\tneg\n"),
        ("jsonl", '{"text": "a", "label": " pos"}\n{"text": "b", "label": "neg\\t"}\n{"text": "c", "label": "neg"}\n'),
    ],
)
def test_padded_labels_are_trimmed_and_counted(tmp_path, ending, content):
    for split in ("train", "dev"):
        put(tmp_path, content, ending, split)
    data = read(tmp_path)
    assert data.task.classes == ("neg", "pos")
    assert data.train.labels == [1, 0, 0]
    assert "mine train: labels with blanks around them, which are trimmed: 2" in list(departures(data))


def test_the_classes_found_are_counted_and_a_lonely_one_is_warned_of(tmp_path):
    put(tmp_path, "text,label\na,neg\n,neg\nb,pos\n")
    put(tmp_path, "text,label\na,neg\nb,pos\n", split="dev")
    data = read(tmp_path, metrics="f1,accuracy")
    assert classes_line(data) == ("mine: 2 classes: train neg (2), pos (1); dev neg (1), pos (1); F1 is that of pos")
    assert list(departures(data)) == [
        "mine train: rows with an empty text: 1",
        "mine train: only one row with label pos",
    ]
    chosen = read(tmp_path, metrics="f1,accuracy", positive="neg")
    assert chosen.task.classes == ("pos", "neg")
    assert classes_line(chosen).endswith("; F1 is that of neg")


def test_a_class_for_f1_must_be_one_of_the_file_and_f1_be_asked_for(tmp_path):
    put(tmp_path, csv())
    with pytest.raises(UserError, match=r"--positive po: no such class in .*train\.csv \(did you mean 'pos'\?\)"):
        read(tmp_path, metrics="f1", positive="po")
    with pytest.raises(UserError, match="--positive pos: only F1 is of one class; leave it out, or give --metric f1"):
        own_task("mine", "text,label", "accuracy", "pos")


def test_a_metric_given_twice_is_refused():
    with pytest.raises(UserError, match="--metric accuracy,accuracy: accuracy is given twice; name each metric once"):
        own_task("mine", "text,label", "accuracy,accuracy")


def test_lone_carriage_returns_end_lines_where_nothing_else_does(tmp_path):
    for ending, content in (
        ("csv", csv()),
        ("tsv", csv().replace(",", "\t")),
        ("jsonl", "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)),
    ):
        for split in ("train", "dev"):
            put(tmp_path, content.replace("\n", "\r"), ending, split)
        assert len(read(tmp_path).train) == len(ROWS)
        (tmp_path / f"train.{ending}").unlink()


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    for ending, content in (("csv", csv()), ("jsonl", '{"text": "a"}\n')):
        put(tmp_path, "\ufeff" + content, ending)
    assert next(table_rows(tmp_path / "train.csv")).fields == ["text", "label"]
    assert next(json_objects(tmp_path / "train.jsonl")) == (1, {"text": "a"})


def test_a_gzipped_file_damaged_in_the_middle_is_one_line(tmp_path):
    data = bytearray(gzip.compress(csv(ROWS * 200).encode()))
    data[len(data) // 2] ^= 0xFF
    put(tmp_path, bytes(data), "csv.gz")
    assert "train.csv.gz" in refusal(tmp_path)


def test_glues_own_rows_may_be_longer_than_their_header(tmp_path):
    (tmp_path / "SST-2").mkdir()
    put(tmp_path / "SST-2", 'sentence\tlabel\nso "good\t1\t\nbad\t0\n', "tsv", "dev")
    assert Folder(tmp_path).read(TASKS["sst2"], "dev").labels == [1, 0]


def test_a_field_may_be_a_long_document_and_a_git_lfs_pointer_is_called_so(tmp_path):
    put(tmp_path, "text,label\n" + "word " * 40_000 + ",pos\nshort,neg\n")
    put(tmp_path, "text,label\na,pos\nb,neg\n", split="dev")
    assert len(read(tmp_path).train.sentences[0][0]) > 131_072
    put(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refusal(tmp_path) == "train.csv: a Git LFS pointer, not the data; run `git lfs pull`"
