import gzip

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.data import TaskData, choose, departures, load, open_source
from ctcd_jax.evaluation.tasks.files import Folder, Split
from ctcd_jax.evaluation.tasks.tasks import DEFAULT_TASKS, TASKS, own_task


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# The header lines of GLUE's own files, and a row with label `LABEL`; CoLA's have none.
OFFICIAL = {
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\t1\t1a\tfiction\t-\t-\t-\t-\tA\tB\tneutral\tLABEL",
        ["entailment", "neutral", "contradiction"],
    ),
    "QQP": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\tA\tB\tLABEL", ["0", "1"]),
    "QNLI": ("index\tquestion\tsentence\tlabel", "0\tA\tB\tLABEL", ["entailment", "not_entailment"]),
    "SST-2": ("sentence\tlabel", "A\tLABEL", ["0", "1"]),
    "CoLA": (None, "gj04\tLABEL\t*\tA", ["0", "1"]),
    "MRPC": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "LABEL\t7\t8\tA\tB", ["0", "1"]),
    "RTE": ("index\tsentence1\tsentence2\tlabel", "0\tA\tB\tLABEL", ["entailment", "not_entailment"]),
    "WNLI": ("index\tsentence1\tsentence2\tlabel", "0\tA\tB\tLABEL", ["0", "1"]),
}


@pytest.mark.parametrize("folder", OFFICIAL)
def test_the_columns_and_label_ids_are_those_of_glues_files(tmp_path, folder):
    header, row, labels = OFFICIAL[folder]
    lines = [*([header] if header else []), *(row.replace("LABEL", label) for label in labels)]
    source = Folder(tmp_path)
    write(tmp_path / folder / "train.tsv", "\n".join(lines) + "\n")
    split = source.read(source.find(folder), "train")
    assert split.labels == list(range(len(labels)))
    assert [column[0] for column in split.sentences] == ["A", "B"][: len(split.sentences)]
    assert len(split.sentences) == (1 if folder in ("SST-2", "CoLA") else 2)


def test_the_columns_of_sts_b_are_those_of_its_file(tmp_path):
    header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
    write(tmp_path / "STS-B/dev.tsv", f"{header}\n0\tmain\tf\t2012\t1\tnone\tnone\tA\tB\t3.8\n")
    split = Folder(tmp_path).read(TASKS["stsb"], "dev")
    assert (split.sentences, split.labels) == ((["A"], ["B"]), [3.8])


def test_the_default_is_glue_without_wnli():
    assert DEFAULT_TASKS == ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")


