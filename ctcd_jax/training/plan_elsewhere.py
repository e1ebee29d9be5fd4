"""`ctcd train --plan --on TARGET`: what a run would cost on devices that are not there."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ctcd_jax.config import Experiment, corpus_directory, resolve
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.jobs.duration import duration
from ctcd_jax.runtime.absent_devices import Absent, absent_devices
from ctcd_jax.runtime.collectives import Collective, collectives, in_words
from ctcd_jax.runtime.hardware import peak_flops
from ctcd_jax.training.describe import describe_members
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.masking import make_masker
from ctcd_jax.training.sharding import batch_sharding, make_mesh
from ctcd_jax.training.state import abstract_frozen, abstract_state
from ctcd_jax.training.step import make_train_step


class Program(NamedTuple):
    """A step, compiled.

    Attributes:
      seconds: that took.
      held: bytes a device of state, frozen members and batch.
      temporary: bytes a device, while it computes.
      accessed: bytes that a device reads and writes; None where the compiler does not say.
      collectives: what devices send each other.
    """

    seconds: float
    held: int
    temporary: int
    accessed: float | None
    collectives: list[Collective]


# Rows that a device has at a time, at the least, for what is temporary to be that of rows: of one or two it is not.
_FEWEST_ROWS = 8


def plan_elsewhere(config: ConfigDict, spec: str, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Compiles a run's own step for devices that are not there and prints whether it fits, what it computes and sends,
    and how long that takes at the least.

    The time is a bound from below (a roofline): as if arithmetic, memory and links were each used to their full and at
    once. Arithmetic is counted by formula (`flops_per_token`), so a step is not faster than that. Sums and
    gatherings go round rings (switches that add by themselves could do with up to half); what machines send each other
    goes over all of their network cards, once a machine.

    Args:
      config: as `load_config` returns it.
      spec: TARGET[:SHAPE], see `absent_devices`.
      log: takes a line.

    Returns:
      The figures, of a device where nothing else is said.

    Raises:
      UserError: as `resolve` and `absent_devices`.
    """
    corpus = Corpus.open(corpus_directory(config))
    absent = absent_devices(spec)
    experiment = resolve(config, corpus, absent.devices)
    for line in describe_members(experiment):
        log(line)
    length, rows = corpus.max_length, experiment.batch_size
    program = compile_step(experiment, corpus, absent, rows)
    half, shares = rows // 2, len(absent.devices) * experiment.train.micro_batches
    comparable = half % shares == 0 and half >= _FEWEST_ROWS * shares
    smaller = compile_step(experiment, corpus, absent, half) if comparable else None
    memory, count = absent.target.memory, len(absent.devices)
    data, fsdp = make_mesh(*experiment.mesh, devices=absent.devices).devices.shape
    log(
        f"{spec}: {count} x {absent.devices[0].device_kind}, mesh data {data} x fsdp {fsdp}, "
        f"{experiment.train.dtype}, {rows:,} rows of {length}; compiled in {program.seconds:.0f} s"
    )
    needed = program.held + program.temporary
    largest = _largest_batch(program, smaller, memory, rows)
    verdict = "fits" if needed <= memory else "DOES NOT FIT"
    line = f"memory: {needed / 2**30:.2f} of {memory / 2**30:.0f} GiB a device ({program.held / 2**30:.2f} held, "
    line += f"{program.temporary / 2**30:.2f} temporary): {verdict}"
    if largest:
        line += f"; about {largest:,} rows would, by the temporaries of {half:,} and {rows:,}"
    elif not comparable:
        line += f"; how many rows would is told of {2 * _FEWEST_ROWS * shares:,} and more, in steps of {2 * shares:,}"
    log(line)
    log(f"collectives: {in_words(program.collectives)}")

    tokens = rows * corpus.manifest["splits"]["train"]["tokens"] / corpus.rows("train")
    operations = tokens * flops_per_token(experiment, experiment.masking_rate) / count
    bounds = step_bounds(program, operations, experiment.train.dtype, absent)
    known = {name: seconds for name, seconds in bounds.items() if seconds is not None}
    unknown = "".join(f"; what {name} takes is not known" for name in bounds if name not in known)
    log(f"a step: {', '.join(f'{1e3 * s:,.2f} ms of {name}' for name, s in known.items())} at the least{unknown}")
    slowest, steps = max(known.values()), experiment.train.steps
    log(
        f"time: at best {tokens / slowest:,.0f} tokens/s, {duration(steps * slowest)} for {steps:,} steps, if all that "
        "is known were used to its full and at once, which no program does: divide by the share that yours reaches"
    )
    return {
        "on": spec,
        "devices": count,
        "mesh": (data, fsdp),
        "rows": rows,
        "held_bytes": program.held,
        "temporary_bytes": program.temporary,
        "memory_bytes": memory,
        "largest_batch": largest,
        "flops": operations,
        "bytes_accessed": program.accessed,
        "collectives": program.collectives,
        "bounds_seconds": bounds,
        "tokens_per_second": tokens / slowest,
        "hours": steps * slowest / 3600,
    }


