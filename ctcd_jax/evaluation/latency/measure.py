"""`ctcd latency`: parameters, FLOPs a token, and the time of a batch in every setting that was asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import named_exports, require_torch
from ctcd_jax.evaluation.latency import quality, settings, table
from ctcd_jax.evaluation.latency.encoders import checked_lengths, cpu_name, facts, load_encoder
from ctcd_jax.evaluation.latency.onnx_runtime import require_onnx
from ctcd_jax.evaluation.latency.running import measure
from ctcd_jax.files import write_json

FORMAT = 2


def latency(
    models: Sequence[Path],
    *,
    out: Path | None = None,
    results: Path | None = None,
    batch_sizes: Sequence[int] = (32, 1),
    lengths: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    devices: Sequence[str] | None = None,
    runtimes: Sequence[str] = ("eager",),
    dtype: str = "float32",
    rounds: int = 30,
    log: Callable[[str], None] = print,
) -> dict:
    """Measures the encoders of exported models, side by side, in every combination of the settings.

    Within a setting every round times one batch of every model, in alternating order; the speed-up is the median over
    rounds of the reference's time divided by the model's. A batch is random ids with an attention mask of ones.

    Args:
      models: exported directories; the first is the reference. Any encoder of text that transformers' AutoModel loads.
      out: where to write the result as JSON.
      results: folder of a `results.jsonl`; then quality against latency, in the first setting, is drawn beside `out`.
      batch_sizes: sequences a batch.
      lengths: tokens a sequence (None: 128, or as many as every model has positions for).
      threads: on the CPU (None: as many as PyTorch takes by itself, one a core).
      devices: "cpu", "cuda" (None: the GPU if there is one, else the CPU).
      runtimes: "eager", "compile" (`torch.compile`, for one shape), "onnx" (ONNX Runtime, on the CPU).
      dtype: of weights and activations: "float32", "bfloat16" or "float16".
      rounds: that are timed, after a few that are not.

    Returns:
      format, torch, cpu, rounds, reference; models, a list of name, path, weights (SHA-256), parameters (encoder),
      stored_parameters (with the MLM head), bytes, flops_per_token by length; measurements, a list of model, the
      setting, p50_ms, p95_ms, sequences_per_second, tokens_per_second, speedup; onnx_differences by model, only where
      ONNX Runtime was measured.

    Raises:
      UserError: something is missing, unknown, or does not go together.
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
    directories = named_exports(models)
    if out is not None and out.is_dir():
        raise UserError(f"--out {out}: a directory; give a file, such as {out / 'latency.json'}")
    quality.check_plot(results, out, directories.values())

    encoders = {name: load_encoder(directory) for name, directory in directories.items()}
    lengths = checked_lengths(encoders, directories, lengths, log)
    result = {
        "format": FORMAT,
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "rounds": rounds,
        "reference": next(iter(encoders)),
        "models": [facts(name, directories[name], encoders[name], lengths) for name in encoders],
    }
    log(table.heading(result))
    measurements, differences = measure(
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
        log,
    )
    if (warning := table.unsteady(measurements)) is not None:
        log(warning)
    result["measurements"] = measurements
    if differences:
        result["onnx_differences"] = differences
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
    if results is not None:
        quality.draw(result, results, out.with_suffix(".png"), log)
    return result
