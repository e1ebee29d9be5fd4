"""What latency.json holds, in its latest format, and under which names fine-tuning knows its models."""

from collections.abc import Sequence

# The fields that say how a batch was measured; a model's figures are compared within one such setting.
SETTING = ("device", "threads", "runtime", "dtype", "batch_size", "length")


def as_latest(content: dict) -> dict:
    """Returns the content of a latency.json as format 2; format 1 held one setting, its figures beside the models."""
    if content["format"] == 2:
        return content
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
    return {"format": 2, **general, "models": models, "measurements": measurements}


def plain_settings(content: dict) -> list[tuple]:
    """Returns the first setting (values of SETTING) of every device and number of threads, eager if any is.

    The first of all is the one to take where one figure a model has to do.
    """
    first: dict[tuple, tuple] = {}
    for line in sorted(content["measurements"], key=lambda line: line["runtime"] != "eager"):
        first.setdefault((line["device"], line["threads"]), setting_of(line))
    return list(first.values())


def setting_of(measurement: dict) -> tuple:
    return tuple(measurement[field] for field in SETTING)


def fine_tuned_as(model: dict, rows: Sequence[dict]) -> str | None:
    """Returns the name under which `rows` of a results.jsonl know a model of latency.json, or None.

    The same weights are the same model whatever the names; where either file does not say, the name decides.
    """
    weights = model.get("weights")
    for row in rows:
        both = weights and row.get("weights")
        if row["weights"] == weights if both else row["model"] == model["name"]:
            return row["model"]
    return None
