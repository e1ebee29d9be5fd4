"""The model card of an export: `ctcd.json`, the facts, and `README.md`, written from them for people and the hub.

It knows JSON and text: `training` gives the facts when it exports a member, `evaluation` what it measured.
"""

from ctcd_jax.card.document import ExportMeasurements, write_card
from ctcd_jax.card.facts import read_facts, write_facts

__all__ = ["ExportMeasurements", "read_facts", "write_card", "write_facts"]
