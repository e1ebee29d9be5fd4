"""What latency.json holds, in its latest format, and under which names fine-tuning knows its models."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

from ctcd_jax.artifacts.results import Result

LATENCY = "latency.json"
FORMAT = 2
READABLE = (1, 2)  # 1 held one setting


# The fields that say how a batch was measured; a model's figures are compared within one such setting.
SETTING = ("device", "threads", "runtime", "dtype", "batch_size", "length")
# The values of "runtime", and what people call them.
RUNTIMES = {"eager": "eager PyTorch", "compile": "torch.compile", "onnx": "ONNX Runtime"}


class LatencyModel(TypedDict):
    """A model: what is the same in every setting. One of an earlier version may lack what follows `name`."""

    name: str
    path: str  # as it was given
    weights: str  # SHA-256 (hex) of the weight files
    parameters: int  # of the encoder
    stored_parameters: int  # with the masked-language-model head
    bytes: int  # of the weight files
    flops_per_token: dict[str, int]  # by the length of the sequence


class Measurement(TypedDict):
    """A model in a setting."""

    model: str
    device: str  # "cpu", or the GPU's name
    threads: int | None  # on the CPU
    runtime: str  # "eager", "compile" or "onnx"
    dtype: str  # of weights and activations
    batch_size: int  # sequences
    length: int  # tokens a sequence
    p50_ms: float  # milliseconds a batch, median over the rounds
    p95_ms: float  # milliseconds a batch, 95th percentile
    sequences_per_second: float
    tokens_per_second: float
    speedup: float | None  # over the reference, median over the rounds; None where that cannot be run


class OnnxFile(TypedDict):
    """A file that `--keep-onnx` kept."""

    file: str  # path
    sha256: str  # hex


class NotMeasured(TypedDict):
    """A model that cannot be run here."""

    model: str
    runtime: str | None  # None: in none
    reason: str


class Latency(TypedDict):
    """latency.json. The last three are absent where they would be empty."""

    format: int
    torch: str  # version
    cpu: NotRequired[str]  # name; absent in format 1
    rounds: int  # timed
    reference: str  # model that the speed-ups are over
    models: list[LatencyModel]
    measurements: list[Measurement]  # setting by setting
    onnx_differences: NotRequired[dict[str, float]]  # {model: max |difference of the outputs| from PyTorch's}
    onnx_files: NotRequired[dict[str, OnnxFile]]  # by model
    left_out: NotRequired[list[NotMeasured]]


def as_latest(content: dict[str, Any]) -> Latency:
    """Returns the content of a latency.json as format 2; format 1 held one setting, its figures beside the models."""
    if content["format"] == FORMAT:
        return cast("Latency", content)
    setting = {field: content[field] for field in ("device", "threads", "batch_size", "length")}
    if content["device"] != "cpu":
        setting["threads"] = None
    models, measurements = [], []
    for model in content["models"]:
        kept = ("name", "path", "parameters", "stored_parameters", "bytes")
        models.append(
            {field: model[field] for field in kept if field in model}
            | {"flops_per_token": {str(content["length"]): model["flops_per_token"]}}
        )
        rate = model["sequences_per_second"]
        measurements.append(
            {"model": model["name"], **setting, "runtime": "eager", "dtype": "float32"}
            | {"p50_ms": model["median_ms"], "p95_ms": model["p95_ms"], "speedup": model["speedup"]}
            | {"sequences_per_second": rate, "tokens_per_second": rate * content["length"]}
        )
    general = {field: content[field] for field in ("torch", "rounds", "reference")}
    latest = {"format": FORMAT, **general, "models": models, "measurements": measurements}
    return cast("Latency", latest)


def plain_settings(content: Latency) -> list[tuple]:
    """Returns the first setting (values of SETTING) of every device and number of threads, eager if any is.

    The first of all is the one to take where one figure a model has to do.
    """
    first: dict[tuple, tuple] = {}
    for line in sorted(content["measurements"], key=lambda line: line["runtime"] != "eager"):
        first.setdefault((line["device"], line["threads"]), setting_of(line))
    return list(first.values())


def setting_of(measurement: Measurement) -> tuple:
    return tuple(measurement[field] for field in SETTING)


def fine_tuned_as(model: LatencyModel, rows: Sequence[Result]) -> str | None:
    """Returns the name under which `rows` of a results.jsonl know a model of latency.json, or None.

    The same weights are the same model whatever the names; where either file does not say, the name decides.
    """
    weights = model.get("weights")
    for row in rows:
        both = weights and row.get("weights")
        if row["weights"] == weights if both else row["model"] == model["name"]:
            return row["model"]
    return None
