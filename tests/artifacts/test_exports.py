import json
import shutil
import sys
from pathlib import Path

import pytest

from ctcd_jax.artifacts.exports import (
    distinct_names,
    encoder_layers,
    named_exports,
    require_torch,
    stored_parameters,
    usable_positions,
    weight_files,
    weights_digest,
)
from ctcd_jax.errors import UserError


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


def cached(root, name, revision, export_model, seed=0):
    return export_model(root / f"models--{name}" / "snapshots" / (revision * 40), seed=seed)


def test_models_in_the_hubs_cache_are_called_as_on_the_hub(export_model, tmp_path):
    hub = tmp_path / "hub"
    one = cached(hub, "org--small", "a", export_model)
    two = cached(hub, "bert-tiny", "b", export_model)
    three = cached(hub, "other--small", "c", export_model)
    assert list(named_exports([one, two, three])) == ["org/small", "bert-tiny", "other/small"]
    again = cached(hub, "org--small", "d", export_model)
    assert list(distinct_names([one, again, two])) == ["org/small@aaaaaaaa", "org/small@dddddddd", "bert-tiny"]


def test_a_name_that_is_taken_is_not_given_again():
    paths = [Path("/r/a/student"), Path("/r/b/teacher")]
    assert list(distinct_names(paths, {"student"})) == ["a/student", "teacher"]


def in_shards(directory, source):
    from transformers import BertForMaskedLM

    BertForMaskedLM.from_pretrained(source).save_pretrained(directory, max_shard_size="20KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 1
    return directory


def in_a_pickle(directory, source):
    import torch
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(source)
    model.config.save_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    return directory


@pytest.mark.parametrize("write", [in_shards, in_a_pickle])
def test_weights_in_several_files_or_in_a_pickle_are_a_model_like_any_other(models, tmp_path, write):
    from ctcd_jax.evaluation.classifier import load_classifier

    directory = write(tmp_path / "model", models[1])
    assert list(named_exports([directory])) == ["model"]
    assert stored_parameters(directory) == stored_parameters(models[1])
    before = weights_digest(directory)
    assert len(before) == 64
    theirs, ours = (load_classifier(path, 2, 0).state_dict() for path in (models[1], directory))
    assert all((value == ours[name]).all() for name, value in theirs.items())
    last = weight_files(directory)[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"~")
    assert weights_digest(directory) != before


def test_what_is_missing_of_a_model_is_named(models, tmp_path):
    directory = in_shards(tmp_path / "model", models[1])
    second = sorted(directory.glob("model-*.safetensors"))[1]
    second.unlink()
    with pytest.raises(UserError, match=rf"{second}: no such file, though model.safetensors.index.json names it"):
        named_exports([directory])
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="names no shards; fetch the model again"):
        named_exports([directory])
    (directory / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors, nor shards of it, nor pytorch_model\.bin; give a dir"):
        named_exports([directory])
    (directory / "pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(UserError, match=r"pytorch_model\.bin: damaged"):
        stored_parameters(directory)


def test_a_git_lfs_pointer_is_called_so(models, tmp_path):
    directory = Path(shutil.copytree(models[1], tmp_path / "model"))
    (directory / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        UserError, match=rf"model\.safetensors: a Git LFS pointer, .* run `git lfs pull` in {directory}"
    ):
        named_exports([directory])


def test_a_field_of_the_config_that_is_null_is_one_line(models, tmp_path):
    directory = Path(shutil.copytree(models[1], tmp_path / "model"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": None}))
    with pytest.raises(UserError, match=r"its config\.json is not that of an encoder \(.*num_hidden_layers") as said:
        encoder_layers(directory)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlnet"])
def test_usable_positions_are_those_that_a_model_can_look_up(kind):
    """Against the model itself: the last position works, the next does not."""
    import torch
    from transformers import AutoConfig, AutoModel

    config = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config |= {"intermediate_size": 8, "max_position_embeddings": 20, "pad_token_id": 1, "attention_window": [4]}
    if kind == "xlnet":
        assert usable_positions(AutoConfig.for_model(kind)) is None
        return
    config = AutoConfig.for_model(kind, **config)
    model = AutoModel.from_config(config).eval()
    longest = usable_positions(config)
    assert longest == (20 if kind == "bert" else 18)
    model(torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 5))
