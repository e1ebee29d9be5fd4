"""A whole study, small: an arm that starts from another's runs, one that is tuned, one that fails, and the verdicts."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.cli import main
from ctcd_jax.config.file import SHIPPED
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.studies import Arm, Claim, Study, StudyCorpus
from ctcd_jax.studies.cells import Cell, Matrix, spent, trained_share
from ctcd_jax.studies.loading import FOLDER, load_study
from ctcd_jax.studies.page import study_page
from ctcd_jax.studies.running import check_claims
from tests.small import write_text

FILE = """
from ctcd_jax.studies import Arm, Claim, Study, StudyCorpus

FIELDS = {"train.steps": 4, "train.eval_every": 2, "train.dtype": "float32", "data.batch_size": 8}


def get_study(size="small"):
    return Study(
        "Does a teacher help?",
        {"text": "any text", "other": "other text"},
        {
            "train": StudyCorpus("text", {"length": 32, "vocab_size": 150, "validation": 0.3}),
            "other": StudyCorpus("other", {"length": 32, "validation": 0.5}, "train"),
        },
        ("other",),
        {
            "teacher": Arm("standalone:smoke-teacher", "train", FIELDS, tune={"optimizer.learning_rate": (1e-3, 3e-3)}),
            "alone": Arm("standalone:smoke-student", "train", FIELDS),
            "oneway": Arm("oneway:smoke", "train", FIELDS | {"members.teacher.init": "arm:teacher#teacher@best"}),
            "long": Arm("standalone:smoke-student", "train", FIELDS, compute_of="oneway"),
        },
        (
            Claim("a teacher helps", "oneway#student", ("alone#student", "long#student"), paper="+1"),
            Claim("elsewhere, too", "oneway#student", ("alone#student",), on="other", at="best"),
        ),
        seeds=2,
    )
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    (place / "helps.py").write_text(FILE)
    for seed, name in enumerate(("text", "other")):
        write_text(place / f"{name}.txt", 60, seed)
    texts = [argument for name in ("text", "other") for argument in ("--text", f"{name}=text:{place}/{name}.txt")]
    return ["study", f"{place}/helps.py", "--out", f"{place}/out", *texts]


# Runs that share what was compiled; `test_stopped_...` has them in processes.
HERE = ("--jobs", "0")


@pytest.fixture(scope="module")
def finished(arguments):
    """The folder of the finished study."""
    assert main([*arguments, *HERE, "--config.optimizer.clip_norm=1"]) == 0
    return Path(arguments[3]) / "helps"


def test_every_arm_and_seed_is_run_and_compared(finished):
    facts = json.loads((finished / "study.json").read_text())
    assert {name: arm["finished"] for name, arm in facts["arms"].items()} == dict.fromkeys(facts["arms"], 2)
    assert facts["texts"] == {"text": "text:text.txt", "other": "text:other.txt"}
    assert facts["changes"] == ["--config.optimizer.clip_norm=1"]
    tuned = facts["arms"]["teacher"]
    assert (tuned["tried"], set(tuned["chosen"])) == (2, {"optimizer.learning_rate"})
    alone, long, oneway = (facts["arms"][name] for name in ("alone", "long", "oneway"))
    # Who has a teacher that had to be trained pays for it; as much buys more steps alone.
    assert oneway["flops"] > tuned["flops"] + alone["flops"]
    assert long["steps"] == round(4 * oneway["flops"] / alone["flops"])
    first, second = facts["claims"][0]["differences"]
    assert (first["equal"], first["seeds"]) == (["tokens"], [1, 2])
    assert second["equal"] == ["compute"] or second["compute_ratio"] == pytest.approx(1, abs=0.1)
    assert first["low"] <= first["mean"] <= first["high"]
    assert first["p"] <= first["p_adjusted"]
    assert set(facts["claims"][0]["verdicts"]) <= {
        "holds here", "does not hold here", "cannot be told at this size"
    }  # fmt: skip


