"""`ctcd evaluate`: the figure of a run's own validation, of any model on any corpus, and what a user can get wrong."""

import json
import shutil
import signal

import numpy as np
import pytest

from ctcd_jax.artifacts.scoring import read_evaluations
from ctcd_jax.cli import main
from ctcd_jax.data import Corpus, prepare
from ctcd_jax.scoring import evaluate as stage
from ctcd_jax.scoring.evaluate import evaluate
from ctcd_jax.scoring.heldout import jax_scorer, ratio_interval, row_sums
from ctcd_jax.scoring.models import locate, named
from ctcd_jax.training import train
from ctcd_jax.training.export import export
from ctcd_jax.training.validation_masks import masked_validation, unigram_loss
from tests.small import config, write_text
from tests.test_cli import fails


@pytest.fixture(scope="module")
def foreign(corpus, tmp_path_factory):
    """Another text, prepared with the tokenizer of the first: what the models were not trained on."""
    root = tmp_path_factory.mktemp("foreign")
    write_text(root / "text.txt", documents=40, seed=7)
    options = {"length": 32, "tokenizer": str(corpus / "tokenizer"), "validation": 0.2, "log": lambda _: None}
    prepare([f"text:{root}/text.txt"], root / "letters", **options)
    return root / "letters"


@pytest.fixture(scope="module")
def evaluated(smoke, corpus, foreign, tmp_path_factory):
    """A folder with two members and an export on two corpora, and what was printed."""
    out, said = tmp_path_factory.mktemp("evaluated") / "heldout", []
    run = smoke.root / "runs" / "ctcd"
    models = [f"{run}#student", f"{run}#teacher", str(smoke.root / "student")]
    evaluate(models, [corpus, foreign], out, log=said.append)
    return out, models, said[-1]


def by_model(lines, corpus):
    digest = Corpus(corpus).hash
    return {line["path"].rpartition("/")[2]: line for line in lines if line["corpus_hash"] == digest}


def test_a_members_figures_are_those_of_its_runs_validation(evaluated, smoke, corpus):
    lines = by_model(read_evaluations(evaluated[0] / "evaluation.jsonl"), corpus)
    last = [line for line in smoke.lines("runs/ctcd/metrics.jsonl") if line["kind"] == "validation"][-1]
    for member, figures in last["members"].items():
        line = lines[f"ctcd#{member}"]
        assert line["loss"] == pytest.approx(figures["hard"], rel=1e-6)
        assert line["accuracy"] == pytest.approx(figures["accuracy"], rel=1e-6)
        assert (line["step"], line["weights"], line["rows"]) == (4, None, Corpus(corpus).rows("validation"))
        assert line["loss_low"] < line["loss"] < line["loss_high"]
    assert len(last["members"]) == 2


def test_a_saved_step_is_the_model_that_validation_saw_then(corpus, tmp_path, capsys):
    run, said = tmp_path / "run", []
    often = {"eval_every": 2, "checkpoint_every": 2, "keep_checkpoints": 3, "keep_best": "student"}
    settings = config(corpus, steps=6, **often)
    settings.members.teacher.init, settings.members.teacher.trainable = f"hf:{_export(corpus, tmp_path)}", False
    settings.edges = settings.edges[:1]
    train(settings, run, log=said.append)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = {line["step"]: line["members"]["student"]["hard"] for line in lines if line["kind"] == "validation"}
    best = min(losses, key=losses.__getitem__)
    asked = [step for step in losses if step != best]
    models = [f"{run}#student@{step}" for step in asked] + [f"{run}#student@best", f"{run}#teacher"]
    *found, teacher = evaluate(models, [corpus], tmp_path / "out", log=said.append)
    for step, line in zip([*asked, best], found, strict=True):
        assert (line["model"], line["step"], line["path"]) == (f"student@{step}", step, f"{run}#student")
        assert line["loss"] == pytest.approx(losses[step], rel=1e-6)
    assert (teacher["model"], teacher["step"]) == ("teacher", None)
    warned, again = [], [f"{run}#student", f"{run}#student@6", f"{run}#student@best"]
    lines = evaluate(again, [corpus], tmp_path / "out", log=said.append, warn=warned.append)
    assert [line["model"] for line in lines] == list(dict.fromkeys(["student@6", f"student@{best}"]))
    assert warned[0] == f"--model {run}#student@6: has the parameters of {run}#student, which stands for both"
    places = [locate(f"{place}#student@best") for place in (run, shutil.copytree(run, tmp_path / "other"))]
    assert [name for name, _ in named([*places, locate(f"{run}#student@2")])] == [
        "run/student", "other/student", "run/student",
    ]  # fmt: skip
    capsys.readouterr()
    missing = fails(capsys, "evaluate", "--model", f"{run}#student@3", "--corpus", corpus)
    assert "no step 3 there; saved are [2, 4, 6]" in missing
    frozen = fails(capsys, "evaluate", "--model", f"{run}#teacher@best", "--corpus", corpus)
    assert f"{run}: 'teacher' is frozen there, the same at every step; leave @best out" in frozen


