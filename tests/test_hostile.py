"""Files that somebody has tampered with: who reads them gives a result or one line, and looks at no file but theirs."""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctcd_jax.artifacts.exports import encoder_layers, stored_parameters
from ctcd_jax.artifacts.facts import read_facts
from ctcd_jax.artifacts.reading import run_config
from ctcd_jax.artifacts.results import result_fault
from ctcd_jax.cli import main
from ctcd_jax.config.init_spec import read_run, run_member_config
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError, shortened
from ctcd_jax.files import is_inside
from ctcd_jax.models.huggingface import load_pretrained
from ctcd_jax.report.report import report
from tests.hostile import changed, torn

# The same examples each time: what they find fails where it was written, not where somebody works on something else.
TRIED = settings(
    max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def refuses(action) -> str:
    """What a user is told, "" if nothing had to be. Any other error than a user's is the test's."""
    said = ""
    try:
        action()
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    return said


def read_all(directory: Path) -> None:
    corpus = Corpus.open(directory)
    for split in ("train", "validation"):
        for length in corpus.lengths(split):
            if rows := corpus.rows(split, length):
                corpus.read(split, length, np.array([0, rows - 1]))


@pytest.fixture
def a_corpus(corpus, tmp_path):
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


@pytest.fixture
def export(smoke, tmp_path):
    return Path(shutil.copytree(smoke.root / "student", tmp_path / "model"))


@TRIED
@given(st.data())
def test_a_corpus(a_corpus, data):
    path = a_corpus / "corpus.json"
    whole = path.read_text()
    path.write_text(json.dumps(data.draw(changed(json.loads(whole)))))
    refuses(lambda: read_all(a_corpus))
    path.write_text(whole)


def test_a_shard_that_lies_elsewhere_is_not_looked_at(a_corpus, tmp_path):
    path, manifest = a_corpus / "corpus.json", json.loads((a_corpus / "corpus.json").read_text())
    shard = manifest["shards"]["train"][0]
    (a_corpus / shard["file"]).rename(tmp_path / "elsewhere.npy")
    for name in ("../elsewhere.npy", str(tmp_path / "elsewhere.npy"), "a/../../elsewhere.npy", "a\0b"):
        shard["file"] = name
        path.write_text(json.dumps(manifest))
        for opened in (lambda: Corpus(a_corpus), lambda: Corpus.open(a_corpus, verify=False)):
            assert "and no file of the corpus; prepare it again" in refuses(opened)


def test_rows_are_what_the_manifest_says(a_corpus):
    manifest = json.loads((a_corpus / "corpus.json").read_text())
    shard = manifest["shards"]["train"][0]
    rows = np.load(a_corpus / shard["file"])

    def write(array, **changes):
        if isinstance(array, str):
            head = array.ljust(117) + "\n"
            (a_corpus / shard["file"]).write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        else:
            np.save(a_corpus / shard["file"], array)
        changes["sha256"] = hashlib.sha256((a_corpus / shard["file"]).read_bytes()).hexdigest()
        content = json.loads(json.dumps(manifest))
        content["shards"]["train"][0] |= changes
        (a_corpus / "corpus.json").write_text(json.dumps(content))
        return refuses(lambda: read_all(a_corpus))

    assert write(rows) == ""
    assert "uint16[" in write(rows[:-1])
    assert "float32[" in write(rows.astype(np.float32))
    for header in ("{'descr': ('<u2',), 'fortran_order': False, 'shape': (1, 2), }",
                   "{'descr': '<u2', 'fortran_order': False, 'shape': (1180591620717411303424, 2), }",
                   "{'descr': '<u2', 'fortran_order': False, 'shape': (True, 4), }"):  # fmt: skip
        assert "damaged (" in write(header) or "not " in write(header)
    assert "not 2 rows of" in write(rows, rows=2)
    beyond = rows.copy()
    beyond[0, 0] = 60_000
    assert "id 60000 is none of the 150 tokens" in write(beyond)


@TRIED
@given(st.data())
def test_a_models_config_and_what_was_written_of_it(export, data):
    for name, readers in (("config.json", (load_pretrained, encoder_layers)), ("ctcd.json", (read_facts,))):
        whole = (export / name).read_text()
        (export / name).write_text(json.dumps(data.draw(changed(json.loads(whole)))))
        for read in readers:
            refuses(lambda read=read: read(export))
        (export / name).write_text(whole)


def parts(weights: bytes) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    (size,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + size]), weights[8 + size :]


