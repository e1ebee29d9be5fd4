"""What a model costs to serve: its size, its latency in every setting, and what quality that buys."""

from collections.abc import Iterator, Sequence

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts, Results
from ctcd_jax.artifacts.latency import (
    RUNTIMES,
    SETTING,
    Latency,
    Measurement,
    fine_tuned_as,
    plain_settings,
    setting_of,
)
from ctcd_jax.evaluation.tables.summary import average_titles, column_title, summarise
from ctcd_jax.latency.table import UNSTEADY
from ctcd_jax.page import Html
from ctcd_jax.page.plots import Point, scatter
from ctcd_jax.page.tables import Column, data_table, download, fixed, millions
from ctcd_jax.report.speed import is_steady
from ctcd_jax.text_tables import counted

_MEGABYTES = fixed(1, scale=1e-6)


def latency(artifacts: Artifacts) -> list[Html]:
    parts = []
    for name, content in artifacts.latencies.items():
        parts += [page.heading(f"{name}/latency.json"), _models(name, content), *_measurements(name, content)]
        parts += [page.paragraph(_note(content), "note"), _left_out(name, content)]
    return [*parts, page.grid(list(_quality_figures(artifacts)))] if parts else []


def _models(name: str, content: Latency) -> Html:
    lengths = sorted({int(length) for model in content["models"] for length in model["flops_per_token"]})
    differences = content.get("onnx_differences", {})
    columns = [
        Column("model", "model"),
        Column("encoder parameters", "parameters", millions),
        Column("stored parameters", "stored_parameters", millions),
        Column("MB", "bytes", _MEGABYTES),
        *(
            Column(f"MFLOPs a token, length {length}", f"flops_per_token_{length}", fixed(2, scale=1e-6))
            for length in lengths
        ),
    ]
    if differences:
        columns.append(Column("ONNX − PyTorch, at most", "onnx_difference", lambda value: f"{value:.1e}"))
    rows = []
    for model in content["models"]:
        row = [model["name"], *(model.get(field) for field in ("parameters", "stored_parameters", "bytes"))]
        row += [model["flops_per_token"].get(str(length)) for length in lengths]
        rows.append(row + ([differences.get(model["name"])] if differences else []))
    return data_table(f"{name}-models", columns, rows, "Models")


def _measurements(name: str, content: Latency) -> Iterator[Html]:
    """A table of the plain setting of every place and, where there are more settings, one of all for each place."""
    measured = content["measurements"]
    plain = plain_settings(content)
    first = [line for line in measured if setting_of(line) in plain]
    yield _figures(f"{name}-latency", "Latency", first, SETTING)
    if len(first) == len(measured):
        return
    places: dict[tuple, list[Measurement]] = {}
    for line in measured:
        places.setdefault((line["device"], line["threads"]), []).append(line)
    for place, lines in places.items():
        settings = list(dict.fromkeys(map(setting_of, lines)))
        lines = sorted(lines, key=lambda line: settings.index(setting_of(line)))
        title = _place(*place)
        table = _figures(f"{name}-latency-{title}", title, lines, SETTING[2:])
        yield page.folded(f"{title}: all {len(settings)} settings", table)


def _figures(file: str, title: str, lines: list[Measurement], settings: Sequence[str]) -> Html:
    """A table of measurements; what all of them share stands in its caption."""
    varied = [field for field in settings if len({line[field] for line in lines}) > 1]
    headings = {field: _HEADINGS[field] for field in varied}
    columns = [
        Column("model", "model"),
        *(Column(headings.get(field, ""), field) for field in SETTING),
        Column("p50 ms", "p50_ms", fixed(2)),
        Column("p95 ms", "p95_ms", fixed(2)),
        Column("sequences/s", "sequences_per_second", fixed(0)),
        Column("tokens/s", "tokens_per_second", fixed(0)),
        Column("speed-up", "speedup", fixed(2, "×")),
    ]
    rows = [[line.get(column.name) for column in columns] for line in lines]
    if not all(map(is_steady, lines)):
        columns.append(Column("steady", "steady"))
        rows = [[*row, "yes" if is_steady(line) else "unsteady"] for row, line in zip(rows, lines, strict=True)]
    shared = dict(zip(SETTING, setting_of(lines[0]), strict=True))
    one_place = settings == SETTING and not {"device", "threads"} & {*varied}
    facts = [
        _place(shared["device"], shared["threads"]) if one_place else "",
        "" if "runtime" in varied else RUNTIMES.get(shared["runtime"], shared["runtime"]),
        "" if "dtype" in varied else shared["dtype"],
        "" if "batch_size" in varied else f"batch {shared['batch_size']}",
        "" if "length" in varied else f"length {shared['length']}",
    ]
    return data_table(file, columns, rows, ", ".join([title, *filter(None, facts)]))


