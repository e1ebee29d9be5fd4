"""Files are whole or as they were; damaged lines are numbered; the error of a second process names the first."""

import errno
import json
import subprocess
import sys
import threading
import time

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.files import (
    locked,
    read_json_lines,
    write_json,
    write_whole,
    writing_directory,
    writing_whole,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    write_json(path, {"a": 1})

    def fail():
        with writing_whole(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    def fill(text, fails):
        with writing_directory(tmp_path / "sub" / "made") as partial:
            (partial / "a").write_text(text)
            assert not (tmp_path / "sub" / "made").exists()
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill("half", fails=True)
    assert list((tmp_path / "sub").iterdir()) == []
    fill("whole", fails=False)
    assert (tmp_path / "sub/made/a").read_text() == "whole"
    assert list((tmp_path / "sub").iterdir()) == [tmp_path / "sub/made"]


def test_a_directory_that_another_has_made_meanwhile_stays(tmp_path):
    with writing_directory(tmp_path / "made") as partial:
        (partial / "a").write_text("ours")
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "a").write_text("theirs")
    assert (tmp_path / "made/a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_text_is_utf8_whatever_the_locale(tmp_path):
    write_whole(tmp_path / "möchte.txt", "möchte\n")
    assert (tmp_path / "möchte.txt").read_bytes() == b"m\xc3\xb6chte\n"
    write_json(tmp_path / "a.json", {"path": "no UTF-8: \udcff"})  # as Python spells such a file name
    assert json.loads((tmp_path / "a.json").read_text())["path"].endswith("\udcff")


def test_damaged_lines_are_numbered_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n[2]\n\xff\xfe\n{"a": 3}\n{"a": 4')
    good, damaged = read_json_lines(path)
    assert good == [(1, {"a": 1}), (5, {"a": 3})]
    assert damaged == [2, 3, 4]
    assert read_json_lines(tmp_path / "none.jsonl") == ([], [])


HOLD = """
import sys
import threading
import time
from pathlib import Path
from ctcd_jax.files import locked
with locked(Path(sys.argv[1]), "there", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _hold(path, how):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_error_of_a_second_process_names_the_first(tmp_path):
    path = tmp_path / "lock"
    with _hold(path, "alone") as holder:
        for shared in (False, True):
            with pytest.raises(UserError, match=rf"^runs/a: process {holder.pid} on \S+ is at work there; wait"):
                locked(path, "runs/a", shared=shared).__enter__()
        holder.kill()
    with locked(path, "runs/a"):  # the dead hold no lock
        pass


def test_shared_locks_go_together_and_keep_out_one_that_is_not(tmp_path):
    path = tmp_path / "lock"
    with _hold(path, "shared") as holder:
        with locked(path, "there", shared=True):
            pass
        with pytest.raises(UserError, match="at work there"):
            locked(path, "there").__enter__()
        holder.communicate("\n")


def test_what_could_not_be_written_is_named(tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(OSError, match="File too large") as caught, writing_whole(path):
        raise OSError(errno.EFBIG, "File too large")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_who_waits_goes_on_when_the_other_has_finished(tmp_path):
    path = tmp_path / "lock"
    with _hold(path, "alone") as holder:
        timer = threading.Timer(0.3, lambda: holder.communicate("\n"))
        timer.start()
        start = time.monotonic()
        with locked(path, "there", wait=True):
            assert time.monotonic() - start > 0.25
        timer.join()
