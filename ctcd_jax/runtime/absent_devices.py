"""Devices that are not there, to compile for: a run can be planned on a laptop for the machine it will have.

Figures are of the makers' data sheets. NVIDIA's compiler is told of a device in words, Google's knows its own.
"""

import logging
import math
import re
from typing import Any, NamedTuple

from jax.experimental import topologies

from ctcd_jax.errors import UserError, did_you_mean, first_line
from ctcd_jax.runtime.hardware import Devices

HOST = 8  # GPUs of one machine
MEGACORE = ("v4", "v5p")  # whose two cores a chip are one device


class Gpu(NamedTuple):
    """An NVIDIA GPU, as its compiler wants it described."""

    name: str
    capability: tuple[int, int]
    cores: int
    fpus: int
    shared_memory: int  # bytes a multiprocessor
    cache: int  # bytes, of the second level
    clock: float  # GHz


class Target(NamedTuple):
    """What a kind of device can do, each.

    Attributes:
      memory: bytes.
      bandwidth: bytes a second, of its memory.
      link: bytes a second that it sends to others of its machine or slice.
      network: bytes a second that it sends to other machines; None: a slice is all.
      gpu: its description, None for TPUs, which are named by their `topology`.
    """

    memory: float
    bandwidth: float
    link: float
    network: float | None = None
    gpu: Gpu | None = None


_A100 = Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 40 << 20, 1.41)
_H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 50 << 20, 1.98)
TARGETS = {
    "a100-40": Target(40 << 30, 1.555e12, 300e9, 25e9, _A100._replace(name="NVIDIA A100-SXM4-40GB")),
    "a100-80": Target(80 << 30, 2.039e12, 300e9, 25e9, _A100),
    "h100": Target(80 << 30, 3.35e12, 450e9, 50e9, _H100),
    "h200": Target(141e9, 4.8e12, 450e9, 50e9, _H100._replace(name="NVIDIA H200")),
    "v4": Target(32 << 30, 1.228e12, 300e9),
    "v5e": Target(16 << 30, 0.819e12, 200e9),
    "v5p": Target(95 << 30, 2.765e12, 600e9),
    "v6e": Target(32 << 30, 1.64e12, 448e9),
}  # fmt: skip


class Absent(NamedTuple):
    """Devices that are not there.

    Attributes:
      devices: to compile for, those of a machine one after another.
      target: what each can do.
    """

    devices: Devices
    target: Target

    @property
    def machine(self) -> int:
        """Devices that send each other everything without a network: those of a machine, or of a whole slice."""
        return HOST if self.target.network else len(self.devices)


def absent_devices(spec: str) -> Absent:
    """Returns the devices that TARGET[:SHAPE] names, "h100:8" or "v5e:4x4".

    JAX must have been imported under `NO_DEVICES`.

    Raises:
      UserError: an unknown target, a shape that it has not, or no compiler for it is installed.
    """
    name, _, shape = spec.partition(":")
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        longer = [target for target in TARGETS if name and target.startswith(name)]
        near = did_you_mean(name, TARGETS) if name else ""
        hint = f"; there are {' and '.join(longer)}" if len(longer) > 1 else near
        raise UserError(f"--on {spec}: no target '{name}'{hint}; known: {known}")
    target = TARGETS[name]
    return Absent(list((_gpus if target.gpu else _tpus)(spec, name, shape, target)), target)


def _tpus(spec: str, name: str, shape: str, _: Target):
    if not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(
            f"--on {spec}: give the shape of the slice, as in {name}:{'2x2' if name[-1] == 'e' else '2x2x1'}"
        )
    options: dict[str, Any] = {"chip_config_name": "megacore"} if name in MEGACORE else {}
    if math.prod(map(int, shape.split("x"))) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=spec, **options).devices
    except Exception as error:
        if "not installed" in str(error):
            raise UserError(f"--on {spec}: it takes Google's compiler: pip install 'ctcd-jax[plan-tpu]'") from error
        raise UserError(f"--on {spec}: no such slice ({first_line(error)})") from error


def _gpus(spec: str, name: str, shape: str, target: Target):
    count = int(shape or 1) if re.fullmatch(r"\d*", shape) else 0
    if count < 1 or (count > HOST and count % HOST):
        raise UserError(f"--on {spec}: give how many, as in {name}:8; above {HOST} a multiple of {HOST}")
    from jax._src import xla_bridge

    # JAX asks for the platform "gpu" of its own list, where a plugin whose devices are not there is not
    # (jax-ml/jax#23971); and, when it looks for devices later, says at length that it has met the plugin before.
    known = xla_bridge.canonicalize_platform
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)
    hosts = math.ceil(count / HOST)
    try:
        xla_bridge.discover_pjrt_plugins()
        xla_bridge.canonicalize_platform = lambda platform: "cuda" if platform == "gpu" else known(platform)
        return topologies.get_topology_desc(
            platform="cuda", target_config=_described(target), topology=f"1x{hosts}x{count // hosts}"
        ).devices
    except Exception as error:
        xla_bridge.canonicalize_platform = known
        raise UserError(
            f"--on {spec}: it takes NVIDIA's compiler: pip install 'ctcd-jax[plan-gpu]' ({first_line(error)})"
        ) from error


def _described(target: Target) -> str:
    gpu = target.gpu
    assert gpu is not None
    major, minor = gpu.capability
    return f"""
      gpu_device_info {{
        threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
        shared_memory_per_block: 49152 shared_memory_per_core: {gpu.shared_memory}
        shared_memory_per_block_optin: {gpu.shared_memory - 1024}
        registers_per_core_limit: 65536 registers_per_block_limit: 65536
        block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
        core_count: {gpu.cores} fpus_per_core: {gpu.fpus} clock_rate_ghz: {gpu.clock} l2_cache_size: {gpu.cache}
        memory_bandwidth: {int(target.bandwidth)} device_memory_size: {int(target.memory)}
        cuda_compute_capability {{ major: {major} minor: {minor} }}
      }}
      platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 12 }} runtime_version {{ major: 13 }}
      device_description_str: "{gpu.name}"
    """
