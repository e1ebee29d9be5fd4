import pytest
import yaml
from huggingface_hub import ModelCard

from ctcd_jax.artifacts.facts import read_facts, write_facts
from ctcd_jax.artifacts.samples import write_samples
from ctcd_jax.card import ExportMeasurements, write_card
from ctcd_jax.card.text import body
from ctcd_jax.errors import UserError
from tests.card.facts import corpus, edge, facts, member

RTE = {
    "task": {"type": "text-classification"},
    "dataset": {"type": "nyu-mll/glue", "name": "GLUE RTE", "config": "rte", "split": "validation"},
    "metrics": [{"type": "accuracy", "value": 0.5271}],
}
MEASURED = ExportMeasurements(("### Fine-tuned\n\nRTE 52.71",), (RTE,))


def written(directory, known=None, measured=MEASURED):
    write_card(directory, known or facts(), measured)
    return (directory / "README.md").read_text()


def edit(directory, old, new):
    path = directory / "README.md"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_hubs_library_reads_the_metadata(tmp_path):
    written(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "fill-mask")
    assert isinstance(data.tags, list)
    assert {"bert", "distillation"} <= set(data.tags)
    assert (data.license, data.language, data.base_model, data.datasets) == (None,) * 4
    (result,) = data.eval_results
    assert data.model_name == "ctcd-student"
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "rte", "validation")
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.5271)


def test_what_came_from_the_hub_is_in_the_metadata(tmp_path):
    counts = {"options": {"name": "20231101.no"}, "documents": 1, "sentences": 1, "kept": 1}
    wikipedia = {"kind": "hf", "hub": "wikimedia/wikipedia", "revision": "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"}
    start = {"kind": "hf", "model": "google-bert/bert-base-uncased"}
    known = facts(
        members={"student": member(start=start, base_model=start["model"])},
        edges=[],
        from_scratch=False,
        corpus=corpus(sources=[wikipedia | counts, *corpus()["sources"]], language="no"),
    )
    text = written(tmp_path, known)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == "google-bert/bert-base-uncased"
    assert data.datasets == ["wikimedia/wikipedia"]
    assert data.language == "no"  # in YAML, a bare `no` is false
    assert "distillation" not in data.tags
    assert "| hub: `wikimedia/wikipedia`, name=20231101.no, revision `b04c8d1ceb2f` | 1 | 1 | 1 |" in text


@pytest.mark.parametrize(
    ("kinds", "chosen", "known"),
    [
        (["text"], "en", None),
        (["docstrings"], "en", "en"),
        (["docstrings", "text"], "en", None),
        (["text"], "de", "de"),
    ],
)
def test_a_language_that_nobody_named_is_not_invented(kinds, chosen, known, tmp_path):
    sources = [corpus()["sources"][0] | {"kind": kind} for kind in kinds]
    written(tmp_path, facts(corpus=corpus(sources=sources, language=chosen)))
    assert ModelCard.load(tmp_path / "README.md").data.language == known


