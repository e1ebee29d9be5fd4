"""What was asked, and of which text, belongs to what is kept: nothing made of another text is taken for this one's."""

import hashlib
import json
import os
import shutil
import sys

import pyarrow
import pyarrow.parquet
import pytest

from ctcd_jax.data import Corpus, prepare
from ctcd_jax.data.sources import InputFile
from ctcd_jax.data.stamps import _Changed, _renewed, _stamps
from ctcd_jax.data.tasks import run_tasks
from ctcd_jax.errors import UserError
from tests.data.conftest import sentence


@pytest.fixture
def ask(vocabulary, tmp_path):
    """Prepares sources into one `out`; returns the manifest and what was said."""

    def ask(*sources, **options):
        said, warned = [], []
        options = {"tokenizer": str(vocabulary), "length": 48, "validation": 0.2} | options
        manifest = prepare(sources, tmp_path / "out", **options, log=said.append, warn=warned.append)
        return manifest, said, warned

    return ask


@pytest.fixture
def shelf(library, tmp_path):
    return shutil.copytree(library, tmp_path / "shelf")


def stop(line: str) -> None:
    if "training the tokenizer" in line:
        raise KeyboardInterrupt


def test_another_field_of_the_same_file_is_another_text(ask, tmp_path, vocabulary):
    columns = {name: [sentence(n + first) for n in range(40)] for name, first in (("title", 0), ("body", 100))}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({name: texts[n] for name, texts in columns.items()}) + "\n" for n in range(40))
    )
    for kind in ("parquet", "jsonl"):
        source = f"{kind}:{tmp_path}/a.{kind}"
        with pytest.raises(KeyboardInterrupt):  # when all is read
            prepare([f"{source},field=title"], tmp_path / "out", length=48, vocab_size=300, validation=0.2, log=stop)
        assert list((tmp_path / "out.partial").glob("read-*"))
        resumed = ask(f"{source},field=body", tokenizer=None, vocab_size=300)[0]
        shutil.rmtree(tmp_path / "out")
        assert ask(f"{source},field=body", tokenizer=None, vocab_size=300)[0] == resumed
        shutil.rmtree(tmp_path / "out")


CHANGES = {
    "a.txt has changed": lambda shelf: (shelf / "a.txt").write_text("Other."),
    "b.txt is gone": lambda shelf: (shelf / "b.txt").unlink(),
    "d.txt is new": lambda shelf: (shelf / "d.txt").write_text("New."),
    "sub/c.txt is gone (and 1 more)": lambda shelf: (shelf / "sub/c.txt").rename(shelf / "sub/d.txt"),
}


@pytest.mark.parametrize(("what", "change"), CHANGES.items())
def test_changed_files_under_a_finished_corpus_are_named(ask, shelf, tmp_path, what, change):
    ask(f"text:{shelf}/**/*.txt")
    assert ask(f"text:{shelf}/**/*.txt")[1:] == ([f"{tmp_path}/out: already prepared"], [])
    change(shelf)
    with pytest.raises(UserError) as caught:
        ask(f"text:{shelf}/**/*.txt")
    assert str(caught.value) == (
        f"--out {tmp_path}/out: source 'text:{shelf}/**/*.txt' is not what it was prepared from: {what}; choose another"
        " directory or delete it"
    )
    Corpus.open(tmp_path / "out")  # which nobody minds who only trains on it


def test_files_that_only_have_another_time_are_the_same(ask, shelf, tmp_path):
    first = ask(f"text:{shelf}/*.txt")[0]
    other = (shelf / "a.txt").read_text()
    os.utime(shelf / "a.txt", (0, 0))
    manifest, said, _ = ask(f"text:{shelf}/*.txt")
    assert manifest == first
    again = f"{tmp_path}/out: already prepared"
    assert said == [f"{tmp_path}/out: of 1 files of its sources the time is another, and the content the same", again]
    assert ask(f"text:{shelf}/*.txt")[1] == [again]  # the new time is known now
    (shelf / "a.txt").write_text(other.swapcase())  # as many bytes
    with pytest.raises(UserError, match=r"is not what it was prepared from: a\.txt has changed; choose"):
        ask(f"text:{shelf}/*.txt")


@pytest.mark.parametrize("content", [None, '{"format": 1, "sources": []}'])
def test_without_stamps_of_this_version_changes_are_not_looked_for_and_that_is_said(ask, shelf, tmp_path, content):
    ask(f"text:{shelf}/*.txt")
    stamps = tmp_path / "out/sources.json"
    stamps.write_text(content) if content else stamps.unlink()
    _, said, warned = ask(f"text:{shelf}/*.txt")
    about = [line for line in said + warned if line.endswith("have changed since is unknown")]
    assert len(about) == 1
    assert about[0].startswith(f"{tmp_path}/out")


