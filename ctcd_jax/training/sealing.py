"""A restored state is the saved one: by digests of its leaves, kept with it, and of its files, once they are whole."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.artifacts.checkpoints import seal

_LOOK_EVERY = 0.02  # seconds


def leaf_digests(tree: Any) -> dict[str, str]:
    """Returns {path: SHA-256 of its bytes} of those leaves that this process can see whole.

    Args:
      tree: of `jax.Array`; keys of random numbers count as their data.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if leaf.is_fully_addressable or leaf.is_fully_replicated
    }
    with ThreadPoolExecutor() as threads:
        return dict(zip(leaves, threads.map(_digest, leaves.values()), strict=True))


def as_numbers(leaf: jax.Array) -> jax.Array:
    """Returns an array as it is, and a key of random numbers as its data."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _digest(leaf: jax.Array) -> str:
    plain = as_numbers(leaf)
    whole = plain if plain.is_fully_addressable else plain.addressable_data(0)
    return hashlib.sha256(np.ascontiguousarray(whole).reshape(-1).view(np.uint8).data).hexdigest()


def changed_leaves(tree: Any, digests: Mapping[str, str]) -> list[str]:
    """Returns the paths of the leaves that are not what their digests say.

    Args:
      tree: as restored.
      digests: of `leaf_digests`; a leaf without one, which no process saw whole, cannot be looked at.
    """
    here = leaf_digests(tree)
    return [path for path, digest in digests.items() if here.get(path, digest) != digest]


class Sealer:
    """Seals each step, in the background, as soon as Orbax has finished it. One at a time."""

    def __init__(self, is_saving: Callable[[], bool], then: Callable[[], None]):
        """Seals nothing yet.

        Args:
          is_saving: whether Orbax is still at work on the step that was saved last.
          then: called after each step that was sealed.
        """
        self._is_saving, self._then = is_saving, then
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self, step: Path) -> None:
        """Seals a step when it is whole, after `finish` for the one before; which says what went wrong."""
        self._thread = threading.Thread(target=self._seal, args=(step,), name="seal")
        self._thread.start()

    def finish(self) -> None:
        """Waits until all is sealed. Raises what went wrong, OSError where the disk gave out."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _seal(self, step: Path) -> None:
        while self._is_saving():
            time.sleep(_LOOK_EVERY)
        try:
            if step.is_dir():  # else saving has failed, which Orbax says
                seal(step)
                self._then()
        except Exception as error:  # raised by `finish`, where somebody looks
            self._error = error
