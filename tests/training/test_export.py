"""Where an export may go, what is left of one that fails, and that its config says what its tokenizer does."""

import errno
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ctcd_jax.config import edge, member
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.errors import UserError
from ctcd_jax.training import train
from ctcd_jax.training.checkpoint import saved_steps
from ctcd_jax.training.export import export
from tests.small import config, make_corpus


def silent(line):
    pass


@pytest.fixture(scope="module")
def odd_corpus(tmp_path_factory):
    """A corpus whose tokenizer pads with id 3."""
    root = tmp_path_factory.mktemp("odd")
    letters = "abcdefghijklmnopqrstuvwxyz."
    tokens = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (root / "vocab.txt").write_text("\n".join(tokens))
    return make_corpus(root, tokenizer=str(root / "vocab.txt"), vocab_size=None)


@pytest.fixture(scope="module")
def run(odd_corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("export") / "run"
    train(config(odd_corpus, members=("student",), steps=1), workdir, log=silent)
    return workdir


@pytest.fixture(scope="module")
def exported(run):
    out = run.parent / "deep" / "below" / "student"
    export(run, "student", out, log=silent)
    return out


def test_the_tokenizer_ends_where_the_trained_positions_do(odd_corpus, tmp_path):
    longer = config(odd_corpus, members=("student",), steps=1)
    longer.members.student.max_positions = 48
    train(longer, tmp_path / "run", log=silent)
    export(tmp_path / "run", "student", tmp_path / "out", log=silent)
    out = tmp_path / "out"
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert (tokenizer.model_max_length, model.config.max_position_embeddings) == (32, 48)
    assert "Not trained: the positions after the first 32," in (tmp_path / "out/README.md").read_text()


def test_the_config_says_what_the_tokenizer_pads_with(exported):
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 3
    model(**tokenizer(["the cat", "a bird sees"], padding=True, return_tensors="pt")).logits.sum().backward()
    trained = model.bert.embeddings.word_embeddings.weight.grad.abs().sum(1) > 0
    assert trained[0]


def test_nothing_but_the_export_is_left(exported):
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "ctcd.json"}
    assert {path.name for path in exported.iterdir()} == names | {"samples.json"}
    assert [path.name for path in exported.parent.iterdir()] == ["student"]


