"""What starts a run on hosts that are not here: a JobSet whose parts fit each other, and what is asked of `gcloud`."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ctcd_jax.cli import NON_FINITE, USER_ERROR
from ctcd_jax.config.file import load_config
from ctcd_jax.options import make_parser
from ctcd_jax.runtime.cluster import Place, find_place

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "launch/tpu_vm.sh"


def test_the_jobset_starts_every_process_of_a_run_and_knows_its_exit_codes():
    jobset = yaml.safe_load((ROOT / "launch/gke-jobset.yaml").read_text())
    (workers,) = jobset["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry.get("value", "3") for entry in container["env"]}  # as its last pod has them
    name = jobset["metadata"]["name"]
    assert find_place(variables) == Place(f"{name}-{workers['name']}-0-0.{name}:8476", job["completions"], 3)
    assert job["completions"] == job["parallelism"] == 4
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {
        "containerName": container["name"], "operator": "In", "values": [USER_ERROR, NON_FINITE],
    }  # fmt: skip
    assert container["command"][0] == "ctcd"
    options, rest = make_parser().parse_known_args(container["command"][1:])
    load_config(options.config, rest)
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert options.workdir.startswith(mount["mountPath"])


# Of a manifest on stdin: the first thing that Kubernetes would not take, or nothing.
VALIDATES = """
import json, sys
import kubernetes_validate as validator
try:
    validator.validate(json.load(sys.stdin), validator.latest_version(), strict=True)
except validator.ValidationError as error:
    print(error.message)
"""


def refused(job):
    """What the schema of Kubernetes's own API, strictly read, has against a Job of this spec; "" for nothing."""
    if not (ROOT / ".venv/kubernetes").is_dir():
        pytest.skip("no .venv/kubernetes, which `make test-all` installs")
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "hosts"}, "spec": job}
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".venv/kubernetes")}
    done = subprocess.run(
        [sys.executable, "-c", VALIDATES], input=json.dumps(manifest), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_kubernetes_takes_the_job_for_tpus_and_that_for_gpus():
    """The JobSet around it has a schema of its own, which is in no package."""
    jobset = yaml.safe_load((ROOT / "launch/gke-jobset.yaml").read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert not refused(job)
    guide = (ROOT / "docs/CLUSTERS.md").read_text()
    (gpus,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL))
    pod = job["template"]["spec"]
    pod["nodeSelector"], pod["containers"][0]["resources"] = gpus["nodeSelector"], gpus["resources"]
    assert not refused(job)
    pod["containers"][0]["resorces"] = gpus["resources"]
    assert "'resorces' was unexpected" in refused(job)


def gcloud(folder, codes):
    """A `gcloud` that notes what it is asked for and ends with one code after the other."""
    (folder / "codes").write_text("\n".join(map(str, codes)) + "\n")
    script = folder / "gcloud"
    script.write_text(
        f'#!/bin/bash\nprintf "%q " "$@" >> {folder}/asked; echo >> {folder}/asked\n'
        f'code=$(head -n 1 {folder}/codes); sed -i 1d {folder}/codes; exit "$code"\n'
    )
    script.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_verb_on_every_host_goes_on_when_it_was_asked_to_stop(tmp_path):
    environment = gcloud(tmp_path, [75, 75, 3])
    command = [SCRIPT, "my-v5e", "us-west4-a", "train", "--workdir", "/mnt/a run", "--config", "ctcd:paper"]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 3
    asked = [shlex.split(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]
    assert asked[0][:6] == ["compute", "tpus", "tpu-vm", "ssh", "my-v5e", "--zone"]
    assert "--worker=all" in asked[0]
    words = shlex.split(asked[0][-1])
    assert words[:4] == ["cd", "ctcd_jax", "&&", "CTCD_COORDINATOR=auto"]
    assert words[4:] == [".venv/bin/ctcd", "train", "--workdir", "/mnt/a run", "--config", "ctcd:paper"]


def test_setup_copies_the_project_to_every_host_and_installs_it(tmp_path):
    environment = gcloud(tmp_path, [0, 0])
    assert subprocess.run([SCRIPT, "my-v5e", "us-west4-a", "setup"], env=environment).returncode == 0
    copied, installed = (tmp_path / "asked").read_text().splitlines()
    assert " scp " in copied
    assert copied.rstrip().endswith("--worker=all")
    assert ".venv/bin/pip" in installed
