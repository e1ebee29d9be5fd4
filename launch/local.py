"""Runs `ctcd train` as several processes on this machine, as a cluster would run it on several.

    python launch/local.py --processes 2 -- train --config configs/ctcd.py:smoke --workdir runs/ctcd ...

Each process gets an equal share of the GPUs, if there are any. SIGTERM is passed on; the exit code is that of the first
process that did not finish (75: stopped on request, run the same command again).
"""

import argparse
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

STOPPED = 75


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what follows `ctcd`")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}; it must be a whole number at least 1")
    command = [sys.executable, "-m", "ctcd_jax", *[word for word in options.command if word != "--"]]
    address, gpus = f"localhost:{free_port()}", visible_gpus()
    if gpus and len(gpus) < options.processes:
        parser.error(f"{options.processes} processes, but there are {len(gpus)} GPUs")
    processes, asked = [], []

    def pass_on(number: int, _) -> None:
        asked.append(number)
        for process in processes:
            process.send_signal(number)

    # Before any process is there that nobody would end; as functions, for what is ignored they would ignore, too.
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))  # a terminal sends it to them, too
    for index in range(options.processes):
        processes.append(subprocess.Popen(command, env=environment(address, options.processes, index, gpus)))
    if asked:  # meanwhile
        pass_on(signal.SIGTERM, None)
    return wait(processes, asked)


def wait(processes: Sequence[subprocess.Popen], asked: Sequence[int]) -> int:
    """Returns the first code that is not 0. A process that fails takes the others, who would wait for it, with it.

    Args:
      processes: those that were started.
      asked: the signals that they were sent. One that ends by such a signal had not begun.
    """
    running, code = list(processes), 0
    while running:
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            ended = STOPPED if -process.returncode in asked else process.returncode
            if not code and ended < 0:
                name = signal.Signals(-ended).name
                print(f"process {processes.index(process)} was ended by {name}, and so are the others", file=sys.stderr)
                code = 128 - ended  # as a shell has it
            code = code or ended
            if ended not in (0, STOPPED):
                for other in running:
                    other.kill()
        time.sleep(0.05)
    return code


def visible_gpus() -> list[str]:
    """Returns the names of the GPUs that CUDA_VISIBLE_DEVICES allows, or of all there are.

    CUDA sees the devices before the first that does not exist, such as -1: `-1` hides all, `0,-1,1` all but 0.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = [gpu.strip() for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return list(itertools.takewhile(lambda gpu: gpu and not gpu.startswith("-"), named))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return [str(index) for index, _ in enumerate(listed.splitlines())]


def environment(address: str, processes: int, index: int, gpus: list[str]) -> dict[str, str]:
    """Returns the variables that give a process its place among the others, and its share of the GPUs."""
    place = {"CTCD_COORDINATOR": address, "CTCD_PROCESSES": str(processes), "CTCD_PROCESS": str(index)}
    if gpus:
        share = len(gpus) // processes
        place["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index * share : (index + 1) * share])
    return os.environ | place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