def _export(corpus, root):
    train(config(corpus, ("teacher",), steps=1), root / "before", log=lambda _: None)
    export(root / "before", "teacher", root / "exported", log=lambda _: None)
    return root / "exported"


def test_an_export_scores_what_its_member_does(evaluated, smoke, corpus, foreign):
    for place in (corpus, foreign):
        lines = by_model(read_evaluations(evaluated[0] / "evaluation.jsonl"), place)
        assert lines["student"]["loss"] == pytest.approx(lines["ctcd#student"]["loss"], rel=1e-6)
    assert lines["student"]["weights"] == smoke.read("student/ctcd.json")["weights"]
    assert lines["student"]["unigram_loss"] == unigram_loss(Corpus(foreign)) != unigram_loss(Corpus(corpus))


def test_pytorch_computes_the_same(smoke, corpus, foreign, tmp_path):
    exports = [str(smoke.root / name) for name in ("student", "teacher")]
    both = [evaluate(exports, [corpus, foreign], tmp_path, backend, log=lambda _: None) for backend in ("jax", "torch")]
    assert len(both[0]) == 4
    for ours, theirs in zip(*both, strict=True):
        assert (ours["model"], ours["predicted"]) == (theirs["model"], theirs["predicted"])
        for figure in ("loss", "loss_low", "loss_high", "accuracy"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-4), figure
    table = (tmp_path / "table.md").read_text()
    assert table.count("| torch |") == table.count("| jax |") == 4


def test_the_table_says_who_knows_no_more_than_word_frequencies(evaluated):
    out, _, said = evaluated
    lines = read_evaluations(out / "evaluation.jsonl")
    assert {line["model"] for line in lines} == {"ctcd/student@4", "teacher@4", "smoke/student"}
    assert all(line["loss_high"] > line["unigram_loss"] for line in lines)  # four steps teach nothing
    worse = all(line["loss_low"] > line["unigram_loss"] for line in lines)
    sentence = f"{'Worse' if worse else 'No better'} than word frequencies (unigram): "
    table = (out / "table.md").read_text()
    assert sentence in said
    assert sentence in table
    assert "of a corpus that a model was not trained on" in table
    line = lines[0]
    cells = f"{line['loss']:.3f} [{line['loss_low']:.3f}, {line['loss_high']:.3f}] | {np.exp(line['loss']):,.1f} | "
    assert cells in table
    assert max(map(len, said.splitlines()[:7])) <= 120


def test_what_is_finished_is_not_run_again(evaluated, corpus, foreign, tmp_path, monkeypatch):
    out, models, said = evaluated
    again = shutil.copytree(out, tmp_path / "again")
    path = again / "evaluation.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:30])  # killed while the fifth was written
    run = []
    monkeypatch.setattr(stage, "row_sums", lambda *given: run.append(1) or row_sums(*given))
    repeated = []
    evaluate(models, [corpus, foreign], again, log=repeated.append)
    assert len(run) == 2
    assert path.read_text() == "".join(lines)
    assert (again / "table.md").read_text() == (out / "table.md").read_text()
    assert repeated[-1].splitlines()[:-1] == said.splitlines()[:-1]


def test_a_stopped_command_keeps_what_is_finished(evaluated, corpus, foreign, tmp_path, monkeypatch, capsys):
    out, models, _ = evaluated
    again = shutil.copytree(out, tmp_path / "again")
    path = again / "evaluation.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    real, signals = stage.row_sums, []

    def stopped(*given):
        signals.append(signal.raise_signal(signal.SIGINT))
        return real(*given)

    monkeypatch.setattr(stage, "row_sums", stopped)
    command = ["evaluate", "--out", str(again), f"--corpus={corpus}", f"--corpus={foreign}"]
    assert main([*command, *(f"--model={model}" for model in models)]) == 75
    assert len(signals) == 1
    assert path.read_text() == "".join(lines[:3])
    assert "the finished figures are kept" in capsys.readouterr().out


