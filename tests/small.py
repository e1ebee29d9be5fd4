"""A corpus and configs so small that a whole run takes seconds: real files, made by the real commands."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from ctcd_jax.config import base_config, edge, member
from ctcd_jax.data import prepare

NOUNS = [
    "cat",
    "dog",
    "bird",
    "fish",
    "tree",
    "house",
    "river",
    "stone",
    "child",
    "king",
    "queen",
    "ship",
    "road",
    "song",
    "letter",
    "garden",
]
VERBS = ["sees", "hears", "finds", "loves", "leaves", "follows", "paints", "carries", "remembers", "builds"]
ADJECTIVES = ["old", "young", "red", "green", "quiet", "loud", "little", "great", "kind", "strange"]


def write_text(path: Path, documents: int = 120, seed: int = 0) -> None:
    """Writes documents of grammatical nonsense, one sentence a line."""
    rng = random.Random(seed)

    def sentence():
        a, b = rng.sample(NOUNS, 2)
        return f"the {rng.choice(ADJECTIVES)} {a} {rng.choice(VERBS)} the {rng.choice(ADJECTIVES)} {b} ."

    text = "\n\n".join("\n".join(sentence() for _ in range(10)) for _ in range(documents))
    path.write_text(text + "\n")


def make_corpus(directory: Path, **options) -> Path:
    """Prepares a corpus of 32-token rows and returns its directory."""
    write_text(directory / "text.txt")
    out = directory / "corpus"
    options = {"length": 32, "vocab_size": 150, "validation": 0.1, "log": lambda _: None} | options
    prepare([f"text:{directory}/text.txt"], out, **options)
    return out


def config(corpus: Path, members=("teacher", "student"), steps=20, **train):
    """CTCD (or fewer members) at a size that compiles in a second."""
    made = base_config("smoke")
    made.data.corpus, made.data.batch_size = str(corpus), 8
    # float32, so that the figures are compared as closely on a machine whose default is another
    made.train.update(
        {"steps": steps, "log_every": 5, "eval_every": 10, "checkpoint_every": 7, "dtype": "float32"} | train
    )
    for name in members:
        made.members[name] = member("smoke", name, hidden=16, intermediate=32, max_positions=32)
    if len(members) == 2:
        made.edges = (edge("teacher", "student"), edge("student", "teacher", weight=4.0))
    return made


CONFIG_FILE = """
from pathlib import Path
from tests.small import config
def get_config(preset=""):
    members = tuple(preset.split(",")) if preset else ("teacher", "student")
    return config(Path("unset"), members)
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def config_file(tmp_path_factory) -> Path:
    """A config file for the command line, `FILE[:MEMBER,...]`."""
    path = tmp_path_factory.mktemp("configs") / "small.py"
    path.write_text(CONFIG_FILE)
    return path


def ctcd(*arguments, **options) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "ctcd_jax", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], **options)
