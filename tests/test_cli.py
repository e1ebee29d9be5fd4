"""The command line as a user meets it: help, exit codes, and one line for every mistake."""

import errno
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ctcd_jax.cli import main
from ctcd_jax.data import recipe
from ctcd_jax.distill.objective import Terms
from ctcd_jax.options import make_parser
from ctcd_jax.training.checkpoint import Checkpoints, load_member
from ctcd_jax.training.state import TrainState
from tests.small import ctcd, write_text
from tests.training.validation_in_pytorch import validation_loss

VERBS = (
    *("prepare", "inspect", "train", "checkpoints", "export", "evaluate", "probe", "glue", "latency", "card", "report"),
    "bench",
)


def fails(capsys, *arguments):
    """Runs a command that must end with code 2 and one line on stderr, and returns the line."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith(f"ctcd {arguments[0]}: ")
    return said


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: ctcd {verb}" in said
    assert len(said.splitlines()) > 6


def test_help_takes_a_default_from_its_stage(capsys, monkeypatch):
    monkeypatch.setattr(recipe.Recipe.__dataclass_fields__["length"], "default", 77)
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "tokens a row (default 77)" in said
    assert f"train a WordPiece of V tokens (default {recipe.VOCAB_SIZE})" in said


def test_no_help_retypes_a_default():
    (verbs,) = [action for action in make_parser()._actions if isinstance(action.choices, dict)]
    texts = [action.help for parser in verbs.choices.values() for action in parser._actions if action.help]
    typed = [re.sub(r"\{default\}|%\(default\)s", "", text) for text in texts]
    assert sum(map(str.__ne__, texts, typed)) > 15
    assert [text for text in typed if re.search(r"default:? [\d.]|\((the )?default\)|the default\)", text)] == []


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)
    assert "75" in said


def test_an_unknown_argument_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["latency", "--model", "x", "--lenght", "3"])
    assert stopped.value.code == 2
    assert "--lenght" in capsys.readouterr().err


def test_a_store_that_is_misspelt_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--workdir", "run", "--member", "student", "--out", "gs:/b/x"])
    assert stopped.value.code == 2
    assert "'gs:/b/x' is no folder of a store; write gs://BUCKET/PATH" in capsys.readouterr().err


def test_with_stdout_closed_what_is_said_goes_nowhere():
    closed = subprocess.run(f"{sys.executable} -m ctcd_jax --help >&-", shell=True, stderr=subprocess.PIPE)
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_python_dash_m():
    done = ctcd("--version")
    assert (done.returncode, done.stdout) == (0, "ctcd 0.2.0\n")


# Corpus.


def test_missing_text(capsys, tmp_path):
    said = fails(capsys, "prepare", "--source", f"text:{tmp_path}/none*.txt", "--out", tmp_path / "corpus")
    assert "none*.txt" in said


def test_empty_text(capsys, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    said = fails(capsys, "prepare", "--source", f"text:{tmp_path}/empty.txt", "--out", tmp_path / "corpus")
    assert "empty" in said or "no " in said
    assert not (tmp_path / "corpus").exists()


def test_nothing_left_after_sampling(capsys, tmp_path):
    write_text(tmp_path / "text.txt", documents=3)
    said = fails(
        capsys, "prepare", "--source", f"text:{tmp_path}/text.txt", "--out", tmp_path / "corpus", "--every", 10**9
    )
    assert "every" in said
    assert not (tmp_path / "corpus").exists()


def train_arguments(config_file, corpus, workdir):
    return ["train", "--config", config_file, "--workdir", workdir, f"--config.data.corpus={corpus}"]


def test_train_needs_a_corpus(capsys, config_file, tmp_path):
    assert "no such directory" in fails(capsys, *train_arguments(config_file, tmp_path / "none", tmp_path / "run"))
    assert "no such file" in fails(capsys, "train", "--config", "configs/ctdc.py", "--workdir", tmp_path / "run")


def test_a_corrupt_shard_is_named(capsys, config_file, corpus, tmp_path):
    damaged = tmp_path / "corpus"
    shutil.copytree(corpus, damaged)
    shard = next(damaged.glob("train-*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    said = fails(capsys, *train_arguments(config_file, damaged, tmp_path / "run"))
    assert shard.name in said
    assert not (tmp_path / "run").exists()


def test_an_unknown_corpus_format(capsys, config_file, corpus, tmp_path):
    newer = tmp_path / "corpus"
    shutil.copytree(corpus, newer)
    manifest = json.loads((newer / "corpus.json").read_text())
    (newer / "corpus.json").write_text(json.dumps(manifest | {"format": 2}))
    assert "format 2" in fails(capsys, *train_arguments(config_file, newer, tmp_path / "run"))


def test_a_workdir_that_is_not_a_run(capsys, config_file, corpus, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    assert "not empty and not a run" in fails(capsys, *train_arguments(config_file, corpus, tmp_path / "run"))


# A run, its plan, its exports.


@pytest.fixture(scope="module")
def run(config_file, corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cli") / "run"
    assert main([str(a) for a in train_arguments(config_file, corpus, workdir)]) == 0
    return workdir


def test_plan_says_what_it_would_cost_and_does_nothing(capsys, config_file, corpus, tmp_path):
    assert main([str(a) for a in train_arguments(config_file, corpus, tmp_path / "run")] + ["--plan"]) == 0
    said = capsys.readouterr().out
    parts = (
        "student: 1 layers",
        "edges: teacher->student x 1",
        "20 steps of 8",
        "epochs",
        "tokens",
        "\nmemory:",
        "\ntime:",
    )
    places = [said.index(part) for part in parts]
    assert places == sorted(places)  # what is known first is said first
    assert re.search(r"time: \d\.\d+ to \d\.\d+ s a step here, \S+ to \S+ in all \(float32\)", said)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_killed_while_it_began_begins_again(config_file, corpus, tmp_path):
    (tmp_path / "run/tokenizer").mkdir(parents=True)
    (tmp_path / "run/config.json.partial").write_text("{")
    arguments = [str(a) for a in train_arguments(config_file, corpus, tmp_path / "run")]
    assert main([*arguments, "--config.train.steps=1"]) == 0
    assert (tmp_path / "run/tokenizer/tokenizer.json").is_file()


@pytest.mark.parametrize(("content", "message"), [("{", "damaged"), ("[]", "not a JSON object"), ("{}", "format None")])
def test_a_damaged_run(content, message, capsys, config_file, corpus, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(content)
    assert message in fails(capsys, *train_arguments(config_file, corpus, tmp_path / "run"))


def test_a_workdir_of_another_config_names_the_field(capsys, config_file, corpus, run):
    said = fails(capsys, *train_arguments(config_file, corpus, run), "--config.seed=5")
    assert "begun with seed = 0, not 5" in said


def test_an_unknown_run_format(capsys, config_file, corpus, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/config.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    assert "format 9" in fails(capsys, *train_arguments(config_file, corpus, tmp_path / "run"))


@pytest.fixture(scope="module")
def exported(run):
    out = run.parent / "export" / "student"
    assert main(["export", "--workdir", str(run), "--member", "student", "--out", str(out)]) == 0
    return out


def test_export_prints_its_parity(capsys, run, tmp_path):
    assert main(["export", "--workdir", str(run), "--member", "teacher", "--out", str(tmp_path / "teacher")]) == 0
    assert "max |logit difference| to PyTorch" in capsys.readouterr().out


def test_what_is_exported_works_in_transformers(exported):
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(exported)
    model, info = AutoModelForMaskedLM.from_pretrained(exported, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert len(tokenizer) == model.config.vocab_size
    guesses = pipeline("fill-mask", model=str(exported))(f"the old {tokenizer.mask_token} sees the bird .")
    assert len(guesses) == 5
    types = model.bert.embeddings.token_type_embeddings.weight
    assert (types[0] == types[1]).all()


def test_the_lines_of_the_card_load_the_model(exported):
    card = (exported / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("DIRECTORY_OR_HUB_ID", str(exported))
    assert len(code.splitlines()) == 3
    loaded = {}
    exec(code, loaded)
    assert loaded["model"].num_parameters() == json.loads((exported / "ctcd.json").read_text())["parameters"]
    assert len(loaded["tokenizer"]) == loaded["model"].config.vocab_size


def test_the_exported_models_loss_in_pytorch_is_that_of_the_run(exported, run, corpus):
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert validation_loss(exported, corpus) == pytest.approx(last["members"]["student"]["hard"], rel=1e-5)


def test_the_model_card_has_measured_figures(exported, run):
    card = (exported / "README.md").read_text()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"loss {last['members']['student']['hard']:.4f} nats" in card
    assert "`teacher` teaches `student`: weight 1, temperature 2" in card
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_the_model_card_of_an_earlier_step_has_no_later_figures(run, tmp_path):
    out = tmp_path / "earlier"
    assert main(["export", "--workdir", str(run), "--member", "student", "--out", str(out), "--step", "14"]) == 0
    card = (out / "README.md").read_text()
    assert "14 of 20 steps of 8 rows" in card
    assert "nats" not in card  # nothing was measured at step 14


def test_export_mistakes(capsys, run, exported, tmp_path):
    out = tmp_path / "out"
    assert "did you mean 'student'" in fails(
        capsys, "export", "--workdir", run, "--member", "studnet", "--out", out
    )  # fmt: skip
    assert "no such file" in fails(capsys, "export", "--workdir", tmp_path / "no", "--member", "student", "--out", out)
    assert "not empty" in fails(capsys, "export", "--workdir", run, "--member", "student", "--out", exported)
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, "export", "--workdir", run, "--member", "student", "--out", tmp_path / "file")
    said = fails(capsys, "export", "--workdir", run, "--member", "student", "--out", out, "--step", 3)
    assert "no step 3 there; saved are [10, 14, 20]" in said
    assert not out.exists()


def test_glue_latency_and_report(capsys, exported, run, corpus, tmp_path):
    task = tmp_path / "data" / "Pets"
    task.mkdir(parents=True)
    for split, count in (("train", 60), ("dev", 20)):
        rows = [f"the {'cat' if n % 2 else 'tree'} sees the old bird .\t{n % 2}" for n in range(count)]
        (task / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    arguments = ["glue", "--model", exported, "--data", task.parent, "--tasks", "pets", "--seeds", 1, "--out", out]
    assert main([str(a) for a in [*arguments, "--epochs", 1]]) == 0
    (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert (row["task"], row["model"], row["dev_rows"]) == ("pets", "student", 20)
    assert main(["latency", "--model", str(exported), "--out", str(out / "latency.json"), "--length", "32"]) == 0
    arguments_of_card = ["card", "--model", str(exported), "--from", str(out)]
    assert main(arguments_of_card) == 0
    card = (exported / "README.md").read_text()
    assert f"| pets acc | {100 * row['value']:.2f} | 1 |" in card
    assert "### Latency" in card
    assert main(arguments_of_card) == 0
    assert (exported / "README.md").read_text() == card
    assert main(["report", str(run), str(out), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "teacher" in page
    assert "pets" in page.lower()
    capsys.readouterr()
    arguments[2] = tmp_path / "none"
    assert "no config.json" in fails(capsys, *arguments)


# Community KD from the project's own export.


def community(exported, config_file, **changes):
    overrides = {"members.teacher.init": f"hf:{exported}"} | changes
    text = """