def compile_step(experiment: Experiment, corpus: Corpus, absent: Absent, rows: int) -> Program:
    """Returns the step of a run, compiled for devices that need not be there.

    Args:
      experiment: the run.
      corpus: that it is trained on; its longest rows count.
      absent: the devices, over all of which the run is spread.
      rows: a batch.

    Raises:
      UserError: the compiler refuses, as TPUs' does where memory is short; or its program cannot be read.
    """
    mesh = make_mesh(*experiment.mesh, devices=absent.devices)
    frozen = abstract_frozen(experiment, mesh)
    batch = jax.ShapeDtypeStruct((rows, corpus.max_length), jnp.int32, sharding=batch_sharding(mesh))
    step = make_train_step(experiment, make_masker(experiment, corpus), mesh)
    start = time.perf_counter()
    try:
        compiled = step.lower(abstract_state(experiment, mesh), frozen, {"input_ids": batch}).compile()
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"the compiler refuses {rows:,} rows: {first_line(error)}") from error
    seconds = time.perf_counter() - start
    memory: Any = compiled.memory_analysis()
    costs = compiled.cost_analysis() or {}
    try:
        found = collectives(compiled.as_text() or "", len(absent.devices), absent.machine)
    except ValueError as error:
        raise UserError(
            f"what the devices send is not understood, this compiler writes it in a new way: {error}"
        ) from error
    return Program(
        seconds=seconds,
        held=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        accessed=costs.get("bytes accessed"),
        collectives=found,
    )


def step_bounds(program: Program, operations: float, dtype: str, absent: Absent) -> dict[str, float | None]:
    """Returns the least seconds of a step by what takes them: "arithmetic", "memory", "links" and, between machines,
    "network"; None where the data sheet or the compiler says nothing.

    Args:
      program: the step.
      operations: FLOPs of a device.
      dtype: of its products.
      absent: the devices.
    """
    peak, target = peak_flops(dtype, absent.devices), absent.target
    bounds = {
        "arithmetic": len(absent.devices) * operations / peak if peak else None,
        "memory": program.accessed / target.bandwidth if program.accessed else None,
        "links": sum(each.sent - each.sent_far for each in program.collectives) / target.link,
    }
    if target.network and len(absent.devices) > absent.machine:
        bounds["network"] = sum(each.sent_far for each in program.collectives) / target.network
    return bounds


def _largest_batch(program: Program, smaller: Program | None, memory: float, rows: int) -> int | None:
    """Returns about how many rows would fit if temporaries grow evenly; None where that is not seen."""
    if smaller is None or program.temporary <= smaller.temporary:
        return None
    a_row = (program.temporary - smaller.temporary) / (rows - rows // 2)
    fits = rows + (memory - program.held - program.temporary) / a_row
    return max(0, int(float(f"{fits:.2g}")))
