"""The classifier on top of whatever checkpoint: always the base model and a new head, and text that is text."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.classifier import (
    AppliedSettings,
    Computation,
    fine_tune,
    load_classifier,
)
from ctcd_jax.evaluation.encoding import applied_length, encode, load_tokenizer
from ctcd_jax.evaluation.matrix import FIXED
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.files import Split
from ctcd_jax.evaluation.tasks.tasks import TASKS
from tests.exports import SPECIAL, WORDS

SETTINGS = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "max_length": 16, **FIXED}
PLAIN = Computation("float32", False)
SMALL = {
    "vocab_size": len(SPECIAL + WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
SHAPES = {
    "albert": SMALL | {"embedding_size": 8},
    "deberta": SMALL,
    "deberta-v2": SMALL,
    "distilbert": {"vocab_size": SMALL["vocab_size"], "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "electra": SMALL | {"embedding_size": 8},
    "roberta": SMALL,
}


def pairs(count, labels):
    texts = [" ".join(WORDS[(n + k) % len(WORDS)] for k in range(4)) for n in range(count)]
    return Split((texts, texts[::-1]), [labels[n % len(labels)] for n in range(count)])


def task_data(name, labels):
    return TaskData(TASKS[name], pairs(9, labels), (pairs(5, labels),))


def save(directory, model, exported):
    """Writes a model with the tokenizer of another."""
    model.save_pretrained(directory)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (directory / file).write_bytes((exported / file).read_bytes())
    return directory


def with_head(kind, directory, exported, seed=0, **config):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(SHAPES.get(kind, SMALL) | config))
    return save(directory, AutoModelForSequenceClassification.from_config(config), exported)


RARE = ("albert", "deberta-v2", "distilbert", "electra")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k in RARE else k for k in SHAPES])
def test_other_encoders_are_fine_tuned_on_scores_and_on_classes(models, tmp_path, kind):
    directory = with_head(kind, tmp_path / kind, models[0])
    (scores,) = fine_tune(directory, task_data("stsb", [0.0, 2.5, 5.0]), 0, SETTINGS, PLAIN)
    assert (scores.shape, scores.dtype) == ((5,), np.float32)
    assert np.ptp(scores) > 0
    (answers,) = fine_tune(directory, task_data("mrpc", [0, 1]), 0, SETTINGS, PLAIN)
    assert (answers.shape, set(answers) <= {0, 1}) == ((5,), True)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", pytest.param("electra", marks=pytest.mark.slow)])
@pytest.mark.parametrize("trained", [2, 3])
def test_a_classifier_that_is_there_is_left_and_a_new_one_drawn_from_the_seed(models, tmp_path, kind, trained):
    config = {"num_labels": trained, "problem_type": "multi_label_classification"}
    directory = with_head(kind, tmp_path / "trained", models[0], seed=7, **config)
    stored = load_file(directory / "model.safetensors")
    one, same, other = (load_classifier(directory, 2, seed) for seed in (0, 0, 1))
    assert (one.config.problem_type, one.config.num_labels) == (None, 2)
    assert one.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    base = f"{one.base_model_prefix}."
    for name, value in one.state_dict().items():
        if name.startswith(base):
            assert np.array_equal(value, stored[name]), name
        else:
            assert torch.equal(value, same.state_dict()[name]), name
            if value.ndim == 2:
                assert not torch.equal(value, other.state_dict()[name]), name
                assert name not in stored or not np.array_equal(value, stored[name]), name


def test_a_head_beside_the_base_model_changes_no_score(models, tmp_path):
    """The same encoder, with the head of its pre-training and with that of another task, is fine-tuned alike."""
    from transformers import AutoModelForSequenceClassification, BertForMaskedLM

    mlm = BertForMaskedLM.from_pretrained(models[1])
    model = AutoModelForSequenceClassification.from_pretrained(models[1], num_labels=3)
    model.bert.load_state_dict(mlm.bert.state_dict(), strict=False)
    directory = save(tmp_path / "three", model, models[1])
    first = load_classifier(directory, 2, 0).classifier.weight
    save(tmp_path / "base", model.bert, models[1])
    second = load_classifier(tmp_path / "base", 2, 0)
    assert first.shape == second.classifier.weight.shape == (2, 32)
    assert torch.equal(second.bert.pooler.dense.weight, model.bert.pooler.dense.weight)  # a pooler is the encoder's


def test_weights_that_are_not_those_of_the_config_are_refused(models, tmp_path):
    directory = with_head("bert", tmp_path / "wrong", models[0])
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    with pytest.raises(UserError, match=r"wrong: its weights are not those that its config\.json describes \(3 m"):
        load_classifier(directory, 2, 0)
    (directory / "config.json").write_text(json.dumps(config))
    tensors = load_file(directory / "model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"\(1 missing or of another shape, bert\.encoder\.layer\.0\.output\.dense"):
        load_classifier(directory, 2, 0)


def test_weights_that_are_no_numbers_are_refused(models, tmp_path):
    wild = shutil.copytree(models[0], tmp_path / "wild")
    model = AutoModel.from_pretrained(wild)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7, 3] = torch.inf
    model.save_pretrained(wild)
    with pytest.raises(
        UserError, match=r"1 of its arrays hold values that are not finite, the first: bert\.embeddings"
    ):
        load_classifier(wild, 2, 0)


def test_what_is_said_of_an_epoch_changes_nothing_and_is_what_was_trained(models):
    settings, batches = SETTINGS | {"epochs": 2.5}, []
    for data in (task_data("mrpc", [0, 1]), task_data("stsb", [0.0, 2.5, 5.0])):
        epochs = []
        (plain,) = fine_tune(models[1], data, 0, settings, PLAIN)
        (heard,) = fine_tune(models[1], data, 0, settings, PLAIN, progress=batches.append, epoch_ended=epochs.append)
        assert np.array_equal(heard, plain)
        assert np.array_equal(epochs[-1].answers[0], plain)
        assert [epoch.number for epoch in epochs] == [1, 2, 2.5]
        assert batches[-1] == 8  # nine rows are three batches of four: two epochs, and half of one
    assert not np.array_equal(epochs[0].answers[0], plain)


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples(models, tmp_path):
    """Against PyTorch on all examples at once: without dropout, and at a rate at which nothing is learnt."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    directory = with_head("bert", tmp_path / "still", models[0], **still)
    data, epochs = task_data("mrpc", [0, 1, 1]), []
    fine_tune(directory, data, 0, SETTINGS | {"learning_rate": 1e-12}, PLAIN, epoch_ended=epochs.append)
    model = load_classifier(directory, 2, 0).eval()
    texts = [list(column) for column in data.train.sentences]
    inputs = load_tokenizer(directory)(*texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(data.train.labels))
    assert epochs[0].loss == pytest.approx(float(expected), rel=1e-5)


