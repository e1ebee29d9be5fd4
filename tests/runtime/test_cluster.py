"""What the environment says of a process's place among others, and others that are not there."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.runtime.cluster import Place, find_place

ROOT = Path(__file__).parents[2]
OWN = {"CTCD_COORDINATOR": "node1:1234", "CTCD_PROCESSES": "4", "CTCD_PROCESS": "3"}
BATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_NODELIST": "n1",
}
STEP = BATCH | {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (OWN, Place("node1:1234", 4, 3)),
        (OWN | {"CTCD_COORDINATOR": "[::1]:80"}, Place("[::1]:80", 4, 3)),
        ({"CTCD_COORDINATOR": "auto"}, Place()),
        (BATCH, None),  # a batch script without srun
        (STEP, Place()),
        (STEP | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
        (STEP | OWN, Place("node1:1234", 4, 3)),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t1,t2", "TPU_WORKER_ID": "0"}, Place()),
    ],
)
def test_places(variables, place):
    assert find_place(variables) == place


@pytest.mark.parametrize(
    "missing", ["SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"]
)
def test_a_part_of_slurms_variables_is_an_error_that_names_the_missing_one(missing):
    left = {name: value for name, value in STEP.items() if name != missing}
    with pytest.raises(UserError, match=f"^{missing} is not set, though this is a step of SLURM; start with srun"):
        find_place(left)


def test_a_later_process_of_slurm_is_of_a_step_whatever_else_is_not_set():
    with pytest.raises(UserError, match=r"^SLURM_STEP_NODELIST is not set, .*, or unset SLURM_PROCID for a run of one"):
        find_place(BATCH | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"})


@pytest.mark.parametrize("missing", OWN)
def test_a_part_of_our_variables_is_an_error_that_names_the_missing_one(missing):
    left = {name: value for name, value in OWN.items() if name != missing}
    with pytest.raises(UserError, match=f"^{missing} is not set, though another"):
        find_place(left)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"CTCD_COORDINATOR": "node1"}, "CTCD_COORDINATOR is 'node1'; it must be HOST:PORT of process 0, or auto"),
        ({"CTCD_COORDINATOR": ":80"}, "CTCD_COORDINATOR is ':80'; it must be HOST:PORT of process 0, or auto"),
        (
            {"CTCD_COORDINATOR": "node1:99999"},
            "CTCD_COORDINATOR is 'node1:99999'; it must be HOST:PORT of process 0, or auto",
        ),
        ({"CTCD_PROCESSES": "two"}, "CTCD_PROCESSES is 'two'; it must be a whole number"),
        ({"CTCD_PROCESS": "-1"}, "CTCD_PROCESS is '-1'; it must be a whole number"),
        ({"CTCD_PROCESS": "4"}, "CTCD_PROCESS is 4, but CTCD_PROCESSES is 4; they count from 0"),
    ],
)
def test_a_wrong_value_is_one_line(wrong, said):
    with pytest.raises(UserError) as error:
        find_place(OWN | wrong)
    assert str(error.value) == said


JOIN = """
import os, sys, time
from ctcd_jax.errors import UserError
from ctcd_jax.runtime import cluster
from ctcd_jax.runtime.stopping import end_at_once
cluster.MEETING, cluster.SILENCE = float(sys.argv[3]), 2.0
os.environ |= {"CTCD_COORDINATOR": sys.argv[1], "CTCD_PROCESSES": "2", "CTCD_PROCESS": sys.argv[2]}
end_at_once("train")
print("joins", flush=True)
try:
    cluster.join(print)
except UserError as error:
    print(error)
    sys.exit(2)
if sys.argv[4:]:  # as one that is killed before it gives its first sign
    os._exit(9)
time.sleep(60)
"""


def join(place, process, meeting, *more):
    command = [sys.executable, "-c", JOIN, place, str(process), str(meeting), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def free_place():
    with socket.create_server(("localhost", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"  # it is free when the block has ended


@pytest.mark.parametrize("process", [0, 1])
def test_others_that_do_not_come_are_one_line(process):
    place = free_place()
    alone = join(place, process, 1.0)
    said, complained = alone.communicate()
    assert alone.returncode == 2, complained
    why = "the processes of the run do not find each other (not within 1 s); start"
    assert said.startswith(f"joins\n{place}: {why}")


@pytest.mark.parametrize("process", [0, 1])
def test_a_signal_ends_one_that_waits_for_the_others(process):
    """It waits in C++, where Python calls no handler."""
    alone = join(free_place(), process, 120.0)
    assert alone.stdout.readline() == "joins\n"
    time.sleep(1)
    alone.send_signal(signal.SIGTERM)
    said, complained = alone.communicate(timeout=60)
    assert (said, alone.returncode) == ("", 75), complained
    assert complained.endswith("ctcd train: stopped; run the same command again to go on\n")


def test_one_that_died_before_its_first_sign_is_missed():
    place = free_place()
    first, second = join(place, 0, 60.0), join(place, 1, 60.0, "dies")
    said, complained = first.communicate()
    second.communicate()
    assert first.returncode == 1, complained
    line = "process 1 on a host that it has not named yet has died: no sign of it for 2 s; see its log"
    assert said == f"joins\n{line}\n"


def test_a_port_that_is_taken_is_one_line():
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::", 0))
        server.listen()
        place = f"localhost:{server.getsockname()[1]}"
        refused = join(place, 0, 1.0)
        said, complained = refused.communicate()
    assert refused.returncode == 2, complained
    port = place.rpartition(":")[2]
    why = "cannot be opened here (Address already in use); name another one"
    assert said == f"joins\nCTCD_COORDINATOR: port {port} {why}\n"
