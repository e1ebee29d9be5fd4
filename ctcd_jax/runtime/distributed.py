"""The other processes of a run, if there are any: being of one mind with them."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from ctcd_jax.errors import UserError
from ctcd_jax.runtime.stopping import handling

Result = TypeVar("Result")


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM or SIGINT has come: the step under way is finished and saved first.

    A distributed run leaves SIGTERM to JAX, which makes all processes agree on the step to stop at.
    """
    asked: list[bool] = []
    if jax.distributed.is_initialized():
        stopping = handling(lambda *_: os.kill(os.getpid(), signal.SIGTERM), [signal.SIGINT])
    else:
        stopping = handling(lambda *_: asked.append(True))
    with stopping:
        yield lambda: bool(asked)


def gather(text: str) -> list[str]:
    """Returns the text of every process, in their order, on every process. All must call it."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(data)))
    rows = multihost_utils.process_allgather(np.pad(data, (0, int(lengths.max()) - len(data))))
    return [row[:length].tobytes().decode(errors="surrogateescape") for row, length in zip(rows, lengths, strict=True)]


def together(action: Callable[[], Result]) -> Result:
    """Returns `action()` once every process has done its own. All must call it.

    Raises:
      UserError: that of the first process that had one, on every process.
    """
    if jax.process_count() == 1:
        return action()
    result, refused = None, ""
    try:
        result = action()
    except UserError as error:
        refused = str(error)
    if found := list(filter(None, gather(refused))):
        raise UserError(found[0])
    return cast("Result", result)


def on_leader(action: Callable[[], Result]) -> Result | None:
    """Returns `action()` on the leading process and None on the others, once it is done. All must call it.

    Raises:
      UserError: that of the leading process, on every process.
    """
    return together(lambda: action() if jax.process_index() == 0 else None)


def directory_identity(directory: Path) -> str:
    """Returns a text that two processes share only if `directory` is the very same to both.

    They must run on one system (the kernel's boot id, and its name, for a machine may be a copy of another) and see one
    inode. Two hosts never share it, not even over a network file system: what each reads may differ. Where the system
    has no boot id no two processes share it.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = f"process {jax.process_index()}"
    place = directory.stat()
    return f"{boot} {socket.gethostname()} {place.st_dev} {place.st_ino}"
