"""The model card of an export, `README.md`: written from the facts of `ctcd.json` for people and the hub.

It knows text alone: `training` gives the facts when it exports a member, `report` what was measured of it.
"""

from ctcd_jax.card.document import ExportMeasurements, write_card

__all__ = ["ExportMeasurements", "write_card"]
