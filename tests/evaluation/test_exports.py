import sys
from pathlib import Path

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import (
    distinct_names,
    named_exports,
    require_torch,
    stored_parameters,
    usable_positions,
    weights_digest,
)


def test_names_are_the_shortest_distinct_ends_of_the_paths():
    paths = [Path("/r/a/export/student"), Path("/r/b/export/student"), Path("/r/b/export/teacher")]
    assert list(distinct_names(paths)) == ["a/export/student", "b/export/student", "teacher"]


def test_a_directory_given_twice_or_without_weights_is_refused(models, tmp_path):
    with pytest.raises(UserError, match="given twice"):
        named_exports([models[0], models[0]])
    with pytest.raises(UserError, match=r"no config\.json.*ctcd export"):
        named_exports([tmp_path])


def test_stored_parameters_are_those_of_the_model_with_its_tied_decoder_once(models):
    from transformers import BertForMaskedLM

    for directory in models:
        expected = sum(parameter.numel() for parameter in BertForMaskedLM.from_pretrained(directory).parameters())
        assert stored_parameters(directory) == expected


def test_the_digest_tells_other_weights_apart(models, export_model, tmp_path):
    same = export_model(tmp_path / "same", layers=1)
    other = export_model(tmp_path / "other", layers=1, seed=1)
    assert weights_digest(models[1]) == weights_digest(same) != weights_digest(other)


SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 30}


@pytest.mark.parametrize(
    ("kind", "positions"),
    [("roberta", 32), ("xlm-roberta", 32), ("mpnet", 32), ("longformer", 32), ("bert", 34), ("electra", 34)],
)
def test_positions_that_are_kept_for_padding_are_not_usable(kind, positions):
    import torch
    from transformers import AutoConfig, AutoModel

    extra = {"attention_window": 2} if kind == "longformer" else {}
    config = AutoConfig.for_model(kind, max_position_embeddings=34, **SHAPE, **extra)
    assert usable_positions(config) == positions
    embeddings = AutoModel.from_config(config).embeddings
    ids = torch.full((1, positions), 7)
    embeddings(input_ids=ids)
    with pytest.raises((IndexError, RuntimeError)):
        embeddings(input_ids=torch.full((1, positions + 1), 7))


def test_positions_that_nothing_limits_are_none():
    from transformers import AutoConfig

    assert usable_positions(AutoConfig.for_model("xlnet")) is None
    assert usable_positions(AutoConfig.for_model("t5")) is None


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"torch is not installed; run: pip install 'ctcd-jax\[torch\]'"):
        require_torch()
