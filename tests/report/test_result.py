"""The first screen: one sentence, one table."""

import json
import math
import shutil

import pytest
from scipy.stats import binomtest

from ctcd_jax.artifacts.collect import collect
from ctcd_jax.artifacts.pairs import summarised
from ctcd_jax.report.models import find_models
from ctcd_jax.report.tuned import fine_tuned
from tests.report.reporting import (
    Page,
    downloads,
    evaluation,
    latency,
    make,
    measurement,
    metric_line,
    pair_score,
    result,
    table,
    weights_of,
    write_lines,
    write_run,
)
from tests.smoke import REAL, varied

HEAD = "first,second,column,difference,low,high,seeds,covers,missing\n"
COVERS = "fine-tuning seeds; development examples"


def lead(html):
    return html.split('<p class="lead">')[1].split("</p>")[0]


def rows(html, label="Models, the best first"):
    """{model: {heading: cell}} of the table of all models."""
    head, *body = table(html, label)
    return {row[0]: dict(zip(head, row, strict=True)) for row in body}


def glue(folder, scores, comparison=(), **fields):
    """Accuracies of models on RTE, from two seeds; `comparison`: (first, second, difference, low, high)."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"dev_rows": 277} | fields
    lines = [
        result(model, seed, metrics={"accuracy": score}, **fields) for model, score in scores.items() for seed in (0, 1)
    ]
    write_lines(folder / "results.jsonl", lines)
    if comparison:
        lines = [
            f"{first},{second},mean_of_the_1_metric_column,{difference},{low},{high},2,{COVERS},\n"
            for first, second, difference, low, high in comparison
        ]
        (folder / "comparison.csv").write_text(HEAD + "".join(lines))
    return folder


@pytest.mark.parametrize(
    ("scores", "comparison", "said"),
    [
        (
            {"a": 0.66, "b": 0.64},
            [("a", "b", 2.0, -1.5, 5.5)],
            "Fine-tuned, a (66.00 %, RTE acc) and b (64.00 %) cannot be told apart: +2.00 points, 95 % interval "
            "[−1.50, 5.50].",
        ),
        (
            {"a": 0.64, "b": 0.66},
            [("a", "b", -2.0, -3.5, -0.5)],
            "Fine-tuned, b is the best: 66.00 % (RTE acc), +2.00 points, 95 % interval [0.50, 3.50], against a, the "
            "reference (64.00 %).",
        ),
        (
            {"a": 0.64, "b": 0.66},
            [],
            "Fine-tuned, b has the highest score, 66.00 % (RTE acc), and a has 64.00 %; there is no interval of the "
            "difference, so it may be chance.",
        ),
        (
            {"a": 0.54},
            [],
            "Fine-tuned, a scores 54.00 % (RTE acc). It is not above chance on the task.",
        ),
        (
            {"a": 0.52, "b": 0.51},
            [],
            "Fine-tuned, a has the highest score, 52.00 % (RTE acc), and b has 51.00 %; there is no interval of the "
            "difference, so it may be chance. No model is above chance on the task. The majority class has "
            "53.00 %.",
        ),
    ],
)
def test_the_sentence_says_no_more_than_the_intervals(scores, comparison, said, tmp_path):
    glue(tmp_path / "glue", scores, comparison)
    assert lead(make([tmp_path / "glue"], tmp_path)) == said


def test_the_table_has_all_that_was_measured_of_the_same_weights_in_one_row(tmp_path):
    root = tmp_path / "all"
    glue(root / "glue", {"a": 0.64, "b": 0.66}, [("a", "b", -2.0, -3.5, 0.5)], data="examples")
    baselines = {"data": "examples", "majority": {"accuracy": 0.53}, "bag_of_words": {"accuracy": 0.58}}
    (root / "glue" / "baselines.json").write_text(json.dumps({"format": 1, "tasks": {"rte": baselines}}))
    timed = latency([measurement("a-timed", 4.0, speedup=1.0), measurement("b", 2.0, speedup=2.0)])
    timed["models"][0]["weights"] = weights_of("a")  # the same model by another name
    timed["measurements"][1]["p95_ms"] = 4.5  # over twice the median, which `ctcd latency` calls unsteady
    (root / "latency.json").write_text(json.dumps(timed))
    write_lines(root / "evaluation.jsonl", [evaluation("a", 5.0), evaluation("b", 6.45)])
    lines = [pair_score("a", "x1", 80), pair_score("a", "x2", 60), pair_score("b", "x1", 49), pair_score("b", "x2", 51)]
    write_lines(root / "probe.jsonl", lines)
    html = make([root], tmp_path)
    found = rows(html)
    assert list(found) == ["b", "a", "word frequencies", "chance", "majority class", "bag of words"]
    assert found["b"] == {
        "model": "b",
        "held-out loss": "6.450 [6.350, 6.550]",
        "perplexity": "632.7",
        "minimal pairs, %": "50.00 [43.20, 56.80]",
        "fine-tuned mean, %": "66.00",
        "points against a": "+2.00 [−0.50, 3.50]",
        "tasks above chance": "1 of 1",
        "speed-up": "2.00×",
        "parameters": "5.00 M",
        "MB": "20.0",
        "in words": "no better than word frequencies; minimal pairs at chance; cannot be told apart from a; "
        "speed-up unsteady",
    }
    assert found["a"]["in words"] == ""
    assert found["a"]["minimal pairs, %"].startswith("70.00 [")
    assert found["a"]["points against a"] == "reference"
    assert found["word frequencies"]["held-out loss"] == "6.500"
    assert found["word frequencies"]["perplexity"] == f"{math.exp(6.5):.1f}"
    assert found["majority class"]["fine-tuned mean, %"] == "53.00"
    assert found["bag of words"]["fine-tuned mean, %"] == "58.00"
    csv = [dict(zip(downloads(html)["result.csv"][0], row, strict=True)) for row in downloads(html)["result.csv"][1:]]
    assert (csv[0]["model"], float(csv[0]["loss_high"]), float(csv[0]["difference_low"])) == ("b", 6.55, -0.5)
    assert "b has 5.00 M parameters and 2.00 times the speed of a-timed (unsteady)." in lead(html)


def test_baselines_of_other_examples_are_not_shown(tmp_path):
    glue(tmp_path / "glue", {"a": 0.64}, data="examples")
    baselines = {"data": "others", "majority": {"accuracy": 0.53}, "bag_of_words": {"accuracy": 0.58}}
    (tmp_path / "glue" / "baselines.json").write_text(json.dumps({"format": 1, "tasks": {"rte": baselines}}))
    assert "bag of words" not in rows(make([tmp_path / "glue"], tmp_path))


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (
            (5.0, 5.1),
            "On held-out text of novels a has the lowest loss: 5.000 [4.900, 5.100] nats (perplexity 148.4). Word "
            "frequencies alone score 6.500. The next best, b, has 5.100 [5.000, 5.200]; the intervals overlap: the two "
            "cannot be told apart.",
        ),
        (
            (5.0, 6.0),
            "On held-out text of novels a has the lowest loss: 5.000 [4.900, 5.100] nats (perplexity 148.4). Word "
            "frequencies alone score 6.500. The next best, b, has 6.000 [5.900, 6.100]; the intervals do not overlap.",
        ),
        (
            (6.45, 6.6),
            "On held-out text of novels no model is better than word frequencies: the best, a, has a loss of 6.450 "
            "[6.350, 6.550] nats (perplexity 632.7). Word frequencies alone score 6.500.",
        ),
    ],
)
def test_without_fine_tuning_the_held_out_loss_decides(losses, said, tmp_path):
    (tmp_path / "text").mkdir()
    lines = [evaluation(model, loss) for model, loss in zip("ab", losses, strict=True)]
    write_lines(tmp_path / "text" / "evaluation.jsonl", lines)
    assert lead(make([tmp_path / "text"], tmp_path)) == said


def test_losses_on_different_corpora_are_not_compared(tmp_path):
    (tmp_path / "text").mkdir()
    wiki = {"corpus": "wiki", "corpus_hash": "beef", "unigram_loss": 2.0}
    lines = [evaluation("a", 5.0), evaluation("b", 5.5), evaluation("c", 1.0, **wiki)]
    write_lines(tmp_path / "text" / "evaluation.jsonl", lines)
    html = make([tmp_path / "text"], tmp_path)
    assert lead(html).startswith("On held-out text of novels a has")
    assert "c" not in lead(html).replace(",", "").split()
    found = rows(html)
    assert [found[model]["on"] for model in "abc"] == ["novels", "novels", "wiki"]
    assert found["word frequencies, wiki"]["held-out loss"] == "2.000"


def test_members_stand_with_their_last_validation_until_they_are_exported(smoke, tmp_path):
    last = [line for line in REAL["runs/ctcd/metrics.jsonl"] if line["kind"] == "validation"][-1]["members"]
    found = rows(make([smoke.root / "runs"], tmp_path / "runs"))
    assert set(found) == {"ctcd#student", "ctcd#teacher", "word frequencies"}
    assert found["ctcd#student"]["held-out loss"] == f"{last['student']['hard']:.3f}"
    exported = tmp_path / "with"
    shutil.copytree(smoke.root / "runs" / "ctcd", exported / "ctcd", ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(smoke.root / "student", exported / "student")
    found = rows(make([exported], tmp_path / "page"))
    assert set(found) == {"student", "ctcd#teacher", "word frequencies"}
    # Another run of the name and the seed is told from the export's by its figures.
    shutil.copytree(exported / "ctcd", exported / "other" / "ctcd")
    path = exported / "other" / "ctcd" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["members"]["student"]["hard"] += 0.5
    write_lines(path, lines)
    models = {model.name: model.run for model in find_models(collect([exported]))}
    assert models["student"] == "with/ctcd"
    assert {"other/ctcd#student", "other/ctcd#teacher", "with/ctcd#teacher"} == models.keys() - {"student"}


def test_a_member_that_was_evaluated_has_that_figure_and_its_interval(tmp_path):
    write_run(tmp_path / "runs" / "ctcd", ("teacher", "student"))
    corpus = REAL["runs/ctcd/config.json"]["resolved"]["corpus_hash"]
    own = {"path": "runs/ctcd#student", "weights": None, "step": 20}
    line = evaluation("ctcd#student", 5.0, corpus_hash=corpus, **own)
    write_lines(tmp_path / "runs" / "evaluation.jsonl", [line])
    found = rows(make([tmp_path / "runs"], tmp_path))
    assert found["ctcd#student"]["held-out loss"] == "5.000 [4.900, 5.100]"
    assert found["ctcd#teacher"]["held-out loss"] == "5.123"


def test_a_member_that_was_evaluated_at_an_earlier_step_is_another_model(tmp_path):
    last = metric_line("validation", 20, ("teacher", "student"), ())
    last["members"]["student"]["hard"], last["unigram"] = 5.0625, 6.5
    write_run(tmp_path / "runs" / "ctcd", ("teacher", "student"), lines=[last])
    earlier = _of_member("a", "student@10", 5.0, parameters="5a", step=10)
    write_lines(tmp_path / "runs" / "evaluation.jsonl", [earlier])
    html = make([tmp_path / "runs"], tmp_path)
    found = rows(html)
    assert found["ctcd#student@10"]["held-out loss"] == "5.000 [4.900, 5.100]"
    assert (found["ctcd#student"]["held-out loss"], found["ctcd#teacher"]["held-out loss"]) == ("5.062", "5.123")
    assert "RUN#MEMBER@STEP: such a member at another step" in html
    # The lead compares models, not a member with itself.
    assert "The next best of its size, ctcd#teacher, has 5.123" in html


def test_a_member_stands_for_the_end_of_its_run(tmp_path):
    """A run that is stopped saves after its last validation; one that was never validated ends with its last step."""
    directory = tmp_path / "ctcd"
    write_run(directory, ("teacher", "student"))
    steps = [_of_member("a", f"student@{step}", 5.0 + step, parameters=str(step), step=step) for step in (15, 25)]
    old = _of_member("a", "teacher", 5.0, parameters="7", step=None)
    del old["step"]  # of an earlier version
    write_lines(tmp_path / "evaluation.jsonl", [*steps, old | {"path": "a/ctcd#teacher"}])
    models = {model.name: model.parameters for model in find_models(collect([tmp_path]))}
    assert models == {"ctcd#student": {"25"}, "ctcd#student@15": {"15"}, "ctcd#teacher": {"7"}}
    write_lines(directory / "metrics.jsonl", [])
    steps = [_of_member("a", f"student@{step}", 5.0 + step, parameters=str(step), step=step) for step in (15, 20)]
    write_lines(tmp_path / "evaluation.jsonl", steps)
    models = {model.name: model.parameters for model in find_models(collect([tmp_path]))}
    assert models == {"ctcd#student": {"20"}, "ctcd#student@15": {"15"}, "ctcd#teacher": set()}


def test_a_step_does_not_tell_which_of_two_runs_of_one_name_it_is_of(tmp_path):
    for place, last in (("a", 20), ("b", 30)):
        lines = [metric_line("validation", step, ("student",), ()) for step in (10, last)]
        write_run(tmp_path / place / "ctcd", ("student",), lines=lines)
        (tmp_path / f"text-{place}").mkdir()
        line = _of_member(place, "student@20", 4.0, parameters=place, step=20)
        write_lines(tmp_path / f"text-{place}" / "evaluation.jsonl", [line])
    models = {model.name: model.parameters for model in find_models(collect([tmp_path]))}
    own = {"a/ctcd#student": set(), "b/ctcd#student": set()}
    assert models == own | {"student@20": {"a"}, "text-b/student@20": {"b"}}


def _of_member(place, name, loss, **own):
    corpus = REAL["runs/ctcd/config.json"]["resolved"]["corpus_hash"]
    return evaluation(name, loss, path=f"{place}/ctcd#student", weights=None, corpus_hash=corpus, **own)


def test_a_run_that_was_better_before_its_last_step_is_said_to_have_been(tmp_path):
    lines = [metric_line("validation", step, ("student",), ()) for step in (10, 20, 30)]
    for line, loss in zip(lines, (6.0, 5.5, 5.75), strict=True):
        line["members"]["student"]["hard"] = loss
        line["unigram"] = 5.6
    write_run(tmp_path / "runs" / "alone", ("student",), lines=lines)
    found = rows(make([tmp_path / "runs"], tmp_path))
    words = "no better than word frequencies; its run was better at step 20 (5.500)"
    assert found["alone#student"]["in words"] == words
    assert found["word frequencies"]["held-out loss"] == "5.600"


def test_an_evaluation_and_pairs_that_are_damaged_are_left_out(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    write_lines(folder / "evaluation.jsonl", [evaluation("a", 5.0), evaluation("b", 5.0, accuracy="much")])
    write_lines(folder / "probe.jsonl", [{"format": 1}])
    (folder / "results.jsonl").write_text("")
    (folder / "baselines.json").write_text("{}")
    warned = []
    html = make([folder], tmp_path, warned.append)
    assert [line.split(": left out")[0].rpartition("/")[2] for line in warned] == [
        "baselines.json",
        "evaluation.jsonl",
        "probe.jsonl",
    ]
    assert list(rows(html)) == ["a", "word frequencies"]


def test_an_export_whose_facts_are_of_other_weights_is_shown_without_them(smoke, tmp_path):
    shutil.copytree(smoke.root / "student", tmp_path / "all" / "student")
    facts = tmp_path / "all" / "student" / "ctcd.json"
    facts.write_text(json.dumps(varied(REAL["student/ctcd.json"], weights="0" * 64)))
    warned = []
    html = make([tmp_path / "all"], tmp_path, warned.append)
    assert warned == [f"{facts}: left out: it speaks of other weights than those beside it"]
    assert "held-out loss" not in rows(html)["student"]


def test_of_many_models_the_best_are_open_and_all_are_folded(tmp_path):
    (tmp_path / "text").mkdir()
    lines = [evaluation(f"m{number:02}", 5 + number / 100) for number in range(30)]
    write_lines(tmp_path / "text" / "evaluation.jsonl", lines)
    html = make([tmp_path / "text"], tmp_path)
    assert [*rows(html)] == [*(f"m{number:02}" for number in range(12)), "word frequencies"]
    assert "All 30 models: the 12 best are above" in Page(html).words
    assert len(rows(html, "All 30 models, the best first")) == 31


def test_where_nothing_was_measured_the_page_says_what_it_found(models, tmp_path):
    assert lead(make([models[1]], tmp_path)) == "This page reports 1 exported checkpoint."


# Chance.


@pytest.mark.parametrize(("correct", "pairs"), [(50, 100), (61, 100), (9, 10), (10, 10)])
def test_the_interval_of_one_paradigm_is_wilsons(correct, pairs):
    own = summarised([pair_score("a", "x", correct, pairs)])
    assert own is not None
    expected = binomtest(correct, pairs).proportion_ci(0.95, "wilson")
    assert (own.low, own.high) == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert (own.against_chance == "at chance") == (expected.low <= 0.5 <= expected.high)


@pytest.mark.parametrize(("correct", "above"), [(150, False), (158, False), (168, True), (200, True)])
def test_a_task_is_above_chance_where_its_interval_lies_above_the_constant_answer(correct, above, tmp_path):
    # One seed: what remains is the binomial interval of 277 examples, beside the 53 % of the constant answer.
    low = binomtest(correct, 277).proportion_ci(0.95, "wilson").low
    assert (low > 0.53) == above
    write_lines(tmp_path / "results.jsonl", [result("a", 0, metrics={"accuracy": correct / 277}, dev_rows=277)])
    own = fine_tuned(next(iter(collect([tmp_path]).results.values())))
    assert own is not None
    assert (own.models["a"].above, own.models["a"].tasks) == (int(above), 1)


def test_seeds_that_scatter_widen_what_counts_as_chance(tmp_path):
    scores = {"steady": (0.62, 0.62), "wild": (0.56, 0.68)}
    lines = [
        result(model, seed, metrics={"accuracy": value}, dev_rows=2770)
        for model, values in scores.items()
        for seed, value in enumerate(values)
    ]
    write_lines(tmp_path / "results.jsonl", lines)
    own = fine_tuned(next(iter(collect([tmp_path]).results.values())))
    assert own is not None
    assert {model: tuned.above for model, tuned in own.models.items()} == {"steady": 1, "wild": 0}


def test_a_member_at_a_step_without_an_export_is_one_row_for_all_corpora(tmp_path):
    own = {"path": "elsewhere/ctcd#teacher", "parameters": "5a", "weights": None, "step": 550}
    lines = [
        evaluation("teacher@550", 5.0, **own),
        evaluation("teacher@550", 6.0, corpus="news", corpus_hash="d", **own),
    ]
    (tmp_path / "text").mkdir()
    write_lines(tmp_path / "text/evaluation.jsonl", lines)
    assert [model.name for model in find_models(collect([tmp_path / "text"]))] == ["teacher@550"]
    (model,) = find_models(collect([tmp_path / "text"]))
    assert (model.step, model.is_member) == (550, False)  # the run's last validation is not of this step
    write_run(tmp_path / "ctcd", ("teacher", "student"))
    write_run(tmp_path / "more/ctcd", ("teacher", "student"))  # which of both it is cannot be told
    assert len(find_models(collect([tmp_path]))) == 5


def test_a_loss_above_that_of_word_frequencies_is_worse_where_its_interval_says_so(tmp_path):
    (tmp_path / "text").mkdir()
    lines = [evaluation(name, loss, unigram_loss=6.5) for name, loss in (("a", 6.0), ("b", 6.45), ("c", 6.7))]
    write_lines(tmp_path / "text/evaluation.jsonl", lines)
    words = {name: row["in words"] for name, row in rows(make([tmp_path / "text"], tmp_path)).items()}
    assert (words["a"], words["b"], words["c"]) == (
        "", "no better than word frequencies", "worse than word frequencies"
    )  # fmt: skip


def test_where_fine_tuning_tells_nothing_the_mean_of_what_knows_nothing_is_named(tmp_path):
    glue(tmp_path / "glue", {"a": 0.52})
    write_lines(tmp_path / "evaluation.jsonl", [evaluation("a", 5.0)])
    said = lead(make([tmp_path], tmp_path))
    assert said.endswith("Fine-tuned, it is not above chance on the task. The majority class has 53.00 % (RTE acc).")