def test_the_rows_are_the_figures_of_the_runs(finished):
    facts = json.loads((finished / "study.json").read_text())
    rows = list(csv.DictReader((finished / "models.csv").open()))
    assert len(rows) == 4 * 2 * 2 * 2  # arms, seeds, texts, last and best step
    row = next(r for r in rows if (r["arm"], r["seed"], r["on"], r["at"]) == ("oneway", "2", "other", "last"))
    run = finished.parent / "cells" / facts["cells"]["oneway/seed-2"] / "run"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    (figures,) = last["corpora"].values()
    assert float(row["loss"]) == figures["members"]["student"]["hard"]
    config = json.loads((run / "config.json").read_text())
    assert config["members"]["teacher"]["init"].endswith(f"{facts['cells']['teacher/seed-2']}/run#teacher@best")
    losses = {r["seed"]: float(r["loss"]) for r in rows
              if (r["arm"], r["on"], r["at"]) == ("oneway", "held-out", "last")}  # fmt: skip
    others = {r["seed"]: float(r["loss"]) for r in rows
              if (r["arm"], r["on"], r["at"]) == ("alone", "held-out", "last")}  # fmt: skip
    difference = facts["claims"][0]["differences"][0]
    assert difference["each"] == [pytest.approx(losses[str(seed)] - others[str(seed)]) for seed in difference["seeds"]]
    assert difference["mean"] == pytest.approx(sum(difference["each"]) / 2)


def test_a_run_is_known_by_what_was_asked_for_and_not_by_what_this_machine_made_of_it(finished):
    """So that later versions and machines without bfloat16 take it over: defaults and what "auto" became go unsaid."""
    facts = [json.loads(line) for line in (finished / "finished.jsonl").read_text().splitlines()]
    for cell in facts:
        assert (cell["format"], cell["dtype"]) == (2, "float32")
        assert cell["content"]["train"]["dtype"] == "float32"  # the study asks for it
        assert "dtype" not in cell["content"]["resolved"]
        assert "remat" not in cell["content"]["train"]
        assert len(cell["validation"]) == 2 or cell["validation"][-1]["step"] > 4  # of the long arm
        # Other texts at the steps that are looked at: the last, and the best of who learns.
        losses = [{n: of["hard"] for n, of in line["members"].items() if "hard" in of} for line in cell["validation"]]
        looked_at = {len(losses) - 1} | {min(range(len(losses)), key=lambda i: losses[i][n]) for n in losses[0]}
        kept = [number for number, line in enumerate(cell["validation"]) if "corpora" in line]
        assert kept == sorted(looked_at)
        assert all(len(name) == 64 for number in kept for name in cell["validation"][number]["corpora"])


def test_the_page_leads_with_the_answer(finished):
    page = (finished / "index.html").read_text()
    assert page.index("Does a teacher help?") < page.index("8 of 8 runs are finished") < page.index("a teacher helps")
    for text in ("oneway#student", "equal tokens", "not tuned", "best of 2", "+1"):
        assert text in page


def test_the_page_names_the_models_that_have_learnt_hardly_anything(finished):
    """Four steps are none: 8 models, of which 6 are named. With five seeds a single one widens an interval much."""
    text = "8 of 8 models never left word frequencies behind, even at the best step, and may be"
    assert text in (finished / "index.html").read_text()
    assert "; and 2 others." in (finished / "index.html").read_text()
    facts = json.loads((finished / "study.json").read_text())
    row = {"arm": "ctcd", "member": "teacher", "on": "held-out", "step": 4, "unigram": 6.0, "accuracy": 0.0}
    # Seed 2 has learnt, and learnt its rows by heart then.
    figures = ((1, "best", 4.4), (2, "best", 5.69), (2, "last", 6.1), (3, "best", 5.71), (4, "best", 6.4))
    rows = [row | {"seed": seed, "at": at, "loss": loss} for seed, at, loss in figures]
    last = [each | {"at": "last"} for each in rows if each["at"] == "best" and each["seed"] != 2]
    page = study_page(facts, rows + last, [], {"ctcd#teacher": {1: [(4, 4.5)]}})
    text = "ctcd#teacher of seed 3, 5.710 nats of 6.000; ctcd#teacher of seed 4, 6.400 nats of 6.000."
    assert "2 of 4 models never left word frequencies behind, even at the best step" in page
    assert f"interval wide: {text}" in page
    assert "never left" not in study_page(facts, (rows + last)[:3], [], {"ctcd#teacher": {1: [(4, 4.5)]}})