def test_a_folder_is_asked_for_what_it_has(tmp_path):
    for folder in ("RTE", "CoLA", "WNLI", "notes"):
        (tmp_path / folder).mkdir()
    tasks, missing = choose(Folder(tmp_path), None)
    assert [task.name for task in tasks] == ["cola", "rte"]
    assert missing == ["mnli", "qqp", "qnli", "sst2", "stsb", "mrpc"]
    assert [task.name for task in choose(Folder(tmp_path), ["wnli", "RTE", "rte"])[0]] == ["wnli", "rte"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no task of GLUE"):
        choose(Folder(tmp_path / "none"), None)


def test_mnli_has_two_development_splits(tmp_path):
    header = "index\tpromptID\tsentence1\tsentence2\tlabel1\tgold_label\n"
    for split in ("train", "dev_matched", "dev_mismatched"):
        write(tmp_path / "MNLI" / f"{split}.tsv", f"{header}0\t1\t{split}\tb\tneutral\tcontradiction\n")
    data = load(Folder(tmp_path), TASKS["mnli"])
    assert [dev.sentences[0] for dev in data.dev] == [["dev_matched"], ["dev_mismatched"]]
    assert data.train.labels == [2]  # the gold label, not an annotator's


def test_qqp_skips_the_rows_that_lack_columns_and_says_so(tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = "1\t1\t2\ta\tb\t0\n2\t3\t4\tbroken off\n3\t5\t6\tc\td\t1\n"
    for split in ("train", "dev"):
        write(tmp_path / "QQP" / f"{split}.tsv", header + rows)
    data = load(Folder(tmp_path), TASKS["qqp"])
    assert data.train.labels == [0, 1]
    assert list(departures(data)) == [
        "QQP train: 2 rows, the official split has 363,846",
        "QQP train: rows skipped for lack of columns: 1",
        "QQP dev: 2 rows, the official split has 40,430",
        "QQP dev: rows skipped for lack of columns: 1",
    ]


def test_an_absent_label_is_a_departure_and_the_official_form_is_none():
    rows = TASKS["cola"].rows
    whole = [Split((["a"] * count,), [0, 1] * (count // 2) + [1] * (count % 2)) for count in rows]
    assert list(departures(TaskData(TASKS["cola"], whole[0], (whole[1],)))) == []
    half = Split(whole[1].sentences, [1] * rows[1])
    assert list(departures(TaskData(TASKS["cola"], whole[0], (half,)))) == ["CoLA dev: no row with label 0"]


OWN = {
    "tsv": 'review\tnote\tstars\nso "good\t1\tpos\nbad\t2\tneg\n',
    "csv": 'review,note,stars\n"so ""good",1,pos\nbad,2,neg\n',
    "jsonl": '{"review": "so \\"good", "stars": "pos"}\n{"stars": "neg", "review": "bad"}\n',
}


@pytest.mark.parametrize("ending", OWN)
@pytest.mark.parametrize("folder", ["", "Reviews"])
def test_a_task_of_the_users_own_in_three_kinds_of_file(tmp_path, ending, folder):
    write(tmp_path / folder / f"train.{ending}", OWN[ending])
    source = open_source(str(tmp_path), own_task("reviews", "review,stars", "accuracy,f1"))
    (task,), _ = choose(source, None)
    assert (task.name, task.classes, task.metrics) == ("reviews", ("neg", "pos"), ("accuracy", "f1"))
    split = source.read(task, "train")
    assert split.sentences == (['so "good', "bad"],)
    assert split.labels == [1, 0]


def test_own_scores_pairs_and_positions(tmp_path):
    write(tmp_path / "train.tsv", "a\tb\t-2.5\nc\td\t7\n")
    source = open_source(str(tmp_path), own_task("Sim", "0,1,2", "spearman"))
    task = source.find("sim")
    assert (task.outputs, task.header) == (1, False)
    split = source.read(task, "train")
    assert split.sentences == (["a", "c"], ["b", "d"])
    assert split.labels == [-2.5, 7.0]
    assert split.characters() == 4


def test_own_integer_labels_are_ordered_as_numbers(tmp_path):
    write(tmp_path / "train.jsonl", "".join(f'{{"t": "x", "y": {label}}}\n' for label in (10, 9, 2)))
    assert open_source(str(tmp_path), own_task("n", "t,y", "accuracy")).find("n").classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("columns", "metrics", "message"),
    [
        ("text", "accuracy", "--columns text: give one or two text columns and the label"),
        ("a,b,c,d", "accuracy", "--columns a,b,c,d"),
        ("0,label", "accuracy", "not both"),
        ("text,label", "acc", "--metric acc: give accuracy"),
        ("text,label", "accuracy,pearson", "metrics of classes or of scores, not both"),
    ],
)
def test_a_wrong_description_of_an_own_task_is_refused(columns, metrics, message):
    with pytest.raises(UserError, match=message):
        own_task("mine", columns, metrics)


@pytest.mark.parametrize("name", ["../out", "a/b", "RTE", "sst2", ".hidden"])
def test_a_name_that_is_a_path_or_glues_is_refused(name):
    with pytest.raises(UserError, match="give a name of your own"):
        own_task(name, "text,label", "accuracy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", b"text\tlabel\nb\xe9\t1\n", r"train\.tsv:2: cannot be read \('utf-8' codec.*; give UTF-8"),
        ("train.tsv.gz", b"text\tlabel\na\t1\n", r"train\.tsv\.gz: cannot be read \(Not a gzipped file"),
        ("train.tsv.gz", gzip.compress(b"text\tlabel\n" + b"a\t1\n" * 9, mtime=0)[:-9], r"tsv\.gz: cannot be read"),
        ("train.jsonl", b'{"text": null, "label": 1}\n', r"train\.jsonl:1: field 'text' is null"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path), own_task("mine", "text,label", "accuracy")).find("mine")


@pytest.mark.parametrize(
    ("ending", "text", "metrics", "message"),
    [
        ("csv", "text,lable\na,1\n", "accuracy", r"train\.csv:1: no column 'label'.*did you mean 'lable'"),
        ("jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "accuracy", r"train\.jsonl:2: no field 'label'"),
        ("jsonl", "text\n", "accuracy", r"train\.jsonl:1: not a JSON object"),
        ("tsv", "text\tlabel\na\t1\nb\t1\n", "accuracy", "only one class"),
        ("tsv", "text\tlabel\na\t1\nb\t2\nc\t3\n", "f1", "--metric f1: .* has 3 classes"),
    ],
)
def test_a_wrong_own_file_is_named(tmp_path, ending, text, metrics, message):
    write(tmp_path / f"train.{ending}", text)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path), own_task("mine", "text,label", metrics)).find("mine")


def test_a_score_out_of_its_interval_is_named_with_its_line(tmp_path):
    write(tmp_path / "STS-B" / "dev.tsv", "sentence1\tsentence2\tscore\na\tb\t5.0\nc\td\t5.1\n")
    with pytest.raises(UserError, match=r"dev\.tsv:3: score 5\.1 of stsb is not from 0 to 5"):
        Folder(tmp_path).read(TASKS["stsb"], "dev")
