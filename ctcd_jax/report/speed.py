"""How fast models are, each in the plainest setting in which it was timed."""

from dataclasses import dataclass

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.latency import Measurement, plain_settings, setting_of
from ctcd_jax.latency.table import UNSTEADY
from ctcd_jax.report.models import Model


@dataclass(frozen=True)
class Speed:
    """A model's speed-up over `reference`; `steady` as `ctcd latency` says it on the console."""

    speedup: float
    reference: str
    steady: bool


def speed(model: Model, artifacts: Artifacts) -> Speed | None:
    """Returns the speed-up of the first latency.json that has one of the model, in its first plain setting."""
    for folder, name in model.timed_as.items():
        content = artifacts.latencies[folder]
        setting = plain_settings(content)[0]
        lines = [line for line in content["measurements"] if setting_of(line) == setting]
        own = next((line for line in lines if line["model"] == name), None)
        if own is not None and own["speedup"] is not None:
            compared = [own, *(line for line in lines if line["model"] == content["reference"])]
            return Speed(own["speedup"], content["reference"], all(map(is_steady, compared)))
    return None


def is_steady(line: Measurement) -> bool:
    """Whether a measurement's 95th percentile is near enough to its median for `ctcd latency` not to warn of it."""
    return line["p95_ms"] <= UNSTEADY * line["p50_ms"]
