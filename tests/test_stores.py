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
    assert texts(bucket, "b/run") == {"a": b"1", "deep/er/b": b"2"}
    on_machine("two")
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        assert (copy.directory / "deep/er/b").read_text() == "2"
        (copy.directory / "a").unlink()
        fill(copy.directory, deep__er__b="longer")
    assert texts(bucket, "b/run") == {"deep/er/b": b"longer"}
    on_machine("one")
    here = stores.fetched("memory://b/run")
    assert {path.name: path.read_text() for path in here.rglob("*") if path.is_file() and "lock" not in path.name} == {
        "b": "longer", "half": "x", "c.7.partial": "5"
    }  # fmt: skip


def test_what_says_that_others_are_whole_is_sent_last(on_machine, bucket, monkeypatch):
    sent = []
    put = stores.Copy._put
    monkeypatch.setattr(stores.Copy, "_put", lambda copy, name, path: (sent.append(name), put(copy, name, path)))
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, checkpoints__4__sha256_json="{}", checkpoints__4__state="x", zebra="z")
        (copy.directory / "checkpoints/4/sha256_json").rename(copy.directory / "checkpoints/4/sha256.json")
    assert sent == ["checkpoints/4/state", "zebra", "checkpoints/4/sha256.json"]


def test_work_that_was_not_sent_goes_on_and_is_set_aside_where_another_machine_went_on(on_machine, bucket):
    with stores.working_copy("memory://b/run", log=lambda line: None) as copy:
        fill(copy.directory, metrics="1")
    copy.begin()  # and then it is killed, with more than it has sent
    fill(copy.directory, metrics="1 2", step="2")
    assert copy.fetch(warn=pytest.fail)
    assert (copy.directory / "metrics").read_text() == "1 2"
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


def test_a_store_that_gives_out_is_one_line_and_loses_nothing(on_machine, bucket, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("403: not yours")

    warned = []

    def work(text, then=lambda: None):
        with stores.working_copy("memory://b/run", log=lambda line: None, warn=warned.append) as copy:
            fill(copy.directory, a=text)
            then()
        return copy

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "pipe_file", refuse)
        with pytest.raises(UserError, match="memory://b/run: PermissionError: 403: not yours"):
            work("1")
    with stores.working_copy("memory://b/run", log=lambda line: None) as again:
        assert (again.directory / "a").read_text() == "1"
    assert texts(bucket, "b/run") == {"a": b"1"}
    monkeypatch.setattr(type(bucket), "pipe_file", refuse)
    with pytest.raises(ZeroDivisionError):  # the error that ended the work is what the user is told
        work("longer", then=lambda: 1 / 0)
    assert warned == ["not sent: memory://b/run: PermissionError: 403: not yours"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("memory://b/nothing", "memory://b/nothing: there is nothing"),
        ("memory://b/../c", "not a folder of a store"),
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
    assert f"memory://b/run: worked on in {tmp_path}/one/memory/b/run" in capsys.readouterr().out
    assert bucket.cat_file("/b/run/metrics.jsonl") == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert json.loads(bucket.cat_file("/b/run/config.json"))["data"]["corpus"] == "memory://b/corpus"
    on_machine("two")  # goes on with it
    more = ["--change", "--config.train.steps=12"]
    assert main(["train", "--workdir", str(tmp_path / "run"), *more]) == 0
    assert main(["train", "--workdir", "memory://b/run", *more]) == 0
    assert "resumed at step 8 of 12" in capsys.readouterr().out
    assert bucket.cat_file("/b/run/metrics.jsonl") == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert main(["checkpoints", "memory://b/run"]) == 0
    on_machine("three")
    exported = ["--member", "student", "--out", "memory://b/model"]
    assert main(["export", "--workdir", "memory://b/run", *exported]) == 0
    assert bucket.exists("/b/model/model.safetensors")
    measured = ["--corpus", "memory://b/corpus", "--out", "memory://b/evaluation"]
    assert main(["evaluate", "--model", "memory://b/model", "--model", "memory://b/run#student", *measured]) == 0
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
def test_a_run_in_a_real_store_that_is_killed_goes_on_on_another_machine(server, config_file, tmp_path):
    bucket, run = server
    write_text(tmp_path / "text.txt")
    ctcd = ("-m", "ctcd_jax")
    prepared = ("--source", f"text:{tmp_path}/text.txt", "--vocab-size", "150", "--length", "32")
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
    assert "resumed at step" in run(*asked, machine="three")
    exported = ("--member", "student", "--out", f"{bucket}/model")
    run(*ctcd, "export", "--workdir", f"{bucket}/run", *exported, machine="four")
    fetch = "import sys; from ctcd_jax.stores import fetched; print(fetched(sys.argv[1]))"
    there = Path(run("-c", fetch, f"{bucket}/run", machine="five").strip())
    assert (there / "metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()
    assert Path(run("-c", fetch, f"{bucket}/model", machine="five").strip(), "model.safetensors").is_file()
