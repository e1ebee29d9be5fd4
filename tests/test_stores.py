"""Corpora, runs and models in buckets: what is there after a stage is what it wrote, whoever was killed when."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from ctcd_jax import stores
from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.training import train
from tests.small import config, write_text

ROOT = Path(__file__).parents[1]
LIBRARIES = ROOT / ".venv/stores"
SMALL = ["--config.train.steps=8", "--config.train.eval_every=4", "--config.train.checkpoint_every=4"]


@pytest.fixture(autouse=True)
def bucket():
    """fsspec's store in memory, empty; it is this process's alone."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def on_machine(tmp_path, monkeypatch):
    """Takes a machine's name, whose copies are seen from then on."""

    def use(name):
        monkeypatch.setattr(stores, "copies", lambda: tmp_path / name)

    use("one")
    return use


def texts(bucket, place):
    return {path.removeprefix(f"/{place}/"): bucket.cat_file(path) for path in bucket.find(f"/{place}")}


def fill(place, **files):
    for name, text in files.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_is_written_is_sent_and_what_is_removed_goes(on_machine, bucket):
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, a="1", deep__er__b="2", lock="x", c_partial="5")
        (copy.directory / "c_partial").rename(copy.directory / "c.7.partial")
        (copy.directory / "9.orbax-checkpoint-tmp").mkdir()
        fill(copy.directory / "9.orbax-checkpoint-tmp", half="x")
        fill(copy.directory / "frozen/teacher.12.tmp", half="x")
    assert texts(bucket, "b/run") == {"a": b"1", "deep/er/b": b"2"}
    on_machine("two")
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        assert (copy.directory / "deep/er/b").read_text() == "2"
        (copy.directory / "a").unlink()
        fill(copy.directory, deep__er__b="longer")
    assert texts(bucket, "b/run") == {"deep/er/b": b"longer"}
    on_machine("one")
    here = stores.fetched("memory://b/run")
    assert (here / "deep/er/b").read_text() == "longer"
    assert not (here / "a").exists()


def test_a_bucket_that_cannot_be_written_is_found_out_before_the_work(on_machine, bucket, monkeypatch):
    def refuse(*_):
        raise PermissionError("no")

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "pipe_file", refuse)
        with pytest.raises(UserError, match="memory://b/run: PermissionError: no"):
            stores.working_copy("memory://b/run", log=lambda line: None).__enter__()
    with stores.working_copy("memory://b/run", log=lambda line: None):
        assert not bucket.find("/b/run")  # what was written to try is gone
    with monkeypatch.context() as patch:  # a bucket that keeps what it has can be worked in, and the trial is no file
        patch.setattr(type(bucket), "rm_file", refuse)
        with stores.working_copy("memory://b/kept", log=lambda line: None) as copy:
            fill(copy.directory, a="1")
    assert [path.name for path in stores.fetched("memory://b/kept").iterdir()] == ["a"]


def test_what_says_that_others_are_whole_is_sent_last(on_machine, bucket, monkeypatch):
    sent = []
    put = stores.Copy._put
    monkeypatch.setattr(stores.Copy, "_put", lambda copy, name, path: (sent.append(name), put(copy, name, path)))
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, checkpoints__4___CHECKPOINT_METADATA="{}", checkpoints__4__state="x", zebra="z")
        (copy.directory / "checkpoints/4/sha256.json").write_text("{}")
    assert sent == [
        "zebra", "checkpoints/4/state", "checkpoints/4/_CHECKPOINT_METADATA", "checkpoints/4/sha256.json"
    ]  # fmt: skip


def test_work_that_was_not_sent_goes_on_and_is_set_aside_where_another_machine_went_on(on_machine, bucket):
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, metrics="1")
    copy.begin()  # and then it is killed, with more than it has sent
    fill(copy.directory, metrics="1 2", step="2")
    assert (stores.fetched("memory://b/run", pytest.fail) / "metrics").read_text() == "1 2"
    on_machine("two")
    with stores.working_copy("memory://b/run", log=lambda line: None) as other:
        assert (other.directory / "metrics").read_text() == "1"
        fill(other.directory, metrics="1 3")
    on_machine("one")
    warned = []
    assert stores.fetched("memory://b/run", warned.append).joinpath("metrics").read_text() == "1 3"
    assert "set aside as" in warned[0]
    (aside,) = copy.directory.parent.glob("run.unsent-*")
    assert (aside / "metrics").read_text() == "1 2"


