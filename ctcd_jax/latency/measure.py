"""`ctcd latency`: parameters, FLOPs a token, and the time of a batch in every setting that was asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax.artifacts.exports import named_exports, require_torch
from ctcd_jax.artifacts.hub import model_directories
from ctcd_jax.artifacts.latency import FORMAT, LATENCY, Latency, LatencyModel
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import write_json
from ctcd_jax.latency import settings, table
from ctcd_jax.latency.encoders import checked_lengths, cpu_name, facts, load_encoder, positions, random_ids
from ctcd_jax.latency.left_out import LeftOutModels
from ctcd_jax.latency.onnx_runtime import require_onnx
from ctcd_jax.latency.running import measure


def latency(
    models: Sequence[Path],
    *,
    out: Path | None = None,
    batch_sizes: Sequence[int] = (32, 1),
    lengths: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    devices: Sequence[str] | None = None,
    runtimes: Sequence[str] = ("eager",),
    dtype: str = "float32",
    rounds: int = 30,
    keep_onnx: Path | None = None,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> Latency:
    """Measures the encoders of exported models, side by side, in every combination of the settings.

    Within a setting every round times one batch of every model, in alternating order; the speed-up is the median over
    rounds of the reference's time divided by the model's. A batch is random ids with an attention mask of ones.

    A model that cannot be run, or not with a runtime, is left out; the others are measured.

    Args:
      models: directories of any encoder of text that transformers' AutoModel loads, exported or not, or ids on the
        hub; the first that can be run is the reference.
      out: where to write the result as JSON.
      batch_sizes: sequences a batch.
      lengths: tokens a sequence (None: 128, or as many as every model has positions for).
      threads: on the CPU (None: as many as PyTorch takes by itself, one a core).
      devices: "cpu", "cuda" (None: the GPU if there is one, else the CPU).
      runtimes: "eager", "compile" (`torch.compile`, for one shape), "onnx" (ONNX Runtime, on the CPU).
      dtype: of weights and activations: "float32", "bfloat16" or "float16".
      rounds: that are timed, after a few that are not.
      keep_onnx: a directory for the ONNX files that were checked and measured, NAME.onnx.
      log: called with each line of progress and of the tables.
      warn: called with a line about each model that is left out.

    Returns:
      format, torch, cpu, rounds, reference; models, a list of name, path, weights (SHA-256), parameters (encoder),
      stored_parameters (with the MLM head), bytes, flops_per_token by length; measurements, a list of model, the
      setting, p50_ms, p95_ms, sequences_per_second, tokens_per_second, speedup (None where the reference is left out).
      Only where there are any: onnx_differences by model; onnx_files, {model: {file, sha256}}; left_out, a list of
      model, runtime (None: every one), reason.

    Raises:
      UserError: something is missing, unknown, or does not go together, or no model can be measured.
    """
    require_torch()
    import torch

    gpu = torch.cuda.is_available()
    devices = ["cuda" if gpu else "cpu"] if devices is None else devices
    counts = {"--batch-size": batch_sizes, "--length": lengths, "--threads": threads, "--rounds": [rounds]}
    settings.check_counts(counts)
    settings.check_names(runtimes=runtimes, devices=devices, dtype=dtype)
    settings.check_together(runtimes=runtimes, devices=devices, dtype=dtype, threads=threads, gpu=gpu)
    if "onnx" in runtimes:
        require_onnx()
    elif keep_onnx is not None:
        raise UserError(f"--keep-onnx {keep_onnx}: needs --runtime onnx, which makes the files and checks them")
    directories = named_exports(model_directories(models))
    _make_places(out, keep_onnx)

    left_out = LeftOutModels(warn)
    encoders = _load(directories, left_out)
    lengths = checked_lengths(encoders, directories, lengths, log)
    described = _describe(encoders, directories, lengths, left_out)
    encoders = {name: encoders[name] for name in described}
    reference = next(iter(encoders))
    if reference != next(iter(directories)):
        warn(f"the speed-ups are over {reference}, for {next(iter(directories))} is left out")
    result: Latency = {
        "format": FORMAT,
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "rounds": rounds,
        "reference": reference,
        "models": list(described.values()),
        "measurements": [],
    }
    log(table.heading(result))
    measured = measure(
        encoders,
        settings.grid(
            devices=devices,
            threads=[torch.get_num_threads()] if threads is None else threads,
            runtimes=runtimes,
            dtype=dtype,
            lengths=lengths,
            batch_sizes=batch_sizes,
        ),
        rounds,
        {model["name"]: model["flops_per_token"] for model in result["models"]},
        left_out,
        log,
        keep_onnx,
    )
    if not measured.rows:
        raise left_out.error(directories)
    if (warning := table.unsteady(measured.rows)) is not None:
        log(warning)
    result["measurements"] = measured.rows
    if measured.onnx_differences:
        result["onnx_differences"] = measured.onnx_differences
    if measured.onnx_files:
        result["onnx_files"] = measured.onnx_files
    if left_out.entries:
        result["left_out"] = left_out.entries
    if out is not None:
        write_json(out, result)
    return result


def _make_places(out: Path | None, keep_onnx: Path | None) -> None:
    """Makes the directories of what is kept; raises UserError where `out` is one.

    That one cannot be made is better known before the measuring.
    """
    if out is not None and out.is_dir():
        raise UserError(f"--out {out}: a directory; give a file, such as {out / LATENCY}")
    for directory in filter(None, (keep_onnx, out and out.parent)):
        directory.mkdir(parents=True, exist_ok=True)


def _load(directories: dict[str, Path], left_out: LeftOutModels) -> dict:
    """Returns the encoders that can be loaded and run on a short batch; raises UserError if there is none."""
    import torch

    encoders = {}
    for name, directory in directories.items():
        with left_out.unless_it_runs(name):
            encoder = load_encoder(directory)
            ids = random_ids([encoder], 1, min(positions(encoder) or 8, 8))
            with torch.inference_mode():
                encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            encoders[name] = encoder
    if not encoders:
        raise left_out.error(directories)
    return encoders


def _describe(
    encoders: dict, directories: dict[str, Path], lengths: Sequence[int], left_out: LeftOutModels
) -> dict[str, LatencyModel]:
    """Returns what is the same in every setting, of those that can be counted; raises UserError if there is none."""
    described = {}
    for name, encoder in encoders.items():
        with left_out.unless_it_runs(name):
            described[name] = facts(name, directories[name], encoder, lengths)
    if not described:
        raise left_out.error(directories)
    return described
