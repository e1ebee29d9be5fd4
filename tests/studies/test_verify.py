"""A run beside the band of a study's seeds: inside, outside, of another method, on another corpus."""

import csv
import json
import shutil

import pytest

from ctcd_jax.cli import main
from ctcd_jax.data import Corpus
from ctcd_jax.studies.cells import method


@pytest.fixture
def study(smoke, tmp_path):
    """A study whose arm is the method of the smoke run, from four seeds around it."""
    run = smoke.root / "runs/ctcd"
    config, lines = json.loads((run / "config.json").read_text()), smoke.lines("runs/ctcd/metrics.jsonl")
    arm = {"method": method(config), "corpus_hash": Corpus(config["data"]["corpus"]).content_hash}
    (tmp_path / "study.json").write_text(json.dumps({"format": 1, "arms": {"ctcd": arm}}))
    rows = [
        ["ctcd", member, seed, line["step"], figures["hard"] + 0.01 * (seed - 2.5)]
        for line in lines
        if line["kind"] == "validation"
        for member, figures in line["members"].items()
        for seed in (1, 2, 3, 4)
    ]
    with (tmp_path / "curves.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arm", "member", "seed", "step", "loss"], *rows])
    return run, tmp_path


@pytest.fixture
def copy(study, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(study[0], place)
    return place


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_run_like_the_others_is_in_their_band(study, capsys):
    run, place = study
    assert main(["verify", str(run), "--study", str(place)]) == 0
    said, warned = capsys.readouterr()
    assert said.endswith(f"{run} trains as {place}'s ctcd did\n")
    assert "outside" not in said
    assert said.count("student") == said.count("teacher") == 2
    assert not warned


def test_another_seed_precision_and_machine_are_the_same_method_and_another_corpus_is_said(study, copy, capsys):
    def edit(content):
        content["seed"], content["train"]["dtype"], content["resolved"]["dtype"] = 7, "bfloat16", "bfloat16"
        content["mesh"]["fsdp"] = 8

    change(copy / "config.json", edit)
    assert main(["verify", str(copy), "--study", str(study[1])]) == 0
    assert not capsys.readouterr().err
    change(copy / "config.json", lambda content: content["data"].update(corpus="/elsewhere"))
    assert main(["verify", str(copy), "--study", str(study[1])]) == 0
    assert "its corpus is no longer at /elsewhere; whether it is the study's is unknown" in capsys.readouterr().err
    change(study[1] / "study.json", lambda content: content["arms"]["ctcd"].update(corpus_hash="0" * 64))
    assert main(["verify", str(study[0]), "--study", str(study[1])]) == 0
    assert "than the study's (000000000000)" in capsys.readouterr().err


def test_one_loss_outside_is_shown_and_the_code_is_1(study, copy, capsys):
    path = copy / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1]["members"]["student"]["hard"] += 0.2  # 4 seeds: 5.8 x 0.013 x 1.1 + 0.02 are 0.10
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["verify", str(copy), "--study", str(study[1])]) == 1
    said = capsys.readouterr().out
    assert "does not train as" in said
    assert "outside lies student's loss at step" in said
    lines[-1]["members"]["student"]["hard"] -= 0.2
    first = next(line for line in lines if line["kind"] == "validation")
    first["members"]["student"]["hard"] += 0.2
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["verify", str(copy), "--study", str(study[1])]) == 0  # the newest decides; an earlier one is shown
    assert sum(line.endswith("outside") for line in capsys.readouterr().out.splitlines()) == 1
    first["members"]["student"]["hard"] -= 0.2
    lines[-1]["members"]["student"]["hard"] += 0.2
    lines[-1]["members"]["student"]["hard"] -= 0.11
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["verify", str(copy), "--study", str(study[1])]) == 0


def test_a_band_that_word_frequencies_lie_in_is_said(study, copy, capsys):
    path = study[1] / "curves.csv"
    rows = [row.split(",") for row in path.read_text().splitlines()]
    wide = [[*row[:4], str(float(row[4]) + 2 * (int(row[2]) - 2.5))] for row in rows[1:]]
    path.write_text("\n".join(",".join(row) for row in [rows[0], *wide]) + "\n")
    assert main(["verify", str(copy), "--study", str(study[1])]) == 0
    said = capsys.readouterr().err
    assert said.count("even word frequencies") == 2
    assert "that the run does says little" in said