def killed_while_sending(bucket, patch, after, place="memory://b/run"):
    """The copy of a killed stage that had sent `after` of its files, a, b and c."""
    put, sent = type(bucket).pipe_file, []

    def die(store, path, content):
        if len(sent) == after:
            raise SystemExit
        sent.append(path)
        put(store, path, content)

    patch.setattr(type(bucket), "pipe_file", die)
    copy = stores.Copy(place)
    with copy.fetching():
        copy.fetch()
        copy.begin()
    fill(copy.directory, a="1", b="22", c="333")
    with pytest.raises(SystemExit):
        copy.send()
    patch.undo()
    return copy


@pytest.mark.parametrize("after", [0, 1, 2])
def test_who_is_killed_while_sending_goes_on_on_the_same_machine(on_machine, bucket, after, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        killed_while_sending(bucket, patch, after)
    assert len(texts(bucket, "b/run")) == after
    with stores.working_copy("memory://b/run", log=lambda line: None, warn=pytest.fail) as copy:
        assert {path.name for path in copy.directory.iterdir()} == {"a", "b", "c"}
        (copy.directory / "a").unlink()
    assert texts(bucket, "b/run") == {"b": b"22", "c": b"333"}


def test_a_copy_that_somebody_removed_is_fetched_and_never_removed_there(on_machine, bucket):
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, metrics="1", checkpoints__4__state="x")
    copy.begin()  # killed
    (copy.directory / "metrics").unlink()
    with stores.working_copy("memory://b/run", log=lambda line: None) as again:
        assert (again.directory / "metrics").read_text() == "1"
    copy.begin()
    shutil.rmtree(copy.directory)
    with stores.working_copy("memory://b/run", log=lambda line: None) as again:
        assert (again.directory / "checkpoints/4/state").read_text() == "x"
    assert set(texts(bucket, "b/run")) == {"metrics", "checkpoints/4/state"}


def test_what_a_stage_is_at_work_on_is_read_as_it_is_and_no_second_stage_begins(on_machine, bucket):
    with stores.working_copy("memory://b/runs/ctcd", log=lambda line: None) as copy:
        fill(copy.directory, metrics="1")
        copy.send()
        fill(copy.directory, metrics="1 2")
        assert (stores.fetched("memory://b/runs/ctcd") / "metrics").read_text() == "1 2"
        with pytest.raises(UserError, match=r"memory://b/runs/ctcd: process .* is at work there"):
            stores.working_copy("memory://b/runs/ctcd").__enter__()
        # A folder above has a copy of its own, with what the store has.
        assert (stores.fetched("memory://b/runs") / "ctcd/metrics").read_text() == "1"
    assert texts(bucket, "b/runs/ctcd") == {"metrics": b"1 2"}


def test_what_another_machine_has_written_meanwhile_is_not_overwritten(on_machine, bucket):
    working = stores.working_copy("memory://b/run", log=lambda line: None)
    fill(working.__enter__().directory, metrics="mine")
    bucket.pipe_file("/b/run/metrics", b"theirs, longer")
    bucket.pipe_file("/b/run/other", b"no matter")
    with pytest.raises(UserError, match="another machine has changed metrics meanwhile; what is here stays in"):
        working.__exit__(None, None, None)
    assert texts(bucket, "b/run") == {"metrics": b"theirs, longer", "other": b"no matter"}


def test_a_run_begun_anew_leaves_no_folder_of_the_one_before(on_machine, bucket):
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, checkpoints__4__state="x", metrics="1")
    bucket.rm("/b/run", recursive=True)
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        assert not copy.directory.exists() or not list(copy.directory.iterdir())


def test_a_fetch_that_breaks_off_goes_on(on_machine, bucket, monkeypatch):
    with stores.working_copy("memory://b/corpus", log=lambda line: None) as copy:
        fill(copy.directory, a="1", b="2", c="3")
    on_machine("two")
    fetched, get = [], type(bucket).get_file

    def break_off(store, there, here):
        if len(fetched) == 2:
            fetched.append(there)
            raise ConnectionError("gone")
        fetched.append(there)
        get(store, there, here)

    monkeypatch.setattr(type(bucket), "get_file", break_off)
    with pytest.raises(UserError, match="memory://b/corpus: ConnectionError: gone"):
        stores.fetched("memory://b/corpus")
    assert len(list(stores.fetched("memory://b/corpus").iterdir())) == 3
    assert len(fetched) == 4


