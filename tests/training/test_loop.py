"""Whole runs: what they write, and that being killed, stopped and moved leaves no trace in it."""

import ast
import gzip
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl

from ctcd_jax import stores
from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.errors import NonFinite, Stopped, UserError
from ctcd_jax.training import loop, train
from ctcd_jax.training.checkpoint import load_member
from ctcd_jax.training.describe import describe_little_learnt
from ctcd_jax.training.metrics import cut_after
from tests.small import config, ctcd

ROOT = Path(__file__).parents[2]
STEPS = 40


def lines(workdir, name="metrics.jsonl"):
    return [json.loads(text) for text in (workdir / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A run of 20 steps, in this process."""
    workdir, said = tmp_path_factory.mktemp("run") / "run", []
    last = train(config(corpus), workdir, log=said.append)
    return workdir, said, last


def test_members_that_have_learnt_hardly_anything_are_named_at_the_end(corpus, tmp_path):
    """A rate of almost nothing leaves both where they began; whoever trains to the end hears of it, and again."""
    asked, warned = config(corpus, steps=2, eval_every=2, checkpoint_every=2), []
    asked.optimizer.learning_rate = 1e-9
    for _ in range(2):
        last = train(asked, tmp_path / "run", log=lambda line: None, warn=warned.append)
    loss, known = last["members"]["student"]["hard"], last["unigram"]
    expected = f"'student' predicts worse than word frequencies do ({loss:.3f} of {known:.3f} nats) after 2 steps. "
    assert sum(line.startswith(expected) for line in warned) == 2
    assert sum(line.startswith("'teacher' predicts worse than word frequencies") for line in warned) == 2


@pytest.mark.parametrize(
    ("loss", "lowest", "unigram", "said"),
    [
        (6.0, 6.0, 6.3, "hardly better"),
        (5.9, 5.9, 6.3, ""),
        (6.4, 6.0, 6.3, "worse"),
        (6.4, 4.8, 6.3, ""),  # it has learnt, and its rows by heart then, which is said elsewhere
        (6.0, 6.0, None, ""),
        (None, 6.0, 6.3, ""),
        (6.0, 6.0, math.nan, ""),
    ],
)
def test_a_member_is_named_where_it_was_never_much_better_than_word_frequencies(loss, lowest, unigram, said):
    line = {"step": 1000, "unigram": unigram, "members": {"student": {"hard": loss}, "frozen": {"hard": 9.0}}}
    for found in ({"student": lowest}, {}) if lowest == loss else ({"student": lowest},):
        lines = describe_little_learnt(line, ["student"], found)
        assert [text.split(" predicts ")[1].split(" than ")[0] for text in lines] == ([said] if said else [])


def test_who_trains_into_a_store_hears_of_each_saved_step(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "copies", lambda: tmp_path)
    saved = threading.Event()
    settings = config(corpus, steps=2, eval_every=2, checkpoint_every=2)
    train(settings, "memory://loop/run", log=lambda line: None, on_saved=saved.set)
    assert saved.is_set()


def test_a_checkpoint_has_the_names_that_every_version_has_given(finished):
    """Orbax restores by name: another name, or one more, and no run that was begun before can be resumed."""
    content = json.loads((finished[0] / "checkpoints" / "20" / "state" / "_METADATA").read_text())
    names = {"/".join(ast.literal_eval(path)) for path in content["tree_metadata"]}
    shown = {re.sub(r"^members/(student|teacher)/", "members/NAME/", name) for name in names}
    parts = {re.sub(r"(params|mu|nu)/.*", r"\1", name) for name in shown}
    optimizer = ("0", "1/0/count", "1/0/mu", "1/0/nu", "1/1/inner_state", "1/2/count")
    means = (
        *(f"{kind}/{member}" for kind in ("accuracy", "hard") for member in ("student", "teacher")),
        *(f"{kind}/{edge}" for kind in ("soft", "soft_t1") for edge in ("student->teacher", "teacher->student")),
        "agreement/student~teacher",
    )
    assert parts == {
        "step", "key", "tokens", "members/NAME/params", "members/NAME/loss_scale",
        *(f"members/NAME/opt_state/{name}" for name in optimizer),
        *(f"window/{mean}/{part}" for mean in means for part in (0, 1)),
    }  # fmt: skip


def test_metrics_have_every_figure_of_every_member_and_edge(finished):
    workdir, _, last = finished
    found = lines(workdir)
    assert [(line["kind"], line["step"]) for line in found] == [
        ("train", 5), ("train", 10), ("validation", 10), ("train", 15), ("train", 20), ("validation", 20),
    ]  # fmt: skip
    assert found[-1] == last
    for line in found:
        baseline = {"unigram"} if line["kind"] == "validation" else set()
        assert set(line) == {"kind", "step", "tokens", "loss", "members", "edges", "agreement"} | baseline
        assert set(line["members"]) == {"teacher", "student"}
        of_optimizer = {"learning_rate", "gradient_norm"} if line["kind"] == "train" else set()
        assert all(set(figures) == {"hard", "accuracy"} | of_optimizer for figures in line["members"].values())
        each = [figures["hard"] for figures in line["members"].values()]
        soft = line["edges"]["teacher->student"]["soft"] + 4 * line["edges"]["student->teacher"]["soft"]
        assert line["loss"] == pytest.approx(sum(each) + soft)
        assert set(line["edges"]) == {"teacher->student", "student->teacher"}
        assert all(set(figures) == {"soft", "soft_t1"} for figures in line["edges"].values())
        assert set(line["agreement"]) == {"student~teacher"}
    assert found[-1]["members"]["student"]["hard"] < found[0]["members"]["student"]["hard"] < math.log(150) + 0.2


def test_tokens_are_the_real_ones(finished, corpus):
    _, _, last = finished
    rows = 20 * 8
    share = Corpus.open(corpus).manifest["splits"]["train"]["tokens"] / Corpus.open(corpus).rows("train")
    assert last["tokens"] == pytest.approx(rows * share, rel=0.02)
    assert last["tokens"] < rows * 32


def test_the_log_says_what_runs_and_how_it_goes(finished):
    said = "\n".join(finished[1])
    assert "teacher: 2 layers, hidden 16" in said
    assert "teacher->student x 1" in said
    first = finished[1].index(next(line for line in finished[1] if line.startswith("first step after ")))
    assert finished[1][first + 1].startswith("step 1/20 5% | hard student 5.")
    validation = next(line for line in finished[1] if line.startswith("step 10 validation"))
    assert re.search(r"student \d\.\d+ \(perplexity \d+\) teacher \d\.\d+ \(\d+\) \| word frequencies \d", validation)
    line = next(line for line in finished[1] if line.startswith("step 10/20 50%"))
    for part in ("hard", "soft", "agree", "tokens/s", "ETA"):
        assert part in line


def test_config_json_has_the_run_resolved(finished, corpus):
    run = json.loads((finished[0] / "config.json").read_text())
    assert run["format"] == 1
    assert run["train"]["steps"] == run["resolved"]["steps"] == 20
    assert run["resolved"]["corpus_hash"] == Corpus.open(corpus).hash
    assert run["edges"][1]["weight"] == 4.0


def test_a_finished_run_is_left_as_it_is(finished, corpus):
    workdir, _, last = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    assert train(config(corpus), workdir, log=lambda _: None) == last
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_callback_gets_each_line_when_it_is_written(finished, corpus, tmp_path):
    seen = []

    def on_line(line):
        assert lines(tmp_path / "run")[-1] == line
        seen.append(line)

    train(config(corpus), tmp_path / "run", log=lambda _: None, on_line=on_line)
    assert seen == lines(tmp_path / "run") == lines(finished[0])
    train(config(corpus), tmp_path / "run", log=lambda _: None, on_line=on_line)
    assert len(seen) == 6  # nothing was written


def test_the_validation_loss_is_that_of_the_saved_parameters(finished, corpus):
    """The last validation line, worked out again in NumPy from the checkpoint, row by row."""
    from ctcd_jax.models import BertForMaskedLM
    from ctcd_jax.training.masking import Masker, validation_keys

    workdir, _, last = finished
    model, params = load_member(workdir, "student")
    opened = Corpus.open(corpus)
    batches = ValidationBatches(opened, 8)
    total = count = 0
    for index in range(len(batches)):
        batch = batches[index]
        masked = Masker(opened.vocab_size, opened.special_ids)(validation_keys(batch["rows"]), batch["input_ids"])
        logits = BertForMaskedLM(model).apply(
            {"params": params}, masked.input_ids, masked.attention_mask, masked.segment_ids
        )
        labels, logits = np.asarray(masked.row_labels), np.asarray(logits, np.float64)
        for row, position in zip(*np.nonzero(labels >= 0), strict=True):
            z = logits[row, position]
            total += np.log(np.exp(z - z.max()).sum()) + z.max() - z[labels[row, position]]
            count += 1
    assert last["members"]["student"]["hard"] == pytest.approx(total / count, rel=1e-5)


# Nothing waits.


@pytest.fixture
def watch(monkeypatch):
    """Lets no step take anything that is not on the device yet, and notes after which steps the host waited."""
    watched = {"steps": 0, "read": set(), "waited": set()}

    def note(kind):
        if threading.current_thread() is threading.main_thread():  # and not one that saves
            watched[kind].add(watched["steps"])

    def make(*args):
        step = make_train_step(*args)

        def guarded(*args):
            with jax.transfer_guard("disallow"):
                result = step(*args)
            watched["steps"] += 1
            return result

        return guarded

    make_train_step, value, wait = loop.make_train_step, ArrayImpl._value.fget, jax.block_until_ready
    monkeypatch.setattr(loop, "make_train_step", make)
    # A CPU's arrays are read without a transfer, so that no guard sees it. All ways to read one end
    # here, but for NumPy's, which takes the memory.
    monkeypatch.setattr(ArrayImpl, "_value", property(lambda array: (note("read"), value(array))[1]))
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: (note("waited"), wait(tree))[1])
    return watched


def test_between_two_lines_of_the_log_the_host_does_not_wait(corpus, tmp_path, watch):
    train(config(corpus, eval_every=20, checkpoint_every=20), tmp_path / "run", log=lambda _: None)
    assert watch["steps"] == 20
    assert watch["read"] - {0} == {1, 5, 10, 15, 20}  # after the first, to say what it made
    assert watch["waited"] == {1}  # to say how long the start took


def test_the_watch_sees_what_it_watches_for(corpus, tmp_path, watch, monkeypatch):
    for number, read in enumerate((bool, int, float, jax.device_get)):
        watch["steps"] = number
        read(jnp.ones(()))
    assert watch["read"] == {0, 1, 2, 3}
    monkeypatch.setattr(loop, "PlacedRows", lambda batches, mesh: batches)  # the step gets NumPy arrays
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(config(corpus), tmp_path / "run", log=lambda _: None)


# Killed, stopped, moved.


def command(config_file, corpus, workdir, steps=STEPS, members=""):
    spec = f"{config_file}:{members}" if members else str(config_file)
    return [sys.executable, "-m", "ctcd_jax", "train", "--config", spec, "--workdir", str(workdir),
            f"--config.data.corpus={corpus}", f"--config.train.steps={steps}"]  # fmt: skip


def start(config_file, corpus, workdir, members=""):
    # Every save costs Orbax a second.
    arguments = [*command(config_file, corpus, workdir, members=members), "--config.train.checkpoint_every=13"]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_lines(process, path, count):
    while process.poll() is None and not (path.is_file() and path.read_bytes().count(b"\n") >= count):
        time.sleep(0.002)


def whole(config_file, corpus, workdir, members=""):
    process = start(config_file, corpus, workdir, members)
    assert process.wait() == 0, process.stdout.read()
    return workdir


@pytest.fixture(scope="module")
def undisturbed(config_file, corpus, tmp_path_factory):
    return whole(config_file, corpus, tmp_path_factory.mktemp("undisturbed") / "run")


def assert_same_run(a, b):
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    for name in json.loads((a / "config.json").read_text())["members"]:
        ours, theirs = (load_member(workdir, name)[1] for workdir in (a, b))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def kill(rng, config_file, corpus, workdir, members=""):
    """Starts or resumes a run and kills it a few lines later; whether that was before its end."""
    metrics = workdir / "metrics.jsonl"
    process = start(config_file, corpus, workdir, members)
    seen = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    wait_for_lines(process, metrics, seen + rng.randint(1, 6))
    time.sleep(rng.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_killed_and_asked_to_stop_it_ends_the_same_byte_for_byte(config_file, corpus, tmp_path):
    run = (config_file, corpus, tmp_path / "run", "student")  # of the cohort below
    metrics = tmp_path / "run/metrics.jsonl"
    assert kill(random.Random(time.time_ns()), *run), "the kill came too late"
    before = metrics.read_bytes().count(b"\n")
    process = start(*run)
    wait_for_lines(process, metrics, before + 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert b"run the same command to go on" in process.stdout.read()
    process = start(*run)
    assert process.wait() == 0
    assert b"resumed at step" in process.stdout.read()
    assert_same_run(tmp_path / "run", whole(config_file, corpus, tmp_path / "undisturbed", "student"))


@pytest.mark.slow
def test_killed_many_times_it_ends_the_same_byte_for_byte(undisturbed, config_file, corpus, tmp_path):
    rng, workdir = random.Random(time.time_ns()), tmp_path / "run"
    killed = sum(kill(rng, config_file, corpus, workdir) for _ in range(12))
    assert killed, "every kill came too late"
    process = start(config_file, corpus, workdir)
    assert process.wait() == 0, process.stdout.read()
    assert_same_run(workdir, undisturbed)


@pytest.fixture(scope="module")
def stopped(corpus, tmp_path_factory):
    """A run that stops after 7 of its 20 steps, within a trace, and goes on: its timing at the stop, and its log."""
    workdir, said = tmp_path_factory.mktemp("stopped") / "run", []
    traced = config(corpus, profile_steps=(4, 10))
    with pytest.MonkeyPatch.context() as stops:
        stops.setattr(loop.Checkpoints, "reached_preemption", lambda self, step: step == 7)
        with pytest.raises(Stopped):
            train(traced, workdir, log=said.append)
        before = lines(workdir, "timing.jsonl")
        train(traced, workdir, log=said.append)
    return workdir, before, said


def test_time_is_counted_on_after_a_stop_and_names_the_device(stopped):
    workdir, before, _ = stopped
    assert [line["step"] for line in before] == [5, 7]  # also the two steps after the last line of the log
    timing = lines(workdir, "timing.jsonl")
    assert timing[:2] == before
    assert [line["step"] for line in timing[2:]] == [10, 15, 20]
    seconds = [line["seconds"] for line in timing]
    assert seconds == sorted(set(seconds))
    assert {(line["device"], line["devices"]) for line in timing} == {("cpu", jax.device_count())}


def test_a_traced_run_is_the_same_run_also_when_it_stops_within_the_trace(stopped, finished):
    workdir, _, said = stopped
    assert [line[: line.index(" in ")] for line in said if " traced" in line] == [
        "steps 5 to 7 are traced",
        "steps 9 to 10 are traced",  # the eighth compiles
    ]
    traces = sorted((workdir / "profile/process-0").rglob("*.trace.json.gz"))
    for path, steps in zip(traces, (["5", "6", "7"], ["9", "10"]), strict=True):
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == steps
        assert list(path.parent.glob("*.xplane.pb"))
    assert (workdir / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


def test_two_processes_train_what_one_does(finished, config_file, corpus, tmp_path):
    workdir = tmp_path / "run"
    arguments = command(config_file, corpus, workdir, steps=20)[3:]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    launch = [sys.executable, "launch/local.py", "--processes", "2", "--", *arguments]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mesh {'data': 2, 'fsdp': 1}" in done.stdout
    assert len(list((workdir / "tensorboard").iterdir())) == 1  # the leading process alone draws
    for ours, theirs in zip(lines(workdir), lines(finished[0]), strict=True):
        assert ours["tokens"] == theirs["tokens"]
        for name in ("teacher", "student"):
            assert ours["members"][name]["hard"] == pytest.approx(theirs["members"][name]["hard"], rel=1e-5)
    # They agree on what is damaged, and go on from the step before.
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    data = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    before = lines(workdir)
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(f"step {newest.name} cannot be read") == 1
    assert "resumed at step 14 of 20" in done.stdout
    assert (workdir / "checkpoints/20.unreadable").is_dir()
    assert lines(workdir) == before


@pytest.mark.slow
def test_two_processes_load_a_member_of_another_run(finished, config_file, corpus, tmp_path):
    arguments = command(config_file, corpus, tmp_path / "run", steps=5)[3:]
    arguments.append(f"--config.members.student.init=run:{finished[0]}#student")
    arguments.append("--config.optimizer.learning_rate=1e-6")  # it is to be what was loaded, not what it becomes
    arguments.append("--config.train.profile_steps=3,4")
    launch = [sys.executable, "launch/local.py", "--processes", "2", "--", *arguments]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    first, trained = lines(tmp_path / "run")[0], finished[2]
    assert first["members"]["student"]["hard"] == pytest.approx(trained["members"]["student"]["hard"], abs=0.1)
    traces = [list((tmp_path / f"run/profile/process-{index}").rglob("*.xplane.pb")) for index in range(2)]
    assert [len(found) for found in traces] == [1, 1]


@pytest.mark.slow
def test_two_processes_stop_at_one_step_and_go_on(config_file, corpus, tmp_path):
    workdir = tmp_path / "run"
    arguments = command(config_file, corpus, workdir, steps=2000)[3:]
    launch = [sys.executable, "launch/local.py", "--processes", "2", "--", *arguments]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    process = subprocess.Popen(launch, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for_lines(process, workdir / "metrics.jsonl", 2)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[0].decode()
    assert process.returncode == 75, said
    assert len(set(re.findall(r"stopped at step ([\d,]+) of 2,000", said))) == 1
    before = lines(workdir)
    process = subprocess.Popen(launch, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for_lines(process, workdir / "metrics.jsonl", len(before) + 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert lines(workdir)[: len(before)] == before


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(finished, corpus, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    expected = (tmp_path / "run/metrics.jsonl").read_bytes()
    newest = max((tmp_path / "run/checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("d/*"):
        path.write_bytes(b"")
    said = []
    train(config(corpus), tmp_path / "run", log=said.append, warn=said.append)
    assert "resumed at step 14 of 20" in said
    assert any(line.startswith("step 20 cannot be read") for line in said)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == expected


def test_resuming_may_change_how_often_but_not_what(finished, corpus):
    workdir = finished[0]
    changed = config(corpus, log_every=4, loss_chunk=64, remat=True, deterministic=True, profile_steps=(1, 2))
    train(changed, workdir, log=lambda _: None)
    other = config(corpus)
    other.optimizer.learning_rate = 1e-3
    with pytest.raises(UserError, match=r"begun with optimizer.learning_rate = 0.003, not 0.001"):
        train(other, workdir)
    other = config(corpus)
    other.edges[0].weight = 2.0
    with pytest.raises(UserError, match=r"begun with edges\[0\].weight = 1.0, not 2.0"):
        train(other, workdir)


def test_torn_and_later_lines_are_cut(tmp_path):
    path = tmp_path / "timing.jsonl"
    path.write_text('{"step": 5}\n{"step": 10}\n{"step": 15}\n{"ste')
    cut_after(path, 10)
    assert path.read_text() == '{"step": 5}\n{"step": 10}\n'


def test_a_run_that_diverges_ends_with_code_3_and_keeps_the_last_good_checkpoint(config_file, corpus, tmp_path):
    workdir = tmp_path / "run"
    arguments = command(config_file, corpus, workdir)[3:]
    done = ctcd(*arguments, "--config.optimizer.learning_rate=1e36", "--config.train.checkpoint_every=1")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "not finite" in done.stderr
    _, params = load_member(workdir, "student")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", ["float32", "float16"])  # whose loss scale takes an overflow for a passing thing
def test_divergence_is_an_exception_of_its_own(corpus, tmp_path, dtype):
    diverging = config(corpus, dtype=dtype)
    diverging.optimizer.learning_rate = 1e36
    with pytest.raises(NonFinite, match=r"optimizer\.learning_rate") as error:
        train(diverging, tmp_path / "run", log=lambda _: None)
    assert ("--config.train.dtype=float32" in str(error.value)) == (dtype == "float16")


def run_limited(undisturbed, config_file, corpus, workdir, limit):
    """Goes on with a run that lacks its last step, with a disk that gives out, and then with one that does not."""
    shutil.copytree(undisturbed, workdir)
    shutil.rmtree(workdir / f"checkpoints/{STEPS}")
    saved = {path: path.read_bytes() for path in (workdir / "checkpoints").rglob("*") if path.is_file()}
    assert saved
    arguments = command(config_file, corpus, workdir)[3:]
    code = f"import runpy, sys; {limit}; sys.argv[0] = 'ctcd'; runpy.run_module('ctcd_jax', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert saved == {path: path.read_bytes() for path in saved}
    assert ctcd(*arguments).returncode == 0
    assert_same_run(workdir, undisturbed)
    return done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(undisturbed, config_file, corpus, tmp_path):
    limit = "import collections, shutil; shutil.disk_usage = lambda _: collections.namedtuple('U', 'free')(1000)"
    said = run_limited(undisturbed, config_file, corpus, tmp_path / "run", limit)
    assert said.count("\n") == 1, said
    assert "no room for a checkpoint of" in said
    assert "(1,000 are free)" in said


@pytest.mark.slow
def test_a_write_that_fails_halfway_loses_nothing(undisturbed, config_file, corpus, tmp_path):
    """A limit on the size of files: the disk seems empty enough, and the write fails all the same."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))"
    said = run_limited(undisturbed, config_file, corpus, tmp_path / "run", limit)
    assert "File too large; make room and start again" in said


def test_tokens_are_counted_beyond_what_the_device_can_hold(finished, corpus, tmp_path, monkeypatch):
    """With room for the tokens of two steps, and stops in between, the metrics are byte for byte the same."""
    monkeypatch.setattr(loop, "MOST_TOKENS", 2 * 8 * 32 + 1)
    held, take = [], loop._Run._take_tokens

    def watched(run):
        held.append(int(run.state.tokens))
        take(run)

    monkeypatch.setattr(loop._Run, "_take_tokens", watched)
    made = config(corpus)
    stops = iter([False] * 3 + [True] + [False] * 100)
    monkeypatch.setattr(loop.Checkpoints, "reached_preemption", lambda self, step: next(stops))
    with pytest.raises(Stopped):
        train(made, tmp_path / "run", log=lambda _: None)
    train(made, tmp_path / "run", log=lambda _: None)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()
    assert 0 < max(held) <= 2 * 8 * 32
    rates = [line["tokens_per_second"] for line in lines(tmp_path / "run", "timing.jsonl")]
    assert rates[1] is None  # the fifth step, the first of its session, compiles
    assert all(rate > 0 for rate in rates if rate is not None)
