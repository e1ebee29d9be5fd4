"""How a process finds the others of its run, and how one that fails ends them all.

On one machine `launch/local.py` names the others, in a Kubernetes Job its manifest does; SLURM and GKE's TPUs are known
by what they set. Elsewhere JAX is asked to look (`CTCD_COORDINATOR=auto`): Cloud TPU VMs, Open MPI.
"""

import atexit
import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

import jax
from jax._src.distributed import global_state

from ctcd_jax.errors import UserError, first_line
from ctcd_jax.runtime.stopping import interruptible

# How often a process gives a sign and looks at the others, in seconds; how long one may be silent until it is taken for
# dead (JAX waits 100 s, and ends with a stack of C++); how long the first, to which the others are connected, waits for
# them to have heard why it ends.
POLL, SILENCE, PATIENCE = 0.5, 30.0, 5.0
# How long a process waits for the others to be started, in seconds: a node may be slow to boot.
MEETING = 300.0
FAILED, ALIVE, HEARD, FINISHED = "ctcd/failed", "ctcd/alive", "ctcd/heard", "finished"
DEAD, USER_ERROR = 1, 2  # exit codes

_OWN = ("CTCD_COORDINATOR", "CTCD_PROCESSES", "CTCD_PROCESS")
_SLURM_STEP = ("SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES")  # not set in a batch script
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Place(NamedTuple):
    """Where process 0 listens, how many processes there are, and which of them this is; None is for JAX to find out."""

    coordinator: str | None = None
    processes: int | None = None
    index: int | None = None


def find_place(variables: Mapping[str, str]) -> Place | None:
    """Returns what the environment says of this process's place, None for a process of its own.

    A batch script of SLURM without `srun` is a process of its own, whatever number of tasks was asked for.

    Args:
      variables: those of the environment.

    Raises:
      UserError: a part of what names a place is missing or wrong; the line names the variable.
    """
    if any(name in variables for name in _OWN):
        return _named_place(variables)
    if len(variables.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        return Place()
    # In a batch script the one process is the first; whoever is another is of a step.
    later = ["SLURM_PROCID"] if variables.get("SLURM_PROCID", "0") != "0" else []
    signs = [*(name for name in _SLURM_STEP if name in variables), *later]
    if signs and variables.get("SLURM_NTASKS") != "1":
        for name in _SLURM:
            if name not in variables:
                raise UserError(
                    f"{name} is not set, though this is a step of SLURM; start with srun, pass SLURM_* on to "
                    f"containers, or unset {', '.join(signs)} for a run of one process"
                )
        return Place()
    return None


def _named_place(variables: Mapping[str, str]) -> Place:
    if variables.get(_OWN[0]) == "auto":
        return Place()
    for name in _OWN:
        if name not in variables:
            raise UserError(f"{name} is not set, though another of {', '.join(_OWN)} is; set all three or none")
    coordinator, *numbers = (variables[name] for name in _OWN)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"CTCD_COORDINATOR is {coordinator!r}; it must be HOST:PORT of process 0, or auto")
    for name, number in zip(_OWN[1:], numbers, strict=True):
        if not number.isdecimal():
            raise UserError(f"{name} is {number!r}; it must be a whole number")
    processes, index = map(int, numbers)
    if index >= processes:
        raise UserError(f"CTCD_PROCESS is {index}, but CTCD_PROCESSES is {processes}; they count from 0")
    return Place(coordinator, processes, index)


def join(say: Callable[[str], None]) -> "Processes | None":
    """Initialises `jax.distributed` where this process is one of several, and returns them; None if it is alone.

    Args:
      say: called with the line that ends the processes, also where the others are not there after five minutes.

    Raises:
      UserError: the environment is not whole, or the port of process 0 is taken.
    """
    place = find_place(os.environ)
    if place is None:
        return None
    if place.coordinator and place.index == 0:
        _check_port(int(place.coordinator.rpartition(":")[2]))
    where = f"{place.coordinator}: " if place.coordinator else ""

    def apart(why: str) -> str:
        what = f"{where}the processes of the run do not find each other ({why})"
        return f"{what}; start all of them, with one coordinator whose port is free and reachable"

    # JAX would end this process with a stack of C++ that nobody can catch.
    giving_up = threading.Timer(MEETING, lambda: _exit(USER_ERROR, lambda: say(apart(f"not within {MEETING:.0f} s"))))
    giving_up.start()
    try:  # in a thread: no signal is looked at in the middle of C++
        interruptible(lambda _: jax.distributed.initialize(*place, initialization_timeout=int(2 * MEETING)))
    except (ValueError, RuntimeError) as error:
        raise UserError(apart(first_line(error))) from error
    finally:
        giving_up.cancel()
    return Processes(say)