def test_what_stands_for_a_folder_is_no_file(on_machine, bucket, monkeypatch):
    bucket.pipe_file("/b/run/a", b"1")
    found = {"/b/run/": {"size": 0}, "/b/run/checkpoints/": {"size": 0}, "/b/run/a": {"size": 1}}
    monkeypatch.setattr(type(bucket), "find", lambda *_, **__: found)
    assert [path.name for path in stores.fetched("memory://b/run").iterdir()] == ["a"]


def test_a_store_that_gives_out_is_one_line_and_loses_nothing(on_machine, bucket, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("403: not yours")

    warned = []

    def work(text, then=lambda: None):
        with stores.working_copy("memory://b/run", log=lambda line: None, warn=warned.append) as copy:
            fill(copy.directory, a=text)
            then()
        return copy

    refused = pytest.raises(UserError, match="memory://b/run: PermissionError: 403: not yours")
    with monkeypatch.context() as patch, refused:
        work("1", then=lambda: patch.setattr(type(bucket), "pipe_file", refuse))
    with stores.working_copy("memory://b/run", log=lambda line: None) as again:
        assert (again.directory / "a").read_text() == "1"
    assert texts(bucket, "b/run") == {"a": b"1"}

    def fail():
        monkeypatch.setattr(type(bucket), "pipe_file", refuse)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # the error that ended the work is what the user is told
        work("longer", then=fail)
    assert warned == ["not sent: memory://b/run: PermissionError: 403: not yours"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("memory://b/nothing", "memory://b/nothing: there is nothing"),
        ("memory://b/../c", "not a folder of a store"),
        ("memory://b//c", "not a folder of a store"),
        ("ftp://127.0.0.1/b", "ftp://127.0.0.1/b: "),
        ("nope://b/c", "Protocol not known: nope"),
        ("s3://b/c", "the library for s3:// is missing; pip install 'ctcd-jax[s3]'"),
    ],
)
def test_a_place_that_is_none_is_named(on_machine, place, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # wherever it is installed
    with pytest.raises(UserError) as caught:
        stores.fetched(place)
    assert message in str(caught.value)


def test_files_of_a_hostile_store_stay_in_the_copy(on_machine, bucket, monkeypatch):
    monkeypatch.setattr(type(bucket), "find", lambda *_, **__: {"/b/run/../../x": {"size": 1}})
    with pytest.raises(UserError, match="and is none of the folder"):
        stores.fetched("memory://b/run")


def test_the_whole_road_in_a_bucket_is_the_road_on_a_disk(on_machine, bucket, corpus, config_file, tmp_path, capsys):
    with stores.working_copy("memory://b/corpus", log=lambda line: None) as copy:
        shutil.copytree(corpus, copy.directory, dirs_exist_ok=True)
    fields = ["--config", str(config_file), *SMALL]
    assert main(["train", *fields, f"--config.data.corpus={corpus}", "--workdir", str(tmp_path / "run")]) == 0
    asked = ["--workdir", "memory://b/run", "--config.data.corpus=memory://b/corpus"]
    assert main(["train", *fields, *asked]) == 0
    assert f"memory://b/run: worked on in {tmp_path}/one/memory/b" in capsys.readouterr().out
    assert bucket.cat_file("/b/run/metrics.jsonl") == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert json.loads(bucket.cat_file("/b/run/config.json"))["data"]["corpus"] == "memory://b/corpus"
    on_machine("two")  # goes on with it
    more = ["--change", "--config.train.steps=12"]
    assert main(["train", "--workdir", str(tmp_path / "run"), *more]) == 0
    assert main(["train", "--workdir", "memory://b/run", *more]) == 0
    assert "resumed at step 8 of 12" in capsys.readouterr().out
    assert bucket.cat_file("/b/run/metrics.jsonl") == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert main(["checkpoints", "memory://b/run"]) == 0
    assert main(["train", "--config", str(config_file), "--plan", "--workdir", "memory://b/new", *asked[2:]]) == 0
    on_machine("three")
    exported = ["--member", "student", "--out", "memory://b/model"]
    assert main(["export", "--workdir", "memory://b/run", *exported]) == 0
    assert bucket.exists("/b/model/model.safetensors")
    assert bucket.exists("/b/model/samples.json")
    measured = ["--corpus", "memory://b/corpus", "--out", "memory://b/evaluation"]
    assert main(["evaluate", "--model", "memory://b/model", "--model", "memory://b/run#student@12", *measured]) == 0
    first, second = map(json.loads, bucket.cat_file("/b/evaluation/evaluation.jsonl").splitlines())
    assert first["loss"] == pytest.approx(second["loss"], abs=1e-6)
    start = [
        "--config.members.teacher.init=run:memory://b/run#teacher",
        "--config.members.student.init=hf:memory://b/model",
    ]
    assert main(["train", *fields, *start, *asked, "--workdir", str(tmp_path / "taught")]) == 0
    capsys.readouterr()
    assert main(["report", "memory://b/run", "--out", "memory://b/report.html"]) == 2
    assert "--out memory://b/report.html: a single file cannot be in a store" in capsys.readouterr().err


def test_steps_are_sent_while_training_goes_on(on_machine, bucket, corpus):
    seen = []

    def on_line(line):
        if line["step"] > 10:
            deadline = time.monotonic() + 60
            while not bucket.exists("/b/run/checkpoints/7/sha256.json") and time.monotonic() < deadline:
                time.sleep(0.05)
            seen.append(bucket.exists("/b/run/checkpoints/7/sha256.json"))

    train(config(corpus), "memory://b/run", log=lambda line: None, on_line=on_line)
    assert seen
    assert all(seen)


SERVERS = {
    "s3": (
        [sys.executable, "-m", "moto.server", "-p"],
        lambda port: {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
    "gs": (
        [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--port"],
        lambda port: {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"},
    ),
}


@pytest.fixture
def server(request, tmp_path):
    """A server of a store in a process of its own, and a function that runs a program which knows it."""
    if not LIBRARIES.is_dir():
        pytest.skip("no .venv/stores, which `make test-all` installs")
    command, variables = SERVERS[request.param]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join((str(ROOT), str(LIBRARIES)))
    environment = os.environ | variables(port) | {"PYTHONPATH": path}
    process = subprocess.Popen([*command, str(port)], env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)

    def run(*arguments, machine="one", wait=True):
        own = environment | {"XDG_CACHE_HOME": str(tmp_path / machine)}
        started = subprocess.Popen(
            [sys.executable, *arguments], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if not wait:
            return started
        said, errors = started.communicate(timeout=300)
        assert started.returncode == 0, errors
        return said

    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        run("-c", f"import fsspec; fsspec.filesystem({request.param!r}).mkdir('bucket')")
        yield f"{request.param}://bucket", run
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_run_in_a_real_store_that_is_killed_goes_on(server, config_file, tmp_path):
    bucket, run = server
    write_text(tmp_path / "text.txt")
    ctcd = ("-m", "ctcd_jax")
    prepared = ("--source", f"text:{tmp_path}/text.txt", "--vocab-size", "150", "--length", "32")
    nowhere = run(*ctcd, "prepare", *prepared, "--out", f"{bucket}-that-is-not-there/corpus", wait=False)
    assert (nowhere.wait(timeout=120), "cannot be written" in nowhere.stderr.read()) == (2, True)
    run(*ctcd, "prepare", *prepared, "--out", f"{bucket}/corpus")
    run(*ctcd, "prepare", *prepared, "--out", str(tmp_path / "corpus"))
    fields = ("--config", str(config_file), "--config.train.steps=60", "--config.train.checkpoint_every=5")
    train = (*ctcd, "train", *fields)
    run(*train, f"--config.data.corpus={tmp_path}/corpus", "--workdir", str(tmp_path / "run"))
    asked = (*train, f"--config.data.corpus={bucket}/corpus", "--workdir", f"{bucket}/run")
    first = run(*asked, machine="two", wait=False)
    listed = f"import fsspec; print(*fsspec.filesystem({bucket[:2]!r}).find({bucket + '/run/checkpoints'!r}))"
    deadline = time.monotonic() + 120
    while "sha256.json" not in run("-c", listed):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.stderr.read()
    first.kill()
    first.communicate()
    # On another machine; and on the same, which may have been killed while it sent.
    assert "resumed at step" in run(*asked, machine={"s3": "three", "gs": "two"}[bucket[:2]])
    exported = ("--member", "student", "--out", f"{bucket}/model")
    run(*ctcd, "export", "--workdir", f"{bucket}/run", *exported, machine="four")
    fetch = "import sys; from ctcd_jax.stores import fetched; print(fetched(sys.argv[1]))"
    there = Path(run("-c", fetch, f"{bucket}/run", machine="five").strip())
    assert (there / "metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert Path(run("-c", fetch, f"{bucket}/model", machine="five").strip(), "model.safetensors").is_file()
