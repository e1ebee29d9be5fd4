"""A file's kind is recognised by its bytes: text is read whatever its name, and nothing else is taken for text."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from ctcd_jax.data.sources import Reading, lines, open_source
from ctcd_jax.data.sources.lines import split_lines
from ctcd_jax.errors import UserError

TEXT = "One line.\nAnother line.\n\nSecond document.\n"
DOCUMENTS = [["One line.", "Another line."], ["Second document."]]
COMPRESS = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bz2": bz2.compress,
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345678\n"


def read(spec, log=lambda line: None, **reading):
    return [
        list(document.paragraphs)
        for file in open_source(spec, log).files
        for document in file.documents(Reading(**reading))
    ]


def message(spec, **reading):
    with pytest.raises(UserError) as caught:
        read(spec, **reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def archive(data: bytes, kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("a.txt", data)
    else:
        with tarfile.open(fileobj=file, mode="w") as made:
            made.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_is_read_under_any_name_and_that_is_said(tmp_path, kind):
    (tmp_path / "part-0.txt").write_text("Zero.\n")
    (tmp_path / "part-1.txt").write_bytes(COMPRESS[kind](TEXT.encode()))
    (tmp_path / "part-2.txt").write_bytes(COMPRESS[kind](TEXT.encode()))
    said = []
    assert read(f"text:{tmp_path}/part-*.txt", said.append) == [["Zero."], *DOCUMENTS, *DOCUMENTS]
    assert said == [
        f"source 'text:{tmp_path}/part-*.txt': decompressing part-1.txt ({kind}) and 1 more,"
        " although the name does not say so"
    ]
    (tmp_path / "a.jsonl").write_bytes(COMPRESS[kind](b'{"text": "A."}\n'))
    assert read(f"jsonl:{tmp_path}/a.jsonl") == [["A."]]


def test_bz2_in_several_streams(tmp_path):
    raw = TEXT.encode()
    (tmp_path / "a.bz2").write_bytes(bz2.compress(raw[:20]) + bz2.compress(raw[20:]))
    said = []
    assert read(f"text:{tmp_path}/a.bz2", said.append) == DOCUMENTS
    assert said == []
    whole = bz2.compress("".join(f"{i * i} lines\n" for i in range(5000)).encode())
    for damaged in (whole[:-2000], raw):
        (tmp_path / "a.bz2").write_bytes(damaged)
        assert message(f"text:{tmp_path}/a.bz2").startswith(f"{tmp_path}/a.bz2: damaged")


NO_TEXT = {
    "a zip archive": archive(b"text", "zip"),
    "a tar archive; unpack it": archive(b"text", "tar"),
    "a PDF; take the text out": b"%PDF-1.7\n1 0 obj\n",
    "a Git LFS pointer and not the file itself; fetch that with `git lfs pull`": POINTER,
    "UTF-16 and not UTF-8; convert it with `iconv -f UTF-16 -t UTF-8 FILE > NEW`": TEXT.encode("utf-16"),
    "UTF-32 and not UTF-8; convert it with `iconv -f UTF-32 -t UTF-8 FILE > NEW`": TEXT.encode("utf-32"),
}


@pytest.mark.parametrize(("what", "data"), NO_TEXT.items())
@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path, kind, what, data):
    (tmp_path / "a").write_bytes(data)
    assert message(f"{kind}:{tmp_path}/a").startswith(f"{tmp_path}/a: {what}")
    if kind != "parquet":
        (tmp_path / "a.gz").write_bytes(gzip.compress(data))
        assert message(f"{kind}:{tmp_path}/a.gz").startswith(f"{tmp_path}/a.gz: what is compressed in it is {what}")


def test_the_kind_of_another_kind_is_named(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a")
    assert message(f"text:{tmp_path}/a") == f"{tmp_path}/a: a parquet file; read it as parquet:LOCATION"
    (tmp_path / "b").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert message(f"parquet:{tmp_path}/b") == f"{tmp_path}/b: compressed (gzip); decompress it"
    (tmp_path / "c").write_bytes(gzip.compress(gzip.compress(TEXT.encode())))
    assert "c: compressed (gzip) twice; decompress it once" in message(f"text:{tmp_path}/c")


@pytest.mark.parametrize("data", [TEXT.encode("utf-16-le"), b"fine\n\x7fELF\x02\x00\x00\x01\n"], ids=["utf-16", "elf"])
def test_a_nul_byte_is_no_text(tmp_path, data):
    for name, content in {"a.txt": data, "a.gz": gzip.compress(data)}.items():
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path}/{name}:{2 if data.startswith(b'fine') else 1}: a NUL byte, which no text has" in message(
            f"text:{tmp_path}/{name}"
        )
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["fine", "not\0fine"]}), tmp_path / "data" / "a.parquet")
    for spec in (f"parquet:{tmp_path}/data/a.parquet", f"hf:{tmp_path}/data"):
        assert ", row 1: a NUL byte, which no text has" in message(spec)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_may(tmp_path, end):
    data = TEXT.replace("\n", end).encode()
    for name, content in {"a.txt": data, "a.xz": lzma.compress(data), "a.zst": COMPRESS["zstd"](data)}.items():
        (tmp_path / name).write_bytes(content)
        assert read(f"text:{tmp_path}/{name}") == DOCUMENTS
    records = end.join(json.dumps({"text": f"One.{end}Two."}) for _ in range(2))
    (tmp_path / "a.jsonl").write_bytes(records.encode())
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"One.{end}Two."] * 2}), tmp_path / "a.parquet")
    for kind in ("jsonl", "parquet"):
        assert read(f"{kind}:{tmp_path}/a.{kind}") == [["One.", "Two."]] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_belongs_to_the_range_in_which_it_begins_whatever_ends_it(tmp_path, monkeypatch, end):
    texts = ["One.", "", "A second line.", "", "", "é", "Three: as long as several ranges together.", "x", "Last"]
    data = end.join(texts).encode()
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    for cut in range(1, len(data)):
        monkeypatch.setattr("ctcd_jax.data.sources.files.RANGE_BYTES", cut)
        monkeypatch.setattr(lines, "_CHUNK", 1 + cut % 7)
        read_by_range = [
            [line for document in file.documents(Reading()) for line in document.paragraphs]
            for file in open_source(f"text:{path}").files
        ]
        expected = [[] for _ in read_by_range]
        begins = 0
        for line in texts:
            if line:
                expected[begins // cut].append(line)
            begins += len((line + end).encode())
        assert read_by_range == expected


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_split_as_python_splits_them_wherever_the_chunks_are_cut(size):
    data = b"one\r\ntwo\r\rthree\n\r\nfour\r\n\nfive long enough\x0b\x0c\x85\x1c to stay one\r"
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    with io.TextIOWrapper(io.BytesIO(data), encoding="latin-1", newline="") as file:
        assert [line.decode("latin-1") for line in split_lines(chunks)] == list(file)


def test_what_exists_is_meant_literally(tmp_path, monkeypatch):
    names = ["a[1].txt", "b,share=2.txt", "c*.txt", "with space.txt", "new\nline.txt", "~"]
    for name in names:
        (tmp_path / name).write_text(f"In {name.strip()}.")
        assert read(f"text:{tmp_path}/{name}")[0] == f"In {name}.".split("\n")
        assert open_source(f"text:{tmp_path}/{name},share=0.5").share == 0.5
    for name in ("a1.txt", "cc.txt"):
        (tmp_path / name).write_text("Another.")
    assert len(open_source(f"text:{tmp_path}/a[1].txt").files) == 1
    assert [file.name for file in open_source(f"text:{tmp_path}/[ac]*.txt").files] == sorted(
        ["a[1].txt", "a1.txt", "c*.txt", "cc.txt"]
    )
    (tmp_path / "d[1],lines=x" / "sub").mkdir(parents=True)
    (tmp_path / "d[1],lines=x" / "sub" / "a.txt").write_text("Deep.")
    source = open_source(f"text:{tmp_path}/d[1],lines=x/**/*.txt,lines=sentences")
    assert [file.name for file in source.files] == ["sub/a.txt"]
    assert source.sentence_lines
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("text:~/a1.txt") == [["Another."]]
    monkeypatch.chdir(tmp_path)
    assert read("text:~") == [["In ~."]]
    assert "no file matches" in message(f"text:{tmp_path}/d[1],lines=x")


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", "é.txt".encode()])
def test_a_name_need_not_be_utf8(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_text("One.\n\nTwo.\n")
    assert read(f"text:{path}") == [["One."], ["Two."]]
    [file] = open_source(f"text:{path}").files
    assert os.fsencode(file.name) == name


def test_what_an_array_and_joined_objects_need_is_said(tmp_path):
    record = {"text": "One."}
    for content in (json.dumps([record, record], indent=1), json.dumps([record]), json.dumps(record) * 2,
                    json.dumps(record, indent=1)):  # fmt: skip
        (tmp_path / "a.jsonl").write_text(content)
        found = message(f"jsonl:{tmp_path}/a.jsonl")
        assert found.startswith(f"{tmp_path}/a.jsonl:1: not a JSON object (")
        assert "`jq -c . FILE > NEW` puts objects on lines, `jq -c '.[]' FILE > NEW` those of an array" in found


def test_a_column_of_nulls_is_no_text_and_a_bad_column_names_its_file(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.nulls(3)}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["One."]}), tmp_path / "b.parquet")
    assert read(f"parquet:{tmp_path}/*.parquet") == [["One."]]
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "c.parquet")
    assert "': c.parquet: field 'text' holds int64, not strings" in message(f"parquet:{tmp_path}/*.parquet")


def test_what_datasets_cannot_read_names_the_file_or_the_way_out(tmp_path):
    for name in ("n", "d[1]"):
        (tmp_path / name).mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.nulls(3)}), tmp_path / "n/a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["One."]}), tmp_path / "n/b.parquet")
    assert f"train-00001: {tmp_path}/n/b.parquet cannot be read (Couldn't cast" in message(f"hf:{tmp_path}/n")
    (tmp_path / "d[1]/a.jsonl").write_text('{"text": "One."}\n')
    assert "takes the * ? [ in a directory's name for a pattern: rename it, or" in message(f"hf:{tmp_path}/d[1]")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt"])
def test_a_pointer_in_a_directory_of_a_data_set_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(POINTER)
    assert f"{tmp_path}/{name} is a Git LFS pointer and not the file itself" in message(f"hf:{tmp_path}")


def test_escapes_that_are_half_a_character_are_counted_or_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "a \\ud83d b"}\n')
    (tmp_path / "code.py").write_text('"""The \\ud83d first words of this small module."""\n')
    for spec, place in {
        f"jsonl:{tmp_path}/a.jsonl": f"{tmp_path}/a.jsonl:2",
        f"docstrings:{tmp_path}": f"{tmp_path}/code.py",
    }.items():
        [file] = open_source(spec, lambda line: None).files
        reading = Reading()
        "".join(line for document in file.documents(reading) for line in document.paragraphs).encode()
        assert (reading.invalid_lines, reading.first_invalid) == (1, place)
        assert message(spec, strict=True).startswith(f"{place}: not UTF-8")


LOCALE = """
import sys
from ctcd_jax.data.sources import Reading, open_source
for file in open_source(sys.argv[1]).files:
    for document in file.documents(Reading()):
        print(ascii((document.path, document.paragraphs)))
"""


def test_a_locale_changes_nothing(tmp_path):
    (tmp_path / "é[1].txt").write_bytes("Ein Bär.\n".encode())
    found = [
        subprocess.run(
            [os.sys.executable, "-c", LOCALE, f"text:{tmp_path}/é[1].txt"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | locale,
            capture_output=True,
            check=True,
        ).stdout
        for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"})
    ]
    assert found[0] == found[1] == ascii(("é[1].txt", ["Ein Bär."])).encode() + b"\n"
