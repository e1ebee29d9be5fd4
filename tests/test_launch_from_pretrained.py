"""What the example script types is understood: it is run with a `ctcd` that only writes down what it is given."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from ctcd_jax.config.file import load_config
from ctcd_jax.options import make_parser

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """The commands of the script, each a list of words."""
    place = tmp_path_factory.mktemp("script")
    stub = place / "bin" / "ctcd"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/bash\nprintf "%q " "$@" >> {place}/typed; echo >> {place}/typed\n')
    stub.chmod(0o755)
    (place / "out/glue").mkdir(parents=True)
    (place / "out/glue/table.md").write_text("a table\n")
    environment = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}", "LAYERS": "0,2"}
    script = [
        "bash",
        "launch/from_pretrained.sh",
        "models/mini",
        "text:a*.xz jsonl:b,field=x",
        "glue",
        str(place / "out"),
    ]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a table" in done.stdout
    return [shlex.split(line) for line in (place / "typed").read_text().splitlines()]


def test_the_road_is_prepare_train_export_evaluate_fine_tune_report(typed):
    verbs = [words[0] for words in typed]
    assert verbs == ["prepare", *["train"] * 4, *["export"] * 5, "evaluate", "glue", "latency", "card", "report"]
    assert [word for word in typed[0] if "source" in word] == ["--source=text:a*.xz", "--source=jsonl:b,field=x"]


def test_every_command_and_field_is_known(typed, monkeypatch):
    monkeypatch.chdir(ROOT)
    inits = []
    for words in typed:
        options, rest = make_parser().parse_known_args(words)
        assert options.verb == "train" or not rest
        if options.verb == "train":
            config = load_config(options.config, rest)
            assert config.train.steps == 2000
            inits += [member.init for member in config.members.values()]
    assert inits[0] == "hf:models/mini"
    assert set(inits[1:]) == {inits[-1], "layers:teacher#0,2"}
    assert inits[-1].endswith("/adapted#teacher")


def test_a_student_that_nobody_teaches_is_beside_those_that_are_taught(typed):
    alone = load_config("oneway:small", [word for word in typed[4] if word.startswith("--config.")])
    assert [edge.weight for edge in alone.edges] == [0]