def test_the_same_facts_give_the_same_bytes(tmp_path):
    assert written(tmp_path) == written(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md"]


def test_what_people_wrote_around_it_stays(tmp_path):
    written(tmp_path, measured=ExportMeasurements())
    edit(tmp_path, "library_name:", "license: mit  # ours\nlibrary_name:")
    edit(tmp_path, "<!-- ctcd card: ", "![logo](logo.png)\n\n<!-- ctcd card: ")
    path = tmp_path / "README.md"
    path.write_text(path.read_text() + "\n## Contact\n\nWrite to us.\n")
    text = written(tmp_path)
    assert text.startswith("---\nlicense: mit  # ours\nlibrary_name: transformers\n")
    assert "---\n\n![logo](logo.png)\n\n<!-- ctcd card: " in text
    assert text.endswith("-->\n\n## Contact\n\nWrite to us.\n")
    assert "### Fine-tuned\n\nRTE 52.71" in text
    assert ModelCard.load(path).data.license == "mit"
    assert len(ModelCard.load(path).data.eval_results) == 1
    assert written(tmp_path) == text


def test_only_the_models_own_results_are_replaced(tmp_path):
    written(tmp_path)
    edit(tmp_path, "model-index:\n", "model-index:\n- name: theirs\n  results: []\n")
    edit(
        tmp_path,
        "    - type: accuracy\n      value: 0.5271\n",
        "    - type: accuracy\n      value: 0.5271\nlicense: mit\n",
    )
    assert "name: theirs" in written(tmp_path)
    text = written(tmp_path, measured=ExportMeasurements())
    assert "theirs" in text
    assert "license: mit\n" in text
    assert "RTE" not in text


def test_a_card_without_metadata_gets_only_its_results(tmp_path):
    text = written(tmp_path)
    (tmp_path / "README.md").write_text(text[text.index("<!--") :])
    assert written(tmp_path).startswith("---\nmodel-index:\n- name: ctcd-student\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Trained alone", "We trained it alone", "edited between its marks"),
        ("<!-- ctcd card ends", "<!--", "its marks are gone"),
        ("library_name: transformers", "library_name: [", "its metadata is not what the hub reads"),
        ("library_name: transformers", "model-index: none\nlibrary_name: transformers", "its metadata is not"),
    ],
)
def test_a_card_that_cannot_be_updated_is_left_alone(old, new, message, tmp_path):
    written(tmp_path, facts(edges=[], members={"student": member()}), ExportMeasurements())
    edit(tmp_path, old, new)
    before = (tmp_path / "README.md").read_bytes()
    with pytest.raises(UserError, match=message):
        written(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == before


NOT_BY_LINES = "not written so that model-index can be replaced"


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: mit\ntags: [a\n", r"README\.md:4: its metadata is not what the hub reads \(.*; correct it$"),
        ("license: mit\n\ttags: a\n", r"README\.md:3: its metadata is not"),
        ("{license: mit}\n", rf"README\.md:2: .*{NOT_BY_LINES}"),
        ("license: mit\nmodel-index: [\n{name: a, results: []}\n]\n", rf"README\.md:3: .*{NOT_BY_LINES}"),
        ("model-index: &all\n- name: a\n  results: []\nother: *all\n", rf"README\.md:2: .*{NOT_BY_LINES}"),
        ("license: mit\n...\n", NOT_BY_LINES),
        ("- license\n", r"README\.md:2: its metadata is not"),
        ("license: mit\nmodel-index:\n- a\n", r"README\.md:3: its metadata is not"),
    ],
)
def test_metadata_is_valid_yaml_afterwards_or_nothing_is_written(front, said, tmp_path):
    text = written(tmp_path)
    path = tmp_path / "README.md"
    path.write_text(f"---\n{front}---\n" + text[text.index("<!--") :])
    before = path.read_bytes()
    with pytest.raises(UserError, match=said):
        written(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "front",
    [
        "license: mit\n'model-index':\n  # ours\n  - name: theirs\n    results: []\n",
        "model-index: [{name: theirs, results: []}]\nlicense: mit\n",
        "license: mit\nmodel-index:\n- {name: theirs, results: []}\n\n",
        "license: mit\nnumber: .nan\nmodel-index:\n- name: theirs\n  results: []\n",
    ],
)
def test_metadata_as_people_write_it_is_updated(front, tmp_path):
    text = written(tmp_path)
    path = tmp_path / "README.md"
    path.write_text(f"\ufeff--- \n{front}---\n" + text[text.index("<!--") :], encoding="utf-8")
    again = yaml.safe_load(written(tmp_path).split("---")[1])
    assert again["license"] == "mit"
    assert [model["name"] for model in again["model-index"]] == ["ctcd-student", "theirs"]


def test_a_card_that_is_no_text_or_whose_metadata_has_no_end_is_left_alone(tmp_path):
    text = written(tmp_path)
    path = tmp_path / "README.md"
    for content, said in (
        (text.encode().replace(b"library_name", b"\xfflibrary"), r"README\.md: not UTF-8 text \(byte 4\)"),
        (text.replace("---\n\n<!--", "\n<!--", 1).encode(), r"README\.md:1: its metadata has no end"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            written(tmp_path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {}}, r"ctcd\.json: model\.layers is missing; export the model again"),
        ({"edges": None}, r"edges is null, not a list"),
        ({"member": "x"}, r"member 'x' is not in members"),
        ({"corpus": {}}, r"corpus\.hash is missing"),
        (lambda: {"corpus": corpus(tokenizer={})}, r"corpus\.tokenizer\.name is missing"),
    ],
)
def test_facts_that_lack_something_are_one_line(change, said, tmp_path):
    write_facts(tmp_path, facts(**(change() if callable(change) else change)))
    with pytest.raises(UserError, match=said):
        read_facts(tmp_path)


