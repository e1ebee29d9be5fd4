"""A plan for other devices, here for the tests' own eight: what is said of a step, and whether it fits."""

from types import SimpleNamespace

import jax
import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.runtime import absent_devices
from ctcd_jax.runtime.absent_devices import TARGETS, Absent
from ctcd_jax.runtime.collectives import Collective
from ctcd_jax.training import plan_elsewhere as module
from ctcd_jax.training.plan_elsewhere import Program, plan_elsewhere, step_bounds
from tests.small import config


@pytest.fixture
def eight(monkeypatch):
    """Lets the target be the eight devices that there are; takes how much memory each has."""

    def be(memory=2**30):
        target = TARGETS["h100"]._replace(memory=memory, link=1e9, network=1e8)
        monkeypatch.setattr(module, "absent_devices", lambda spec: Absent(jax.devices(), target))

    return be


def test_memory_collectives_and_bounds_are_those_of_the_compiled_step(corpus, eight):
    eight()
    said = []
    asked = config(corpus)
    asked.data.batch_size = 128
    found = plan_elsewhere(asked, "here:8", log=said.append)
    assert (found["devices"], found["mesh"], found["rows"]) == (8, (8, 1), 128)
    assert found["largest_batch"] > 128
    assert {each.kind for each in found["collectives"]} >= {"all-reduce"}
    assert found["bounds_seconds"]["links"] == sum(each.sent for each in found["collectives"]) / 1e9
    assert found["bounds_seconds"]["arithmetic"] is None  # a CPU has no data sheet
    assert found["bounds_seconds"]["memory"] == found["bytes_accessed"] / TARGETS["h100"].bandwidth
    text = "\n".join(said)
    assert "here:8: 8 x cpu, mesh data 8 x fsdp 1, float32, 128 rows of 32; compiled in" in text
    assert "of 1 GiB a device" in text
    assert "temporary): fits; about" in text
    assert "what arithmetic takes is not known" in text
    assert "for 20 steps, if all that is known were used to its full" in text


def test_bounds_are_those_of_the_data_sheet():
    """By hand: 16 H100 on two machines; a sum of 1 GB over all of them sends 15/16 of it twice, by a ring."""
    absent = Absent([SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")] * 16, TARGETS["h100"])
    whole = Collective("all-reduce", 10**9, 16, machines=2)
    program = Program(seconds=1.0, held=0, temporary=0, accessed=3.35e9, collectives=[whole])
    bounds = step_bounds(program, 9.89e11, "bfloat16", absent)
    far = 2 * (1 / 2) * 1e9 / 8  # half of it there and half back, over a machine's eight cards
    near = 2 * (15 / 16) * 1e9 - far
    assert bounds == pytest.approx({"arithmetic": 1e-3, "memory": 1e-3, "links": near / 450e9, "network": far / 50e9})
    alone = step_bounds(program, 9.89e11, "float32", absent._replace(devices=absent.devices[:8]))
    assert alone["arithmetic"] is None
    assert "network" not in alone


@pytest.mark.parametrize("fsdp", [1, 8])
def test_what_machines_send_each_other_is_said_apart(corpus, eight, monkeypatch, fsdp):
    asked = config(corpus)
    asked.mesh.fsdp = fsdp
    eight()
    in_one = plan_elsewhere(asked, "here:8", log=lambda line: None)
    assert "network" not in in_one["bounds_seconds"]

    monkeypatch.setattr(absent_devices, "HOST", 2)
    said = []
    in_four = plan_elsewhere(asked, "here:8", log=said.append)
    sent = sum(each.sent for each in in_four["collectives"])
    assert sent == pytest.approx(1e9 * in_one["bounds_seconds"]["links"])
    far, near = 1e8 * in_four["bounds_seconds"]["network"], 1e9 * in_four["bounds_seconds"]["links"]
    assert far + near == pytest.approx(sent)
    # One group of all eight: of an array 7/8 leaves a device, and 3/4 leaves each of four machines, over two cards.
    assert far == pytest.approx(3 / 4 / 2 * 8 / 7 * sent)
    assert any(f"{1e3 * far / 1e8:,.2f} ms of network at the least" in line for line in said)


def test_gradients_travel_with_every_micro_batch(corpus, eight):
    eight()
    asked = config(corpus)
    asked.data.batch_size = 32
    once = plan_elsewhere(asked, "here:8", log=lambda line: None)
    asked.train.micro_batches = 4
    often = plan_elsewhere(asked, "here:8", log=lambda line: None)
    assert often["bounds_seconds"]["links"] == pytest.approx(4 * once["bounds_seconds"]["links"], rel=0.05)


def test_what_does_not_fit_is_said(corpus, eight):
    eight(memory=1000)
    said = []
    found = plan_elsewhere(config(corpus), "here:8", log=said.append)
    assert found["largest_batch"] is None  # of a row or two a device it cannot be told
    assert any("DOES NOT FIT; how many rows would is told of 128 and more, in steps of 16" in line for line in said)


def test_what_the_devices_cannot_share_is_one_line(corpus, eight):
    eight()
    asked = config(corpus)
    asked.data.batch_size = 12
    with pytest.raises(UserError, match=r"data\.batch_size is 12; it must be a multiple of 8"):
        plan_elsewhere(asked, "here:8")
