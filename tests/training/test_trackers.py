"""Trackers get every number of a run's two files, none twice, and what keeps one from starting is one line."""

import json
import os
import re
import sqlite3
import struct
import sys
from types import ModuleType

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ctcd_jax.errors import UserError
from ctcd_jax.training import loop, train
from ctcd_jax.training.metrics import Writers
from tests.small import config

OF_A_MEMBER = {"hard", "accuracy"}
NUMBERS = {
    f"{kind}/{name}"
    for kind, of_optimizer in (("train", {"learning_rate", "gradient_norm"}), ("validation", set()))
    for name in (
        {"tokens", "loss", "agreement/student~teacher"}
        | {f"members/{member}/{figure}" for member in ("teacher", "student") for figure in OF_A_MEMBER | of_optimizer}
        | {f"edges/{edge}/{key}" for edge in ("teacher->student", "student->teacher") for key in ("soft", "soft_t1")}
    )
} | {f"timing/{name}" for name in ("seconds", "tokens_per_second", "mfu", "eta_seconds", "devices", "peak_bytes")}
NUMBERS.add("validation/unigram")


@pytest.fixture(scope="module")
def trackio(tmp_path_factory):
    """Trackio, which looks where to keep runs when it is first imported."""
    place = os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))
    import trackio

    assert str(trackio.TRACKIO_DIR) == place
    return trackio


def in_trackio(trackio, project):
    """Returns the figures of every run of a project, [[(step, name, value), ...], ...]."""
    with sqlite3.connect(trackio.TRACKIO_DIR / f"{project}.db") as database:
        rows = database.execute("select run_id, step, metrics from metrics").fetchall()
    return [
        [
            (step, name, value)
            for run, step, figures in rows
            if run == one
            for name, value in json.loads(figures).items()
        ]
        for one in {run for run, _, _ in rows}
    ]


def in_tensorboard(directory):
    """Returns the figures of a run as TensorBoard shows them: a session hides what earlier ones drew from its step."""
    shown = []
    for path in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:  # a record: length, its checksum, an Event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            if event.session_log.status == SessionLog.START:
                shown = [figure for figure in shown if figure[0] < event.step]
            shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return shown


def in_files(workdir):
    """Returns the value of a figure in the line that it is of."""
    read = {name: [json.loads(line) for line in (workdir / name).read_text().splitlines()]
            for name in ("metrics.jsonl", "timing.jsonl")}  # fmt: skip

    def value(step, name):
        kind, *path = name.split("/")
        lines = read["timing.jsonl" if kind == "timing" else "metrics.jsonl"]
        (found,) = [line for line in lines if line["step"] == step and line.get("kind", "timing") == kind]
        for part in path:
            found = found[part]
        return found

    return value


@pytest.mark.slow
def test_every_tracker_has_every_number_once_also_when_a_run_was_killed(corpus, tmp_path, monkeypatch, trackio):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(loop, "peak_flops", lambda dtype, devices: 1e12)
    monkeypatch.setattr(loop, "peak_bytes", lambda devices: 2**30)
    workdir, tracked = tmp_path / "run", config(corpus)
    tracked.trackio.project = "killed"
    with monkeypatch.context() as killed:
        save = loop.Checkpoints.save

        def save_and_die(checkpoints, step, *state):
            if step == 20:
                raise KeyboardInterrupt
            save(checkpoints, step, *state)

        killed.setattr(loop.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(tracked, workdir, log=lambda _: None)
    assert max(step for step, _, _ in in_trackio(trackio, "killed")[0]) == 20
    tracked.wandb.project = "ctcd-test"
    said = []
    train(tracked, workdir, log=said.append)
    assert "resumed at step 14 of 20" in said

    value = in_files(workdir)
    (of_trackio,) = in_trackio(trackio, "killed")
    as_tensorboard_writes = {re.sub(r"[^-/\w.]", "_", name): name for name in NUMBERS}
    of_tensorboard = [(step, as_tensorboard_writes[tag], v) for step, tag, v in in_tensorboard(workdir / "tensorboard")]
    for figures in (of_trackio, of_tensorboard):
        assert {name for _, name, _ in figures} == NUMBERS
        assert len({(step, name) for step, name, _ in figures}) == len(figures)
        steps = {kind: {step for step, name, _ in figures if name.startswith(kind)} for kind in ("train", "timing")}
        assert steps == {"train": {5, 10, 15, 20}, "timing": {5, 10, 15, 20}}
        for step, name, drawn in figures:
            assert drawn == pytest.approx(value(step, name), rel=1e-6), name
    (of_wandb,) = (workdir / "wandb").glob("offline-run-*/run-*.wandb")
    written = of_wandb.read_bytes()
    assert [name for name in NUMBERS if name.encode() not in written] == []


def test_a_full_disk_under_the_curves_is_one_error_and_no_thread_waits(tmp_path):
    line = {"kind": "train", "step": 1, "tokens": 1, "members": {"student": {"hard": 1.0}}}
    writers = Writers(tmp_path, 0, {}, {})

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        flush = close = write

    (tensorboard,) = writers._trackers
    tensorboard._file._py_recordio_writer._writer = Full()
    for _ in range(2):
        with pytest.raises(UserError, match=r"tensorboard: No space left on device; make room and start again"):
            writers.metrics(line)
    writers.close()


# What keeps a tracker from starting.


def refused(workdir, **projects):
    """Returns the line that says why the trackers do not start."""
    with pytest.raises(UserError) as caught:
        Writers(workdir, 0, projects, {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(tmp_path, **{package: "mine"})
    assert said == f"{package}.project is set, but {package} is not installed: pip install 'ctcd-jax[{package}]'"


def test_wandb_without_a_key_names_both_ways_out(tmp_path, monkeypatch):
    import wandb

    def init(**_):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.\nmore")

    monkeypatch.setattr(wandb, "init", init)
    said = refused(tmp_path, wandb="mine")
    assert said.startswith("wandb.project: ")
    assert "No API key configured" in said
    assert "WANDB_API_KEY, or WANDB_MODE=offline" in said


def test_trackio_is_refused_where_it_could_not_replace_a_resumed_run(tmp_path, monkeypatch, trackio):
    for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        with monkeypatch.context() as remote:
            remote.setenv(variable, "somewhere")
            assert f"{variable} is set" in refused(tmp_path, trackio="mine")
    with monkeypatch.context() as network:
        network.setenv("TRACKIO_STORAGE_MODE", "jsonl")
        assert "set TRACKIO_DIR to a local directory" in refused(tmp_path, trackio="mine")
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as unwritable:
        unwritable.setattr(trackio, "TRACKIO_DIR", tmp_path / "file/below")
        assert "(Not a directory); set TRACKIO_DIR to a directory that can" in refused(tmp_path, trackio="mine")
    assert "Trackio does not start (Project name 'registry-mine'" in refused(tmp_path, trackio="registry-mine")


def test_a_tracker_that_was_started_is_closed_when_the_next_does_not_start(tmp_path, monkeypatch):
    finished = []

    class Run:
        def finish(self):
            finished.append(True)

    wandb = ModuleType("wandb")
    wandb.Error, wandb.init = RuntimeError, lambda **_: Run()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert "trackio is not installed" in refused(tmp_path, wandb="mine", trackio="mine")
    assert finished == [True]