def _place(device: str, threads: int | None) -> str:
    name = "CPU" if device == "cpu" else device
    return name if threads is None else f"{name}, {counted(threads, 'thread')}"


def _note(content: Latency) -> str:
    cpu = f" CPU: {name}." if (name := content.get("cpu")) else ""
    onnx = " ONNX: largest difference of the outputs from PyTorch's." if content.get("onnx_differences") else ""
    wild = sum(not is_steady(line) for line in content["measurements"])
    unsteady = (
        f" Unsteady: {wild} of {len(content['measurements'])} measurements, whose 95th percentile is over {UNSTEADY:g} "
        "times their median, as on a machine that does other work."
    )
    return (
        f"Forward passes of the encoders, PyTorch {content['torch']}, {content['rounds']} rounds in which the models "
        f"take turns; p50 and p95 of the milliseconds a batch. Speed-up over {content['reference']}: the median of the "
        f"rounds' ratios.{cpu}{onnx}{unsteady if wild else ''}"
    )


def _left_out(name: str, content: Latency) -> Html:
    rows = [(entry["model"], entry.get("runtime"), entry["reason"]) for entry in content.get("left_out", [])]
    columns = [
        Column("model", "model"),
        Column("runtime", "runtime", lambda runtime: RUNTIMES.get(runtime) or runtime),
        Column("why", "reason"),
    ]
    caption = "Not measured: models that cannot be run here (a dash: in no runtime)"
    return data_table(f"{name}-not-measured", columns, rows, caption) if rows else Html()


def _quality_figures(artifacts: Artifacts) -> Iterator[Html]:
    """One plot for each results file and latency file that know a model in common, and each device."""
    for scores, results in artifacts.results.items():
        for times, content in artifacts.latencies.items():
            for device in dict.fromkeys(setting[0] for setting in plain_settings(content)):
                if figure := _quality_figure(scores, results, times, content, device):
                    yield figure


def _quality_figure(scores: str, results: Results, times: str, content: Latency, device: str) -> Html:
    """Quality against p50 in the device's first plain setting; empty if no model is in both files."""
    setting = next(setting for setting in plain_settings(content) if setting[0] == device)
    summary = summarise(results.rows)
    models = {model["name"]: model for model in content["models"]}
    points = []
    for line in content["measurements"]:
        known = fine_tuned_as(models[line["model"]], results.rows) if setting_of(line) == setting else None
        if known is not None and (mean := summary.mean_of_columns(known)) is not None:
            points.append(Point(known, line["p50_ms"], mean))
    if not points:
        return Html()
    _, threads, runtime, _, batch, length = setting
    place = _place(device, threads)
    averaged = summary.averaged
    quality = average_titles(averaged)[0] if len(averaged) > 1 else column_title(*averaged[0])
    title = f"Quality against latency: {place}"
    svg = scatter(title, points, f"p50 ms per batch of {batch} × {length}", quality.split(" (")[0])
    rows = [(point.name, point.x, point.y) for point in points]
    link = download(f"quality-{scores}-{times}-{device}", ("model", "p50_ms", "quality"), rows)
    sources = f"{scores}/results.jsonl, {times}/latency.json; {RUNTIMES.get(runtime, runtime)}"
    return page.figure(title, svg, f"{sources}. Up and to the left is better.", [link])


def exports(artifacts: Artifacts) -> list[Html]:
    columns = [
        Column("export", "export"),
        Column("layers", "layers"),
        Column("hidden", "hidden"),
        Column("heads", "heads"),
        Column("stored parameters", "stored_parameters", millions),
        Column("MB", "bytes", _MEGABYTES),
    ]
    shape = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    rows = [
        (name, *(export.config.get(field) for field in shape), export.parameters, export.bytes)
        for name, export in artifacts.exports.items()
    ]
    return [data_table("exports", columns, rows)] if rows else []


_HEADINGS = {
    "device": "device",
    "threads": "threads",
    "runtime": "runtime",
    "dtype": "precision",
    "batch_size": "batch",
    "length": "length",
}
