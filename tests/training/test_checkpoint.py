"""What is restored is what was saved: a bit that flips anywhere in a saved step is found and costs that step alone."""

import json
import random
import shutil

import pytest

from ctcd_jax.artifacts.checkpoints import DIGESTS, LISTED, damage, is_sealed
from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.files import json_sha256
from ctcd_jax.training import train
from ctcd_jax.training.checkpoint import load_member, saved_steps
from tests.small import config

META = "meta/metadata"


def settings(corpus):
    return config(corpus, steps=4, log_every=2, eval_every=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A run with steps 2 and 4 saved."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    train(settings(corpus), workdir, log=lambda _: None)
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def newest(run):
    return run / "checkpoints/4"


def go_on(run, corpus):
    """Goes on with the run, and returns what was said."""
    said = []
    train(settings(corpus), run, log=said.append, warn=said.append)
    return said


def flip(path, seed=0):
    """Flips one bit of a file."""
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def unseal(step, change=None):
    """Makes a step one whose run was killed before its files were written down; `change`: of its meta."""
    (step / DIGESTS).unlink()
    if change:
        meta = json.loads((step / META).read_text())
        change(meta)
        (step / META).write_text(json.dumps(meta))


def test_every_saved_step_is_sealed_when_training_ends(finished):
    assert saved_steps(finished) == [2, 4]
    for step in (2, 4):
        place = finished / "checkpoints" / str(step)
        assert is_sealed(place)
        sealed = json.loads((place / DIGESTS).read_text())["files"]
        assert sealed.keys() == {
            path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file() and path.name != DIGESTS
        }
        assert not damage(place)


def test_a_bit_that_flips_in_any_file_is_found_and_the_file_named(newest):
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for seed, path in enumerate(files):
        whole = path.read_bytes()
        for nth in range(8):
            flip(path, 8 * seed + nth)
            (found, *_) = damage(newest)
            assert path.name == DIGESTS or found == f"{path.relative_to(newest).as_posix()} has changed"
            path.write_bytes(whole)
    assert not damage(newest)


def test_training_goes_on_from_the_step_before_and_ends_the_same(run, newest, finished, corpus):
    flip(next(path for path in newest.glob("state/**/d/*")))
    said = go_on(run, corpus)
    assert any(line.startswith("step 4 cannot be read (state/") and "has changed" in line for line in said)
    assert "resumed at step 2 of 4" in said
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert (run / "checkpoints/4.unreadable").is_dir()
    assert is_sealed(newest)  # saved anew


def test_a_step_that_is_damaged_twice_is_set_aside_twice(run, newest, corpus):
    for _ in range(2):
        flip(newest / META)
        assert "resumed at step 2 of 4" in go_on(run, corpus)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4", "4.unreadable", "4.2.unreadable"}


def test_a_file_that_is_gone_is_missed(newest):
    next(newest.glob("state/**/manifest.ocdbt")).unlink()
    (found,) = damage(newest)
    assert found.endswith("is missing")


def test_a_step_that_was_not_sealed_is_held_against_the_digests_of_its_arrays(run, newest, finished, corpus):
    def other_value(meta):
        del meta["sha256"]
        name = next(name for name in meta["leaves"] if "student/params" in name)
        meta["leaves"][name] = "0" * 64
        meta["sha256"] = json_sha256(meta)

    unseal(newest, other_value)
    said = go_on(run, corpus)
    assert any("1 arrays are not as they were saved, the first: members/student/params" in line for line in said)
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_number_of_tokens_that_has_changed_is_refused(run, newest, corpus):
    unseal(newest, lambda meta: meta.update(tokens=meta["tokens"] + 1))
    assert any("step 4 cannot be read (meta has changed)" in line for line in go_on(run, corpus))


def test_a_step_that_was_killed_before_it_was_sealed_is_whole(run, newest, corpus):
    unseal(newest)
    said = go_on(run, corpus)
    assert "resumed at step 4 of 4" in said
    assert not any("earlier version" in line for line in said)


def test_a_step_of_an_earlier_version_is_read_and_that_it_says_nothing_is_said(run, newest, corpus):
    def earlier(meta):
        del meta["sha256"], meta["leaves"]

    unseal(newest, earlier)
    said = go_on(run, corpus)
    assert "resumed at step 4 of 4" in said
    assert "step 4 was saved by an earlier version: whether it is as it was saved cannot be told" in said


def test_where_no_step_is_whole_the_newest_is_named(run, corpus):
    for step in (2, 4):
        flip(run / f"checkpoints/{step}" / META)
    with pytest.raises(UserError, match=r"checkpoints/4: cannot be read \(meta/metadata has changed\); remove"):
        go_on(run, corpus)


def test_a_damaged_step_is_neither_exported_nor_taught_from(run, newest):
    flip(newest / META)
    with pytest.raises(UserError, match=r"4: cannot be read \(meta/metadata has changed\); use another step"):
        load_member(run, "student")
    assert load_member(run, "student", 2)


def test_checkpoints_are_listed_with_their_state(run, newest, corpus, capsys):
    assert main(["checkpoints", str(run)]) == 0
    head, second, fourth = capsys.readouterr().out.splitlines()
    assert head.split() == ["step", "bytes", "saved", "state"]
    assert second.split()[0] == "2"
    assert fourth.split()[0] == "4"
    assert "as it was saved" in second
    assert "the best of 'student'" in second + fourth
    flip(newest / META)
    assert main(["checkpoints", str(run)]) == 1
    assert "DAMAGED: meta/metadata has changed" in capsys.readouterr().out
    go_on(run, corpus)
    capsys.readouterr()
    unseal(run / "checkpoints/2")
    assert main(["checkpoints", str(run)]) == 0
    said = capsys.readouterr().out
    assert "its files are not written down" in said
    assert f"set aside, for it could not be read: remove {run}/checkpoints/4.unreadable" in said
    shutil.rmtree(run / "checkpoints")
    assert main(["checkpoints", str(run)]) == 2
    assert "checkpoints: no step is saved there; train first" in capsys.readouterr().err
    assert main(["checkpoints", str(run.parent)]) == 2


@pytest.mark.parametrize("first", [(), (DIGESTS,), (LISTED, DIGESTS)], ids=["data", "digests", "as Orbax does"])
def test_a_step_that_is_slowly_removed_meanwhile_is_not_called_damaged(run, newest, monkeypatch, capsys, first):
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.name not in first)
    files += [newest / name for name in first[::-1]]

    def remove_one(seconds):
        files.pop().unlink()
        if not files:
            shutil.rmtree(newest)

    files.pop().unlink()
    monkeypatch.setattr("ctcd_jax.training.saved.time.sleep", remove_one)
    assert main(["checkpoints", str(run)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["2"]
    assert files == []


@pytest.mark.parametrize("gone", [LISTED, None], ids=["its listing", "all of it"])
def test_a_step_that_is_no_longer_listed_is_not_passed_over_in_silence(run, newest, corpus, capsys, gone):
    for path in [newest / gone] if gone else list(newest.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["checkpoints", str(run)]) == 1
    assert "DAMAGED" in capsys.readouterr().out
    if gone:  # a directory with nothing in it is no step that could be meant
        with pytest.raises(UserError, match=r"4: cannot be read \(_CHECKPOINT_METADATA is missing\); use another step"):
            load_member(run, "student")
    assert "resumed at step 2 of 4" in go_on(run, corpus)
    assert load_member(run, "student")


@pytest.mark.parametrize("content", ["NaN", "[]", "", "[" * 100_000, '{"init_timestamp_nsecs": 1.5}'])
def test_a_listing_that_orbax_cannot_read_costs_that_step_alone(run, newest, corpus, capsys, content):
    (newest / LISTED).write_text(content)
    assert main(["checkpoints", str(run)]) == 1
    assert f"DAMAGED: {LISTED} has changed" in capsys.readouterr().out
    for step in (None, 2):
        with pytest.raises(UserError, match="checkpoints/4: _CHECKPOINT_METADATA is damaged; move 4 to another place"):
            load_member(run, "student", step)
    said = go_on(run, corpus)
    (line,) = (line for line in said if "cannot be read" in line)
    assert line == f"step 4 cannot be read ({LISTED} is damaged); it is now {run}/checkpoints/4.unreadable"
    assert "resumed at step 2 of 4" in said


def test_where_every_listing_is_damaged_it_is_one_line(run, corpus):
    for step in (2, 4):
        (run / f"checkpoints/{step}" / LISTED).write_text("NaN")
    with pytest.raises(UserError, match=rf"checkpoints/4: {LISTED} is damaged; remove .*checkpoints to begin again"):
        go_on(run, corpus)


def test_a_best_that_is_nested_too_deeply_is_a_damaged_step(run, newest, corpus):
    (newest / META).write_text("[" * 100_000)
    assert main(["checkpoints", str(run)]) == 1
    assert "resumed at step 2 of 4" in go_on(run, corpus)
