"""What a model card says, as Markdown. A fact that is not known has no line."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ctcd_jax.artifacts.facts import Facts, FactsTokenizer, FactsTraining, Start, trained_positions
from ctcd_jax.artifacts.runs import EdgeConfig, schedule_words
from ctcd_jax.artifacts.samples import SampleRow, Samples, sentence
from ctcd_jax.artifacts.scoring import perplexity
from ctcd_jax.text_tables import counted, markdown

# Of training tokens; BERT's corpus had 3.3 billion words. Below this the card says so.
SMALL_CORPUS = 100_000_000
SAMPLE_ROWS = 3

_DIVERGENCES = {
    "forward_kl": "KL divergence D({source}, {target})",
    "reverse_kl": "KL divergence D({target}, {source})",
    "jensen_shannon": "Jensen-Shannon divergence",
}
_PACKING = {
    "sentence": "one sentence a row",
    "packed": "several whole sentences a row, which do not attend to one another",
    "full": "running text of one document",
}


def body(facts: Facts, measured: Sequence[str] = (), samples: Samples | None = None) -> str:
    """Returns the card without its metadata.

    Args:
      facts: the content of `ctcd.json`.
      measured: further sections with headings of level 3.
      samples: the content of `samples.json`; None without one.
    """
    sections = [_head(facts), _use(facts), _training(facts)]
    if "splits" in facts["corpus"]:
        sections.append(_corpus(facts["corpus"]))
    shown = [_samples(samples["rows"])] if samples and samples["rows"] else []
    return "\n\n".join([*sections, _measurements(facts), *measured, *shown])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _head(facts: Facts) -> str:
    model = facts["model"]
    shape = (
        counted(model["layers"], "layer"),
        f"hidden size {model['hidden']}",
        counted(model["heads"], "head"),
        f"feed-forward size {model['intermediate']}",
        f"{model['max_positions']} positions",
        f"a vocabulary of {model['vocab_size']:,}",
        f"{facts['parameters']:,} parameters ({facts['bytes'] / 1e6:.1f} MB)",
    )
    return (
        f"# {facts['name']}\n\nA BERT with its masked-language-model head: {', '.join(shape)}.\n\n"
        f"Made with `ctcd_jax` {facts['version']}, an implementation of *Co-Training and Co-Distillation* (Lee et al., "
        "Findings of EMNLP 2023)."
    )


def _use(facts: Facts) -> str:
    return f"""## Use

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("DIRECTORY_OR_HUB_ID")
model = AutoModelForMaskedLM.from_pretrained("DIRECTORY_OR_HUB_ID")
```

An encoder that fills in masked tokens, made to be fine-tuned (`AutoModelForSequenceClassification` and the like). It
does not generate text.

{_bullets(_limits(facts))}"""


def _limits(facts: Facts) -> Iterator[str]:
    corpus, positions = facts["corpus"], facts["model"]["max_positions"]
    earlier_rows = facts.get("earlier_rows", 0)  # of runs that its weights come from
    if facts["from_scratch"] and not earlier_rows:
        yield "All that it knows it learned from its corpus, with whatever is wrong or one-sided in it."
    else:
        yield "What it knew before this run came with the weights that it started from."
    if "splits" in corpus and corpus["splits"]["train"]["tokens"] < SMALL_CORPUS:
        tokens = _millions(corpus["splits"]["train"]["tokens"])
        yield f"Its corpus is small: {tokens} training tokens, where BERT's had 3.3 billion words."
    yield "Not trained: the pooler. The seed of the fine-tuning initialises it."
    if facts["from_scratch"]:
        yield "Not trained: token type 1, a copy of type 0. There were no sentence pairs."
        if (longest := trained_positions(facts)) < positions:
            yield f"Not trained: the positions after the first {longest}, the length of the corpus's rows."


def _training(facts: Facts) -> str:
    members, training = facts["members"], facts["training"]
    shown = [["member", "started from", "in this run", "layers", "hidden size"]]
    for name, member in members.items():
        this = " (this model)" if name == facts["member"] else ""
        kind = "trained" if member["trainable"] else "frozen"
        sizes = [str(member["layers"]), str(member["hidden"])]
        shown.append([f"`{name}`{this}", _start(member["start"]), kind, *sizes])
    lines = [_edge(edge) for edge in facts["edges"]]
    if training:
        lines += _run(facts, training)
    else:
        lines.append("This model was frozen: it taught, and its weights are those it started from.")
    return f"""## Training

{_method(facts)} (run `{facts["run"]}`).

{markdown(shown, names=3)}

{_bullets(lines)}"""


def _method(facts: Facts) -> str:
    members = facts["members"]
    pairs = {(edge["source"], edge["target"]) for edge in facts["edges"]}
    mutual = any((target, source) in pairs for source, target in pairs)
    frozen = any(not members[source]["trainable"] for source, _ in pairs)
    if not pairs:
        alone = len(members) == 1
        return "Trained alone, without distillation" if alone else "Trained side by side, without distillation"
    if mutual and frozen:
        return "Community distillation: a frozen teacher, and models that learn together and teach each other"
    if mutual:
        return "Co-training and co-distillation: models that learn together and teach each other"
    if frozen:
        return "One-way distillation from a frozen model"
    return "Co-training with one-way distillation: the teacher learns, too, but not from its student"


def _start(start: Start) -> str:
    if start["kind"] == "hf":
        return f"`{start['model']}`" + (", with a new MLM head" if start.get("fresh_head") else "")
    if start["kind"] == "run":
        where = ""
        if "step" in start and "steps" in start and start["step"] < start["steps"]:
            where = f" at step {start['step']:,} of {start['steps']:,}"
        return f"member `{start['member']}` of run `{start['run']}`{where}"
    if start["kind"] == "layers":
        return f"layers {', '.join(map(str, start['layers']))} of `{start['member']}`"
    return "random weights"


def _edge(edge: EdgeConfig) -> str:
    tau = f"temperature {edge['temperature']:g}"
    if edge["tau_squared"] and edge["temperature"] != 1:
        tau += " (loss times its square)"
    positions = "masked tokens" if edge["positions"] == "masked" else "all tokens"
    when = schedule_words(edge)
    return (
        f"`{edge['source']}` teaches `{edge['target']}`: weight {edge['weight']:g}{when and f' ({when})'}, {tau}, "
        f"{_DIVERGENCES[edge['divergence']].format(**edge)}, on {positions}"
    )


def _run(facts: Facts, training: FactsTraining) -> Iterator[str]:
    model, corpus = facts["model"], facts["corpus"]
    own, optimizer, masking = facts["members"][facts["member"]], training["optimizer"], training["masking"]
    rows = training["step"] * training["batch_size"]
    steps = f"{training['steps']:,}" if training["step"] == training["steps"] else (
        f"{training['step']:,} of {training['steps']:,}"
    )  # fmt: skip
    seen = [f"{steps} steps of {training['batch_size']:,} rows"]
    if "splits" in corpus:
        seen.append(f"{rows / corpus['splits']['train']['rows']:.2f} passes over the corpus")
    if "tokens" in training:
        seen.append(f"{training['tokens']:,} tokens")
    yield f"{', '.join(seen)}; seed {training['seed']}"
    rare = f", rare ones more often (smoothing {masking['smoothing']:g})" if masking["smoothing"] else ""
    weight = f"the model's own loss on them has weight {own['hard_weight']:g}"
    yield f"Masked: {100 * masking['rate']:g}% of the tokens{rare}; {weight}"
    dropout = f"dropout {model['dropout']:g}"
    if model["attention_dropout"] != model["dropout"]:
        dropout += f", of attention {model['attention_dropout']:g}"
    yield f"Computed in {training['dtype']}, parameters in float32; {dropout}"
    fall = "constant" if optimizer["schedule"] == "constant" else f"{optimizer['schedule']} to 0"
    norm = optimizer["clip_norm"]
    clipped = "not clipped" if norm is None else f"clipped to norm {norm:g}"
    yield (
        f"AdamW: learning rate {optimizer['learning_rate']:g}, warm-up {100 * optimizer['warmup_fraction']:g}% of the "
        f"steps, then {fall}; betas {optimizer['b1']:g} and {optimizer['b2']:g}, epsilon {optimizer['eps']:g}, "
        f"weight decay {optimizer['weight_decay']:g}, gradients {clipped}"
    )
    for entry in training.get("history", []):
        fields = ", ".join(f"{field} from {before} to {after}" for field, (before, after) in entry["changed"].items())
        yield f"Changed after step {entry['from_step']:,}: {fields}"
    if "splits" not in corpus:
        yield f"Corpus: that with the manifest {_manifest(corpus)}"


def _corpus(corpus: Mapping[str, Any]) -> str:
    """Of a `FactsCorpus` that has all its keys."""
    shown = [["source", "documents", "sentences", "kept"]]
    shown += [
        [_source(source), *(f"{source[count]:,}" for count in ("documents", "sentences", "kept"))]
        for source in corpus["sources"]
    ]
    train, validation = corpus["splits"]["train"], corpus["splits"]["validation"]
    tokenizer = corpus["tokenizer"]
    lines = [
        f"For training: {train['sentences']:,} sentences, {train['rows']:,} rows, {train['tokens']:,} tokens",
        f"Held out: {100 * corpus['validation']:g}% of the {corpus.get('validation_by', 'documents')}; validation "
        f"took {validation['sentences']:,} sentences of them, {validation['rows']:,} rows, "
        f"{validation['tokens']:,} tokens",
        f"Rows of up to {corpus['length']} tokens: {_PACKING[corpus['packing']]}",
        f"Tokenizer: WordPiece of {tokenizer['vocab_size']:,} tokens, "
        + (f"`{tokenizer['name']}`" if tokenizer["name"] else f"trained on it, {_case(tokenizer)}"),
        f"Manifest: {_manifest(corpus)}",
    ]
    if corpus["every"] > 1:
        lines.insert(0, f"Sampled: 1 sentence in {corpus['every']}, seed {corpus['seed']}")
    return f"## Corpus\n\n{markdown(shown)}\n\n{_bullets(lines)}"


def _manifest(corpus: Mapping[str, Any]) -> str:
    return f"SHA-256 `{corpus['hash'][:12]}`"


def _case(tokenizer: FactsTokenizer) -> str:
    if tokenizer["cased"]:
        return "cased"
    return "lower case, accents kept" if tokenizer.get("keep_accents") else "lower case"


def _source(source: Mapping[str, Any]) -> str:
    """Of a `FactsSource`, whose kind decides which keys it has."""
    options = "".join(f", {key}={value}" for key, value in source["options"].items())
    if source["kind"] == "docstrings":
        return f"English docstrings of Python code{options}"
    if "hub" in source:
        return f"hub: `{source['hub']}`{options}, revision `{source['revision'][:12]}`"
    return f"{source['kind']}: `{source['name']}`{options}"


def _measurements(facts: Facts) -> str:
    lines = []
    held_out = facts.get("held_out")
    if held_out and held_out["loss"] is not None and held_out["accuracy"] is not None:
        loss, unigram = held_out["loss"], held_out.get("unigram")
        lines.append(
            f"Held-out masked tokens: loss {loss:.4f} nats (perplexity {_perplexity(loss)}), accuracy "
            f"{held_out['accuracy']:.1%} (after step {held_out['step']:,})"
        )
        if unigram is not None:
            better = "" if loss < unigram else ": this model is no better"
            lines.append(
                f"The frequencies of the corpus's words alone score {unigram:.4f} nats there (perplexity "
                f"{_perplexity(unigram)}){better}"
            )
    lines.append(
        f"Parity of PyTorch with the training code in JAX: max |logit difference| {facts['parity']:.1e} (float32, CPU)"
    )
    return f"## Measurements\n\n{_bullets(lines)}"


def _perplexity(loss: float) -> str:
    value = perplexity(loss)
    return f"{value:,.1f}" if math.isfinite(value) else "beyond 10^300"


def _samples(rows: Sequence[SampleRow]) -> str:
    """Some held-out sentences, and what the model holds likely in the hidden places."""
    parts = []
    for row in rows[:SAMPLE_ROWS]:
        parts.append(f"{_code(' '.join(sentence(row)))}")
        parts.append(_bullets(_answers(row)))
    return "\n\n".join(
        ["### Held-out sentences", "Hidden words, and the five tokens that the model holds likeliest there.", *parts]
    )


def _answers(row: SampleRow) -> Iterator[str]:
    for number, hidden in enumerate(row["hidden"], start=1):
        guesses = (f"{_code(guess['token'])} {100 * guess['probability']:.1f}%" for guess in hidden["guesses"])
        yield f"[{number}] {_code(hidden['token'])}: {', '.join(guesses)}"


def _code(text: str) -> str:
    """Text as Markdown's code, in which nothing means anything, backticks included."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,}"
