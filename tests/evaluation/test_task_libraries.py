import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.data import load, open_source
from ctcd_jax.evaluation.tasks.tasks import TASKS

datasets = pytest.importorskip("datasets")

HUB_CARD = """---
configs:
- config_name: mnli
  data_files:
  - {split: train, path: mnli/train.jsonl}
  - {split: validation_matched, path: mnli/matched.jsonl}
  - {split: validation_mismatched, path: mnli/mismatched.jsonl}
- config_name: stsb
  data_files:
  - {split: train, path: stsb/train.jsonl}
  - {split: validation, path: stsb/validation.jsonl}
---
"""


def jsonl(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def hub(tmp_path):
    """A folder in the form of `nyu-mll/glue`."""
    root = tmp_path / "glue"
    for name in ("train", "matched", "mismatched"):
        jsonl(root / f"mnli/{name}.jsonl", f'{{"premise": "{name}", "hypothesis": "h", "label": 2}}')
    for name in ("train", "validation"):
        jsonl(root / f"stsb/{name}.jsonl", '{"sentence1": "a", "sentence2": "b", "label": 3.8}')
    (root / "README.md").write_text(HUB_CARD)
    return root


def test_a_folder_in_the_form_of_the_hub(hub):
    source = open_source(f"hf:{hub}")
    assert source.names() == ["mnli", "stsb"]
    data = load(source, source.find("MNLI"))
    assert [dev.sentences for dev in data.dev] == [(["matched"], ["h"]), (["mismatched"], ["h"])]
    assert data.train.labels == [TASKS["mnli"].classes.index("contradiction")]
    assert load(source, source.find("sts-b")).train.labels == [3.8]


def test_a_label_of_the_hub_out_of_range_and_a_missing_column_are_named(hub):
    jsonl(hub / "mnli/train.jsonl", '{"premise": "p", "hypothesis": "h", "label": -1}')
    with pytest.raises(UserError, match="mnli, train:0: label -1 of mnli is not from 0 to 2"):
        open_source(f"hf:{hub}").read(TASKS["mnli"], "train")
    jsonl(hub / "stsb/train.jsonl", '{"sentence1": "a", "sentence": "b", "label": 3.8}')
    with pytest.raises(UserError, match=r"stsb, train: no column 'sentence2'.*did you mean 'sentence"):
        open_source(f"hf:{hub}").read(TASKS["stsb"], "train")


def test_a_class_of_the_hub_is_a_whole_number_or_a_name_and_a_text_is_text(hub):
    for label, said in (("0.7", "0.7"), ("null", "None"), ("true", "True")):
        jsonl(hub / "mnli/train.jsonl", f'{{"premise": "p", "hypothesis": "h", "label": {label}}}')
        with pytest.raises(UserError, match=rf"mnli, train:0: label {said} of mnli is no class; give its number or"):
            open_source(f"hf:{hub}").read(TASKS["mnli"], "train")
    jsonl(hub / "mnli/train.jsonl", '{"premise": "p", "hypothesis": "h", "label": "neutral"}')
    assert open_source(f"hf:{hub}").read(TASKS["mnli"], "train").labels == [TASKS["mnli"].classes.index("neutral")]
    jsonl(hub / "mnli/train.jsonl", '{"premise": "p", "hypothesis": "h", "label": "natural"}')
    with pytest.raises(UserError, match=r"mnli, train:0: .*natural"):
        open_source(f"hf:{hub}").read(TASKS["mnli"], "train")
    jsonl(hub / "mnli/train.jsonl", '{"premise": "p", "hypothesis": null, "label": 1}')
    with pytest.raises(UserError, match="mnli, train:0: hypothesis is None, not text; correct it or leave the row out"):
        open_source(f"hf:{hub}").read(TASKS["mnli"], "train")


def test_the_hub_out_of_reach_is_one_line_that_names_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    with pytest.raises(UserError, match=r"--data hf:nobody/glue: rte, train: .*give a folder of GLUE's TSV files"):
        open_source("hf:nobody/glue").read(TASKS["rte"], "train")


def prepare_tfds(root, task, splits, features):
    import tensorflow_datasets as tfds

    class Prepared(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        name = f"glue_{task}"

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features(tfds.features)))

        def _split_generators(self, _):
            return {name: iter(enumerate(rows)) for name, rows in splits.items()}

        def _generate_examples(self):  # abstract there; the splits bring their examples
            pytest.fail("nobody asks for it")

    builder = Prepared(data_dir=root / "made", file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(download_mode=tfds.download.GenerateMode.REUSE_DATASET_IF_EXISTS)
    )
    (root / "glue").mkdir(exist_ok=True)
    (root / "made" / f"glue_{task}").rename(root / "glue" / task)


def test_what_tfds_has_prepared(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    rows = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}]
    prepare_tfds(
        tmp_path,
        "rte",
        {"train": rows, "validation": rows[:1]},
        lambda f: {"sentence1": f.Text(), "sentence2": f.Text(), "label": f.ClassLabel(num_classes=2)},
    )
    source = open_source(f"tfds:{tmp_path}")
    assert source.names() == ["rte"]
    data = load(source, source.find("rte"))
    assert sorted(zip(*data.train.sentences, data.train.labels, strict=True)) == [("a", "b", 1), ("c", "d", 0)]
    assert len(data.dev[0]) == 1
    with pytest.raises(UserError, match=r"no glue/cola/VERSION/features\.json in .*; prepare glue/TASK"):
        source.read(TASKS["cola"], "train")
