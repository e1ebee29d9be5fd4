"""What a real run of every stage writes is what the types say: no key more, none less, each value of its type."""

import csv
import json
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from ctcd_jax.artifacts.baselines import Baselines
from ctcd_jax.artifacts.corpora import Manifest
from ctcd_jax.artifacts.facts import Facts
from ctcd_jax.artifacts.latency import Latency
from ctcd_jax.artifacts.results import ComparisonLine, Result
from ctcd_jax.artifacts.runs import MetricLine, Provenance, RunConfig, TimingLine
from ctcd_jax.artifacts.samples import Samples

FILES = {
    "runs/ctcd/config.json": RunConfig,
    "runs/ctcd/metrics.jsonl": MetricLine,
    "runs/ctcd/timing.jsonl": TimingLine,
    "runs/ctcd/provenance.json": Provenance,
    "student/ctcd.json": Facts,
    "student/samples.json": Samples,
    "glue/results.jsonl": Result,
    "glue/baselines.json": Baselines,
    "glue/comparison.csv": ComparisonLine,
    "latency.json": Latency,
    "corpus.json": Manifest,
}

# Optional keys that this run has no reason to write; there are tests of those that other runs do.
ABSENT = {
    "RunConfig": {"history"},
    "MetricLine": {"corpora"},
    "FactsTraining": {"history"},
    "ShapeFields": {"architecture"},
    "MemberStart": {"step", "steps", "fresh_head"},
    "FactsMember": {"base_model"},
    "FactsSource": {"hub", "revision"},
    "SourceCounts": {"rows", "name", "revision", "packages", "modules_skipped"},
    "Result": {"cut_dev_mismatched"},
    "Latency": {"onnx_differences", "onnx_files", "left_out"},
}


def departures(value, kind, place="", seen=None):
    """Yields where a value departs from a type; `seen` gets {name of a TypedDict: its keys that were there}."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            yield f"{place} is {value!r}"
            return
        yield from (f"{place}.{key} is missing" for key in sorted(kind.__required_keys__ - value.keys()))
        yield from (f"{place}.{key} has no type" for key in sorted(value.keys() - hints.keys()))
        if seen is not None:
            seen.setdefault(kind, set()).update(value)
        for key in value.keys() & hints.keys():
            yield from departures(value[key], hints[key], f"{place}.{key}", seen)
    elif origin in (Union, UnionType):
        given = [one for one in inner if one is not NoneType]
        if value is not None or NoneType not in inner:
            fits = next((one for one in given if not list(departures(value, one))), given[0])
            yield from departures(value, fits, place, seen)
    elif origin is Literal:
        if value not in inner:
            yield f"{place} is {value!r}, none of {inner}"
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from departures(one, inner[1], f"{place}.{key}", seen)
    elif origin in (list, Sequence) and isinstance(value, list):
        for number, one in enumerate(value):
            yield from departures(one, inner[0], f"{place}[{number}]", seen)
    elif kind is not Any:
        alike = (int, float) if kind is float else kind
        if origin is not None or not isinstance(value, alike) or (isinstance(value, bool) and kind is not bool):
            yield f"{place} is {value!r}, not {kind}"


@pytest.fixture
def written(smoke, corpus):
    """{file: what is in it, a list}."""
    found = {}
    for name in FILES:
        path = corpus / name if name == "corpus.json" else smoke.root / name
        if path.suffix == ".csv":
            found[name] = list(csv.DictReader(path.read_text().splitlines()))
        elif path.suffix == ".jsonl":
            found[name] = smoke.lines(name)
        else:
            found[name] = [json.loads(path.read_text())]
    assert all(found.values())
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_key_that_is_written_has_a_type_and_the_other_way_round(name, written):
    assert [wrong for one in written[name] for wrong in departures(one, FILES[name], name)] == []


def test_an_optional_key_is_written_by_some_run(written):
    seen = {}
    for name, contents in written.items():
        for content in contents:
            assert list(departures(content, FILES[name], name, seen)) == []
    absent = {kind.__name__: get_type_hints(kind).keys() - keys for kind, keys in seen.items()}
    assert {name: keys for name, keys in absent.items() if keys} == ABSENT


def test_a_departure_would_be_noticed(smoke):
    """A run of a version that writes more, less and something else."""
    content = smoke.read("runs/ctcd/config.json")
    del content["seed"]
    content["colour"] = "red"
    content["members"]["teacher"]["hard_weight"] = "1"
    content["edges"][0]["tau_squared"] = 1
    assert sorted(departures(content, RunConfig)) == [
        ".colour has no type",
        ".edges[0].tau_squared is 1, not <class 'bool'>",
        ".members.teacher.hard_weight is '1', not <class 'float'>",
        ".seed is missing",
    ]