def test_gradients_that_were_not_clipped_are_said_to_be_so():
    training = facts()["training"]
    training["optimizer"] = training["optimizer"] | {"clip_norm": None}
    assert "gradients not clipped" in body(facts(training=training))


def test_facts_come_back_and_an_unknown_format_is_refused(tmp_path):
    write_facts(tmp_path, facts())
    assert read_facts(tmp_path) == facts()
    write_facts(tmp_path, facts(format=9))
    with pytest.raises(UserError, match=r"ctcd\.json: format 9"):
        read_facts(tmp_path)
    (tmp_path / "ctcd.json").unlink()
    with pytest.raises(UserError, match=r"ctcd\.json: no such file; export"):
        read_facts(tmp_path)


def test_a_new_head_and_when_an_edge_teaches_are_said():
    known = facts()
    known["members"]["student"]["start"] = {"kind": "hf", "model": "org/mini", "fresh_head": True}
    known["edges"][0] |= {"schedule": "linear", "begin": 0.25, "end": 1.0}
    text = body(known)
    assert "| `student` (this model) | `org/mini`, with a new MLM head | trained |" in text
    assert "weight 1 (linear, from 25 % of the steps to 100 %), temperature 2" in text


def test_the_text_says_what_was_done():
    text = body(facts())
    for line in (
        "# ctcd-student",
        "1 layer, hidden size 32, 2 heads",
        "5,654 parameters (0.0 MB)",
        "Co-training and co-distillation: models that learn together and teach each other (run `ctcd`).",
        "| `student` (this model) | random weights | trained | 1 | 32 |",
        "* `teacher` teaches `student`: weight 1, temperature 2 (loss times its square), "
        "KL divergence D(teacher, student), on masked tokens",
        "* `student` teaches `teacher`: weight 4, temperature 2",
        "* 20 steps of 8 rows, 2.00 passes over the corpus, 4,404 tokens; seed 3",
        "* Computed in bfloat16, parameters in float32; dropout 0.1",
        "* AdamW: learning rate 0.003, warm-up 5% of the steps, then linear to 0; betas 0.9 and 0.98, epsilon 1e-06, "
        "weight decay 0, gradients clipped to norm 5",
        "| text: `text.txt` | 40 | 400 | 100 |",
        "* Sampled: 1 sentence in 4, seed 7",
        "* For training: 90 sentences, 80 rows, 2,000 tokens",
        "* Held out: 10% of the documents; validation took 10 sentences of them, 9 rows, 220 tokens",
        "* Tokenizer: WordPiece of 150 tokens, trained on it, lower case",
        "* Its corpus is small: 2,000 training tokens",
        "* Not trained: the positions after the first 32",
        "* Held-out masked tokens: loss 4.9200 nats (perplexity 137.0), accuracy 9.8% (after step 20)",
        "* The frequencies of the corpus's words alone score 5.3000 nats there (perplexity 200.3)",
        "max |logit difference| 8.2e-08",
    ):
        assert line in text, line


def test_how_text_was_held_out_and_lowered_is_said():
    corpus = facts()["corpus"]
    accented = corpus["tokenizer"] | {"keep_accents": True}
    text = body(facts(corpus=corpus | {"validation_by": "sentences", "tokenizer": accented}))
    assert "* Held out: 10% of the sentences; validation took 10 sentences of them, 9 rows, 220 tokens" in text
    assert "* Tokenizer: WordPiece of 150 tokens, trained on it, lower case, accents kept" in text


def test_what_is_not_known_has_no_line():
    """A run of an earlier version, exported at a step at which nothing was logged."""
    training = facts()["training"] | {"step": 14}
    del training["tokens"]
    known = facts(training=training, corpus={"hash": "c0ffee"})
    del known["held_out"]
    text = body(known)
    assert "* 14 of 20 steps of 8 rows; seed 3" in text
    assert "* Corpus: that with the manifest SHA-256 `c0ffee`" in text
    for absent in ("None", "n/a", "nats", "## Corpus", "small", "passes", "positions after"):
        assert absent not in text