def test_special_tokens_in_a_text_are_text(models):
    tokenizer = load_tokenizer(models[0])
    special = [tokenizer.convert_tokens_to_ids(name) for name in SPECIAL]
    pad, unknown, cls, sep, mask = special
    (row,) = encode(models[0], Split((["the [SEP] cat [MASK]"], ["[PAD] dog [CLS]"]), [1]), 32)
    ids = row["input_ids"]
    assert ids[0] == cls
    assert ids[-1] == sep
    assert [ids.count(one) for one in (pad, cls, sep, mask)] == [0, 1, 2, 0]
    first, second = "the [ SEP ] cat [ MASK ]", "[ PAD ] dog [ CLS ]"
    assert list(encode(models[0], Split(([first], [second]), [1]), 32)) == [row]
    assert unknown in ids  # the brackets are not in the vocabulary


def test_the_length_applied_is_what_all_take(models, export_model, tmp_path):
    assert applied_length(models[0], 16) == 16
    assert applied_length(models[0], 128) == 32  # the model's positions
    file = export_model(tmp_path / "short", positions=64) / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 12}))
    assert applied_length(tmp_path / "short", 128) == 12
    assert applied_length(with_head("roberta", tmp_path / "roberta", models[0]), 128) == 24 - 1


def test_a_roberta_takes_texts_longer_than_its_positions(models, tmp_path):
    """Position 24 of 24 is the padding's: an example of 24 tokens would end in an index error."""
    directory = with_head("roberta", tmp_path / "roberta", models[0])
    long = Split((["the cat " * 20] * 4,), [0, 1, 0, 1])
    data = TaskData(TASKS["sst2"], long, (long,))
    applied = []
    (answers,) = fine_tune(directory, data, 0, SETTINGS | {"max_length": 128}, PLAIN, applied=applied.append)
    assert answers.shape == (4,)
    assert applied == [AppliedSettings(23, (4, 4))]


def test_what_is_cut_is_counted(models):
    split = Split((["the " * 13, "the " * 14, "the " * 15, "the"],), [0, 1, 0, 1])
    applied = []
    fine_tune(models[1], TaskData(TASKS["sst2"], split, (split,)), 0, SETTINGS, PLAIN, applied=applied.append)
    assert applied == [AppliedSettings(16, (1, 1))]  # two tokens of the sixteen are [CLS] and [SEP]
