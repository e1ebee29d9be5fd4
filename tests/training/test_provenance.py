"""What a run remembers for the cards of its exports."""

import json
import shutil
from pathlib import Path

import pytest

from ctcd_jax.artifacts.runs import PROVENANCE
from ctcd_jax.config import resolve
from ctcd_jax.config.init_spec import Init, read_run
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.training.provenance import _cached_hub_id, card_facts, read_provenance, write_provenance
from ctcd_jax.training.run import open_run, run_content
from tests.small import config


@pytest.fixture
def run(corpus, tmp_path):
    """Returns a function that begins a run, or goes on with it, and gives its directory."""

    def begin(**changes):
        settings, opened = config(corpus, **changes), Corpus.open(corpus)
        experiment, workdir = resolve(settings, opened), tmp_path / "runs" / "ctcd"
        workdir.mkdir(parents=True, exist_ok=True)
        content = run_content(settings, experiment, opened)
        open_run(content, opened, experiment, workdir, change=False, log=print)
        return workdir

    return begin


def test_a_run_remembers_its_corpus_without_the_long_lists(run, corpus):
    workdir = run()
    manifest = json.loads((corpus / "corpus.json").read_text())
    kept = read_provenance(workdir)["corpus"]
    assert kept == {key: manifest[key] for key in kept}
    assert {"recipe", "sources", "splits", "tokenizer"} <= kept.keys()
    assert not {"shards", "token_frequencies", "row_tokens"} & kept.keys()
    before = (workdir / PROVENANCE).read_bytes()
    assert (run() / PROVENANCE).read_bytes() == before


def test_a_run_that_was_killed_while_it_began_remembers_what_it_begins_with_then(run):
    workdir = run()
    (workdir / "config.json").unlink()
    (workdir / PROVENANCE).write_text('{"format": 1, "corpus": {"recipe": "another"}}')
    assert read_provenance(run())["corpus"]["recipe"] != "another"


def test_a_run_of_an_earlier_version_learns_its_corpus_when_it_goes_on(run):
    workdir = run()
    (workdir / PROVENANCE).unlink()
    assert card_facts(read_run(workdir), workdir, "student", 14)["corpus"].keys() == {"hash"}
    facts = card_facts(read_run(run()), workdir, "student", 14)
    assert facts["corpus"]["splits"]["train"]["tokens"] > 0


def test_a_later_format_is_refused(run):
    workdir = run()
    (workdir / PROVENANCE).write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"provenance\.json: format 2"):
        read_provenance(workdir)


def test_the_hubs_model_is_found_through_layers_and_runs(corpus, tmp_path):
    opened = Corpus.open(corpus)
    (tmp_path / "first").mkdir()
    (tmp_path / "local").mkdir()
    hub = Init("hf", "google-bert/bert-base-uncased")
    copy = Init("layers", "teacher", layers=(0, 2))
    write_provenance(tmp_path / "first", opened, {"teacher": hub, "student": copy, "other": Init("scratch")})
    base = {"teacher": hub.location, "student": hub.location}
    assert read_provenance(tmp_path / "first")["base_models"] == base
    later = {
        "old": Init("run", str(tmp_path / "first"), member="student"),
        "own": Init("hf", str(tmp_path / "local")),
    }
    write_provenance(tmp_path, opened, later)
    assert read_provenance(tmp_path)["base_models"] == {"old": hub.location}


def test_no_directory_is_published(run, corpus):
    workdir = run()
    text = json.dumps(card_facts(read_run(workdir), workdir, "student", 14))
    assert '"run": "ctcd"' in text
    assert '"name": "text.txt"' in text
    assert str(workdir.parent) not in text
    assert str(corpus.parent) not in text


@pytest.mark.parametrize(
    ("spec", "more", "published"),
    [
        ("text:/home/me/wiki/*.xz,lines=sentences", {}, {"name": "*.xz", "options": {"lines": "sentences"}}),
        ("hf:/home/me/wiki", {"rows": 3}, {"name": "wiki", "options": {}}),
        (
            "hf:wikimedia/wikipedia,name=20231101.en",
            {"revision": "b04c"},
            {"hub": "wikimedia/wikipedia", "revision": "b04c", "options": {"name": "20231101.en"}},
        ),
        ("tfds:wiki40b/en:1.3.0", {}, {"name": "wiki40b/en:1.3.0", "options": {}}),
        ("tfds:/home/me/tfds/wiki40b", {}, {"name": "wiki40b", "options": {}}),
        ("docstrings", {"packages": {"python": "3.11"}}, {"options": {}}),
    ],
)
def test_a_source_is_named_without_its_place(spec, more, published, run):
    workdir = run()
    path = workdir / PROVENANCE
    known = json.loads(path.read_text())
    counts = {"documents": 1, "sentences": 2, "kept": 2}
    known["corpus"]["sources"] = [{"source": spec, "files": 1, "invalid_lines": 0} | counts | more]
    path.write_text(json.dumps(known))
    (source,) = card_facts(read_run(workdir), workdir, "student", 14)["corpus"]["sources"]
    assert source == {"kind": spec.partition(":")[0]} | published | counts


