"""The sources that read tables: each on data that the library it is for has written."""

import gzip
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from ctcd_jax.data import prepare
from ctcd_jax.data.sources import Reading, hub, open_source
from ctcd_jax.data.sources import tfds as tfds_source
from ctcd_jax.errors import UserError

ARROW = "data-00000-of-00001.arrow"
TEXTS = ["One line.\nAnother line.\n", "  Second document.\r\n\n ", " \n", "Third, with an é.", "Fourth."]
DOCUMENTS = [
    (0, ["One line.", "Another line."]),
    (1, ["Second document."]),
    (3, ["Third, with an é."]),
    (4, ["Fourth."]),
]


class Library(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "body": tfds.features.Text(),
            "size": tfds.features.ClassLabel(num_classes=9),
            "words": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(TEXTS), "test": self._generate_examples(["Test."])}

    def _generate_examples(self, texts):
        for i, text in enumerate(texts):
            yield i, {"text": text, "body": text.upper(), "size": i, "words": text.split()}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """TEXTS as every kind of source; `text`, and the same in upper case as `body`."""
    root = tmp_path_factory.mktemp("tables")
    table = datasets.Dataset.from_dict(
        {"text": TEXTS, "body": [text.upper() for text in TEXTS], "size": range(5)}, split="train"
    )
    test = datasets.Dataset.from_dict({"text": ["Test."], "body": ["TEST."], "size": [0]})
    table.save_to_disk(root / "saved")
    datasets.DatasetDict(train=table, test=test).save_to_disk(root / "saved_splits")
    (root / "files").mkdir()
    table.select(range(2)).to_parquet(root / "files" / "train-00000-of-00002.parquet")
    table.select(range(2, 5)).to_parquet(root / "files" / "train-00001-of-00002.parquet")
    test.to_parquet(root / "files" / "test.parquet")
    table.to_parquet(root / "a.parquet")
    (root / "lines").mkdir()
    table.to_json(root / "lines" / "a.jsonl")
    (root / "a.jsonl.gz").write_bytes(gzip.compress((root / "lines" / "a.jsonl").read_bytes()))
    Library(data_dir=root / "tfds", file_format="array_record").download_and_prepare()
    return root


def read(spec: str, **reading) -> list[tuple[str, list[tuple[int, list[str]]]]]:
    """The documents of each input file as another process would read it."""
    found = []
    for file in open_source(spec, log=lambda line: None).files:
        documents = list(pickle.loads(pickle.dumps(file)).documents(Reading(**reading)))
        assert {document.path for document in documents} <= {file.name}
        found.append((file.name, [(document.number, list(document.paragraphs)) for document in documents]))
    return found


