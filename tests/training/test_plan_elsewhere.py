"""A plan for other devices, here for the tests' own eight: what is said of a step, and whether it fits."""

import jax
import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.runtime.absent_devices import TARGETS, Absent
from ctcd_jax.training import plan_elsewhere as module
from ctcd_jax.training.plan_elsewhere import plan_elsewhere
from tests.small import config


@pytest.fixture
def eight(monkeypatch):
    """Lets the target be the eight devices that there are; takes how much memory each has."""

    def be(memory=2**30):
        target = TARGETS["h100"]._replace(memory=memory)
        monkeypatch.setattr(module, "absent_devices", lambda spec: Absent(jax.devices(), target, 1e9))

    return be


def test_memory_collectives_and_bounds_are_those_of_the_compiled_step(corpus, eight):
    eight()
    said = []
    asked = config(corpus)
    asked.data.batch_size = 16
    found = plan_elsewhere(asked, "here:8", log=said.append)
    assert (found["devices"], found["mesh"], found["rows"]) == (8, (8, 1), 16)
    assert found["largest_batch"] > 16
    assert {each.kind for each in found["collectives"]} >= {"all-reduce"}
    assert found["bounds_seconds"]["links"] == sum(each.sent for each in found["collectives"]) / 1e9
    assert found["bounds_seconds"]["arithmetic"] is None  # a CPU has no data sheet
    assert found["bounds_seconds"]["memory"] == found["bytes_accessed"] / TARGETS["h100"].bandwidth
    text = "\n".join(said)
    assert "here:8: 8 x cpu, mesh data 8 x fsdp 1, float32, 16 rows of 32; compiled in" in text
    assert "of 1 GiB a device" in text
    assert "temporary): fits; about" in text
    assert "what arithmetic takes is not known" in text
    assert "for 20 steps, if all that is known were used to its full" in text


def test_what_does_not_fit_is_said(corpus, eight):
    eight(memory=1000)
    said = []
    found = plan_elsewhere(config(corpus), "here:8", log=said.append)
    assert found["largest_batch"] is None  # half of 8 rows cannot be shared by 8 devices
    assert any("DOES NOT FIT" in line for line in said)


def test_what_the_devices_cannot_share_is_one_line(corpus, eight):
    eight()
    asked = config(corpus)
    asked.data.batch_size = 12
    with pytest.raises(UserError, match=r"data\.batch_size is 12; it must be a multiple of 8"):
        plan_elsewhere(asked, "here:8")
