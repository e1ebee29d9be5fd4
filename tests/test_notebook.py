"""The notebook of docs/examples runs from its first cell to its last, and draws what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs/examples/cohort.ipynb").read_text())
CODE = "\n\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")


def test_its_cells_are_about_forty_lines_and_name_no_private_thing():
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) <= 50
    assert not [line for line in lines if "import" in line and "._" in line]
    assert len(json.dumps(NOTEBOOK)) < 60_000  # with the chart


@pytest.mark.slow
def test_its_cells_run_in_order(tmp_path):
    # As a notebook's process does: one device, and no window for the chart.
    check = """
assert [line["step"] for line in validation] == steps == list(range(20, 401, 20))
assert {line.get_label() for line in right.get_lines()} == {"teacher is right", "student is right", "they agree"}
assert right.get_lines()[-1].get_ydata()[-1] == last["agreement"][pair]
for name in config.members:
    assert last["members"][name]["hard"] < 1.6 < validation[0]["members"][name]["hard"]
"""
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", CODE + check]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