def test_a_model_keeps_its_name_and_another_of_that_name_gets_its_own(smoke, corpus, tmp_path):
    first, second = tmp_path / "a" / "model", tmp_path / "b" / "model"
    shutil.copytree(smoke.root / "student", first)
    shutil.copytree(smoke.root / "teacher", second)
    warned = []
    options = {"log": lambda _: None, "warn": warned.append}
    evaluate([str(first)], [corpus], tmp_path / "out", **options)
    lines = evaluate([str(second), str(first), str(smoke.root / "student")], [corpus], tmp_path / "out", **options)
    assert [line["model"] for line in lines] == ["b/model", "model"]
    assert warned == [f"--model {smoke.root / 'student'}: has the parameters of {first}, which stands for both"]
    shutil.rmtree(first)
    shutil.copytree(smoke.root / "teacher", first)
    (line,) = evaluate([str(first)], [corpus], tmp_path / "out", **options)
    assert line["model"] == "b/model"


def test_padded_rows_of_a_vocabulary_are_left_out_and_said(smoke, corpus, tmp_path):
    from safetensors.numpy import load_file, save_file

    padded = shutil.copytree(smoke.root / "student", tmp_path / "padded")
    config = json.loads((padded / "config.json").read_text())
    tensors = load_file(padded / "model.safetensors")
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        tensors[name] = np.concatenate([tensors[name], np.full_like(tensors[name][:10], 3)])
    save_file(tensors, padded / "model.safetensors", metadata={"format": "pt"})
    (padded / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 10}))
    warned = []
    plain, jax, torch = (
        evaluate([str(model)], [corpus], None, backend, log=lambda _: None, warn=warned.append)[0]["loss"]
        for model, backend in ((smoke.root / "student", "jax"), (padded, "jax"), (padded, "torch"))
    )
    assert jax == pytest.approx(plain, rel=1e-6)
    assert torch == pytest.approx(plain, rel=1e-4)
    assert warned == [f"--model {padded}: {config['vocab_size'] + 10} rows for {config['vocab_size']} tokens; "
                      "the last 10 are left out"] * 2  # fmt: skip


def test_the_interval_is_that_of_a_bootstrap_over_rows(smoke, corpus):
    corpus, place = Corpus.open(corpus), locate(str(smoke.root / "student"))
    scorer = jax_scorer(place.shape, place.load()[0], corpus.vocab_size)
    sums = row_sums(scorer, masked_validation(corpus, 16))
    ratio, low, high = ratio_interval(sums.nats, sums.predicted)
    rows = len(sums.nats)
    drawn = np.random.default_rng(0).integers(rows, size=(20_000, rows))
    ratios = sums.nats[drawn].sum(axis=1) / sums.predicted[drawn].sum(axis=1)
    assert ratio == pytest.approx(sums.nats.sum() / sums.predicted.sum())
    assert (high - low) / (2 * 1.96 * ratios.std()) == pytest.approx(1, abs=0.15)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        counts = rng.integers(1, 9, 40)
        level = rng.normal(4, 1, 40)  # of a row: its tokens are alike
        totals = np.array([rng.gamma(4, level / 4, n).sum() for n, level in zip(counts, np.abs(level), strict=True)])
        _, low, high = ratio_interval(totals, counts)
        held += low <= 4 <= high
    assert 920 <= held <= 975


def test_mistakes_are_one_line(capsys, smoke, corpus, models, tmp_path):
    run = smoke.root / "runs" / "ctcd"

    def line(*arguments):
        return fails(capsys, "evaluate", *arguments)

    assert "'student'?" in line("--model", f"{run}#studnet", "--corpus", corpus)
    assert f"a run; name a member of it, '{run}#teacher' or '{run}#student'" in line("--model", run, "--corpus", corpus)
    said = line("--model", f"{run}#student@4", "--corpus", corpus, "--backend", "torch")
    assert f"`ctcd export --workdir {run} --member student --step 4 --out DIR`" in said
    said = line("--model", models[0], "--corpus", corpus)
    assert f"--model {models[0]}: its tokenizer (" in said
    assert f"is not that of the corpus {corpus} (" in said
    assert "no such directory; make it with `ctcd prepare" in line("--model", run, "--corpus", tmp_path / "none")
    student = f"{run}#student"
    assert f"--model {student}: given twice" in line("--model", student, "--model", student, "--corpus", corpus)
    short = shutil.copytree(smoke.root / "student", tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    assert "16 positions, but" in line("--model", short, "--corpus", corpus)


def test_the_command_prints_alone_without_out(capsys, smoke, corpus):
    assert main(["evaluate", "--model", str(smoke.root / "student"), "--corpus", str(corpus)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["model", "corpus", "loss", "perplexity", "accuracy", "unigram", "rows"]
    assert said[1].startswith("student  corpus  ")
