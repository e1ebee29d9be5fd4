"""The scripts for SLURM, on a real one: two nodes on this machine's two cores, for as long as the tests last."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.local import free_port
from tests.small import write_text
from tests.studies.test_study import FILE as STUDY

ROOT = Path(__file__).parents[1]
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
MinJobAge=3600
KillWait=60
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# Named by addresses, of which every machine has as many as one likes.
NODES = ("127.0.0.2", "127.0.0.3")
# Options of sbatch for a node of two cores without GPUs.
TRAIN = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=0"]
OTHER = "--cpus-per-task=1 --mem-per-cpu=1000"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or any(shutil.which(name) is None for name in NEEDED),
        reason="needs root and a SLURM of its own: apt install slurm-wlm munge",
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which SLURM's commands find a cluster of this machine alone."""
    place, host = tmp_path_factory.mktemp("slurm"), socket.gethostname()
    for name in ("state", *NODES):
        (place / name).mkdir()
    nodes = "\n".join(
        f"NodeName={name} NodeAddr={name} NodeHostname={host} Port={free_port()} CPUs=2 RealMemory=4000 State=UNKNOWN"
        for name in NODES
    )
    (place / "slurm.conf").write_text(CONFIG.format(host=host, place=place, controller=free_port(), nodes=nodes))
    environment = os.environ | {
        "SLURM_CONF": str(place / "slurm.conf"),
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "1",
    }
    if subprocess.run(["munge", "--no-input"], capture_output=True).returncode:
        subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
        # By force: the socket of one that was killed may be there still.
        subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force"], check=True)
    subprocess.run(["slurmctld", "-i"], env=environment, check=True)
    for name in NODES:
        subprocess.run(["slurmd", "-N", name], env=environment, check=True)
    yield environment
    # What a failed test has left would outlive its cluster.
    subprocess.run(["scancel", "--state=RUNNING", "--signal=KILL", "--full", "--user=root"], env=environment)
    subprocess.run(["scontrol", "shutdown"], env=environment, check=True)


