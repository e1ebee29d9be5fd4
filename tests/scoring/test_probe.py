"""`ctcd probe`: pseudo-log-likelihoods against a slow loop over transformers, intervals, resuming and mistakes."""

import contextlib
import gc
import json
import lzma
import shutil
import signal

import numpy as np
import pytest

from ctcd_jax.artifacts.pairs import summarised
from ctcd_jax.artifacts.scoring import read_pair_scores
from ctcd_jax.cli import main
from ctcd_jax.data.tokenizer import load_tokenizer, special_ids, vocabulary_size
from ctcd_jax.scoring import probe as stage
from ctcd_jax.scoring.likelihood import pseudo_log_likelihoods
from ctcd_jax.scoring.models import locate
from ctcd_jax.scoring.probe import probe
from tests.exports import WORDS
from tests.test_cli import fails


def sentences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(count)]


def write_pairs(path, good, bad, **fields):
    lines = [json.dumps({"sentence_good": a, "sentence_bad": b} | fields) for a, b in zip(good, bad, strict=True)]
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "wt") as file:
        file.write("\n".join([*lines, ""]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three paradigms of random sentences, two of them of one phenomenon: at chance for every model."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, term in enumerate(("agreement", "agreement", "islands")):
        good, bad = sentences(40, seed=2 * number), sentences(40, seed=2 * number + 1)
        suffix = ".jsonl.xz" if number else ".jsonl"
        write_pairs(folder / f"paradigm_{number}{suffix}", good, bad, UID=f"p{number}", linguistics_term=term)
    return folder


@pytest.fixture(scope="module")
def probed(models, data, tmp_path_factory):
    out, said = tmp_path_factory.mktemp("probed") / "out", []
    probe(models, data, out, log=said.append)
    return out, said[-1]


def slow_pseudo_log_likelihood(model, tokenizer, text):
    """One masked token and one forward pass at a time, nothing padded."""
    import torch

    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    total = 0.0
    for position in range(1, ids.shape[1] - 1):
        if ids[0, position] == tokenizer.unk_token_id:
            continue
        masked = ids.clone()
        masked[0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits
        total += logits[0, position].log_softmax(-1)[ids[0, position]].item()
    return total


def test_pseudo_log_likelihoods_are_those_of_one_token_at_a_time(models, tmp_path):
    import torch
    from transformers import AutoTokenizer, BertForMaskedLM

    directory = shutil.copytree(models[0], tmp_path / "model")
    model = BertForMaskedLM.from_pretrained(directory).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)  # far from the uniform guesses of a new model
    model.save_pretrained(directory)
    theirs, place = AutoTokenizer.from_pretrained(directory), locate(str(directory))
    tokenizer = load_tokenizer(directory)
    texts = [*sentences(12), "the cat zzz sees", "dog"]
    encoded = [tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    assert special_ids(tokenizer)["unk"] in encoded[-2]
    found = pseudo_log_likelihoods(
        place.shape, place.load()[0], encoded, special_ids(tokenizer), vocabulary_size(tokenizer), batch_size=64
    )
    expected = [slow_pseudo_log_likelihood(model, theirs, text) for text in texts]
    assert np.ptp(expected) > 20
    np.testing.assert_allclose([found[each] for each in encoded], expected, rtol=1e-4)


def test_a_batch_changes_nothing_and_every_masked_sentence_is_counted(models):
    place, tokenizer = locate(str(models[0])), load_tokenizer(models[0])
    encoded = [tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in sentences(30)]
    given = (place.shape, place.load()[0], encoded, special_ids(tokenizer), vocabulary_size(tokenizer))
    seen = []
    large = pseudo_log_likelihoods(*given, 64, lambda copies, tokens: seen.append((copies, tokens)))
    small = pseudo_log_likelihoods(*given, 32)
    np.testing.assert_allclose(list(large.values()), list(small.values()), rtol=1e-5)
    copies, tokens = np.sum(seen, axis=0)
    assert copies == sum(map(len, encoded))
    assert tokens == sum(len(each) * (len(each) + 2) for each in encoded)


def test_lines_and_table(probed, models, data):
    out, said = probed
    lines = read_pair_scores(out / "probe.jsonl")
    assert [(line["model"], line["paradigm"]) for line in lines] == [
        (model, f"p{number}") for model in ("teacher", "student") for number in range(3)
    ]
    assert {(line["pairs"], line["phenomenon"] == "islands") for line in lines} == {(40, False), (40, True)}
    table = (out / "table.md").read_text()
    own = summarised(lines[:3])
    assert own.accuracy == pytest.approx(np.mean([(line["correct"] + line["ties"] / 2) / 40 for line in lines[:3]]))
    cell = f"| all | 3 | {100 * own.accuracy:.1f} [{100 * own.low:.1f}, {100 * own.high:.1f}] at chance |"
    assert cell in table
    assert "120 pairs of 3 paradigms." in table
    assert said.splitlines()[0].split() == ["phenomenon", "paradigms", "teacher", "student"]
    assert [line.split()[:2] for line in said.splitlines()[1:4]] == [["agreement", "2"], ["islands", "1"], ["all", "3"]]


def test_the_likelier_sentence_counts_and_equal_tokens_tie(models, tmp_path):
    """Against the model's own order of the sentences; the tokenizer is of lower case."""
    place, tokenizer = locate(str(models[1])), load_tokenizer(models[1])
    texts = sentences(20)
    encoded = {text: tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts}
    ids, size = special_ids(tokenizer), vocabulary_size(tokenizer)
    scores = pseudo_log_likelihoods(place.shape, place.load()[0], list(encoded.values()), ids, size, 64)
    ranked = sorted(texts, key=lambda text: scores[encoded[text]])
    write_pairs(
        tmp_path / "mine.jsonl", [*ranked[10:], "the cat", *ranked[:3]], [*ranked[:10], "The cat", *ranked[-3:]]
    )
    (line,) = probe([models[1]], tmp_path, tmp_path / "out", log=lambda _: None)
    assert (line["pairs"], line["correct"], line["ties"], line["unknown"]) == (14, 10, 1, 0)
    assert (line["paradigm"], line["phenomenon"]) == ("mine", "mine")


@contextlib.contextmanager
def signalled():
    """A signal comes while the garbage collector calls a hook, as JAX has one: what is raised there is lost."""

    def hook(phase, _):
        if phase == "start":
            signal.raise_signal(signal.SIGTERM)

    gc.callbacks.append(hook)
    yield
    gc.callbacks.remove(hook)


def test_a_stopped_command_goes_on_where_it_was(probed, models, data, tmp_path, monkeypatch, capsys):
    out, said = probed
    calls, real = [], pseudo_log_likelihoods

    def killed(*given):
        calls.append(1)
        if len(calls) == 3:
            with signalled():
                gc.collect()
        return real(*given)

    command = ["probe", "--data", str(data), "--out", str(tmp_path), *(f"--model={model}" for model in models)]
    with monkeypatch.context() as patched:
        patched.setattr(stage, "pseudo_log_likelihoods", killed)
        assert main(command) == 75
    assert "the finished paradigms are kept" in capsys.readouterr().out
    path = tmp_path / "probe.jsonl"
    assert len(path.read_text().splitlines()) == 2
    with path.open("a") as file:
        file.write('{"format": 1, "mod')  # torn
    monkeypatch.setattr(stage, "pseudo_log_likelihoods", lambda *given: calls.append(1) or real(*given))
    assert main(command) == 0
    assert len(calls) == 3 + 4
    for file in ("probe.jsonl", "table.md"):
        assert (tmp_path / file).read_text() == (out / file).read_text()
    assert capsys.readouterr().out.splitlines()[-6:-1] == said.splitlines()[-6:-1]


def test_the_first_pairs_are_those_of_the_whole(probed, models, data, tmp_path, capsys):
    lines = probe([models[0]], data, tmp_path / "few", 10, log=lambda _: None)
    assert [line["pairs"] for line in lines] == [10, 10, 10]
    command = ("probe", "--model", models[0], "--data", data, "--out", tmp_path / "few")
    assert "'p0' was scored on other pairs (10, now 40); use another --out" in fails(capsys, *command)


def test_words_that_the_tokenizer_does_not_know_are_said(models, tmp_path):
    write_pairs(tmp_path / "mine.jsonl", ["the cat sees", "a cat"], ["the sees cat", "cat a"])
    warned = []
    (line,) = probe([models[0]], tmp_path, tmp_path / "out", log=lambda _: None, warn=warned.append)
    assert line["unknown"] == 1
    words = "teacher: 1 of 2 pairs have a word that its tokenizer does not know; [UNK] is not scored"
    assert warned == [words]
    assert words in (tmp_path / "out" / "table.md").read_text()


def test_equal_sentences_tie_and_are_said(models, tmp_path):
    """BLiMP has such a pair (passive_1, line 325)."""
    write_pairs(tmp_path / "mine.jsonl", ["the cat sees", "a cat"], ["the sees cat", "a cat"])
    warned = []
    (line,) = probe([models[0]], tmp_path, tmp_path / "out", log=lambda _: None, warn=warned.append)
    assert line["ties"] == 1
    assert warned == [
        f"{tmp_path / 'mine.jsonl'}:2: sentence_good is sentence_bad, a tie for every model (1 such)",
        "teacher: 1 of 2 pairs have a word that its tokenizer does not know; [UNK] is not scored",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence_good": "a"}', "2: no field 'sentence_bad'; there are: sentence_good"),
        ('{"sentence_good": "a", "sentence_bad": 3}', "2: sentence_bad is 3, not a text"),
        ('{"sentence_good": "a", "sentence_bad": " "}', '2: sentence_bad is " ", not a text'),
        ('{"sentence_good": ', "2: not a JSON object ("),
        ("[1]", "2: a list, not a JSON object"),
        (
            '{"sentence_good": "a", "sentence_bad": "b", "linguistics_term": "x"}',
            "2: linguistics_term of 'mine' is 'x'",
        ),
        ('{"sentence_good": "a", "sentence_bad": "' + "the " * 40 + '"}', "2: a sentence of 40 tokens, but "),
    ],
)
def test_a_faulty_line_is_named(capsys, models, tmp_path, line, message):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"sentence_good": "the cat", "sentence_bad": "cat the"}\n' + line + "\n")
    said = fails(capsys, "probe", "--model", models[0], "--data", tmp_path, "--out", tmp_path / "out")
    assert f"{path}:{message}" in said
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line(capsys, smoke, models, data, tmp_path):
    def line(model, folder):
        return fails(capsys, "probe", "--model", model, "--data", folder, "--out", tmp_path / "out")

    assert "no *.jsonl in it" in line(models[0], tmp_path)
    run = smoke.root / "runs" / "ctcd"
    assert f"`ctcd export --workdir {run} --member student --out DIR`" in line(f"{run}#student", data)
    assert "--member student --step 4 --out DIR`" in line(f"{run}#student@4", data)
