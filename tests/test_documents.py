"""What README, CONTRIBUTING and docs/ tell people to type is understood: every command, every config, every snippet."""

import json
import re
import shlex
from pathlib import Path
from string import Template

import jax
import jax.numpy as jnp
import pytest

from ctcd_jax.config import PRESETS, resolve
from ctcd_jax.config.file import load_config
from ctcd_jax.data import Corpus
from ctcd_jax.distill import Cohort, Edge, Member, Outputs
from ctcd_jax.distill.features import feature_denominators, feature_losses
from ctcd_jax.distill.signals import SIGNALS, Rows
from ctcd_jax.options import make_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    return [text for kind, text in BLOCK.findall(document.read_text()) if kind == language]


def commands(document):
    """The commands of `ctcd` in shell blocks, also as jobs of SLURM, with the variables that the block sets put in."""
    for block in blocks(document, "bash"):
        variables = dict(re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE))
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^sbatch .*launch/slurm/(\w+)\.sbatch", r"ctcd \1", line)
            if line.startswith("ctcd "):
                yield shlex.split(Template(line).substitute(variables), comments=True)[1:]


COMMANDS = [(path.name, words) for path in DOCUMENTS for words in commands(path)]


def test_there_are_commands_of_every_verb():
    verbs = {words[0] for _, words in COMMANDS}
    assert verbs >= {"prepare", "train", "export", "glue", "latency", "card", "report", "inspect", "bench"}


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=[" ".join(words)[:60] for _, words in COMMANDS])
def test_a_command_is_understood(name, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    options, rest = make_parser().parse_known_args(words)
    assert all(argument.startswith("--config.") for argument in rest)
    config = getattr(options, "config", None)
    if config and "assistant" not in config:  # that is the snippet below
        load_config(config, rest)
    else:
        assert not rest or options.verb == "train"


def test_the_config_of_contributing_is_one(tmp_path, corpus):
    block, _ = blocks(ROOT / "CONTRIBUTING.md", "python")
    (tmp_path / "assistant.py").write_text(block)
    config = load_config(f"{tmp_path / 'assistant.py'}:smoke", [f"--config.data.corpus={corpus}"])
    experiment = resolve(config, Corpus.open(corpus))
    assert [edge.name for edge in experiment.cohort.edges] == ["teacher->assistant", "assistant->student"]


def test_the_signal_of_contributing_is_one(monkeypatch):
    _, block = blocks(ROOT / "CONTRIBUTING.md", "python")
    monkeypatch.setitem(SIGNALS, "cosine", None)  # and what the block enters is taken out again
    exec(compile(block, "CONTRIBUTING.md", "exec"), {"__name__": "cosine"})
    cohort = Cohort({"teacher": Member(), "student": Member()}, (Edge("teacher", "student", signal="cosine"),))
    rows = Rows(jnp.array([[1, 1, 0]], bool), jnp.array([[1, 1, 0]]))
    states = {"teacher": jnp.array([[[1.0, 0], [0, 2], [0, 0]]]), "student": jnp.array([[[2.0, 0], [3, 0], [0, 0]]])}
    outputs = {name: Outputs(None, None, {"hidden_1": hidden}) for name, hidden in states.items()}
    losses, terms = feature_losses(cohort, outputs, rows, feature_denominators(cohort, rows), {})
    assert losses["student"] == pytest.approx((0 + 1) / 2)  # equal directions, and orthogonal ones
    assert terms.soft["teacher->student#cosine"].weight == 2


def test_the_loss_of_the_readme_is_one():
    loss, _ = blocks(ROOT / "README.md", "python")
    made = {}
    exec(compile(loss, "README.md", "exec"), made)
    predicted = made["labels"][:4] >= 0  # the last of the labels is at padding
    log_p = {name: jax.nn.log_softmax(made[name])[:4][predicted] for name in ("teacher", "student")}
    p = {name: jnp.exp(value) for name, value in log_p.items()}
    hard = {name: -jnp.mean(value[jnp.arange(3), made["labels"][:4][predicted]]) for name, value in log_p.items()}
    to_student = jnp.mean(jnp.sum(p["teacher"] * (log_p["teacher"] - log_p["student"]), axis=-1))
    to_teacher = jnp.mean(jnp.sum(p["student"] * (log_p["student"] - log_p["teacher"]), axis=-1))
    expected = float(hard["teacher"] + hard["student"] + to_student + 4 * to_teacher)
    assert float(made["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_run_of_the_readme_is_one(corpus, tmp_path, monkeypatch, capsys):
    _, run = blocks(ROOT / "README.md", "python")
    # A smaller preset of that name: a second instead of half a minute.
    small = {"width": (16, 2, 32, 32), "rows": 8, "steps": 4, "every": (2, 2, 4)}
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"] | small)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/corpus").symlink_to(corpus)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(compile(run, "README.md", "exec"), made)
    lines = [json.loads(line) for line in (tmp_path / "runs/from-python/metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == json.loads(json.dumps(made["last"]))
    steps = [line["step"] for line in lines if line["kind"] == "validation"]
    assert len(steps) == 2
    watched = [
        line for line in capsys.readouterr().out.splitlines() if re.match(r"\d+ \{'student': [\d.]+, 'teacher'", line)
    ]
    assert [int(line.split()[0]) for line in watched] == steps
