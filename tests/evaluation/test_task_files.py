import gzip

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.files import Folder
from ctcd_jax.evaluation.tasks.tasks import TASKS

COLA = 'gj04\t1\t\tThe cat "sees.\ngj04\t0\t*\tSees\rcat\u2028the.\n'


def write(folder, train, dev=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.tsv").write_text(train, encoding="utf-8")
    (folder / "dev.tsv").write_text(train if dev is None else dev, encoding="utf-8")


def test_cola_has_no_header_and_no_quoting(tmp_path):
    write(tmp_path / "CoLA", COLA)
    split = Folder(tmp_path).read(Folder(tmp_path).find("cola"), "train")
    assert split.sentences == (['The cat "sees.', "Sees\rcat\u2028the."],)
    assert split.labels == [1, 0]


@pytest.mark.parametrize("name", ["SST-2", "sst2", "sst_2"])
def test_names_ignore_case_and_hyphens_and_a_file_may_be_compressed(tmp_path, name):
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "dev.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\ngood\t1\n"))
    task = Folder(tmp_path).find(name)
    assert task is TASKS["sst2"]
    assert Folder(tmp_path).read(task, "dev").labels == [1]


def test_mrpc_is_a_pair_whose_header_starts_with_a_byte_order_mark(tmp_path):
    write(tmp_path / "MRPC", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tone\ttwo\r\n")
    split = Folder(tmp_path).read(TASKS["mrpc"], "dev")
    assert split.sentences == (["one"], ["two"])
    assert split.labels == [1]


def test_stsb_is_a_regression_and_rte_maps_names_to_ids(tmp_path):
    write(tmp_path / "STS-B", "sentence1\tsentence2\tscore\na\tb\t3.250\n")
    write(tmp_path / "RTE", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n")
    assert Folder(tmp_path).read(TASKS["stsb"], "train").labels == [3.25]
    assert Folder(tmp_path).read(TASKS["rte"], "train").labels == [1]
    assert (TASKS["stsb"].outputs, TASKS["rte"].outputs) == (1, 2)


@pytest.mark.parametrize(
    "text",
    ["good dog\t1\nbad dog\t0\n", "text\tlabel\ngood dog\t1\nbad dog\t0\n", "1\tgood dog\n0\tbad dog\n"],
    ids=["text first", "header", "label first"],
)
def test_two_columns_of_the_users_own(tmp_path, text):
    write(tmp_path / "My-Task", text)
    task = Folder(tmp_path).find("mytask")
    split = Folder(tmp_path).read(task, "train")
    assert split.sentences == (["good dog", "bad dog"],)
    assert split.labels == [1, 0]
    assert task.metrics == ("accuracy", "f1", "matthews")
    assert task.headline == "accuracy"


def test_a_folder_shaped_like_cola_is_scored_by_accuracy_and_matthews(tmp_path):
    write(tmp_path / "BShift", COLA)
    task = Folder(tmp_path).find("bshift")
    assert (task.name, task.metrics) == ("bshift", ("accuracy", "matthews"))
    assert Folder(tmp_path).read(task, "dev").labels == [1, 0]


def test_three_classes_keep_their_numeric_order(tmp_path):
    write(tmp_path / "topic", "a\t10\nb\t2\nc\t-1\n")
    task = Folder(tmp_path).find("topic")
    assert task.classes == ("-1", "2", "10")
    assert task.metrics == ("accuracy",)


@pytest.mark.parametrize(
    ("folder", "text", "message"),
    [
        ("CoLA", "", "no rows"),
        ("CoLA", "gj04\t1\n", "train.tsv:1: 2 columns, column 4 is needed"),
        ("CoLA", COLA + "gj04\tyes\t\tThe dog.\n", "train.tsv:3: label 'yes'"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\tnan\n", "train.tsv:2: score 'nan'"),
        ("SST-2", "sentence\tlable\ngood\t1\n", "no column 'label'.*did you mean 'lable'"),
        ("mine", "a\t1\nb\tx\nc\t0\n", "train.tsv:2: the label in column 2 must be an integer"),
        ("mine", "a\t1\nb\t1\n", "only one class"),
        ("mine", "a\n", "1 columns"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, folder, text, message):
    write(tmp_path / folder, text)
    with pytest.raises(UserError, match=message):
        Folder(tmp_path).read(Folder(tmp_path).find(folder), "train")


def test_an_unseen_label_in_dev_is_an_error(tmp_path):
    write(tmp_path / "mine", "a\t1\nb\t0\n", dev="c\t2\n")
    with pytest.raises(UserError, match=r"dev\.tsv:1: label '2' of mine is none of 0, 1"):
        Folder(tmp_path).read(Folder(tmp_path).find("mine"), "dev")


def test_an_unknown_task_and_a_missing_file(tmp_path):
    write(tmp_path / "CoLA", COLA)
    with pytest.raises(UserError, match=r"--tasks colla: .*did you mean 'cola'"):
        Folder(tmp_path).find("colla")
    with pytest.raises(UserError, match="known: cola"):
        Folder(tmp_path).find("xyz")
    with pytest.raises(UserError, match="no such folder"):
        Folder(tmp_path / "nowhere").find("cola")
    (tmp_path / "CoLA" / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"dev\.tsv: no such file"):
        Folder(tmp_path).read(TASKS["cola"], "dev")