def test_another_method_is_refused_and_what_differs_is_named(study, copy, capsys):
    change(copy / "config.json", lambda content: content["edges"][0].update(weight=2.0))
    change(copy / "config.json", lambda content: content["optimizer"].update(weight_decay=0.5))
    assert main(["verify", str(copy), "--study", str(study[1])]) == 2
    assert "the nearest, 'ctcd', differs in edges, optimizer.weight_decay" in capsys.readouterr().err


def test_a_run_without_an_evaluation_and_no_study_are_one_line(study, copy, tmp_path, capsys):
    (copy / "metrics.jsonl").write_text("")
    assert main(["verify", str(copy), "--study", str(study[1])]) == 2
    assert "no step has been evaluated that the study evaluated, too" in capsys.readouterr().err
    assert main(["verify", str(copy), "--study", str(copy)]) == 2
    assert "study.json: no such file; name the folder of a `ctcd study`" in capsys.readouterr().err


DAMAGE = {
    "arms is missing": lambda content: content.pop("arms"),
    "arms is a list, not an object": lambda content: content.update(arms=[]),
    "arms is empty": lambda content: content.update(arms={}),
    "arms.ctcd.corpus_hash is 7, not text": lambda content: content["arms"]["ctcd"].update(corpus_hash=7),
    "arms.ctcd.method.train is missing": lambda content: content["arms"]["ctcd"]["method"].pop("train"),
    "arms.ctcd.method.members.teacher is 3, not an object": lambda content: content["arms"]["ctcd"]["method"][
        "members"
    ].update(teacher=3),
    "arms.ctcd.method.edges is 7, not a list": lambda content: content["arms"]["ctcd"]["method"].update(edges=7),
    "arms.ctcd.method.edges[0] is 1, not an object": lambda content: content["arms"]["ctcd"]["method"].update(
        edges=[1]
    ),
    "arms.ctcd.method.members.teacher.init is 7, not text": lambda content: content["arms"]["ctcd"]["method"][
        "members"
    ]["teacher"].update(init=7),
    "format 2, this version reads 1": lambda content: content.update(format=2),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_damaged_study_is_one_line(study, capsys, said):
    change(study[1] / "study.json", DAMAGE[said])
    assert main(["verify", str(study[0]), "--study", str(study[1])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"study.json: {said}" in line


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("loss", "lost", 1), "curves.csv: no column 'loss'"),
        (lambda text: "", "curves.csv: no column 'arm'"),
        (lambda text: text + 'ctcd,"student,1\n', "cannot be read (unexpected end of data)"),
        (lambda text: text + "ctcd,student\n", "seed is missing"),
        (lambda text: text + "ctcd,student,1,many,2.5\n", "step is 'many', not a whole number"),
        (lambda text: text + f"ctcd,student,1,{'9' * 5000},2.5\n", "step is '999"),
        (lambda text: text + "ctcd,student,1,3,low\n", "loss is 'low', not a number"),
        (None, "curves.csv: no such file"),
    ],
)
def test_damaged_curves_are_one_line(study, capsys, edit, said):
    path = study[1] / "curves.csv"
    if edit:
        path.write_text(edit(path.read_text()))
    else:
        path.unlink()
    assert main(["verify", str(study[0]), "--study", str(study[1])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert str(path) in line


def test_a_study_that_an_earlier_version_has_written_is_understood(study, capsys):
    """It said every field that it knew, and did not know all of today's."""

    def edit(content):
        earlier = json.loads((study[0] / "config.json").read_text())
        del earlier["train"]["early_stopping"], earlier["masking"]["smoothing"]
        content["arms"]["ctcd"]["method"] = earlier

    change(study[1] / "study.json", edit)
    assert main(["verify", str(study[0]), "--study", str(study[1])]) == 0
    assert "trains as" in capsys.readouterr().out
