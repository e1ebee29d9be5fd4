"""Every setting in turn: the models are made ready for it, timed, and said on a block of lines."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ctcd_jax.artifacts.latency import Measurement, OnnxFile
from ctcd_jax.errors import UserError, is_out_of_memory
from ctcd_jax.jobs.progress import watch
from ctcd_jax.latency import onnx_runtime, runtimes, table
from ctcd_jax.latency.encoders import random_ids
from ctcd_jax.latency.left_out import LeftOutModels
from ctcd_jax.latency.settings import Setting
from ctcd_jax.latency.timing import statistics, time_rounds

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LatencyMeasurements:
    """What latency.json says of the measurements: `measurements`, `onnx_differences` and `onnx_files`."""

    rows: list[Measurement]
    onnx_differences: dict[str, float]
    onnx_files: dict[str, OnnxFile]


def measure(
    encoders: Mapping,
    settings: Sequence[Setting],
    rounds: int,
    flops: Mapping[str, Mapping[str, int]],
    left_out: LeftOutModels,
    log: Callable[[str], None],
    keep_onnx: Path | None = None,
) -> LatencyMeasurements:
    """Times the encoders in each setting; what cannot work here is found out before the first.

    Args:
      encoders: {name: float32, on the CPU}, the first being the reference; they end up on the last device.
      settings: in the order of measuring.
      rounds: timed, of each setting.
      flops: {name: {length: FLOPs a token}}.
      left_out: gets the encoders that a runtime cannot run.
      log: called with each line of progress.
      keep_onnx: a directory for the ONNX files.

    Raises:
      UserError: nothing can be compiled here, or the GPU's memory is too small.
    """
    import torch

    for device in dict.fromkeys(setting.device for setting in settings if setting.runtime == "compile"):
        runtimes.check_compiler(device)
    shapes = dict.fromkeys((setting.batch_size, setting.length) for setting in settings if setting.runtime == "onnx")
    reference = next(iter(encoders))
    measured = LatencyMeasurements([], {}, {})
    with tempfile.TemporaryDirectory() as folder, _threads_restored(), torch.inference_mode():
        files = {}
        if shapes:
            with torch.inference_mode(False):
                files, differences, kept = onnx_runtime.export_all(
                    encoders, list(shapes), Path(folder), left_out, log, keep_onnx
                )
                measured = LatencyMeasurements([], differences, kept)
        for number, setting in enumerate(settings, start=1):
            device = torch.cuda.get_device_name() if setting.device == "cuda" else setting.device
            label = f"setting {number} of {len(settings)}"
            show = functools.partial(watch, label=label, unit="rounds", log=log)
            say = functools.partial(_say, log, label)
            seconds = _seconds(encoders, files, setting, rounds, left_out, show, say)
            if reference not in seconds and seconds:
                say(f"no speed-ups, for {reference} is left out of {setting.runtime}")
            rows = [
                cast(
                    "Measurement",
                    {"model": name, **asdict(setting), "device": device}
                    | statistics(values, seconds.get(reference), setting.batch_size, setting.length),
                )
                for name, values in seconds.items()
            ]
            if rows:
                own = {name: flops[name][str(setting.length)] for name in seconds}
                log(table.block(setting.text(device), rows, own))
            measured.rows.extend(rows)
    return measured


def _say(log: Callable[[str], None], label: str, text: str) -> None:
    log(f"{label}: {text}")


def _seconds(
    encoders, files, setting: Setting, rounds: int, left_out: LeftOutModels, show: Callable, log: Callable[[str], None]
) -> dict:
    import torch

    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    ids = random_ids(list(encoders.values()), setting.batch_size, setting.length)
    try:
        calls = _calls(encoders, files, setting, ids, left_out, log)
        if not calls:
            return {}
        synchronize = torch.cuda.synchronize if setting.device == "cuda" else lambda: None
        return time_rounds(calls, rounds, synchronize=synchronize, watch=show)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        memory = "GPU's memory" if setting.device == "cuda" else "memory"
        raise UserError(
            f"--batch-size {setting.batch_size}, --length {setting.length}: too much for the {memory}; give less"
        ) from error


def _calls(
    encoders, files, setting: Setting, ids: "torch.Tensor", left_out: LeftOutModels, log: Callable[[str], None]
) -> runtimes.Calls:
    """Returns a call of every encoder that the setting's runtime can run, each made once already."""
    import torch

    runtime = setting.runtime
    usable = {name: encoder for name, encoder in encoders.items() if not left_out.holds(name, runtime)}
    if runtime != "onnx":
        for name, encoder in usable.items():
            with left_out.unless_it_runs(name, runtime):
                encoder.to(setting.device, getattr(torch, setting.dtype))
        ids = ids.to(setting.device)
    if runtime == "compile":
        calls = runtimes.compiled_calls(usable, ids, log, functools.partial(left_out.unless_it_runs, runtime=runtime))
    elif runtime == "onnx":
        calls = onnx_runtime.onnx_calls({name: files[name] for name in usable}, cast("int", setting.threads), ids)
    else:
        calls = runtimes.eager_calls(usable, ids)
    for name, call in calls.items():
        if not left_out.holds(name, runtime):
            with left_out.unless_it_runs(name, runtime):
                call()
    return {name: call for name, call in calls.items() if not left_out.holds(name, runtime)}


@contextmanager
def _threads_restored() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
