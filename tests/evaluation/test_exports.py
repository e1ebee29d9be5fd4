import sys
from pathlib import Path

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import (
    distinct_names,
    named_exports,
    require_torch,
    stored_parameters,
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


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"torch is not installed; run: pip install 'ctcd-jax\[torch\]'"):
        require_torch()