from ctcd_jax.config import edge, member
from tests.small import config
from pathlib import Path
def get_config(preset=""):
    made = config(Path("unset"), members=())
    made.members.teacher = member(trainable=False)
    for name in ("student1", "student2"):
        made.members[name] = member(init="layers:teacher#0")
    made.edges = tuple(edge(*ends) for ends in (
        ("teacher", "student1"), ("teacher", "student2"), ("student1", "student2"), ("student2", "student1")))
    return made
"""
    path = config_file.parent / "community.py"
    path.write_text(text)
    return path, [f"--config.{key}={value}" for key, value in overrides.items()]


def test_community_runs_and_one_student_is_exported(capsys, exported, config_file, corpus, tmp_path):
    path, overrides = community(exported, config_file)
    arguments = [str(a) for a in train_arguments(path, corpus, tmp_path / "run")] + overrides
    assert main(arguments) == 0
    said, warned = capsys.readouterr()
    assert "frozen member 'teacher': MLM loss" in said
    # 20 steps taught it little.
    assert re.search("WARNING: frozen member 'teacher' predicts (hardly better|worse) than word frequencies", warned)
    assert "start equal" not in warned  # they do, but they have dropout
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["edges"]) == {
        "teacher->student1", "teacher->student2", "student1->student2", "student2->student1",
    }  # fmt: skip
    assert "hard" not in last["members"]["teacher"]
    assert (
        main(["export", "--workdir", str(tmp_path / "run"), "--member", "student1", "--out", str(tmp_path / "s1")]) == 0
    )

    out = tmp_path / "teacher"
    assert main(["export", "--workdir", str(tmp_path / "run"), "--member", "teacher", "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert f"| `teacher` (this model) | `{exported.name}` | frozen |" in card
    assert str(exported.parent) not in card

    # What it started from may go; the run's own copy may not change, nor may the run record another one.
    moved = [o.replace(str(exported), f"{exported}-moved") for o in arguments]
    assert main(moved) == 0
    assert "which it began with" in capsys.readouterr().err
    other = [*arguments, "--config.members.student1.init=layers:teacher#1"]
    assert "members.student1.init = layers:teacher#0, not" in fails(capsys, *other)
    weights = tmp_path / "run/frozen/teacher/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "frozen copy of 'teacher' has changed" in fails(capsys, *arguments)
    weights.unlink()
    assert "frozen copy of 'teacher' has changed" in fails(capsys, *arguments)


def test_students_that_start_equal_without_dropout_are_warned_of(capsys, exported, config_file, corpus, tmp_path):
    off = {f"members.{n}.{key}": 0.0 for n in ("student1", "student2") for key in ("dropout", "attention_dropout")}
    path, overrides = community(exported, config_file, **off, **{"train.steps": 1})
    assert main([str(a) for a in train_arguments(path, corpus, tmp_path / "run")] + overrides) == 0
    assert "WARNING: 'student1' and 'student2' start equal and have no dropout" in capsys.readouterr().err


def test_one_way_distillation_from_a_finished_run(capsys, run, config_file, corpus, tmp_path):
    """Every kind of `init` in one cohort: a run's member teaches one that copies its layers."""
    path, overrides = community("", config_file, **{"members.teacher.init": f"run:{run}#teacher", "train.steps": 2})
    assert main([str(a) for a in train_arguments(path, corpus, tmp_path / "run")] + overrides) == 0
    said = capsys.readouterr().out
    teacher = next(line for line in said.splitlines() if line.startswith("teacher: "))
    assert teacher.startswith("teacher: 2 layers, hidden 16")
    assert teacher.endswith("frozen")