def test_the_page_says_what_every_seed_says_of_a_claim(finished):
    facts = json.loads((finished / "study.json").read_text())
    claim, *_ = facts["claims"]
    loss = claim["differences"][0] | {"seeds": [1, 2, 3], "each": [-0.25, 0.5, 0.125], "mean": 0.125}
    score = loss | {"unit": "points"}
    gain = loss | {"beyond": ["a#student", "b#student"]}
    none = loss | {"seeds": [], "each": [], "mean": None, "low": None, "high": None}
    for difference, text in (
        (loss, "better in 1 of 3 seeds"),
        (score, "better in 2 of 3 seeds"),
        (gain, "gains more in 1 of 3 seeds"),
        (none, "no seed"),
    ):
        alone = claim | {"differences": [difference], "verdicts": claim["verdicts"][:1]}
        html = study_page(facts | {"claims": [alone]}, [], [], {})
        assert f"{text};" in html or f"{text})" in html
        assert html.count("<circle") == (4 if difference["seeds"] else 0)


def test_the_page_of_a_study_that_has_just_begun_links_to_what_is_there(finished):
    facts = json.loads((finished / "study.json").read_text())
    html = study_page(facts | {"claims": []}, [], [], {})
    assert re.findall('href="#([^"]+)"', html) == re.findall('<section id="([^"]+)"', html) == ["answer", "arms"]
    assert "Of the comparisons" not in html


def test_nothing_is_run_twice_and_what_is_lost_is_run_again(arguments, finished, capsys):
    facts = json.loads((finished / "study.json").read_text())
    cells = finished.parent / "cells"
    before = {path: path.read_bytes() for path in cells.glob("*/run/metrics.jsonl")}
    shutil.rmtree(cells / facts["cells"]["alone/seed-1"])
    assert main([*arguments, *HERE, "--config.optimizer.clip_norm=1"]) == 0
    said = capsys.readouterr().out
    assert said.count("lowest held-out loss") == 1
    assert "alone  seed 1  lowest held-out loss: student" in said
    assert before == {path: path.read_bytes() for path in cells.glob("*/run/metrics.jsonl")}
    assert json.loads((finished / "study.json").read_text())["claims"] == facts["claims"]


def test_what_another_machine_has_finished_is_taken_over(arguments, finished, tmp_path, capsys):
    """What another run starts from is run here again if that one is: there are figures of it, but no parameters."""
    facts = json.loads((finished / "study.json").read_text())
    lines = (finished / "finished.jsonl").read_text().splitlines()
    kept = tmp_path / "kept"
    kept.mkdir()
    lost = facts["cells"]["oneway/seed-2"]
    (kept / "finished.jsonl").write_text("".join(f"{line}\n" for line in lines if json.loads(line)["key"] != lost))
    # Elsewhere the text lies elsewhere, and so corpora have other names.
    for name in ("text", "other"):
        shutil.copy(Path(arguments[1]).with_name(f"{name}.txt"), tmp_path)
    texts = [argument for name in ("text", "other") for argument in ("--text", f"{name}=text:{tmp_path}/{name}.txt")]
    command = [*arguments[:2], "--out", str(tmp_path / "out"), *texts, "--finished", str(kept)]
    assert main([*command, *HERE, "--config.optimizer.clip_norm=1"]) == 0
    said = capsys.readouterr().out
    assert "9 of 9 runs that are finished elsewhere are this study's" in said
    run = [line.partition("  lowest")[0].split()[-3:] for line in said.splitlines() if "lowest held-out loss" in line]
    assert run == [["teacher", "seed", "2"], ["oneway", "seed", "2"]]
    found = json.loads((tmp_path / "out/helps/study.json").read_text())
    assert (found["claims"], found["cells"]) == (facts["claims"], facts["cells"])
    again = (tmp_path / "out/helps/finished.jsonl").read_text().splitlines()
    assert {json.loads(line)["key"] for line in again} == {json.loads(line)["key"] for line in lines}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace('"content": {', '"content": {"more": 9, ', 1),
            "finished.jsonl:1: damaged or edited",
        ),
        (lambda text: text.replace('"format": 2', '"format": 9', 1), "finished.jsonl:1: format 9, this version reads"),
        (lambda text: "{" + text, "finished.jsonl:1: damaged or edited"),
        (lambda text: text.replace('"seconds"', '"minutes"', 1), "finished.jsonl:1: seconds is missing"),
        (None, "finished.jsonl: no such file; name the folder of a `ctcd study`"),
    ],
)
def test_runs_from_elsewhere_that_were_edited_are_refused(arguments, finished, tmp_path, capsys, change, message):
    if change is not None:
        (tmp_path / "finished.jsonl").write_text(change((finished / "finished.jsonl").read_text()))
    assert main([*arguments, "--finished", str(tmp_path), "--plan"]) == 2
    assert message in capsys.readouterr().err