@pytest.mark.parametrize("out", [".", "./", "linked"])
def test_an_empty_directory_that_is_there_is_filled(out, run, exported, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here" if out.startswith(".") else tmp_path)
    before = os.stat(tmp_path / "here").st_ino
    export(run, "student", out, log=silent)
    assert os.stat(tmp_path / "here").st_ino == before
    assert {p.name for p in (tmp_path / "here").iterdir()} == {p.name for p in exported.iterdir()}
    assert json.loads((tmp_path / "here" / "ctcd.json").read_text())["name"] == "here"


def test_another_tokenizer_than_the_runs_is_not_shipped(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = copy / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    *_, first, second = words
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run/tokenizer: the tokenizer is not the one that .* copy `tokenizer` of the"):
        export(copy, "student", tmp_path / "out", log=silent)
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(UserError, match=r"run/tokenizer: the tokenizer is not there; copy `tokenizer` of the corpus"):
        export(copy, "student", tmp_path / "out", log=silent)
    assert not (tmp_path / "out").exists()


def test_what_is_no_step_among_the_checkpoints_is_none(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    steps = saved_steps(copy)
    shutil.copytree(copy / f"checkpoints/{steps[-1]}", copy / "checkpoints/old_999")
    (copy / "checkpoints/999").mkdir()
    assert saved_steps(copy) == steps
    export(copy, "student", tmp_path / "out", log=silent)


def test_no_part_of_the_run_is_overwritten(run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("")
    for out, message in {
        run: "part of the run",
        run / "checkpoints" / "student": "part of the run",
        run / "tokenizer": "part of the run",
        tmp_path / "file": "a file; choose another name",
        tmp_path / "full": "not empty; choose another directory",
    }.items():
        with pytest.raises(UserError, match=rf"--out {out}: {message}"):
            export(run, "student", out, log=silent)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "model.safetensors"), "No space left on device"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "Read-only file system"),
    ],
    ids=["full", "full, says safetensors", "read-only"],
)
def test_a_place_that_cannot_be_written_is_one_line_and_stays_as_it_was(error, message, run, tmp_path, monkeypatch):
    def fails(*arguments):
        raise error

    monkeypatch.setattr("ctcd_jax.training.export.save_pretrained", fails)
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "new", tmp_path / "there"):
        with pytest.raises(UserError, match=rf"--out {out}: cannot be written \(.*{message}") as caught:
            export(run, "student", out, log=silent)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_place_below_a_file_cannot_be_made(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*Not a directory"):
        export(run, "student", tmp_path / "file" / "student", log=silent)


def test_logits_that_differ_leave_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ctcd_jax.training.export.parity", lambda *arguments: float("nan"))
    with pytest.raises(UserError, match="PyTorch's logits differ by nan"):
        export(run, "student", tmp_path / "out", log=silent)
    assert not list(tmp_path.iterdir())


def test_of_two_exports_to_one_place_one_wins(run, tmp_path, monkeypatch):
    """The second begins while the first compares logits."""
    from ctcd_jax.training.export import parity

    def second(*arguments):
        monkeypatch.setattr("ctcd_jax.training.export.parity", parity)
        export(run, "student", tmp_path / "out", log=silent)
        return parity(*arguments)

    monkeypatch.setattr("ctcd_jax.training.export.parity", second)
    with pytest.raises(UserError, match=r"cannot be written \(.*Directory not empty"):
        export(run, "student", tmp_path / "out", log=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    AutoModelForMaskedLM.from_pretrained(tmp_path / "out")


# Vocabularies that were padded to a multiple.


@pytest.fixture
def padded(exported, tmp_path):
    """The export with three more rows than its tokenizer has tokens."""
    directory = tmp_path / "padded"
    directory.mkdir()
    for file in exported.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    tensors = load_file(directory / "model.safetensors")
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        tensors[name] = np.concatenate([tensors[name], np.full_like(tensors[name][:3], 9)])
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    changed = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(changed | {"vocab_size": changed["vocab_size"] + 3}))
    return directory


def test_a_padded_vocabulary_is_taken_without_its_padding(padded, exported, odd_corpus, tmp_path, capsys):
    made = config(odd_corpus, members=(), steps=1)
    made.members.teacher = member(trainable=False, init=f"hf:{padded}")
    made.members.student = member(init="layers:teacher#0")
    made.edges = (edge("teacher", "student"),)
    train(made, tmp_path / "run", log=silent)
    size = load_tokenizer(exported).get_vocab_size()
    assert f"hf:{padded}: {size + 3} rows for {size} tokens; the last 3 are left out" in capsys.readouterr().err
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["resolved"]["models"]["teacher"]["vocab_size"]
        == size
    )
    export(tmp_path / "run", "teacher", tmp_path / "out", log=silent)
    ours, theirs = (load_file(place / "model.safetensors") for place in (tmp_path / "out", exported))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_tokenizer_with_more_tokens_than_rows_is_an_error_with_the_fix(exported, odd_corpus, tmp_path):
    from ctcd_jax.config import resolve
    from ctcd_jax.data import Corpus

    small = tmp_path / "small"
    small.mkdir()
    for file in exported.iterdir():
        (small / file.name).write_bytes(file.read_bytes())
    changed = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(changed | {"vocab_size": 50}))
    made = config(odd_corpus, members=(), steps=1)
    made.members.student = member(init=f"hf:{small}")
    with pytest.raises(UserError, match=r"has 50 rows for tokens, but its own tokenizer.*resize_token_embeddings"):
        resolve(made, Corpus.open(odd_corpus))
