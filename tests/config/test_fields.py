"""What a config says beyond the defaults of its fields."""

import copy
import json

from ctcd_jax.config.fields import FIELDS, Field, without_defaults


def test_a_field_of_a_later_version_changes_nothing_until_it_is_set(smoke, monkeypatch):
    content = json.loads((smoke.root / "runs/ctcd/config.json").read_text())
    before = without_defaults(content)
    later = copy.deepcopy(content)
    later["train"]["faster"] = False
    later["members"]["student"]["optimizer"]["momentum"] = None
    later["edges"][0]["sharpness"] = 1.0
    for name, default in (("train.faster", False), ("members.optimizer.momentum", None), ("edges.sharpness", 1.0)):
        monkeypatch.setitem(FIELDS, name, Field("of a later version", type(default), default))
    assert without_defaults(later) == before
    later["train"]["faster"] = True
    assert without_defaults(later) == before | {"train": before["train"] | {"faster": True}}


def test_what_is_no_default_stays(smoke):
    content = json.loads((smoke.root / "runs/ctcd/config.json").read_text())
    found = without_defaults(content)
    assert found["resolved"] == content["resolved"]
    assert found["edges"][1]["weight"] == 4.0
    for member, fields in content["members"].items():
        assert found["members"][member].get("layers") == fields["layers"]
        assert found["members"][member].get("init") == fields["init"]
    assert found["data"]["batch_size"] == content["data"]["batch_size"]
    assert "remat" not in found["train"]
    assert "optimizer" not in found["members"]["student"]