def test_the_plan_runs_nothing(arguments, finished, capsys):
    cells = set((finished.parent / "cells").iterdir())
    assert main([*arguments, "--seeds", "3", "--config.optimizer.clip_norm=1", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "4 of 14 runs are missing" in said
    assert "at the speed of the finished ones" in said
    assert cells == set((finished.parent / "cells").iterdir())


def test_the_plan_counts_what_waits_for_tuning(arguments, finished, capsys):
    file = finished.parent.parent / "waits.py"
    tuned = FILE.replace("(1e-3, 3e-3)", "(1e-3, 2e-3)")
    long = 'compute_of="oneway"'
    file.write_text(tuned.replace(long, long + ', tune={"optimizer.clip_norm": (1.0, 2.0)}'))
    assert main(["study", str(file), *arguments[2:], "--config.optimizer.clip_norm=1", "--plan"]) == 0
    said = capsys.readouterr().out
    rows = {row[0]: row for line in said.splitlines() if (row := line.split())}
    assert rows["teacher"][1:6] == ["4,", "2", "of", "them", "to"]
    assert rows["oneway"][1:6] == ["2", "0", "?", "?", "?"]
    assert rows["long"][1:] == ["4,", "2", "of", "them", "to", "tune", "0", "?", "?", "?", "after", "tuning"]
    assert "9 of 12 runs are missing" in said  # and one that was tried, and two alone, are another study's
    assert "and 6 runs whose cost is known after tuning" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"oneway#student"',
            '"oneway#studnet"',
            "claims[0]: 'oneway#studnet': arm 'oneway' trains no member 'studnet'",
        ),
        (
            '"oneway#student"',
            '"oneway#teacher"',
            "claims[0]: 'oneway#teacher': arm 'oneway' trains no member 'teacher'",
        ),
        ("3e-3)}", '3e-3)}, judged="student"', "arms.teacher.judged: it trains no member 'student'"),
        (
            "standalone:smoke-teacher",
            "ctcd:smoke",
            "arms.teacher.judged: name the member that tuning looks at: student or teacher",
        ),
    ],
)
def test_members_that_are_not_trained_are_refused_before_anything_runs(arguments, finished, capsys, old, new, message):
    file = finished.parent.parent / "members.py"
    file.write_text(FILE.replace(old, new))
    cells = set((finished.parent / "cells").iterdir())
    assert main(["study", str(file), *arguments[2:], *HERE, "--config.optimizer.clip_norm=1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert cells == set((finished.parent / "cells").iterdir())


def test_a_setting_that_diverges_has_lost_and_is_not_tried_again(arguments, finished, capsys):
    place = finished.parent.parent
    (place / "wild.py").write_text(FILE.replace("(1e-3, 3e-3)", "(1e36, 3e-3)"))
    command = ["study", str(place / "wild.py"), *arguments[2:], *HERE, "--config.optimizer.clip_norm=1"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("FAILED") == 1
    facts = json.loads((finished.parent / "wild/study.json").read_text())
    assert facts["arms"]["teacher"]["chosen"] == {"optimizer.learning_rate": 3e-3}
    assert (facts["arms"]["teacher"]["tried"], facts["waiting"]) == (2, {})
    assert "best of 2, 1 of which diverged" in (finished.parent / "wild/index.html").read_text()
    assert main(command) == 0
    assert "FAILED" not in capsys.readouterr().out
    (place / "wilder.py").write_text(FILE.replace("(1e-3, 3e-3)", "(1e36, 2e36)"))
    assert main(["study", str(place / "wilder.py"), *command[2:]]) == 2
    assert "arms.teacher: 2 of 2 settings are tried; teacher  seed 0" in capsys.readouterr().err.splitlines()[-1]
    facts = json.loads((finished.parent / "wilder/study.json").read_text())
    assert set(facts["waiting"]) == {"teacher", "oneway", "long"}
    assert facts["waiting"]["oneway"] == "waits for teacher"
    page = (finished.parent / "wilder/index.html").read_text()
    assert "2 of 8 runs are finished (4 arms, 2 seeds). What is missing is under Arms" in page
    assert "No run of teacher has begun: 2 of 2 settings are tried" in page


def test_an_arm_whose_tuning_chooses_what_another_arm_is_has_its_runs(arguments, finished, capsys):
    file = finished.parent.parent / "same.py"
    tuned = '''"tuned": Arm("standalone:smoke-student", "train", FIELDS, tune={"members.student.dropout": (0.1,)}),
            "long"'''
    file.write_text(FILE.replace('"long"', tuned, 1))
    command = ["study", str(file), *arguments[2:], *HERE, "--config.optimizer.clip_norm=1"]
    assert main(command) == 0
    facts = json.loads((finished.parent / "same/study.json").read_text())
    assert facts["cells"]["tuned/seed-1"] == facts["cells"]["alone/seed-1"]
    assert (facts["arms"]["tuned"]["finished"], facts["waiting"]) == (2, {})
    lines = (finished.parent / "same/finished.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 11  # of 13 cells
    capsys.readouterr()
    assert main([*command, "--plan"]) == 0
    assert "0 of 11 runs are missing" in capsys.readouterr().out


def test_an_arm_is_as_long_as_another_computes_where_length_is_counted_in_epochs(arguments, tmp_path, capsys):
    (tmp_path / "epochs.py").write_text(
        FILE.replace('"train.steps": 4', '"train.epochs": 2').replace('compute_of="oneway"', 'compute_of="alone"')
    )
    assert main(["study", str(tmp_path / "epochs.py"), *arguments[2:], "--plan"]) == 0
    rows = {row[0]: row for line in capsys.readouterr().out.splitlines() if (row := line.split())}
    assert rows["long"][3:] == rows["alone"][3:]  # steps, tokens, operations: two students, equally long


def test_a_run_that_fails_is_named_and_the_others_go_on(arguments, finished, capsys):
    file = finished.parent.parent / "fails.py"
    alone = 'Arm("standalone:smoke-student", "train", FIELDS)'
    file.write_text(FILE.replace(alone, alone.replace("FIELDS", 'FIELDS | {"optimizer.learning_rate": 1e36}')))
    assert main(["study", str(file), *arguments[2:], *HERE, "--config.optimizer.clip_norm=1"]) == 2
    said = capsys.readouterr()
    *_, line = said.err.splitlines()  # after the tracebacks, which stand in logs where runs have processes
    assert line.startswith("ctcd study: 2 of 10 runs failed, the first: UserError: step")
    assert "alone  seed 1  FAILED" in said.out
    assert "lowest held-out loss" not in said.out  # all others are those of the other study
    facts = json.loads((finished.parent / "fails/study.json").read_text())
    assert [arm["finished"] for arm in facts["arms"].values()] == [2, 0, 2, 2]
    assert "not finite" in facts["arms"]["alone"]["failed"][0]
    assert facts["claims"][0]["verdicts"][0] == "cannot be told at this size"
    assert facts["claims"][0]["differences"][0]["mean"] is None
    # What failed in another session is still said: here seed 2 is tried again, and seed 1 not.
    again = ["study", str(file), *arguments[2:], *HERE, "--config.optimizer.clip_norm=1", "--shard", "0/2"]
    assert main(again) == 2
    assert "1 of 10 runs failed" in capsys.readouterr().err.splitlines()[-1]
    facts = json.loads((finished.parent / "fails/study.json").read_text())
    assert [line.split(":")[0] for line in facts["arms"]["alone"]["failed"]] == ["seed 1", "seed 2"]


@pytest.mark.slow
def test_stopped_and_shared_out_it_is_the_same_study(arguments, tmp_path):
    """In processes, as users run it: one share is asked to stop and goes on, another does the other seed."""
    place, texts = tmp_path / "out", arguments[4:]
    command = [sys.executable, "-m", "ctcd_jax", "study", arguments[1], "--out", str(place), *texts,
               "--config.optimizer.clip_norm=1"]  # fmt: skip
    assert subprocess.run([*command, "--jobs", "2"], capture_output=True).returncode == 0
    undisturbed = json.loads((place / "helps/study.json").read_text())
    shutil.rmtree(place)
    process = subprocess.Popen(
        [*command, "--shard", "0/2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(place.glob("cells/*/cell.json")) and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # to all of them, as Ctrl-C and schedulers do
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert not [sign for sign in ("Traceback", "leaked") if sign in errors], errors
    assert "run the same command again to go on" in said
    so_far = json.loads((place / "helps/study.json").read_text())
    assert sum(arm["finished"] for arm in so_far["arms"].values()) < 8
    for share in ("0/2", "1/2", "0/2"):  # the last makes what waited for the other
        assert subprocess.run([*command, "--shard", share], capture_output=True).returncode == 0
    found = json.loads((place / "helps/study.json").read_text())
    assert (found["claims"], found["cells"]) == (undisturbed["claims"], undisturbed["cells"])
    assert all((path / "log.txt").stat().st_size for path in (place / "cells").iterdir())


SCORED = """
from ctcd_jax.studies import Arm, Claim, Pairs, Study, StudyCorpus, Tasks

FIELDS = {"train.steps": 4, "train.eval_every": 2, "train.dtype": "float32", "data.batch_size": 8}


def get_study():
    return Study(
        "What do they score?",
        {"text": "any text"},
        {"train": StudyCorpus("text", {"length": 32, "validation": 0.3}, "encoder")},
        (),
        {
            "teacher": Arm("standalone:smoke-teacher", "train", FIELDS | {"members.teacher.init": "hf:encoder"}),
            "student": Arm("standalone:smoke-student", "train", FIELDS | {"members.student.max_positions": 32}),
        },
        (Claim("larger orders words better", "teacher#teacher", ("student#student",), on="order"),
         Claim("and compares sentences better", "teacher#teacher", ("student#student",), on="glue")),
        seeds=2,
        scores={"order": Pairs("pairs", 8), "glue": Tasks("tasks", ("mrpc",), 2, {"epochs": 1, "jobs": 0})},
        models={"encoder": "a model"},
    )
"""


def _key(place, cell):
    return json.loads((place / "study.json").read_text())["cells"][cell]


def _mean_difference(rows, on):
    teacher, student = (
        [float(row["score"]) for row in rows if (row["on"], row["arm"]) == (on, arm)] for arm in ("teacher", "student")
    )
    return sum(teacher) / len(teacher) - sum(student) / len(student)


@pytest.mark.slow
def test_models_are_scored_on_pairs_and_tasks(arguments, smoke, tmp_path, capsys):
    (tmp_path / "scored.py").write_text(SCORED)
    (tmp_path / "pairs").mkdir()
    pairs = [{"sentence_good": f"the old {a} sees the {b} .", "sentence_bad": f"old the {a} sees {b} the ."}
             for a in ("cat", "dog", "king") for b in ("tree", "ship", "road", "song")]  # fmt: skip
    (tmp_path / "pairs/order.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    command = ["study", str(tmp_path / "scored.py"), "--out", str(tmp_path / "out"), *arguments[4:6], *HERE]
    assert main(command) == 2
    assert "--data order=PLACE: not given; it is to be pairs" in capsys.readouterr().err
    command += ["--data", f"order={tmp_path}/pairs", "--data", f"glue={smoke.root}/data"]
    assert main(command) == 2
    assert "--data encoder=PLACE: not given; it is to be a model" in capsys.readouterr().err
    command += ["--data", f"encoder={smoke.root}/teacher"]
    place = tmp_path / "out/scored"
    nowhere = [f"glue={tmp_path}/nothing" if part.startswith("glue=") else part for part in command]
    assert main(nowhere) == 2
    assert f"--data glue={tmp_path}/nothing: no such folder; it is to be tasks" in capsys.readouterr().err
    assert not place.exists()
    (tmp_path / "nothing").mkdir()
    assert main(nowhere) == 2  # what can be scored is, and is shown
    assert "glue: " in capsys.readouterr().err.splitlines()[-1]
    (order,), (glue,) = (claim["differences"] for claim in json.loads((place / "study.json").read_text())["claims"])
    assert (order["seeds"], glue["seeds"], glue["mean"]) == ([1, 2], [], None)
    assert main(command) == 0
    rows = list(csv.DictReader((place / "scores.csv").open()))
    assert len(rows) == 2 * 2 + 2 * 2 * 2  # arms x seeds of pairs, and of fine-tuning from two seeds
    config = json.loads((place.parent / "cells" / _key(place, "teacher/seed-2") / "cell.json").read_text())["content"]
    assert config["resolved"]["models"]["teacher"]["hidden"] == 16  # the encoder's, which is known by its weights
    assert config["members"]["teacher"]["init"] == f"hf:{weights_digest(smoke.root / 'teacher')}"
    probed = [json.loads(line) for line in (place / "order/probe.jsonl").read_text().splitlines()]
    shares = sorted(100 * (line["correct"] + line["ties"] / 2) / 8 for line in probed)
    assert sorted(float(row["score"]) for row in rows if row["on"] == "order") == shares
    tuned = [json.loads(line)["metrics"] for line in (place / "glue/results.jsonl").read_text().splitlines()]
    means = sorted(100 * sum(metrics.values()) / len(metrics) for metrics in tuned)
    assert sorted(float(row["score"]) for row in rows if row["on"] == "glue") == pytest.approx(means)
    (order,), (glue,) = (claim["differences"] for claim in json.loads((place / "study.json").read_text())["claims"])
    assert (order["unit"], order["seeds"], glue["seeds"]) == ("points", [1, 2], [1, 2])
    assert order["mean"] == pytest.approx(_mean_difference(rows, "order"))
    assert glue["mean"] == pytest.approx(_mean_difference(rows, "glue"))
    assert glue["low"] <= glue["mean"] <= glue["high"]
    for claimed in (order, glue):
        assert len(claimed["each"]) == 2
        assert claimed["mean"] == pytest.approx(sum(claimed["each"]) / 2)
    assert 0 < glue["p"] <= 1
    before = {path: path.stat().st_mtime_ns for path in place.parent.glob("cells/*/export/*/model.safetensors")}
    assert len(before) == 4
    assert main(command) == 0  # nothing is done twice
    assert before == {path: path.stat().st_mtime_ns for path in before}


ALONE = Arm("ctcd", "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "seeds: 1; at least 2"),
        ({"evaluations": ("wikki",)}, r"evaluations: there is no 'wikki' \(known: train, wiki\)|did you mean 'wiki'"),
        ({"claims": (Claim("", "b#student", ("a#student",)),)}, r"claims\[0\]: there is no 'b'"),
        ({"claims": (Claim("", "a#student", ("a#student",), on="text"),)}, r"claims\[0\].on: there is no 'text'"),
        ({"arms": {"a": Arm("ctcd", "tain")}}, r"arms.a.corpus: there is no 'tain'"),
        ({"arms": {"a": Arm("ctcd", "train", {"members.teacher.init": "arm:c#teacher"})}}, r"arms.a: there is no 'c'"),
        (
            {"arms": {"a": ALONE, "b": Arm("ctcd", "train", {"members.teacher.init": "arm:a#teacher@5"})}},
            r"arms.b: 'teacher@5': of every run the last step and '@best' alone are kept",
        ),
        ({"arms": {"a": Arm("ctcd", "train", compute_of="a")}}, r"arms.a: a -> a leads in a circle"),
        ({"corpora": {"train": StudyCorpus("text", {"lenght": 3})}}, r"corpora.train.recipe: there is no 'lenght'"),
        (
            {"claims": (Claim("", "a#student", ()),)},
            r"claims\[0\].than: names nothing that 'a#student' is compared with",
        ),
        (
            {"claims": (Claim("", "a#student", ("a#teacher",), ("a#teacher",)),)},
            r"claims\[0\].beyond: 1 models; it is the difference of two",
        ),
        ({"claims": (Claim("", "a", ("a#student",)),)}, r"claims\[0\]: 'a' names no member; write ARM#MEMBER"),
    ],
)
def test_what_does_not_fit_together_is_one_line(changes, message):
    corpora = {"train": StudyCorpus("text", {}), "wiki": StudyCorpus("text", {}, "train")}
    given = {"title": "", "texts": {"text": ""}, "corpora": corpora, "evaluations": ("wiki",),
             "arms": {"a": ALONE}, "claims": ()}  # fmt: skip
    with pytest.raises(UserError, match=message):
        Study(**given | changes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--text", "books"], "write NAME=PLACE"),
        (["--text", "text=text:x", "--text", "text=text:y"], "--text text: given 2 times"),
        (["--text", "nothing=text:x"], "the study has no such text; its texts are text, other"),
        (["--config.train.stepps=3"], "arms.teacher: train.stepps: no field 'stepps'"),
    ],
)
def test_mistakes_of_the_command_line_are_one_line(arguments, capsys, more, message):
    given = arguments[:4] if "given 2" in message else arguments
    try:
        code = main([*given, *more, "--plan"])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


def _cell(key, needs=(), steps=10, stopped=None):
    facts = {"validation": [{"step": 5}, {"step": stopped}]} if stopped else None
    return Cell(key, 1, None, key, {}, "", (), Path("nowhere"), tuple(needs), (), {}, facts, "float32", steps, 100, 8.0)


def test_what_a_run_has_cost_counts_each_teacher_once_and_as_long_as_it_was_trained():
    teacher = _cell("teacher", stopped=5)
    both = [_cell(name, [teacher]) for name in ("one", "other")]
    last = _cell("last", both)
    assert last.chain_flops == 4 * 8
    assert (trained_share(teacher), spent(last)) == (0.5, 3.5 * 8)


NAMES = sorted(path.stem for path in (SHIPPED / FOLDER).glob("*.py") if path.stem != "quickstart")


def test_the_quickstarts_study_is_whole():
    label, study = load_study("quickstart")
    assert (label, set(study.arms)) == ("quickstart", {"teacher", "student", "longer", "oneway", "ctcd"})


@pytest.fixture(scope="module")
def small(finished, tmp_path_factory):
    """A corpus, and an encoder of twelve layers with its tokenizer."""
    corpus = next((finished.parent / "corpora").glob("train-*"))
    encoder = tmp_path_factory.mktemp("encoder")
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 512}
    config = transformers.BertConfig(vocab_size=Corpus(corpus).vocab_size, num_hidden_layers=12, **shape)
    transformers.BertForMaskedLM(config).save_pretrained(encoder)
    for file in (corpus / "tokenizer").iterdir():
        shutil.copy(file, encoder)
    return Corpus(corpus), encoder


def _plan_whole(study, small, out):
    """Makes every run of a seed, and of tuning, on a corpus that stands for all of them."""
    corpus, encoder = small
    data = dict.fromkeys(study.data, str(encoder))
    changes, chosen = ["--config.data.batch_size=8"], dict.fromkeys(study.arms)
    matrix = Matrix(study, out, dict.fromkeys(study.corpora, corpus), data, changes, chosen)
    cells = [cell for arm in study.arms for cell in (matrix.cell(arm, 1), *matrix.tuning(arm))]
    check_claims(study, cells)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_studies_are_whole(name, small, tmp_path):
    for size in ("smoke", "tiny", "small", "paper"):
        label, study = load_study(f"{name}:{size}")
        assert label == f"{name}-{size}"
        assert study.claims
        _plan_whole(study, small, tmp_path)
    with pytest.raises(UserError, match=r"no size 'tinny' \(did you mean 'tiny'"):
        load_study(f"{name}:tinny")
