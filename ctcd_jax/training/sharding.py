"""One mesh, one rule table: where every array of a run lives.

The mesh has two axes. Rows of a batch are split over both; parameters, gradients and optimizer state over `fsdp` only,
and replicated over `data`. `fsdp=1` is plain data parallelism. No tensor parallelism: nothing here is that large.
"""

import re
from typing import Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# Path pattern -> spec. The same rule holds for a parameter and for its two moments in the optimizer. Vocabularies and
# position tables have awkward sizes, so embeddings are split along the hidden dimension.
RULES = (
    (r"embeddings/(word|position|token_type)$", P(None, "fsdp")),
    (r"kernel$", P("fsdp", None)),
    (r"(bias|scale)$", P()),
)


def make_mesh(data: int = -1, fsdp: int = 1, devices=None) -> Mesh:
    """Returns a mesh of shape (data, fsdp) over all devices.

    Raises ValueError if the product is not the number of devices.

    Args:
      data: devices along which batches are split; -1 for what fsdp leaves.
      fsdp: devices along which parameters are split, too.
      devices: to use; None for all.
    """
    devices = jax.devices() if devices is None else devices
    if data == -1:
        data = len(devices) // fsdp
    if data * fsdp != len(devices):
        raise ValueError(f"mesh.data x mesh.fsdp is {data} x {fsdp}, but there are {len(devices)} devices")
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), devices=devices, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over every device."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def tree_shardings(tree, mesh: Mesh):
    """Returns the sharding of every leaf of a tree of arrays (or of their shapes), by RULES.

    Raises ValueError for an array of two or more dimensions that no rule names: it would silently fill every device.
    """

    def sharding(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if leaf.ndim == 0:
            return NamedSharding(mesh, P())
        for pattern, spec in RULES:
            if re.search(pattern, name):
                return NamedSharding(mesh, spec)
        raise ValueError(f"no sharding rule for '{name}' of shape {leaf.shape}; add one to RULES in {__name__}")

    return jax.tree_util.tree_map_with_path(sharding, tree)


def gather(tree, whole, sharded, kernels=None):
    """Returns a sharded tree of arrays whole, on every device; its gradient is summed over devices and sharded at once.

    Args:
      tree: of arrays.
      whole: sharding of the result.
      sharded: tree of the arrays' own shardings.
      kernels: dtype that kernels travel in: the one in which products take them. None for their own.
    """

    def gathered_leaf(path, leaf, own):
        travelling = leaf
        if kernels and path[-1].key == "kernel" and not own.is_fully_replicated:
            # Kept apart, or it would be gathered first and rounded then.
            travelling = jax.lax.with_sharding_constraint(leaf.astype(kernels), own)
        return jax.lax.with_sharding_constraint(travelling, whole).astype(leaf.dtype)

    @jax.custom_vjp
    def gathered(tree):
        return jax.tree_util.tree_map_with_path(gathered_leaf, tree, sharded)

    gathered.defvjp(
        lambda tree: (gathered(tree), None), lambda _, gradient: (jax.lax.with_sharding_constraint(gradient, sharded),)
    )
    return gathered(tree)


def placed(leaf, sharding) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of an array, at a place."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def place(tree, shardings):
    """Puts host arrays where they belong; with several processes, each holds the whole array and keeps its shards."""

    def put(leaf, sharding):
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(put, tree, shardings)


def place_rows(batch: dict, mesh: Mesh) -> dict:
    """Makes global arrays of this process's rows of a batch."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


class Batches(Protocol):
    """The batches of a run, by step."""

    def __getitem__(self, step: int, /) -> dict: ...


class PlacedRows:
    """`place_rows` of batch after batch: a thread that prefetches these starts their transfers, too.

    Placing is local to a process, so threads of several processes need not keep in step.
    """

    def __init__(self, batches: Batches, mesh: Mesh):
        self._batches, self._mesh = batches, mesh

    def __getitem__(self, step: int) -> dict:
        return place_rows(self._batches[step], self._mesh)
