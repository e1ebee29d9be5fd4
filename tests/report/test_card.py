import json
import shutil
import statistics

import pytest
from huggingface_hub import ModelCard

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.artifacts.facts import write_facts
from ctcd_jax.artifacts.results import RESULT
from ctcd_jax.card import write_card
from ctcd_jax.errors import UserError
from ctcd_jax.report.card import card
from tests.card.facts import facts
from tests.report.reporting import evaluation, pair_score, write_lines
from tests.smoke import REAL, varied

SETTINGS = {"epochs": 3, "learning_rate": 1e-4}


@pytest.fixture
def export(models, tmp_path):
    """An export with its facts and first card."""
    directory = tmp_path / "export" / "student"
    shutil.copytree(models[1], directory)
    known = facts(weights=weights_digest(directory))
    write_facts(directory, known)
    write_card(directory, known)
    return directory


@pytest.fixture
def score(export, tmp_path):
    """Returns a function that appends a cell of this export, or of other weights, to glue/results.jsonl."""

    def append(task, seed, metrics, folder="glue", learning_rate=1e-4, **changes):
        (tmp_path / folder).mkdir(exist_ok=True)
        metric, value = next(iter(metrics.items()))
        row = {"model": "some/name", "weights": weights_digest(export), "task": task, "seed": seed, "dev_rows": 277}
        row |= {"metric": metric, "value": value, "metrics": metrics, "majority": {}, "majority_share": None}
        row |= {"hyperparameters": SETTINGS | {"learning_rate": learning_rate}}
        with (tmp_path / folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(varied(REAL["glue/results.jsonl"][0], **row | changes)) + "\n")

    return append


def latency(path, export, measurements=1, **changes):
    real = REAL["latency.json"]
    known = {"name": "s", "path": "/home/me/s", "weights": weights_digest(export), "parameters": 4_708_608}
    model = varied(real["models"][0], flops_per_token={"64": 1_703_936}, **known)
    other = varied(model, name="t", weights="0" * 64)
    figures = {"p50_ms": 19.2, "p95_ms": 21.7, "sequences_per_second": 1666.53, "threads": 2, "length": 64}
    rows = [
        varied(real["measurements"][0], model=name, batch_size=2**n, speedup=speedup, **figures)
        for n in range(measurements)
        for name, speedup in (("t", 1.0), ("s", 1.46))
    ]
    content = varied(real, cpu="EPYC", rounds=30, reference="t", models=[other, model], measurements=rows)
    path.write_text(json.dumps(content | {"onnx_differences": {"s": 1.2e-6}} | changes))
    return path


def text_of(export, *places):
    card([export], list(places), log=lambda _: None)
    return (export / "README.md").read_text()


def test_scores_are_means_over_seeds_of_these_weights_alone(export, score, tmp_path):
    for seed, accuracy in enumerate((0.5, 0.6, 0.55)):
        score("rte", seed, {"accuracy": accuracy}, majority_share=0.53)
        score("rte", seed, {"accuracy": 0.9}, weights="0" * 64)
        score("mrpc", seed, {"f1": 0.8 + accuracy / 10, "accuracy": 0.7}, dev_rows=408, majority_share=0.68)
    text = text_of(export, tmp_path / "glue")
    deviation = statistics.stdev([50, 60, 55])
    assert f"| RTE acc | 55.00 ± {deviation:.2f} | 3 | 53.00 |" in text
    assert f"| MRPC F1 | 85.50 ± {deviation / 10:.2f} | 3 |  |" in text
    assert f"**{(55 + 85.5 + 70) / 3:.2f}**" in text
    assert f"**{(55 + (85.5 + 70) / 2) / 2:.2f}**" in text
    assert "learning rate 0.0001" in text
    assert "90.00" not in text


def test_the_hub_gets_the_scores_on_glue_and_no_others(export, score, tmp_path):
    for seed, value in enumerate((0.5, 0.6)):
        score("rte", seed, {"accuracy": value})
        score("mnli", seed, {"accuracy": 0.7, "accuracy_mismatched": 0.71}, dev_rows=9815)
        score("pets", seed, {"accuracy": value})
        score("cola", seed, {"matthews": value}, dev_rows=100)  # in CoLA's folder, but not CoLA
    text_of(export, tmp_path)
    found = ModelCard.load(export / "README.md").data.eval_results
    assert {(r.dataset_config, r.dataset_split, r.metric_type, r.metric_value) for r in found} == {
        ("rte", "validation", "accuracy", 0.55),
        ("mnli", "validation_matched", "accuracy", 0.7),
        ("mnli", "validation_mismatched", "accuracy", 0.71),
    }
    assert {(r.task_type, r.dataset_type) for r in found} == {("text-classification", "nyu-mll/glue")}
    (rte,) = [r for r in found if r.dataset_config == "rte"]
    assert rte.metric_name == "Accuracy, mean of 2 seeds, standard deviation 0.0707"


