"""The road from somebody's encoder: adapted by a shipped config, then the teacher of students from its layers."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.config import resolve
from ctcd_jax.config.file import load_config
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.data import Corpus
from ctcd_jax.data.tokenizer import tokenizer_hash
from ctcd_jax.errors import UserError
from ctcd_jax.training import train
from ctcd_jax.training.checkpoint import load_member
from ctcd_jax.training.export import export
from ctcd_jax.training.members import source_params
from ctcd_jax.training.provenance import card_facts, read_provenance, write_provenance


@pytest.fixture(scope="module")
def encoder(corpus, tmp_path_factory):
    """A sentence encoder in the hub's cache: no MLM head, a pooler, a vocabulary padded to a multiple of 64."""
    directory = tmp_path_factory.mktemp("hub") / "models--org--mini" / "snapshots" / "0a1b"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=192, max_position_embeddings=40, **sizes)).save_pretrained(directory)
    for file in (corpus / TOKENIZER).iterdir():
        shutil.copy(file, directory)
    return directory


def overrides(corpus, **fields):
    fields = {"data.corpus": corpus, "data.batch_size": 8, "train.steps": 2, "train.dtype": "float32"} | fields
    return [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]


def go(config, workdir, corpus, **fields):
    said = []
    train(load_config(config, overrides(corpus, **fields)), workdir, log=said.append, warn=said.append)
    return said


@pytest.fixture(scope="module")
def adapted(corpus, encoder, tmp_path_factory):
    """The run of the encoder with its new head, and what it said."""
    workdir = tmp_path_factory.mktemp("runs") / "adapted"
    said = go("standalone:smoke-teacher", workdir, corpus, members__teacher__init=f"hf:{encoder}")
    return workdir, said


def test_an_encoder_without_a_head_is_trained_and_says_what_it_lacks_once(adapted, encoder, corpus):
    _, said = adapted
    rows = Corpus.open(corpus).vocab_size
    beginning = f"hf:{encoder}: "
    assert [line.removeprefix(beginning) for line in said if line.startswith(beginning)] == [
        "no MLM head in it; it begins with a fresh one (the identity over the word embeddings) and can predict nothing "
        "before it is trained",
        "2 tensors are left out, which a masked language model has no place for (bert.pooler.dense)",
        f"192 rows for {rows} tokens; the last {192 - rows} are left out",
    ]
    assert any(line.startswith("teacher: 3 layers, hidden 16") for line in said)  # the encoder's, not the preset's


def test_two_steps_move_the_fresh_head_and_all_of_the_encoder(adapted, encoder, corpus):
    made = load_config("standalone:smoke-teacher", overrides(corpus, members__teacher__init=f"hf:{encoder}"))
    before = source_params(resolve(made, Corpus.open(corpus)), "teacher", warn=lambda line: None)
    np.testing.assert_array_equal(before["head"]["transform"]["kernel"], np.eye(16))
    after = load_member(adapted[0], "teacher")[1]
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
    assert all(jax.tree.leaves(moved["head"]))
    assert all(jax.tree.leaves(moved["layer_0"]["up"]))


def test_a_frozen_member_without_a_head_is_refused_with_what_to_do(corpus, encoder, tmp_path):
    with pytest.raises(UserError, match=rf"^members\.teacher\.init: hf:{encoder} has no MLM head, .*frozen") as said:
        go("oneway:smoke", tmp_path / "run", corpus, members__teacher__init=f"hf:{encoder}")
    assert f"standalone:small-teacher --config.members.teacher.init=hf:{encoder}`" in str(said.value)
    assert str(said.value).endswith("then name that run, run:WORKDIR#teacher")
    # Nor may its layers be frozen, although the member that they are of is not.
    fields = {"members.teacher.init": "layers:student#0", "members.student.init": f"hf:{encoder}"}
    with pytest.raises(UserError, match=r"^members\.student\.init: hf:.* has no MLM head"):
        go("oneway:smoke", tmp_path / "run", corpus, **fields)


@pytest.mark.slow
def test_students_from_an_adapted_teachers_layers_descend_from_the_hubs_model(adapted, corpus, tmp_path):
    workdir, out = tmp_path / "run", tmp_path / "out"
    said = go("community:smoke", workdir, corpus, **{"members.teacher.init": f"run:{adapted[0]}#teacher"})
    assert any(line.startswith("student1: 1 layers, hidden 16") for line in said)
    export(workdir, "student1", out, log=lambda line: None)
    card = (out / "README.md").read_text()
    assert "base_model: org/mini\n" in card
    assert "| `teacher` | member `teacher` of run `adapted` | frozen |" in card
    assert "| `student1` (this model) | layers 0 of `teacher` | trained |" in card
    assert json.loads((out / "config.json").read_text())["vocab_size"] == Corpus.open(corpus).vocab_size


def test_an_adapted_encoder_still_takes_texts_as_long_as_before(adapted, corpus, tmp_path):
    """Its positions came trained, whatever the rows that it was adapted on."""
    export(adapted[0], "teacher", tmp_path / "out", log=lambda line: None)
    assert Corpus.open(corpus).max_length < AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 40
    assert "Not trained: the positions" not in (tmp_path / "out/README.md").read_text()
    assert tokenizer_hash(tmp_path / "out") == Corpus.open(corpus).tokenizer_hash


def test_one_way_students_take_the_teachers_layers_and_a_size_that_is_named_must_be_theirs(adapted, corpus, tmp_path):
    fields = {"members.teacher.init": f"run:{adapted[0]}#teacher", "members.student.init": "layers:teacher#0,2"}
    made = load_config("oneway:smoke", overrides(corpus, **fields))
    assert made.members.student.layers is None
    experiment = resolve(made, Corpus.open(corpus))
    shape = experiment.models["student"]
    assert (shape.layers, shape.hidden, shape.max_positions) == (2, 16, 40)
    write_provenance(tmp_path, Corpus.open(corpus), experiment.sources)
    assert read_provenance(tmp_path)["base_models"] == {"teacher": "org/mini", "student": "org/mini"}
    facts = card_facts(read_run(adapted[0]), adapted[0], "teacher", None)
    assert facts["members"]["teacher"]["start"] == {"kind": "hf", "model": "org/mini", "fresh_head": True}
    assert not facts["from_scratch"]
    named = load_config("oneway:smoke", overrides(corpus, **fields, **{"members.student.layers": 3}))
    with pytest.raises(UserError, match=r"members\.student\.layers is 3, but layers:teacher#0,2 has 2; leave it out"):
        resolve(named, Corpus.open(corpus))


def test_a_run_whose_config_named_the_sizes_goes_on(adapted, corpus, encoder, tmp_path):
    """As runs of an earlier version did, which had them from the preset."""
    place = tmp_path / "run"
    shutil.copytree(adapted[0], place)
    content = json.loads((place / "config.json").read_text())
    assert content["members"]["teacher"]["layers"] is None
    content["members"]["teacher"]["layers"] = content["resolved"]["models"]["teacher"]["layers"]
    (place / "config.json").write_text(json.dumps(content))
    fields = {"members.teacher.init": f"hf:{encoder}"}
    assert "resumed at step 2 of 2" in go("standalone:smoke-teacher", place, corpus, **fields)
