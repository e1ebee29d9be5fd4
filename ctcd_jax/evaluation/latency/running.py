"""Every setting in turn: the models are made ready for it, timed, and said on a block of lines."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd_jax.data.progress import watch
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.latency import onnx_runtime, runtimes, table
from ctcd_jax.evaluation.latency.encoders import random_ids
from ctcd_jax.evaluation.latency.settings import Setting
from ctcd_jax.evaluation.latency.timing import statistics, time_rounds

if TYPE_CHECKING:
    import torch


def measure(
    encoders: Mapping,
    settings: Sequence[Setting],
    rounds: int,
    flops: Mapping[str, Mapping[str, int]],
    log: Callable[[str], None],
) -> tuple[list[dict], dict[str, float]]:
    """Times the encoders in each of `settings`; what cannot work here is found out before the first.

    Args:
      encoders: {name: float32, on the CPU}, the first being the reference; they end up on the last device.
      flops: {name: {length: FLOPs a token}}.

    Returns:
      The `measurements` and `onnx_differences` of latency.json.

    Raises:
      UserError: a runtime cannot run an encoder, or the GPU's memory is too small.
    """
    import torch

    for device in dict.fromkeys(setting.device for setting in settings if setting.runtime == "compile"):
        runtimes.check_compiler(device)
    onnx_shapes = [(setting.batch_size, setting.length) for setting in settings if setting.runtime == "onnx"]
    measurements = []
    with tempfile.TemporaryDirectory() as folder, _threads_restored(), torch.inference_mode():
        files, differences = {}, {}
        if onnx_shapes:
            with torch.inference_mode(False):
                files, differences = onnx_runtime.export_all(
                    encoders, list(dict.fromkeys(onnx_shapes)), Path(folder), log
                )
        for number, setting in enumerate(settings, start=1):
            device = torch.cuda.get_device_name() if setting.device == "cuda" else setting.device
            label = f"setting {number} of {len(settings)}"
            show = functools.partial(watch, label=label, unit="rounds", log=log)
            seconds = _seconds(
                encoders, files, setting, rounds, show, lambda text, label=label: log(f"{label}: {text}")
            )
            reference = seconds[next(iter(encoders))]
            rows = [
                {"model": name, **asdict(setting), "device": device}
                | statistics(values, reference, setting.batch_size, setting.length)
                for name, values in seconds.items()
            ]
            log(table.block(setting.text(device), rows, {name: flops[name][str(setting.length)] for name in encoders}))
            measurements += rows
    return measurements, differences


def _seconds(encoders, files, setting: Setting, rounds: int, show: Callable, log: Callable[[str], None]) -> dict:
    import torch

    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    ids = random_ids(list(encoders.values()), setting.batch_size, setting.length)
    try:
        calls = _calls(encoders, files, setting, ids, log)
        synchronize = torch.cuda.synchronize if setting.device == "cuda" else lambda: None
        return time_rounds(calls, rounds, synchronize=synchronize, watch=show)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"--batch-size {setting.batch_size}, --length {setting.length}: too much for the GPU's memory; give less"
        ) from error


def _calls(encoders, files, setting: Setting, ids: "torch.Tensor", log: Callable[[str], None]) -> runtimes.Calls:
    import torch

    if setting.runtime == "onnx":
        return onnx_runtime.onnx_calls(files, setting.threads, ids)
    for encoder in encoders.values():
        encoder.to(setting.device, getattr(torch, setting.dtype))
    ids = ids.to(setting.device)
    if setting.runtime == "compile":
        return runtimes.compiled_calls(encoders, ids, log)
    return runtimes.eager_calls(encoders, ids)


@contextmanager
def _threads_restored() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