@pytest.mark.parametrize("range_bytes", [2**23, 1000])
def test_a_file_that_changes_while_it_is_read_is_named(ask, shelf, tmp_path, monkeypatch, range_bytes):
    def read_before(*arguments, **more):
        run_tasks(*arguments, **more)
        (shelf / "a.txt").write_text((shelf / "a.txt").read_text().swapcase())

    monkeypatch.setattr("ctcd_jax.data.sources.files.RANGE_BYTES", range_bytes)
    monkeypatch.setattr(sys.modules["ctcd_jax.data.prepare"], "run_tasks", read_before)
    with pytest.raises(UserError, match=r"shelf/a\.txt: it was changed while it was read; run the same command again$"):
        ask(f"text:{shelf}/*.txt")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(sys.modules["ctcd_jax.data.prepare"], "run_tasks", run_tasks)
    ask(f"text:{shelf}/*.txt")


def test_a_file_that_is_gone_when_all_is_read_is_named(ask, shelf, monkeypatch):
    def read_before(*arguments, **more):
        run_tasks(*arguments, **more)
        (shelf / "b.txt").unlink(missing_ok=True)

    monkeypatch.setattr(sys.modules["ctcd_jax.data.prepare"], "run_tasks", read_before)
    with pytest.raises(UserError, match=r"shelf/b\.txt: cannot be read \(No such file or directory\)$"):
        ask(f"text:{shelf}/*.txt")


def test_a_file_that_several_read_is_one(ask, shelf, tmp_path, monkeypatch):
    monkeypatch.setattr("ctcd_jax.data.sources.files.RANGE_BYTES", 1000)
    ask(f"text:{shelf}/*.txt")
    (source,) = json.loads((tmp_path / "out/sources.json").read_text())["sources"]
    assert [(file["name"], file["sha256"]) for file in source["files"]] == [
        (name, hashlib.sha256((shelf / name).read_bytes()).hexdigest()) for name in ("a.txt", "b.txt")
    ]
    os.utime(shelf / "b.txt", (0, 0))
    assert "already prepared" in ask(f"text:{shelf}/*.txt")[1][-1]


def test_times_are_no_part_of_a_corpus(ask, shelf, tmp_path):
    ask(f"text:{shelf}/*.txt")
    before = (tmp_path / "out").rename(tmp_path / "before")
    os.utime(shelf / "a.txt", (0, 0))
    ask(f"text:{shelf}/*.txt")
    assert Corpus.open(before).hash == Corpus.open(tmp_path / "out").hash
    assert (before / "sources.json").read_bytes() != (tmp_path / "out/sources.json").read_bytes()


def test_a_source_or_tokenizer_that_is_no_longer_there_is_said(ask, shelf, tmp_path, vocabulary):
    own = shutil.copy(vocabulary, tmp_path / "vocab.txt")
    ask(f"text:{shelf}/*.txt", tokenizer=str(own))
    own.write_text(own.read_text().replace("river", "rivers"))
    with pytest.raises(UserError, match=r"was prepared with another tokenizer than \S+/vocab\.txt is now"):
        ask(f"text:{shelf}/*.txt", tokenizer=str(own))
    own.unlink()
    shutil.rmtree(shelf)
    _, said, warned = ask(f"text:{shelf}/*.txt", tokenizer=str(own))
    assert said == [f"{tmp_path}/out: already prepared"]
    assert "whether its tokenizer has changed since is unknown: tokenizer" in warned[0]
    assert "whether this has changed since is unknown: source" in warned[1]
    assert len(warned) == 2


def test_of_two_environments_of_one_name_each_counts():
    def files(*stamps: str) -> list[InputFile]:
        return [InputFile("site-packages", 9, stamp, lambda reading: iter(())) for stamp in stamps]

    then = _stamps(files("a", "b"))
    assert _renewed(then, files("a", "b"), print) == then
    with pytest.raises(_Changed, match="site-packages has changed"):
        _renewed(then, files("c", "b"), print)


DAMAGED = ["[]", "{", '{"format": 2, "sources": [{"source": 3, "files": []}]}', '{"format": 2, "sources": []}']


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_stamps_are_one_line(ask, shelf, tmp_path, content):
    ask(f"text:{shelf}/*.txt")
    (tmp_path / "out/sources.json").write_text(content)
    with pytest.raises(UserError, match=r"sources\.json: .*; delete it, and changes of the sources are no longer"):
        ask(f"text:{shelf}/*.txt")


def test_docstrings_are_compared_by_what_they_say(ask, tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    for n in range(30):
        (code / f"m{n}.py").write_text(f'"""{sentence(n)}"""\n')
    ask(f"docstrings:{code}")
    os.utime(code / "m0.py", (0, 0))
    assert "already prepared" in ask(f"docstrings:{code}")[1][-1]
    (code / "m0.py").write_text('"""The other words of an old river are in this module."""\n')
    with pytest.raises(UserError, match="code has changed"):
        ask(f"docstrings:{code}")
