"""Further corpora: their figures are those of the same rows as the run's own, they change nothing, and may change."""

import json
import shutil

import pytest

from ctcd_jax.config import resolve
from ctcd_jax.config.file import load_config, recorded_config
from ctcd_jax.data import Corpus, prepare
from ctcd_jax.errors import UserError
from ctcd_jax.training import train
from ctcd_jax.training.held_out import open_others
from ctcd_jax.training.validation_masks import unigram_loss
from tests.small import config, write_text


def small(corpus, *others):
    made = config(corpus, ("student",), steps=4, log_every=2, eval_every=2)
    made.evaluation.corpora = tuple(map(str, others))
    return made


def make_other(directory, **options):
    write_text(directory / "text.txt", documents=40, seed=7)
    options = {"length": 32, "validation": 0.2, "log": lambda _: None} | options
    prepare([f"text:{directory}/text.txt"], directory / "news", **options)
    return directory / "news"


@pytest.fixture(scope="module")
def news(corpus, tmp_path_factory):
    """A corpus of other text, with the tokenizer of the first."""
    return make_other(tmp_path_factory.mktemp("news"), tokenizer=str(corpus / "tokenizer"))


def test_every_evaluation_has_the_figures_of_each_corpus_and_they_may_change(corpus, news, tmp_path):
    (tmp_path / "same").symlink_to(corpus)
    said = []
    train(small(corpus, news, tmp_path / "same"), tmp_path / "run", log=said.append)
    lines = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert len(validations) == 2
    for line in validations:
        assert list(line["corpora"]) == ["news", "same"]
        assert line["corpora"]["same"] == {"unigram": line["unigram"], "members": line["members"]}
        assert line["corpora"]["news"]["members"] != line["members"]
        assert line["corpora"]["news"]["unigram"] == unigram_loss(Corpus.open(news)) != line["unigram"]
    assert sum(line.startswith("step 4 validation on news | hard student ") for line in said) == 1

    again = train(small(corpus), tmp_path / "run", log=said.append)
    assert "resumed at step 4 of 4" in said
    assert again == {key: value for key, value in validations[-1].items() if key != "corpora"}


def test_a_corpus_that_does_not_fit_is_one_line(corpus, news, tmp_path):
    opened = Corpus.open(corpus)

    def refused(*others, **model):
        made = small(corpus, *others)
        made.members.student.update(model)
        with pytest.raises(UserError) as caught:
            open_others(resolve(made, opened), opened)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refused(tmp_path / "none").startswith(f"evaluation.corpora: corpus {tmp_path}/none: no such directory")
    copy = shutil.copytree(news, tmp_path / "news")
    assert f"{news} and {copy} are both called 'news'" in refused(news, copy)
    (tmp_path / "foreign").mkdir()
    foreign = make_other(tmp_path / "foreign", vocab_size=120)
    assert f"prepare it with --tokenizer {corpus}/tokenizer" in refused(foreign)
    (tmp_path / "long").mkdir()
    long = make_other(tmp_path / "long", tokenizer=str(corpus / "tokenizer"), length=40)
    assert "has rows of 40 tokens, and 'student' has 32 positions" in refused(long)


def test_directories_on_the_command_line_are_a_list(config_file, corpus, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for text, places in {
        "a/b": ("a/b",),
        "~/a,/b": ("/home/me/a", "/b"),
        "('a,b',)": ("a,b",),
        "None": (),
    }.items():
        made = load_config(str(config_file), [f"--config.evaluation.corpora={text}", f"--config.data.corpus={corpus}"])
        assert resolve(made, Corpus.open(corpus)).evaluation_corpora == places
        recorded = recorded_config(json.loads(made.to_json_best_effort()))
        assert resolve(recorded, Corpus.open(corpus)).evaluation_corpora == places
    made.evaluation.corpora = (3,)
    with pytest.raises(UserError, match=r"evaluation\.corpora is \(3,\); it must be directories"):
        resolve(made, Corpus.open(corpus))