def test_the_optimizer_is_the_members_own(run):
    workdir = run()
    run_config = read_run(workdir)
    run_config["members"]["student"]["optimizer"]["learning_rate"] = 1e-3
    rates = {
        name: card_facts(run_config, workdir, name, 14)["training"]["optimizer"]["learning_rate"]
        for name in ("teacher", "student")
    }
    assert rates == {"teacher": 3e-3, "student": 1e-3}


def test_an_edge_that_weighs_nothing_is_none(run):
    workdir = run()
    run_config = read_run(workdir)
    run_config["edges"][0]["weight"] = 0.0
    edges = card_facts(run_config, workdir, "student", 14)["edges"]
    assert [(edge["source"], edge["target"]) for edge in edges] == [("student", "teacher")]


def test_figures_are_those_of_the_step(run):
    workdir = run()
    lines = [
        {"kind": kind, "step": step, "tokens": 100 * step, "members": {"student": {"hard": step / 2, "accuracy": 0.1}}}
        for step in (7, 14)
        for kind in ("train", "validation")
    ]
    torn = json.dumps(lines[0])[:20]  # as a kill leaves it
    Path(workdir, "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    facts = card_facts(read_run(workdir), workdir, "student", 7)
    assert facts["held_out"] == {"step": 7, "loss": 3.5, "accuracy": 0.1}
    assert facts["training"]["tokens"] == 700
    facts = card_facts(read_run(workdir), workdir, "student", 10)
    assert "held_out" not in facts
    assert "tokens" not in facts["training"]
    shutil.rmtree(workdir / "tokenizer")  # nothing but JSON is needed
    assert card_facts(read_run(workdir), workdir, "student", 14)["held_out"]["loss"] == 7


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/c/hub/models--google-bert--bert-base-uncased/snapshots/86b5e093", "google-bert/bert-base-uncased"),
        ("/c/models--a--b--c/snapshots/86b5e093/", "a/b--c"),
        ("/c/models--gpt2/snapshots/86b5e093", "gpt2"),
        ("/c/models--a--b/mine", None),
        ("google-bert/bert-base-uncased", None),
    ],
)
def test_a_model_in_the_hubs_cache_is_known_by_its_id(location, expected):
    assert _cached_hub_id(location) == expected


def test_what_started_from_the_hubs_cache_is_not_named_after_a_commit(run, tmp_path):
    workdir = run()
    snapshot = tmp_path / "models--org--name" / "snapshots" / "86b5e093"
    snapshot.mkdir(parents=True)
    sources = {"teacher": Init("hf", str(snapshot)), "student": Init("scratch")}
    write_provenance(workdir, Corpus.open(read_run(workdir)["data"]["corpus"]), sources)
    content = read_run(workdir)
    content["members"]["teacher"]["init"] = f"hf:{snapshot}"
    member = card_facts(content, workdir, "student", 20)["members"]["teacher"]
    assert member["base_model"] == member["start"]["model"] == "org/name"


def test_a_revision_is_no_part_of_the_id_that_a_card_links_to(run):
    workdir = run()
    write_provenance(workdir, Corpus.open(read_run(workdir)["data"]["corpus"]), {"teacher": Init("hf", "org/name@v1")})
    assert read_provenance(workdir)["base_models"] == {"teacher": "org/name"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"starts": {"student": {}}}, r"starts\.student\.from_scratch is missing"),
        ({"starts": None}, "starts is null, not an object"),
        ({"corpus": {"x": 1}}, r"corpus\.recipe is missing"),
    ],
)
def test_damaged_provenance_is_one_line(change, said, run):
    workdir = run()
    path = workdir / PROVENANCE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=rf"provenance\.json: damaged \({said}\); restore it"):
        read_provenance(workdir)