# Arguments: one line, code 2, and no half of a name.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "ctcd: the following arguments are required: VERB; `ctcd --help` explains"),
        ("glue --model m --data d --out o --seed 2", "ctcd glue: unknown argument --seed (did you mean '--seeds'?)"),
        ("train --config c.py --work w", "ctcd train: unknown argument --work (did you mean '--workdir'?)"),
        ("train --config c.py", "ctcd train: the following arguments are required: --workdir"),
        ("train --config c.py --workdir w --paln", "ctcd train: unknown argument --paln (did you mean '--plan'?)"),
        ("prepare --source docstrings --out o --config.every=2", "ctcd prepare: unknown argument --config.every=2"),
        (
            "glue --model m --data d --out o --seeds 0",
            "argument --seeds: 0 is not a whole number at least 1 and at most",
        ),
        ("glue --model m --data d --out o --seeds 1e9", "argument --seeds: 1e9 is not a whole number"),
        ("glue --model m --data d --out o --epochs 0", "argument --epochs: 0 is not a number above 0"),
        ("glue --model m --data d --out o --learning-rate nan", "--learning-rate: nan is not a number above 0"),
        ("glue --model m --data d --out o --learning-rate inf", "--learning-rate: inf is not a number above 0"),
        ("glue --model m --data d --out o --learning-rate=-1", "--learning-rate: -1 is not a number above 0"),
        ("glue --model m --data d --out o --batch-size 0", "--batch-size: 0 is not a whole number at least 1"),
        ("glue --model m --data d --out o --max-length 2", "--max-length: 2 is not a whole number at least 8"),
        ("glue --model m --data d --out o --jobs=-1", "--jobs: -1 is not a whole number at least 0"),
        ("latency --model m --rounds 0", "argument --rounds: 0 is not a whole number at least 1"),
        ("latency --model m --batch-size 8,0", "argument --batch-size: 0 is not a whole number at least 1"),
        ("latency --model m --threads 1,x", "argument --threads: x is not a whole number at least 1"),
        ("inspect corpus --rows=-1", "argument --rows: -1 is not a whole number at least 0"),
        ("export --workdir w --member m --out o --step 0", "argument --step: 0 is not a whole number at least 1"),
        ("prepare --source docstrings --out o --workers 0", "argument --workers: 0 is not a whole number at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert message in said


PATHS = {
    "prepare": "--source docstrings --config=~/recipe.py --out=~/out",
    "inspect": "~/corpus --html=~/page.html",
    "train": "--config=~/c.py:tiny --workdir=~/run",
    "checkpoints": "~/run",
    "export": "--workdir=~/run --member m --out=~/out",
    "evaluate": "--model=~/m --corpus=~/corpus --out=~/out",
    "probe": "--model=~/m --data=~/pairs --out=~/out",
    "glue": "--model=~/m --data=tfds:~/data --out=~/out",
    "study": "~/study.py:tiny --out=~/out --finished=~/study",
    "verify": "~/run --study=~/study",
    "latency": "--model=~/m --out=~/l.json --keep-onnx=~/onnx",
    "card": "--model=~/m --from=~/glue",
    "report": "~/run --out=~/report.html",
    "bench": "--out=~/bench",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_tilde_is_the_home_directory_in_every_path(verb, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = vars(make_parser().parse_args([verb, *PATHS[verb].split()]))
    given = [item for value in options.values() for item in (value if isinstance(value, list) else [value])]
    assert sum(str(tmp_path) in str(value) for value in given) == PATHS[verb].count("~")
    assert not any("~" in str(value) for value in given)


def test_a_line_end_in_a_name_does_not_make_two_lines_of_an_error(capsys, tmp_path):
    assert r"no\nwhere: no such directory" in fails(capsys, "inspect", tmp_path / "no\nwhere")


def test_every_path_option_is_tried():
    """An option whose value is a place expands it; so a new one must be added above."""
    places = {"DIR", "FILE", "FILE[:PRESET]", "WHERE", "PLACE"}
    (verbs,) = [action for action in make_parser()._actions if isinstance(action.choices, dict)]
    for verb, parser in verbs.choices.items():
        given = {word.partition("=")[0] for word in PATHS[verb].split()}
        for action in parser._actions:
            if action.metavar in places and action.option_strings:
                assert given & set(action.option_strings), f"ctcd {verb} {action.option_strings}"


class XlaRuntimeError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBuffers: ..."), "allocating 9 bytes."),
        (MemoryError(), "MemoryError"),
        (np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f4")), "Unable to allocate"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"),
            "enforce fail",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "CUDA out of memory"),
    ],
)
def test_out_of_memory_is_one_line_that_says_what_to_lower(
    error, said, capsys, config_file, corpus, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("ctcd_jax.training.loop.make_train_step", lambda *_: fail)
    line = fails(capsys, *train_arguments(config_file, corpus, tmp_path / "run"))
    assert line.startswith("ctcd train: out of memory (")
    assert said in line
    for field in ("data.batch_size", "train.micro_batches", "train.remat", "train.loss_chunk"):
        assert field in line


def test_another_error_stays_one(config_file, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("ctcd_jax.training.loop.make_train_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([str(argument) for argument in train_arguments(config_file, corpus, tmp_path / "run")])


def test_memory_that_gives_out_leaves_the_checkpoints_alone(run, tmp_path, monkeypatch):
    """What could not be read for lack of memory is not damaged."""

    def fail(*_, **__):
        raise XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", fail)
    with pytest.raises(XlaRuntimeError):
        load_member(tmp_path / "run", "student")
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    with pytest.raises(XlaRuntimeError):
        checkpoints.restore(lambda step: TrainState(0, 0, {}, Terms(), 0), print)
    checkpoints.close()
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"10", "14", "20"}


PARTIAL = """
from tests.small import config
def get_config(preset=""):
    made = config("corpus")
    made.unlock()
    {line}
    return made
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("del made.data", "data is missing; start from base_config(preset)"),
        ("made.members = None", "members is None; change its fields, not the section"),
        ("made.train = {}", "train.attention is missing; start from base_config(preset)"),
        ("made.optimizer.b1 = 1.5", "optimizer.b1 is 1.5; it must be a number at least 0 and below 1"),
    ],
)
def test_a_field_is_checked_before_the_corpus_is_opened(line, message, capsys, tmp_path):
    path = tmp_path / "partial.py"
    path.write_text(PARTIAL.format(line=line))
    said = fails(capsys, "train", "--config", path, "--workdir", tmp_path / "run", "--config.seed=1")
    assert said == f"ctcd train: {message}\n"


@pytest.mark.parametrize("line", ["del made.sources", "made.sources = None"])
def test_a_recipe_without_sources_is_one_line(line, capsys, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(
        "from ctcd_jax.config import recipe\n"
        f"def get_config(preset=''):\n    made = recipe({{'a': 'docstrings'}})\n    {line}\n    return made\n"
    )
    said = fails(capsys, "prepare", "--config", path, "--out", tmp_path / "corpus")
    assert said == f"ctcd prepare: --config {path}: no sources; make the recipe with recipe({{NAME: SPEC}})\n"


def test_a_shape_in_the_runs_config_that_is_none(capsys, config_file, corpus, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/config.json"
    path.write_text(path.read_text().replace('"hidden": 16', '"hidden": -16'))
    said = fails(capsys, *train_arguments(config_file, corpus, tmp_path / "run"))
    assert "resolved.models.student is damaged (hidden is -16" in said or "models.teacher is damaged" in said