def message(spec: str, **reading) -> str:
    with pytest.raises(UserError) as caught:
        read(spec, **reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


KINDS = {
    "jsonl:{root}/lines/*.jsonl": "a.jsonl",
    "jsonl:{root}/a.jsonl.gz": "a.jsonl.gz",
    "parquet:{root}/a.parquet": "a.parquet",
    "hf:{root}/saved": "train-00000",
    "hf:{root}/saved_splits": "train-00000",
    "hf:{root}/lines": "train-00000",
    "tfds:{root}/tfds/library/1.0.0": "train-00000",
    "tfds:{root}/tfds/library": "train-00000",
}


@pytest.mark.parametrize(("spec", "name"), KINDS.items())
def test_every_kind_gives_the_same_documents(root, spec, name):
    spec = spec.format(root=root)
    assert read(spec) == read(spec) == [(name, DOCUMENTS)]
    upper = [(number, [line.upper() for line in lines]) for number, lines in DOCUMENTS]
    assert read(f"{spec},field=body") == [(name, upper)]


def test_the_same_text_in_lines_has_the_same_paragraphs(root, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(text.strip() for text in TEXTS))
    [(_, documents)] = read(f"text:{tmp_path}/a.txt")
    assert [lines for _, lines in documents] == [lines for _, lines in DOCUMENTS]


def test_a_file_is_a_shard_and_a_shard_an_input_file(root):
    halves = [DOCUMENTS[:2], [(1, ["Third, with an é."]), (2, ["Fourth."])]]
    assert read(f"hf:{root}/files") == [("train-00000", halves[0]), ("train-00001", halves[1])]
    paths = sorted((root / "files").glob("train*"))
    assert read(f"parquet:{root}/files/train*.parquet") == [(paths[i].name, halves[i]) for i in range(2)]
    for spec in (f"hf:{root}/files", f"parquet:{root}/files/train*.parquet"):
        assert [file.size for file in open_source(spec).files] == [path.stat().st_size for path in paths]


def test_one_table_becomes_several_input_files(root, monkeypatch):
    monkeypatch.setattr(hub, "SHARD_ROWS", 2)
    monkeypatch.setattr(tfds_source, "RANGE_EXAMPLES", 2)
    hub._splits.cache_clear()
    try:
        for spec in (f"hf:{root}/saved", f"tfds:{root}/tfds/library"):
            source = open_source(spec)
            assert source.details["rows"] == 5
            assert [file.name for file in source.files] == ["train-00000", "train-00001", "train-00002"]
            assert all(file.size > 0 for file in source.files)
            assert [lines for _, documents in read(spec) for _, lines in documents] == [x for _, x in DOCUMENTS]
    finally:
        hub._splits.cache_clear()


def test_a_reading_says_how_far_it_is(root):
    for spec in KINDS:
        if not spec.startswith("jsonl"):  # tests/data/test_sources.py has lines
            [file] = open_source(spec.format(root=root)).files
            reading = Reading()
            list(file.documents(reading))
            assert 0 < reading.share <= 1


def test_splits(root):
    for spec in (f"hf:{root}/saved_splits", f"hf:{root}/files", f"tfds:{root}/tfds/library"):
        assert read(f"{spec},split=test") == [("test-00000", [(0, ["Test."])])]
    assert read(f"tfds:{root}/tfds/library,split=train[:40%]") == [("train[:40%]-00000", DOCUMENTS[:2])]


def test_the_only_split_need_not_be_named(tmp_path):
    datasets.Dataset.from_dict({"text": ["Test."]}, split="test").save_to_disk(tmp_path / "saved")
    assert read(f"hf:{tmp_path}/saved") == [("test-00000", [(0, ["Test."])])]


def test_a_prepared_data_set_is_found_by_name(root, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(root / "tfds"))
    for name in ("library", "library:1.0.0"):
        assert read(f"tfds:{name}") == [("train-00000", DOCUMENTS)]
    assert open_source("tfds:library").details == {"rows": 5, "name": "library/1.0.0"}


def test_the_stamp_changes_with_the_files(tmp_path):
    def stamp(texts):
        datasets.Dataset.from_dict({"text": texts}).to_parquet(tmp_path / "train.parquet")
        return [open_source(spec).files[0].stamp for spec in (f"hf:{tmp_path}", f"parquet:{tmp_path}/*.parquet")]

    first, second = stamp(["a"]), stamp(["another"])
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert read(f"hf:{tmp_path}") == [("train-00000", [(0, ["another"])])]


@pytest.mark.parametrize("spec", KINDS)
def test_a_copy_of_other_times_is_the_same_source(root, tmp_path, vocabulary, spec):
    there, copy = spec.format(root=tmp_path / "copy"), shutil.copytree(root, tmp_path / "copy")
    said: list[str] = []

    def made():
        prepare([there], tmp_path / "out", tokenizer=str(vocabulary), length=48, validation=0.1, log=said.append)
        return said[-2:]

    made()
    assert made() == [said[-2], f"{tmp_path}/out: already prepared"]
    assert "time is another" not in said[-2]
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
    assert re.search(r"of \d files of its sources the time is another, and the content the same$", made()[0])
    stamps = tmp_path / "out/sources.json"
    stamps.write_text(re.sub(r'"sha256": "\w', '"sha256": "x', stamps.read_text()))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    with pytest.raises(UserError, match=r" has changed( \(and \d more\))?; choose another directory or delete it$"):
        made()


@pytest.mark.parametrize("kind", ["files", "saved"])
def test_what_lies_beside_a_split_is_not_its_text(root, tmp_path, vocabulary, kind):
    copy = shutil.copytree(root / kind, tmp_path / "copy")

    def made() -> None:
        prepare([f"hf:{copy}"], tmp_path / "out", tokenizer=str(vocabulary), length=48, validation=0.1)

    made()
    (source,) = json.loads((tmp_path / "out/sources.json").read_text())["sources"]
    read = [file["name"] for file in source["files"]]
    assert read == (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"] if kind == "files" else [ARROW])
    (copy / ".cache").mkdir()
    (copy / ".cache/lock").write_text("now")
    (copy / "README.txt").write_text("A note.")
    made()


def test_null_is_no_text(tmp_path):
    datasets.Dataset.from_dict({"text": [None, "b"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"text": null}\n\n{"text": "b"}\n')
    for kind in ("parquet", "jsonl"):
        assert read(f"{kind}:{tmp_path}/a.{kind}") == [(f"a.{kind}", [(1, ["b"])])]


def test_half_a_character_is_replaced(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud83d b, \\ud83d\\ude00"}\n')
    [(_, [(_, [line])])] = read(f"jsonl:{tmp_path}/a.jsonl")
    assert re.fullmatch("a \ufffd+ b, \U0001f600", line)


def test_strings_come_in_several_types(tmp_path):
    for type_ in (
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ):
        table = pyarrow.table({"text": pyarrow.array(["a", None, "é"]).cast(type_)})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        assert read(f"parquet:{tmp_path}/a.parquet") == [("a.parquet", [(0, ["a"]), (2, ["é"])])]


def test_parquet_by_a_name_that_is_no_utf8_and_with_a_column_twice(tmp_path):
    table = pyarrow.table({"text": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    os.rename(tmp_path / "a.parquet", os.fsencode(tmp_path) + b"/caf\xe9.parquet")
    assert [documents for _, documents in read(f"parquet:{tmp_path}/*.parquet")] == [[(0, ["a"]), (1, ["b"])]]
    twice = pyarrow.Table.from_arrays([table["text"]] * 2, names=["text", "text"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice.parquet")
    assert "twice.parquet: 2 columns are called 'text'; rename one" in message(f"parquet:{tmp_path}/twice.parquet")


def test_a_nul_character_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\u0000b"}\n')
    assert "a.jsonl:1: a NUL character, which no text has" in message(f"jsonl:{tmp_path}/a.jsonl")


def test_invalid_utf8_is_replaced_and_counted_or_an_error(tmp_path):
    broken = pyarrow.array([b"fine", "Mäuse".encode("latin-1")]).cast(pyarrow.string(), safe=False)
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    for spec, place in {
        f"parquet:{tmp_path}/a.parquet": f"{tmp_path}/a.parquet, row 1",
        f"hf:{tmp_path}": f"source 'hf:{tmp_path}': train-00000, row 1",
    }.items():
        [file] = open_source(spec).files
        reading = Reading()
        assert [list(document.paragraphs) for document in file.documents(reading)] == [["fine"], ["M\ufffduse"]]
        assert reading.invalid_lines == 1
        assert message(spec, strict=True).startswith(f"{place}: not UTF-8")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": ', "not a JSON object (Expecting value"),
        ("[1]", "not a JSON object (a list)"),
        ("[" * 100_000, "not a JSON object ("),
        ('{"body": "x", "id": 1}', "no field 'text'; there are: body, id"),
        ('{"text": ["x"]}', "field 'text' is a list, not a string"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, problem):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
    assert message(f"jsonl:{tmp_path}/a.jsonl").startswith(f"{tmp_path}/a.jsonl:3: {problem}")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("jsonl:{root}/none/*.jsonl", "no file matches"),
        ("parquet:{root}/none/*.parquet", "no file matches"),
        ("parquet:{root}/a.parquet,field=txt", "a.parquet: no field 'txt'; there are: text, body, size"),
        ("parquet:{root}/a.parquet,field=size", "field 'size' holds int64, not strings"),
        ("hf:{root}/saved,field=txt", "no field 'txt'; there are: text, body, size"),
        ("hf:{root}/files,field=size", "field 'size' holds int64, not strings"),
        ("hf:{root}/saved,split=test", "no split 'test'; there are: train"),
        ("hf:{root}/files,split=dev", "no split 'dev'; there are: train, test"),
        ("hf:{root}/files,name=en", "BuilderConfig 'en' not found. Available: ['default']"),
        ("hf", "give a data set of the hub or a directory"),
        ("tfds:{root}/tfds/library,field=txt", "no field 'txt'; there are: body, size, text, words"),
        ("tfds:{root}/tfds/library,field=size", "field 'size' holds ClassLabel"),
        ("tfds:{root}/tfds/library,field=words", "field 'words' holds Sequence(Text"),
        ("tfds:{root}/tfds/library,split=dev", "no split 'dev'; there are: train, test"),
        ("tfds:{root}/tfds/library,split=train[:x]", "no split 'train[:x]'; there are: train, test"),
        ("tfds:{root}/files", "no data set is prepared in it, for there is no features.json; prepare it"),
        ("tfds:none", "not prepared in {root}/tfds either (TFDS_DATA_DIR); prepare it where there is a network"),
        ("tfds:{root}/none", "no such directory, and not prepared in"),
        ("tfds", "give a data set's name or the directory"),
    ],
)
def test_a_bad_spec_is_one_line(root, monkeypatch, spec, problem):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(root / "tfds"))
    spec = spec.format(root=root)
    found = message(spec)
    assert found.startswith(f"source '{spec}': ")
    assert problem.format(root=root) in found


def test_directories_that_datasets_cannot_read(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "doesn't contain any data files" in message(f"hf:{tmp_path}/empty")
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "books.py").write_text("class Books: ...\n")
    assert "`datasets` runs none any more; name one that consists of parquet" in message(f"hf:{tmp_path}/books")
    (tmp_path / "two").mkdir()
    for name in ("en", "de"):
        (tmp_path / "two" / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n')
    (tmp_path / "two" / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: en.jsonl\n- config_name: de\n  data_files: de.jsonl\n---\n"
    )
    assert "Config name is missing. Please pick one among the available configs: ['en', 'de']" in message(
        f"hf:{tmp_path}/two"
    )
    assert read(f"hf:{tmp_path}/two,name=de") == [("train-00000", [(0, ["de"])])]


def test_a_damaged_parquet_file_is_named(root, tmp_path):
    table = pyarrow.table({"text": [f"{i * i} lines" for i in range(5000)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for damaged in (whole[:-100], whole[:1000] + bytes(2000) + whole[3000:], b"text"):
        (tmp_path / "a.parquet").write_bytes(damaged)
        found = message(f"parquet:{tmp_path}/a.parquet")
        assert found.startswith(f"{tmp_path}/a.parquet: damaged")
        assert found.endswith("fetch it again")
        assert "'hf:" in message(f"hf:{tmp_path}")


def test_a_prepared_data_set_without_random_access_or_without_its_files(root, tmp_path):
    written = root / "tfds" / "library" / "1.0.0"
    for path in written.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    assert "train.array_record-00000-of-00001 cannot be read" in message(f"tfds:{tmp_path}")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    (tmp_path / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    assert "it is stored as tfrecord, which has no random access; prepare it" in message(f"tfds:{tmp_path}")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert "is not a prepared data set" in message(f"tfds:{tmp_path}")


def test_several_prepared_data_sets_in_a_directory(root, tmp_path):
    for version in ("1.0.0", "2.0.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "features.json").write_text("{}")
    assert f"give one: {tmp_path}/1.0.0, {tmp_path}/2.0.0" in message(f"tfds:{tmp_path}")


@pytest.mark.parametrize(
    ("module", "spec"),
    [
        ("pyarrow.parquet", "parquet:{root}/a.parquet"),
        ("datasets", "hf:{root}/saved"),
        ("tensorflow_datasets", "tfds:{root}/tfds/library"),
    ],
)
def test_a_library_that_is_not_installed(root, monkeypatch, module, spec):
    monkeypatch.setitem(sys.modules, module, None)
    assert message(spec.format(root=root)).endswith(f"{module} is not installed: pip install 'ctcd-jax[hub]'")


def test_reading_is_quiet(root, capfd):
    for spec in KINDS:
        hub._splits.cache_clear()
        read(spec.format(root=root))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("offline", "reason"), [(False, "Connection refused"), (True, "HF_HUB_OFFLINE")])
def test_an_unreachable_hub_is_known_at_once(monkeypatch, offline, reason):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    found = message("hf:somebody/books,name=en")
    assert time.monotonic() - start < 5
    assert found.startswith("source 'hf:somebody/books,name=en': no such directory, and the hub cannot be reached (")
    assert reason in found
    assert found.endswith("give hf:DIRECTORY, parquet:GLOB or text:GLOB")


REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as is needed to stream somebody/books."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    repository = "datasets/somebody/books"

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        if path == "":
            self._answer(200)
        elif path in (f"api/{self.repository}", f"api/{self.repository}/revision/{REVISION}"):
            self._answer_json({"id": "somebody/books", "sha": REVISION, "siblings": [], "tags": []})
        elif path == f"api/{self.repository}/tree/{REVISION}":
            self._answer_json(list(self._listing(self.files)))
        elif path.startswith(f"{self.repository}/resolve/{REVISION}/") and path.split("/")[-1] in self.files:
            self._answer_file(self.files[path.split("/")[-1]])
        else:
            code = "EntryNotFound" if self.repository in path else "RepoNotFound"
            self._answer(404, b"", {"X-Error-Code": code, "X-Repo-Commit": REVISION})

    do_HEAD = do_GET

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer_json(list(self._listing(form["paths"])))

    def log_message(self, *args):
        pass

    def _listing(self, names) -> Iterator[dict]:
        for name in names:
            yield {"type": "file", "path": name, "size": len(self.files[name]), "oid": "a" * 40}

    def _answer_file(self, data: bytes):
        headers = {"ETag": '"a"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2])
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._answer(206, data[first : last + 1], headers)
        else:
            self._answer(200, data, headers)

    def _answer_json(self, answer):
        self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes = b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


FROM_HUB = """
import json, pickle, sys
from ctcd_jax.data.sources import Reading, open_source
from ctcd_jax.errors import UserError

def read(spec):
    try:
        source = open_source(spec, log=lambda line: None)
    except UserError as error:
        return str(error)
    files = [
        (file.name, file.size, file.stamp, [document.paragraphs for document in file.documents(Reading())])
        for file in pickle.loads(pickle.dumps(source.files))
    ]
    return dict(source.details), files

print(json.dumps([read(spec) for spec in sys.argv[1:]]))
"""


def test_the_hub_is_streamed_at_its_newest_revision(root, tmp_path):
    Hub.files = {path.name: path.read_bytes() for path in sorted((root / "files").iterdir())}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    specs = ["hf:somebody/books", "hf:somebody/none", "hf:somebody/books,split=dev", "hf:no/such/id"]
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
    }
    try:
        command = [sys.executable, "-c", FROM_HUB, *specs]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    finally:
        server.shutdown()
    (details, files), *errors = json.loads(run.stdout)
    assert details == {"revision": REVISION}
    sizes = [len(Hub.files[f"train-0000{i}-of-00002.parquet"]) for i in range(2)]
    lines = [lines for _, lines in DOCUMENTS]
    assert files == [
        ["train-00000", sizes[0], REVISION, lines[:2]],
        ["train-00001", sizes[1], REVISION, lines[2:]],
    ]
    assert "the hub has no such data set, or not for you: log in with `hf auth login`" in errors[0]
    assert "no split 'dev'; there are: train, test" in errors[1]
    assert "no such directory, and at the hub: Repo id must be in the form" in errors[2]
    assert run.stderr == ""