def test_a_frozen_member_says_where_it_came_from_and_nothing_of_this_runs_training():
    start = {"kind": "run", "run": "wiki", "member": "large"}
    known = facts(
        member="teacher",
        members={"teacher": member(False, start=start), "student": member()},
        edges=[edge("teacher", "student")],
        training=None,
        corpus={},
        from_scratch=False,
    )
    del known["held_out"]
    text = body(known)
    assert "| `teacher` (this model) | member `large` of run `wiki` | frozen |" in text
    assert "This model was frozen: it taught, and its weights are those it started from." in text
    for absent in ("AdamW", "steps", "Masked:", "token type"):
        assert absent not in text


@pytest.mark.parametrize(("tokens", "small"), [(99_999_999, True), (100_000_000, False)])
def test_a_small_corpus_is_called_small(tokens, small):
    splits = {"train": {"sentences": 1, "rows": 1, "tokens": tokens}, "validation": corpus()["splits"]["validation"]}
    assert ("Its corpus is small" in body(facts(corpus=corpus(splits=splits)))) == small


@pytest.mark.parametrize(
    ("frozen", "edges", "said"),
    [
        ((), (), "Trained side by side, without distillation"),
        (("t",), ("t>a",), "One-way distillation from a frozen model"),
        ((), ("t>a",), "Co-training with one-way distillation"),
        ((), ("t>a", "a>t"), "Co-training and co-distillation"),
        (("t",), ("t>a", "t>b", "a>b", "b>a"), "Community distillation: a frozen teacher"),
    ],
)
def test_the_method_is_read_off_the_graph(frozen, edges, said):
    members = {name: member(name not in frozen) for name in "tab"}
    pairs = [edge(*pair.split(">")) for pair in edges]
    assert said in body(facts(member="a", members=members, edges=pairs))


def test_settings_out_of_the_ordinary_are_said():
    edges = [edge("teacher", "student", divergence="reverse_kl", positions="attended", temperature=1.0)]
    training = facts()["training"] | {"masking": {"rate": 0.3, "smoothing": 0.7}}
    training["optimizer"] = training["optimizer"] | {"schedule": "constant"}
    tokenizer = corpus()["tokenizer"] | {"name": "bert-base-uncased"}
    known = facts(edges=edges, training=training, corpus=corpus(tokenizer=tokenizer, length=64, packing="full"))
    known["model"] = known["model"] | {"attention_dropout": 0.0}
    text = body(known)
    assert "weight 1, temperature 1, KL divergence D(student, teacher), on all tokens" in text
    assert "Masked: 30% of the tokens, rare ones more often (smoothing 0.7)" in text
    assert "then constant;" in text
    assert "dropout 0.1, of attention 0" in text
    assert "WordPiece of 150 tokens, `bert-base-uncased`" in text
    assert "Rows of up to 64 tokens: running text of one document" in text
    assert "positions after" not in text


def test_gradients_that_were_not_clipped(tmp_path):
    known = facts()
    known["training"]["optimizer"]["clip_norm"] = None
    assert "weight decay 0, gradients not clipped" in written(tmp_path, known)


def test_a_model_that_knows_word_frequencies_alone_is_said_to(tmp_path):
    known = facts(held_out={"step": 20, "loss": 5.31, "accuracy": 0.05, "unigram": 5.3})
    assert "score 5.3000 nats there (perplexity 200.3): this model is no better" in written(tmp_path, known)
    del known["held_out"]["unigram"]  # of an earlier version
    text = written(tmp_path, known)
    assert "loss 5.3100 nats (perplexity 202.4)" in text
    assert "no better" not in text


def test_a_few_held_out_sentences_are_shown_and_mean_nothing_to_markdown(tmp_path):
    hidden = {"position": 1, "token": "*cat*", "guesses": [{"token": "`", "probability": 0.5}]}
    rows = [{"row": n, "tokens": ["the", "[MASK]", "sleep", "##s"], "hidden": [hidden]} for n in range(5)]
    write_samples(tmp_path, {"format": 1, "corpus_hash": "c0ffee", "rows": rows})
    text = written(tmp_path)
    assert text.count("`the [1] sleeps`\n\n* [1] `*cat*`: `` ` `` 50.0%") == 3
    assert text.index("### Fine-tuned") < text.index("### Held-out sentences")
    (tmp_path / "samples.json").write_text("{}")
    with pytest.raises(UserError, match=r"samples\.json: format None, this version reads 1"):
        written(tmp_path)
