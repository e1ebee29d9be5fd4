"""What exported models cost to serve, side by side; `latency` is what `ctcd latency` runs."""

from ctcd_jax.latency.measure import latency

__all__ = ["latency"]
