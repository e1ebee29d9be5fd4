"""What is fetched of a model on the hub: its weights in one form, its config, its tokenizer, and nothing else."""

import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from ctcd_jax.artifacts.hub import find_pretrained, model_directories
from ctcd_jax.errors import UserError

REST = {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt", "spiece.model"}
ONE, PICKLE = {"model.safetensors"}, {"pytorch_model.bin"}
SHARDS = {"model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
PICKLES = {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"}
OTHERS = {"tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx", "training_args.bin", "README.md"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands for the hub with one repository, org/name; its `asked` are (id, revision) of what was asked for."""

    made = SimpleNamespace(files=set(), asked=set(), directory=tmp_path / "models--org--name" / "snapshots" / "0a")

    def download(name, revision=None, allow_patterns=(), **_):
        made.asked.add((name, revision))
        for file in made.files:
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                (made.directory / file).parent.mkdir(parents=True, exist_ok=True)
                (made.directory / file).write_text("x")
        return str(made.directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return made


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (ONE | PICKLE | OTHERS, ONE),
        (ONE | SHARDS | PICKLES, ONE),
        (SHARDS | PICKLE | PICKLES | OTHERS, SHARDS),
        (PICKLE | OTHERS, PICKLE),
        (PICKLES | OTHERS, PICKLES),
    ],
)
def test_the_weights_are_fetched_in_the_form_that_transformers_takes(hub, offered, taken):
    hub.files = REST | offered
    directory = find_pretrained("org/name")
    assert {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} == REST | taken
    assert hub.asked == {("org/name", None)}


def test_a_revision_follows_the_id(hub):
    hub.files = REST | ONE
    assert find_pretrained("org/name@v1.0") == hub.directory
    assert hub.asked == {("org/name", "v1.0")}


def test_a_directory_is_itself_and_only_an_id_is_asked_for(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.files = REST | ONE
    Path("org/name@v1").mkdir(parents=True)
    assert find_pretrained("org/name@v1") == Path("org/name@v1")
    others = [Path("org/name@v1"), Path("/org/name"), Path("runs/export/name"), Path("name")]
    assert model_directories(others) == others
    assert hub.asked == set()
    assert model_directories([*others, Path("org/name@v2")]) == [*others, hub.directory]
    assert hub.asked == {("org/name", "v2")}


def test_an_id_that_the_hub_does_not_give_is_one_line():
    with pytest.raises(UserError, match=r"^--model org/none: no such directory, and the hub gave nothing \(.*\); name"):
        model_directories([Path("org/none")])
    with pytest.raises(UserError, match=r"^hf:no such: no such directory, and the hub gave nothing"):
        find_pretrained("no such")