def test_a_setting_that_was_chosen_and_where_a_task_began_are_said(export, score, tmp_path):
    for rate, value in ((1e-4, 0.5), (3e-5, 0.6)):
        score("rte", 0, {"accuracy": value}, learning_rate=rate, intermediate="sst2")
    score("sst2", 0, {"accuracy": 0.8}, dev_rows=872, device="NVIDIA H200", precision="float32")
    text = text_of(export, tmp_path / "glue")
    assert "| RTE acc | 60.00 | 1 |" in text
    assert "selected on the development set" in text
    assert "* RTE: learning rate 3e-05" in text
    assert "RTE started from the model as fine-tuned on SST-2." in text
    assert "Run on a CPU in float32, NVIDIA H200 in float32." in text
    names = {r.dataset_config: r.metric_name for r in ModelCard.load(export / "README.md").data.eval_results}
    assert names == {"rte": "Accuracy, one seed, setting selected on this split", "sst2": "Accuracy, one seed"}


def test_a_cell_of_an_earlier_version_does_not_say_where_it_ran(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    path = tmp_path / "glue" / "results.jsonl"
    row = json.loads(path.read_text())
    known = {"format", "weights", *(key for key in RESULT if not key.endswith("?"))}
    path.write_text(json.dumps({key: row[key] for key in known}) + "\n")
    text = text_of(export, path)
    assert "| RTE acc | 50.00 | 1 |" in text
    assert "Run on" not in text


def test_latency_says_what_was_measured_and_where(export, tmp_path):
    text = text_of(export, latency(tmp_path / "latency.json", export, measurements=2))
    assert (
        "**19.20 ms** a batch (p95 21.70 ms), **1,667 sequences/s**: 1 sequence of 64 tokens, EPYC, 2 threads" in text
    )
    assert "4,708,608 parameters; MFLOPs a token: 1.70 (length 64)" in text
    assert "| EPYC, 2 threads | eager PyTorch | float32 | 2 | 64 | 19.20 | 21.70 | 1,667 | 1.46 |" in text
    assert "speed-up over `t`" in text
    assert "ONNX Runtime's outputs differ from PyTorch's by 1.2e-06 at most." in text
    assert "/home" not in text
    assert "Fine-tuned" not in text
    assert ModelCard.load(export / "README.md").data.eval_results is None
    text = text_of(export, latency(tmp_path / "latency.json", export, measurements=1, onnx_differences={}))
    assert "speed-up" not in text
    assert "ONNX" not in text


def test_the_timing_that_stands_for_all_is_the_first_eager_one(export, tmp_path):
    path = latency(tmp_path / "latency.json", export, measurements=5)
    content = json.loads(path.read_text())
    for row, runtime in zip(content["measurements"], ("onnx", "onnx", *["eager"] * 8), strict=True):
        row["runtime"] = runtime
    content["measurements"] *= 2
    path.write_text(json.dumps(content))
    text = text_of(export, path)
    assert "**: 2 sequences of 64 tokens, EPYC, 2 threads, eager PyTorch, float32." in text
    assert "<details><summary>All 10 measurements</summary>\n\n| on |" in text


def test_again_it_gives_the_same_bytes_wherever_it_finds_things(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    latency(tmp_path / "latency.json", export)
    first = text_of(export, tmp_path / "glue" / "results.jsonl", tmp_path / "latency.json")
    assert text_of(export, tmp_path / "glue", tmp_path) == first
    shutil.copytree(tmp_path / "glue", tmp_path / "copy")
    shutil.copy(tmp_path / "latency.json", tmp_path / "copy")
    assert text_of(export, tmp_path) == first
    score("rte", 1, {"accuracy": 0.9}, folder="checkpoints")
    assert text_of(export, tmp_path) == first


def test_what_was_never_measured_of_a_model_is_an_error_and_no_card_is_written(export, score, models, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    (tmp_path / "latency.json").write_text('{"format": 1}')  # does not say whose it is
    other = tmp_path / "export" / "other"
    shutil.copytree(models[0], other)
    write_facts(other, facts(weights=weights_digest(other)))
    before = (export / "README.md").read_bytes()
    with pytest.raises(
        UserError, match=r"other: nothing there is of its weights .*1 results\.jsonl and 1 latency\.json"
    ):
        card([export, other], [tmp_path])
    assert (export / "README.md").read_bytes() == before
    assert not (other / "README.md").exists()


def test_results_that_contradict_each_other_are_refused(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    score("rte", 0, {"accuracy": 0.6}, folder="again")
    with pytest.raises(UserError, match=r"its rte of seed 0 is not that of .*results\.jsonl; give one of them"):
        text_of(export, tmp_path / "glue", tmp_path / "again")


def test_within_one_file_a_cell_counts_as_it_was_last(export, score, tmp_path):
    for value in (0.5, 0.6):
        score("rte", 0, {"accuracy": value})
    assert "| RTE acc | 60.00 | 1 |" in text_of(export, tmp_path / "glue")


def test_weights_that_were_trained_further_are_not_those_of_the_facts(export, models, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    shutil.copy(models[0] / "model.safetensors", export)
    with pytest.raises(UserError, match="not the weights that were exported"):
        text_of(export, tmp_path / "glue")


def test_what_is_damaged_is_named_and_the_rest_is_used(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    with (tmp_path / "glue" / "results.jsonl").open("a") as file:
        file.write('{"format"\n')
    for folder, content in (("a", "{"), ("b", '{"format": 1}')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "latency.json").write_text(content)
    latency(tmp_path / "latency.json", export)
    warned = []
    card([export], [tmp_path], log=lambda _: None, warn=warned.append)
    text = (export / "README.md").read_text()
    assert "| RTE acc | 50.00 | 1 |" in text
    assert "**19.20 ms**" in text
    assert [line.removeprefix(f"{tmp_path}/").partition(": left out: ")[0] for line in warned] == [
        "glue/results.jsonl",
        "a/latency.json",
        "b/latency.json",
    ]


@pytest.mark.parametrize(
    ("place", "message"),
    [("none", "no such file"), ("notes.txt", "neither results.jsonl nor"), ("latency.json", "format 3")],
)
def test_what_cannot_be_read_is_named(place, message, export, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "latency.json").write_text('{"format": 3}')
    with pytest.raises(UserError, match=f"{place}.*{message}"):
        text_of(export, tmp_path / place)


def test_facts_that_no_card_can_be_made_of_are_one_line(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5})
    path = export / "ctcd.json"
    known = json.loads(path.read_text())
    known["edges"] = [{**edge, "divergence": "x"} for edge in known["edges"]]
    assert known["edges"]
    path.write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"ctcd\.json: damaged \(no 'x'\); export the model again"):
        card([export], [tmp_path / "glue"], log=lambda _: None)


def test_what_the_model_knows_without_fine_tuning_is_shown(export, tmp_path):
    weights, found = weights_digest(export), tmp_path / "found"
    found.mkdir()
    wiki = {"corpus": "wiki", "corpus_hash": "beef", "unigram_loss": 7.0}
    lines = [
        evaluation("a", 5.5, weights=weights, backend="torch"),
        evaluation("a", 5.0, weights=weights),
        evaluation("a", 6.95, weights=weights, **wiki),
        evaluation("other", 1.0),
    ]
    write_lines(found / "evaluation.jsonl", lines)
    pairs = [pair_score("a", "x1", 80, weights=weights), pair_score("a", "y1", 52, weights=weights)]
    write_lines(found / "probe.jsonl", [*pairs, pair_score("other", "x1", 1)])
    said = []
    card([export], [found], log=said.append)
    assert said == [
        f"{export / 'README.md'}: 0 fine-tuned cells, 0 timings, 2 held-out corpora, 2 paradigms of minimal pairs"
    ]
    text = (export / "README.md").read_text()
    assert "| `novels` | 5.0000 [4.9000, 5.1000] | 148.4 | 25.0% | 6.5000 |" in text
    assert "| `wiki` | 6.9500 [6.8500, 7.0500] | 1,043.1 | 25.0% | 7.0000 |" in text
    assert "On `wiki` it is no better than word frequencies." in text
    assert "| `y` | 52.00 [42.32, 61.54], at chance | 1 | 100 |" in text
    assert "| **mean over paradigms** | 66.00 [" in text
    assert "1.0000 [" not in text
    # Single files will do, too.
    card([export], [found / "probe.jsonl"], log=said.append)
    assert "### Held-out text" not in (export / "README.md").read_text()


def test_baselines_stand_beside_the_scores_of_the_same_examples(export, score, tmp_path):
    score("rte", 0, {"accuracy": 0.5271}, majority={"accuracy": 0.5235}, data="examples")
    score("cola", 0, {"matthews": 0.1}, majority={"matthews": 0.0}, data="others")
    entries = {
        "rte": {"data": "examples", "majority": {"accuracy": 0.5235}, "bag_of_words": {"accuracy": 0.5812}},
        "cola": {"data": "examples", "majority": {"matthews": 0.0}, "bag_of_words": {"matthews": 0.3}},
    }
    (tmp_path / "glue" / "baselines.json").write_text(json.dumps({"format": 1, "tasks": entries}))
    card([export], [tmp_path / "glue"], log=lambda _: None)
    text = (export / "README.md").read_text()
    assert "| metric | score | seeds | majority class | bag of words |" in text
    assert "| RTE acc | 52.71 | 1 | 52.35 | 58.12 |" in text
    assert "| CoLA Matthews | 10.00 | 1 | 0.00 |  |" in text