@pytest.fixture
def folder(tmp_path, config_file):
    """The project's folder, as far as the scripts see it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    shutil.copy(config_file, tmp_path / "small.py")
    return tmp_path


def run(slurm, folder, *command) -> str:
    done = subprocess.run(command, cwd=folder, env=slurm, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(slurm, folder, job: str) -> str:
    shown = run(slurm, folder, "scontrol", "show", "job", job, "--oneliner")
    return dict(word.partition("=")[::2] for word in shown.split())["JobState"]


def variables_of(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/environ").read_text().split("\0"))


def queue(slurm, folder, *arguments) -> str:
    """Returns the number of a job."""
    return run(slurm, folder, "sbatch", "--parsable", *arguments).strip()


def wait(until, folder):
    end = time.monotonic() + 300
    while not until():
        logs = "\n".join(path.read_text() for path in folder.glob("*.log"))
        assert time.monotonic() < end, logs
        time.sleep(0.2)


def wait_for_end(slurm, folder, job) -> str:
    """Returns the state that a job ends in."""
    wait(lambda: state(slurm, folder, job) not in ("PENDING", "RUNNING", "COMPLETING"), folder)
    return state(slurm, folder, job)


def test_two_tasks_are_one_run_that_is_preempted_and_goes_on(slurm, folder, corpus):
    arguments = ["--config", "small.py", f"--config.data.corpus={corpus}", "--config.train.steps=200"]
    arguments.append("--config.train.checkpoint_every=50")
    metrics = folder / "run/metrics.jsonl"
    job = queue(slurm, folder, *TRAIN, "launch/slurm/train.sbatch", "--workdir", "run", *arguments)
    after = ["--dependency", f"afterok:{job}", "--kill-on-invalid-dep=yes", *OTHER.split()]
    next_job = queue(slurm, folder, *after, "launch/slurm/ctcd.sbatch", "export", "--workdir", "run",
                     "--member", "student", "--out", "export")  # fmt: skip
    wait(lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > 3, folder)
    run(slurm, folder, "scontrol", "requeue", job)
    wait(lambda: state(slurm, folder, job) == "PENDING", folder)
    log = folder / f"ctcd-{job}.log"
    assert "run the same command to go on" in log.read_text()
    assert state(slurm, folder, next_job) == "PENDING"
    run(slurm, folder, "scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM would wait for two minutes
    assert wait_for_end(slurm, folder, job) == "COMPLETED", log.read_text()
    assert "resumed at step" in log.read_text()
    assert wait_for_end(slurm, folder, next_job) == "COMPLETED"
    undisturbed = [sys.executable, "launch/local.py", "--processes", "2", "--", "train", "--workdir", "undisturbed"]
    run(slurm, folder, *undisturbed, *arguments)
    assert metrics.read_bytes() == (folder / "undisturbed/metrics.jsonl").read_bytes()


def test_a_run_of_two_nodes_outlives_one(slurm, folder, corpus):
    arguments = ["--config", "small.py", f"--config.data.corpus={corpus}", "--config.train.steps=200"]
    arguments.append("--config.train.checkpoint_every=20")
    metrics, saved = folder / "run/metrics.jsonl", folder / "run/checkpoints"
    spread = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--gpus-per-node=0"]
    job = queue(slurm, folder, *spread, "launch/slurm/train.sbatch", "--workdir", "run", *arguments)
    wait(lambda: list(saved.glob("*/sha256.json")), folder)
    run(slurm, folder, "scontrol", "update", f"NodeName={NODES[1]}", "State=DOWN", "Reason=test")
    log = folder / f"ctcd-{job}.log"
    wait(lambda: state(slurm, folder, job) == "PENDING", folder)
    assert metrics.read_bytes().count(b"\n") < 50, "it had ended before its node went down"
    run(slurm, folder, "scontrol", "update", f"NodeName={NODES[1]}", "State=RESUME")
    run(slurm, folder, "scontrol", "update", f"JobId={job}", "StartTime=now")
    assert wait_for_end(slurm, folder, job) == "COMPLETED", log.read_text()
    assert "resumed at step" in log.read_text()
    undisturbed = [sys.executable, "launch/local.py", "--processes", "2", "--", "train", "--workdir", "undisturbed"]
    run(slurm, folder, *undisturbed, *arguments)
    assert metrics.read_bytes() == (folder / "undisturbed/metrics.jsonl").read_bytes()


def test_a_task_that_is_killed_ends_the_job_and_is_named(slurm, folder, corpus):
    arguments = ["--config", "small.py", f"--config.data.corpus={corpus}", "--config.train.steps=100000"]
    job = queue(slurm, folder, *TRAIN, "launch/slurm/train.sbatch", "--workdir", "run", *arguments)
    wait((folder / "run/metrics.jsonl").is_file, folder)
    (second,) = [pid for pid in map(int, run(slurm, folder, "pgrep", "-f", "ctcd train").split())
                 if {f"SLURM_JOB_ID={job}", "SLURM_PROCID=1"} <= variables_of(pid)]  # fmt: skip
    os.kill(second, signal.SIGKILL)
    assert wait_for_end(slurm, folder, job) == "FAILED"
    said = (folder / f"ctcd-{job}.log").read_text()
    assert re.search(r"srun: error: .*: task 1: Killed", said)
    assert f"ctcd train: process 1 on {socket.gethostname()} has died" in said


def test_a_mistake_ends_the_job_with_one_line_a_task(slurm, folder):
    arguments = ["--config", "small.py", "--workdir", "run", "--config.data.corpus=nowhere"]
    job = queue(slurm, folder, *TRAIN, "launch/slurm/train.sbatch", *arguments)
    assert wait_for_end(slurm, folder, job) == "FAILED"
    said = [line for line in (folder / f"ctcd-{job}.log").read_text().splitlines() if line.startswith("ctcd train:")]
    assert len(said) == 2
    assert all("nowhere" in line for line in said)


def test_a_study_is_an_array_that_is_preempted_and_goes_on(slurm, folder):
    (folder / "helps.py").write_text(STUDY)
    texts = []
    for seed, name in enumerate(("text", "other")):
        write_text(folder / f"{name}.txt", 60, seed)
        texts += ["--text", f"{name}=text:{name}.txt"]
    asked = ["--array", "0-1", *OTHER.split(), "--gpus-per-task=0", "launch/slurm/study.sbatch", "helps.py",
             "--out", "out", *texts]  # fmt: skip

    def ends_of(array) -> list[str]:
        return [wait_for_end(slurm, folder, f"{array}_{share}") for share in (0, 1)]

    array = queue(slurm, folder, *asked)
    wait(lambda: list(folder.glob("out/cells/*/cell.json")), folder)
    run(slurm, folder, "scontrol", "requeue", f"{array}_0")
    wait(lambda: state(slurm, folder, f"{array}_0") == "PENDING", folder)
    assert "run the same command again to go on" in (folder / f"ctcd-study-{array}-0.log").read_text()
    run(slurm, folder, "scontrol", "update", f"JobId={array}_0", "StartTime=now")
    assert ends_of(array) == ["COMPLETED"] * 2
    # What one share waited for the other to make is made now.
    assert ends_of(queue(slurm, folder, *asked)) == ["COMPLETED"] * 2
    undisturbed = [sys.executable, "-m", "ctcd_jax", "study", "helps.py", "--out", "undisturbed", *texts, "--jobs", "0"]
    run(slurm, folder, *undisturbed)
    found, expected = (
        json.loads((folder / place / "helps/study.json").read_text()) for place in ("out", "undisturbed")
    )
    assert (found["claims"], found["cells"]) == (expected["claims"], expected["cells"])


def test_the_whole_road_is_queued_by_one_command(slurm, folder):
    write_text(folder / "text.txt")
    (folder / "tasks/MRPC").mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{n % 2}\tthe cat sees the dog\tthe {'cat' if n % 2 else 'bird'} sees it" for n in range(16)]
        (folder / f"tasks/MRPC/{split}.tsv").write_text("\n".join(["Quality\t#1 String\t#2 String", *rows, ""]))
    variables = {
        "source": "text:text.txt", "config": "small.py", "data": "tasks", "seeds": "2",
        "prepare_jobs": "2", "glue_jobs": "2",
        "recipe": "--length 32 --vocab-size 150 --validation 0.1", "fields": "--config.train.steps=20",
        "train_options": " ".join(TRAIN), "prepare_options": OTHER, "glue_options": f"{OTHER} --gpus-per-task=0",
    }  # fmt: skip

    def last_job():
        said = run(slurm | variables, folder, "bash", "launch/slurm/pipeline.sh", "out")
        return said.split("report ")[1].split(":")[0]

    assert wait_for_end(slurm, folder, last_job()) == "COMPLETED"
    assert "student" in (folder / "out/report.html").read_text()
    cells = [json.loads(line) for line in (folder / "out/glue/results.jsonl").read_text().splitlines()]
    assert sorted(cell["seed"] for cell in cells) == [0, 1]  # one of each job of the array
    assert len(list(folder.glob("ctcd-glue-*-[01].log"))) == 2
    # Once more: the corpus, the run and the export are whole.
    assert wait_for_end(slurm, folder, last_job()) == "COMPLETED"
