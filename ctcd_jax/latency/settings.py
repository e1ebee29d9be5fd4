"""The settings that are measured: which there are, in which order, and what cannot be asked for."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.text_tables import counted

# In the order they are measured in: the first setting, which plots and reports show, is eager if eager is measured.
RUNTIMES = ("eager", "compile", "onnx")
DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Setting:
    """One way to run a batch; `threads` is None on a GPU."""

    device: str
    threads: int | None
    runtime: str
    dtype: str
    batch_size: int
    length: int

    def text(self, device: str) -> str:
        """Returns the setting as a line that people read; `device` is the name of the one it is measured on."""
        return ", ".join(
            (
                placement(device, self.threads),
                f"{self.runtime} {self.dtype}",
                f"{counted(self.batch_size, 'sequence')} of {counted(self.length, 'token')}",
            )
        )


def grid(
    *,
    devices: Sequence[str],
    threads: Sequence[int],
    runtimes: Sequence[str],
    dtype: str,
    lengths: Sequence[int],
    batch_sizes: Sequence[int],
) -> list[Setting]:
    """Returns every combination once, batch sizes changing fastest; ONNX Runtime is measured on the CPU alone.

    Args:
      devices: of `DEVICES`.
      threads: numbers of CPU threads; a GPU has none.
      runtimes: of `RUNTIMES`.
      dtype: of `DTYPES`.
      lengths: tokens a sequence.
      batch_sizes: sequences a batch.
    """
    places = [
        (device, count) for device in dict.fromkeys(devices) for count in (threads if device == "cpu" else [None])
    ]
    every = itertools.product(places, sorted(runtimes, key=RUNTIMES.index), lengths, batch_sizes)
    settings = (
        Setting(device, count, runtime, dtype, batch_size, length)
        for (device, count), runtime, length, batch_size in every
        if (device, runtime) != ("cuda", "onnx")
    )
    return list(dict.fromkeys(settings))


def check_counts(options: Mapping[str, Sequence[int] | None]) -> None:
    """Raises UserError where an option that was given (not None) has no value, or one below 1."""
    for option, values in options.items():
        for value in [] if values is None else values or [0]:
            if value < 1:
                raise UserError(f"{option} {value}: give 1 or more")


def check_names(*, runtimes: Sequence[str], devices: Sequence[str], dtype: str) -> None:
    """Raises UserError where one is not known. Arguments as for `grid`."""
    for option, values, known in (
        ("--runtime", runtimes, RUNTIMES),
        ("--device", devices, DEVICES),
        ("--dtype", [dtype], DTYPES),
    ):
        for value in values or [""]:
            if value not in known:
                raise UserError(f"{option} {value}: no such choice{did_you_mean(value, known)}")


def check_together(
    *, devices: Sequence[str], threads: Sequence[int] | None, runtimes: Sequence[str], dtype: str, gpu: bool
) -> None:
    """Raises UserError where the options do not go together, or not with this machine.

    Args:
      devices, runtimes, dtype: as for `grid`.
      threads: as they were asked for, None if they were not.
      gpu: whether PyTorch sees one.
    """
    if "cuda" in devices and not gpu:
        raise UserError("--device cuda: PyTorch sees no GPU here; give --device cpu, or install its CUDA build")
    if threads is not None and "cpu" not in devices:
        raise UserError("--threads: counts CPU threads, but only the GPU is measured; add --device cpu")
    if "onnx" in runtimes and "cpu" not in devices:
        raise UserError("--runtime onnx: is measured on the CPU only; add --device cpu")
    if "onnx" in runtimes and dtype != "float32":
        raise UserError(f"--dtype {dtype}: ONNX Runtime is measured in float32; leave onnx out of --runtime")


def placement(device: str, threads: int | None) -> str:
    """Returns "cpu with 2 threads", or the device alone where it has none."""
    return device if threads is None else f"{device} with {counted(threads, 'thread')}"
