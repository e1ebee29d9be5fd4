"""Sample predictions of an export: the rows, what is hidden in them, and what the model answers."""

import json
import shutil

import jax
import numpy as np
import pytest

from ctcd_jax.artifacts.samples import read_samples
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.data.packing import segment_ids
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.models.registry import build
from ctcd_jax.training.checkpoint import load_member
from ctcd_jax.training.samples import GUESSES, MOST_TOKENS, ROWS, samples_of_run


def rows_of(smoke, name="student"):
    found = read_samples(smoke.root / name)
    assert found is not None
    return found["rows"]


def test_every_export_of_a_corpus_has_the_same_sentences_and_hidden_words(smoke):
    student, teacher = rows_of(smoke), rows_of(smoke, "teacher")
    assert len(student) == ROWS
    assert [row["row"] for row in student] == sorted({row["row"] for row in student})
    for one, other in zip(student, teacher, strict=True):
        assert (one["row"], one["tokens"]) == (other["row"], other["tokens"])
        assert len(one["tokens"]) <= MOST_TOKENS
        hidden = [(place["position"], place["token"]) for place in one["hidden"]]
        assert hidden == [(place["position"], place["token"]) for place in other["hidden"]]
        masks = [number for number, token in enumerate(one["tokens"]) if token == "[MASK]"]
        assert masks == [place["position"] for place in one["hidden"]] != []
    assert [row["hidden"] for row in student] != [row["hidden"] for row in teacher]


def test_the_answers_are_those_of_the_training_code_in_the_whole_row(smoke, corpus):
    opened = Corpus(corpus)
    tokenizer, batches = load_tokenizer(opened.tokenizer_directory), ValidationBatches(opened, 1)
    shape, params = load_member(smoke.root / "runs" / "ctcd", "teacher")
    params["embeddings"]["token_type"] = np.broadcast_to(
        params["embeddings"]["token_type"][:1], params["embeddings"]["token_type"].shape
    )
    apply = jax.jit(build(shape).apply)
    several = 0
    for row in rows_of(smoke, "teacher"):
        ids = batches[row["row"]]["input_ids"]
        segments = np.asarray(segment_ids(ids, opened.special_ids))
        several += segments.max() > 1
        seen = ids.copy()
        for hidden in row["hidden"]:
            place = hidden["position"] + 1  # after [CLS]
            assert tokenizer.id_to_token(int(ids[0, place])) == hidden["token"]
            seen[0, place] = opened.special_ids["mask"]
        logits = apply({"params": params}, seen, ids != opened.special_ids["pad"], segments)[0]
        for hidden in row["hidden"]:
            chances = np.asarray(jax.nn.softmax(logits[hidden["position"] + 1]))
            best = np.sort(chances)[::-1][:GUESSES]
            assert [guess["probability"] for guess in hidden["guesses"]] == pytest.approx(best, abs=2e-6)
            for guess in hidden["guesses"]:
                own = chances[tokenizer.token_to_id(guess["token"])]
                assert guess["probability"] == pytest.approx(own, abs=2e-6)
    assert several  # rows of more than one sentence, which see nothing of each other


def test_without_its_corpus_an_export_has_no_samples_and_that_is_said(smoke, corpus, tmp_path):
    run, said = read_run(smoke.root / "runs" / "ctcd"), []
    run["data"]["corpus"] = str(tmp_path / "gone")
    assert samples_of_run(run, smoke.root / "student", said.append) is None
    other = shutil.copytree(corpus, tmp_path / "other")
    manifest = json.loads((other / "corpus.json").read_text())
    (other / "corpus.json").write_text(json.dumps(manifest))  # of other bytes
    run["data"]["corpus"] = str(other)
    assert samples_of_run(run, smoke.root / "student", said.append) is None
    assert said == [
        f"no sample predictions in the export: corpus {tmp_path}/gone: no such directory; make it with `ctcd prepare "
        f"--out {tmp_path}/gone`",
        f"no sample predictions in the export: corpus {other}: not the one that the run was trained on",
    ]