@TRIED
@given(st.data())
def test_a_models_weights(export, data):
    path = export / "model.safetensors"
    whole = path.read_bytes()
    header, tensors = parts(whole)
    text = json.dumps(data.draw(changed(header))).encode()
    size = data.draw(st.sampled_from([len(text)] * 4 + [0, len(text) + 1, 2**30, 2**63, 2**64 - 1]))
    for content in (
        struct.pack("<Q", size) + text + tensors,
        data.draw(torn(whole[: len(whole) // 4])) + whole[len(whole) // 4 :],
    ):
        path.write_bytes(content)
        refuses(lambda: load_pretrained(export))
        refuses(lambda: stored_parameters(export))
    path.write_bytes(whole)


def test_a_shard_of_a_model_that_lies_elsewhere_is_not_looked_at(export, tmp_path):
    (export / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"cls.predictions.bias": "../elsewhere.safetensors"}}
    (export / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "a shard is '../elsewhere.safetensors', and no file of the model" in refuses(lambda: load_pretrained(export))


@TRIED
@given(st.data())
def test_a_runs_config(smoke, tmp_path, data):
    content = json.loads((smoke.root / "runs/ctcd/config.json").read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data.draw(changed(content))))
    refuses(lambda: read_run(tmp_path))
    refuses(lambda: run_member_config(tmp_path, "student"))
    refuses(lambda: run_config(path))


def test_predictions_that_lie_elsewhere_are_not_looked_at(smoke):
    row = smoke.lines("glue/results.jsonl")[0]
    assert result_fault(row) == ""
    assert result_fault(row | {"predictions": "../x.npz"}) == "predictions is '../x.npz', and no file of the folder"


@settings(TRIED, max_examples=40)
@given(st.data())
def test_the_report_leaves_out_what_it_cannot_read_and_escapes_the_rest(smoke, tmp_path, data):
    """What may come from somebody else, in one folder; of a file of lines the last is changed."""
    place = tmp_path / "given"
    if not place.is_dir():
        for name in ("runs/ctcd/config.json", "runs/ctcd/metrics.jsonl", "runs/ctcd/timing.jsonl", "glue/results.jsonl",
                     "student/config.json", "student/ctcd.json", "latency.json"):  # fmt: skip
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(smoke.root / name, place / name)
    path = data.draw(st.sampled_from(sorted(path for path in place.rglob("*") if path.is_file())))
    whole = path.read_text()
    *before, last = whole.splitlines(keepends=True) if path.suffix == ".jsonl" else [whole]
    path.write_text("".join(before) + json.dumps(data.draw(changed(json.loads(last)))) + "\n")
    page = tmp_path / "page.html"
    refuses(lambda: report([place], page, log=lambda _: None, warn=lambda _: None))
    assert "<script>alert" not in page.read_text()
    path.write_text(whole)


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a.npy", True), ("a/b.npy", True), ("..a", True), ("../a", False), ("/a", False), ("a/../b", False), ("", False),
     ("a\0b", False)],
)  # fmt: skip
def test_names_that_lead_elsewhere(name, inside):
    assert is_inside(name) == inside


def test_an_error_is_a_line_that_can_be_read(export, capsys):
    config = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(config | {"num_attention_heads": "é" * 9000}))
    assert main(["evaluate", "--model", str(export), "--corpus", str(export)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 1100
    assert shortened("a" * 1000) == "a" * 1000
