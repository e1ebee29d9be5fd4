"""What can happen to a run: each function makes one kind of it happen, several times, at moments and places drawn."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ctcd_jax.training.checkpoint import saved_steps
from tests.drill.runs import STEPS, Count, Drill, Moments, demand, same, steps_once

STOPPED, REFUSED, NOBODY_READS = 75, 2, 141


def killed(drill: Drill, count: Count) -> None:
    """SIGKILL at any moment of the command."""
    struck_until_done(drill, count, signal.SIGKILL, 50, {-signal.SIGKILL})


def stopped(drill: Drill, count: Count) -> None:
    """SIGTERM at any moment: it saves and says so, or, before there is anything to save, ends."""
    struck_until_done(drill, count, signal.SIGTERM, 10, {STOPPED, -signal.SIGTERM, 128 + signal.SIGTERM})


def struck_until_done(drill: Drill, count: Count, number: signal.Signals, times: int, codes: set[int]) -> None:
    run, struck = drill.place / number.name, 0
    while struck < len(drill.times(times)):
        with count.one():
            moments = Moments(run)
            process = drill.start(drill.command(run))

            def blow(process: subprocess.Popen = process, moments: Moments = moments) -> None:
                count.seen.update([moments.phase()])
                process.send_signal(number)

            drill.strike(process, blow, drill.seconds)
            said = process.communicate()[0]
            struck += process.returncode != 0
            demand(process.returncode in {0, *codes}, f"code {process.returncode}: {said[-500:]}")
            if process.returncode == 0:
                drill.finished_before(count, run, drill.undisturbed)
    with count.one():
        drill.run(drill.command(run))
        same(run, drill.undisturbed)


def one_of_two(drill: Drill, count: Count) -> None:
    """One of two processes is killed: the other ends with it, it is named, and both go on when asked to."""
    launcher = ("launch/local.py", "--processes", "2", "--")
    begun = time.perf_counter()
    whole = drill.to_the_end("two", launcher=launcher)
    seconds = time.perf_counter() - begun
    run = drill.place / "one-of-two"
    for _ in drill.times(10):
        with count.one():
            moments = Moments(run)
            process = drill.start(drill.command(run, launcher))

            def blow(process: subprocess.Popen = process, moments: Moments = moments) -> None:
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                if children:
                    count.seen.update([moments.phase()])
                    os.kill(int(drill.rng.choice(children)), signal.SIGKILL)

            drill.strike(process, blow, seconds)
            said = process.communicate()[0]
            if process.returncode == 0:
                drill.finished_before(count, run, whole)
            else:
                demand("was ended by SIGKILL" in said, f"code {process.returncode}, and nobody is named: {said[-500:]}")
    with count.one():
        drill.run(drill.command(run, launcher))
        same(run, whole)


def damaged(drill: Drill, count: Count) -> None:
    """A bit of the newest saved step flips, or a file of it ends early, or is gone: it is named, and not used."""
    for number in drill.times(40):
        kind = ("a bit flipped", "cut short", "gone")[number % 3]
        with count.one():
            run = drill.copy("damaged")
            newest = run / "checkpoints" / str(saved_steps(run)[-1])
            path = drill.rng.choice([p for p in newest.rglob("*") if p.is_file() and p.stat().st_size])
            hurt(path, kind, drill.rng)
            count.seen[kind] += 1
            said = drill.run(drill.command(run))
            named = f"step {newest.name} cannot be read" in said
            if path.name == "sha256.json" and kind == "gone":  # as after a kill right after saving: arrays have digests
                named = f"resumed at step {newest.name}" in said
            demand(named, f"{path} was {kind}, and not named: {said[:600]}")
            same(run, drill.undisturbed)


def hurt(path: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
    elif kind == "cut short":
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def no_room(drill: Drill, count: Count) -> None:
    """The disk gives out while a step is saved, at a size of file that is drawn: one line, and nothing is lost."""
    for _ in drill.times(5):
        with count.one():
            run = drill.copy("no-room")
            shutil.rmtree(run / "checkpoints" / str(STEPS))
            limit = drill.rng.randrange(5_000, 60_000)
            code = (
                "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.argv[0] = 'ctcd'; "
                "runpy.run_module('ctcd_jax', run_name='__main__')"
            )
            said = drill.run(drill.command(run, ("-c", code)), expected=REFUSED)
            demand("File too large" in said or "no room" in said, f"the disk is not named: {said[-500:]}")
            drill.run(drill.command(run))
            same(run, drill.undisturbed)


def bad_corpus(drill: Drill, count: Count) -> None:
    """A bit of a corpus's rows flips: the file is named before a step is taken."""
    for _ in drill.times(5):
        shard = drill.rng.choice(sorted(drill.corpus.glob("*.npy")))
        whole = shard.read_bytes()
        with count.one():
            hurt(shard, "a bit flipped", drill.rng)
            said = drill.run(drill.command(drill.place / "bad-corpus"), expected=REFUSED)
            demand(shard.name in said, f"{shard.name} is not named: {said[-500:]}")
        shard.write_bytes(whole)


def nobody_reads(drill: Drill, count: Count) -> None:
    """What reads the output goes away: the run ends, and goes on when asked to."""
    for _ in drill.times(3):
        with count.one():
            run = drill.unused("nobody-reads")
            process = drill.start(drill.command(run))
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            demand(process.wait() == NOBODY_READS, f"code {process.returncode}")
            drill.run(drill.command(run))
            same(run, drill.undisturbed)


def two_in_one(drill: Drill, count: Count) -> None:
    """A second run in the directory of one that is at work is refused, and the first is not disturbed."""
    for _ in drill.times(3):
        with count.one():
            run = drill.unused("two-in-one")
            first = drill.start(drill.command(run))
            while not (run / "checkpoints").is_dir() and first.poll() is None:
                time.sleep(0.01)
            first.send_signal(signal.SIGSTOP)  # it holds the directory, and does not end meanwhile
            said = drill.run(drill.command(run), expected=REFUSED)
            first.send_signal(signal.SIGCONT)
            demand(str(run) in said, f"the directory is not named: {said[-500:]}")
            demand((first.communicate()[0], first.returncode)[1] == 0, f"the first ended with {first.returncode}")
            same(run, drill.undisturbed)


def other_devices(drill: Drill, count: Count) -> None:
    """Begun on one device, it goes on on eight and ends on four: every step once, and losses as on one."""
    for _ in drill.times(2):
        with count.one():
            run = drill.unused("other-devices")
            for devices in (1, 8):
                process = drill.start(drill.command(run), devices)
                seen = len((run / "metrics.jsonl").read_text().splitlines()) if run.is_dir() else 0
                while process.poll() is None and not grown(run, seen + 3):
                    time.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                said = process.communicate()[0]
                demand(process.returncode == STOPPED, f"code {process.returncode}: {said[-500:]}")
            drill.run(drill.command(run), devices=4)
            steps_once(run)
            ours, theirs = (
                [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
                for place in (run, drill.undisturbed)
            )
            apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True))
            count.seen[f"losses {apart:.0e} nats apart"] += 1
            demand(apart < 1e-3, f"losses are {apart} nats apart")


def grown(run: Path, lines: int) -> bool:
    path = run / "metrics.jsonl"
    return path.is_file() and path.read_bytes().count(b"\n") >= lines


TROUBLES = {each.__name__.replace("_", "-"): each for each in (
    killed, stopped, one_of_two, damaged, no_room, bad_corpus, nobody_reads, two_in_one, other_devices
)}  # fmt: skip
