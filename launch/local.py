"""Runs `ctcd train` as several processes on this machine, as a cluster would run it on several.

    python launch/local.py --processes 2 -- train --config configs/ctcd.py:smoke --workdir runs/ctcd ...

Each process gets an equal share of the GPUs, if there are any. SIGTERM is passed on; the exit code is that of the first
process that did not finish (75: stopped on request, run the same command again).
"""

import argparse
import os
import signal
import socket
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what follows `ctcd`")
    options = parser.parse_args()
    command = [sys.executable, "-m", "ctcd_jax", *[word for word in options.command if word != "--"]]
    address = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(command, env=environment(address, options.processes, index))
        for index in range(options.processes)
    ]
    signal.signal(signal.SIGTERM, lambda number, _: [process.send_signal(number) for process in processes])
    codes = [process.wait() for process in processes]
    return next((code for code in codes if code != 0), 0)


def environment(address: str, processes: int, index: int) -> dict[str, str]:
    """Returns what tells a process its place among the others."""
    place = {"CTCD_COORDINATOR": address, "CTCD_PROCESSES": str(processes), "CTCD_PROCESS": str(index)}
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if visible:
        share = len(visible) // processes
        place["CUDA_VISIBLE_DEVICES"] = ",".join(visible[index * share : (index + 1) * share])
    return os.environ | place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