def _check_port(port: int) -> None:
    """Raises UserError where another program has the port: jaxlib 0.10 may crash instead of saying so."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"CTCD_COORDINATOR: port {port} cannot be opened here ({why}); name another one") from error


class Processes:
    """The processes of a run of several: what one of them fails of ends all.

    Without this the others wait, in the middle of a collective, for one that is gone. A thread gives signs of life and
    looks for bad news, by the store of keys that `jax.distributed` keeps on process 0.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._index = say, global_state.process_id
        self._client: Any = global_state.client
        self._others = set(range(1, global_state.num_processes))
        self._ending, self._finished = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        # Before JAX leaves the others, which it does at exit, too: a thread that Python ends within a call of C++ takes
        # the process with it.
        atexit.register(self._finish)

    def end(self, line: str, code: int) -> NoReturn:
        """Ends all processes with one line and one exit code; those of the first that fails count.

        Args:
          line: what went wrong, to be said by each.
          code: not 0.
        """
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # the thread is ending this process
        with suppress(jax.errors.JaxRuntimeError):  # another was first, or there is nobody left to be told
            self._client.key_value_set(f"{FAILED}/0", json.dumps([line, code]))
        self._leave(line, code)

    def crash(self, error: Exception) -> NoReturn:
        """Ends all processes after an error that no user can correct.

        Where a collective fails, another process may have died: there is time first for it to be missed and named.
        """
        time.sleep(SILENCE + 4 * POLL)
        if not self._ending.locked():
            traceback.print_exception(error)
        host = socket.gethostname()
        self.end(f"process {self._index} on {host} has failed: {type(error).__name__}: {first_line(error)}", DEAD)

    def _watch(self) -> None:
        signs: dict[int, tuple[str, int]] = {}
        for look in itertools.count():
            if self._finished.wait(POLL):
                return
            news = None
            with suppress(jax.errors.JaxRuntimeError):  # process 0 is gone, and JAX ends this one
                self._sign(f"{look} {socket.gethostname()}")
                news = self._failed() or (self._died(signs, look) if self._index == 0 else None)
            if news and self._ending.acquire(blocking=False):
                self._leave(*news)

    def _finish(self) -> None:
        self._finished.set()
        self._thread.join()
        with suppress(jax.errors.JaxRuntimeError):
            self._sign(FINISHED)

    def _sign(self, sign: str) -> None:
        self._client.key_value_set(f"{ALIVE}/{self._index}", sign, allow_overwrite=True)

    def _failed(self) -> tuple[str, int] | None:
        return next((json.loads(said) for _, said in self._client.key_value_dir_get(FAILED)), None)

    def _died(self, signs: dict[int, tuple[str, int]], look: int) -> tuple[str, int] | None:
        """Returns the line and the code for a process that gives no sign any more, and tells all of it.

        Args:
          signs: of each other process, the last one and the look that saw it first. Looks are counted and not seconds:
            a process that was stopped for a while has missed none of the others' signs.
          look: the number of this one.
        """
        said = dict(self._client.key_value_dir_get(ALIVE))
        for index in sorted(self._others):
            sign = said.get(f"{ALIVE}/{index}", "")
            if index not in signs or signs[index][0] != sign or sign == FINISHED:
                signs[index] = sign, look
            elif (look - signs[index][1]) * POLL > SILENCE:
                host = sign.partition(" ")[2] or "a host that it has not named yet"
                self._others.discard(index)
                news = f"process {index} on {host} has died: no sign of it for {SILENCE:.0f} s; see its log", DEAD
                self._client.key_value_set(f"{FAILED}/0", json.dumps(news))
                return news
        return None

    def _leave(self, line: str, code: int) -> NoReturn:
        _exit(code, lambda: self._say(line), self._let_others_hear)

    def _let_others_hear(self) -> None:
        with suppress(jax.errors.JaxRuntimeError):  # process 0 has gone
            if self._index:
                self._client.key_value_set(f"{HEARD}/{self._index}", "")
                return
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until and len(self._client.key_value_dir_get(HEARD)) < len(self._others):
                time.sleep(POLL / 10)


def _exit(code: int, *last: Callable[[], None]) -> NoReturn:
    """Ends this process, after some last actions, without what Python and JAX do at exit: to wait for the others."""
    try:
        for action in last:
            action()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # also where nobody reads what is said
        os._exit(code)
