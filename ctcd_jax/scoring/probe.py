"""`ctcd probe`: which sentence of a minimal pair a model finds the likelier, without any fine-tuning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tokenizers import Tokenizer

from ctcd_jax.artifacts.exports import companions, weights_digest
from ctcd_jax.artifacts.lines import append_line
from ctcd_jax.artifacts.scoring import LOCK, PROBE, PROBE_FORMAT, TABLE, PairScore, read_pair_scores
from ctcd_jax.data.tokenizer import load_tokenizer, special_ids, vocabulary_size
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import locked, write_whole
from ctcd_jax.jobs.progress import Display
from ctcd_jax.runtime.stopping import stops_between
from ctcd_jax.scoring.likelihood import Sentence, pseudo_log_likelihoods
from ctcd_jax.scoring.models import Place, locate, named, unused_name
from ctcd_jax.scoring.pairs import Paradigm, read_paradigms
from ctcd_jax.scoring.probe_table import as_markdown, as_text, unknown_line

_LOOK_EVERY = 60.0  # seconds without a line


def probe(
    models: Sequence[str | Path],
    data: Path,
    out: Path,
    pairs: int | None = None,
    batch_size: int = 64,
    *,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> list[PairScore]:
    """Returns what each model scores on each paradigm of minimal pairs, and prints the table.

    A pair counts as right where the acceptable sentence has the greater pseudo-log-likelihood, in float32.

    Args:
      models: exported directories or hub ids.
      data: folder of pairs, see `pairs.read_paradigms`.
      out: folder of `probe.jsonl` and `table.md`; a paradigm that is finished there is not scored again.
      pairs: of each paradigm, the first ones; None for all.
      batch_size: masked sentences at once.
      log, warn: take a line.

    Raises:
      UserError: a model or a pair cannot be used, `out` has scores of other pairs, or another process is at work there.
    """
    paradigms = read_paradigms(data, pairs, warn)
    opened = _open(models, paradigms, warn)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, str(out), warn=warn), stops_between(_STOPPED) as check:
        known = read_pair_scores(out / PROBE, warn)
        _check_known(known, paradigms, out / PROBE)
        asked = []
        for name, model in opened.items():
            finished = {line["paradigm"]: line for line in known if _identity(line) == model.identity}
            pending = [paradigm for paradigm in paradigms if paradigm.name not in finished]
            own = unused_name(name, model.identity, {_identity(line): line["model"] for line in known})
            for line in _score(own, model, pending, batch_size, check, log):
                append_line(out / PROBE, line)
                known.append(line)
                finished[line["paradigm"]] = line
            asked.append([finished[paradigm.name] for paradigm in paradigms])
            if said := unknown_line(asked[-1]):
                warn(said)
        write_whole(out / TABLE, as_markdown([*asked, *_others(known, paradigms, list(opened.values()))]))
    log(f"{as_text(asked)}\n{out}: {TABLE}, {PROBE}")
    return [line for lines in asked for line in lines]


_STOPPED = "stopped on request; the finished paradigms are kept, run the same command again to go on"


@dataclass(frozen=True, eq=False)
class _Model:
    place: Place
    tokenizer: Tokenizer
    identity: tuple  # SHA-256s of its weights, tokenizer and config

    def sentences(self, paradigm: Paradigm) -> list[tuple[Sentence, Sentence]]:
        """Returns the pairs as tokens. Raises UserError for one without tokens, or with more than the model takes."""
        texts = [text for pair in paradigm.pairs for text in (pair.good, pair.bad)]
        encoded = [tuple(each.ids) for each in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        most = self.place.shape.max_positions - 2
        for number, ids in enumerate(encoded):
            if not 0 < len(ids) <= most:
                place, given = paradigm.pairs[number // 2].place, self.place.given
                raise UserError(
                    f"{place}: a sentence of {len(ids)} tokens, but {given} takes 1 to {most} beside [CLS] and [SEP]; "
                    "leave the pair out, or the model"
                )
        return list(zip(encoded[::2], encoded[1::2], strict=True))


def _open(
    models: Sequence[str | Path], paradigms: Sequence[Paradigm], warn: Callable[[str], None]
) -> dict[str, _Model]:
    """Returns {name: model}, of equal ones the first, each checked to take all pairs."""
    opened: dict[str, _Model] = {}
    for name, place in named([locate(model) for model in models]):
        if place.directory is None:
            raise UserError(f"--model {place.given}: a member of a run; `{place.exporting}` and give the directory")
        beside = companions(place.directory)
        identity = (weights_digest(place.directory), beside["tokenizer"], beside["config"])
        if same := next((other for other in opened.values() if other.identity == identity), None):
            warn(f"--model {place.given}: the same model as {same.place.given}, which stands for both")
            continue
        model = opened[name] = _Model(place, load_tokenizer(place.tokenizer, warn), identity)
        place.check_vocabulary(vocabulary_size(model.tokenizer), warn)
        for paradigm in paradigms:
            model.sentences(paradigm)
    return opened


def _score(
    name: str,
    model: _Model,
    pending: Sequence[Paradigm],
    batch_size: int,
    check: Callable[[], None],
    log: Callable[[str], None],
) -> Iterator[PairScore]:
    """Yields the line of each paradigm as it is finished."""
    if not pending:
        return
    sentences = {paradigm.name: model.sentences(paradigm) for paradigm in pending}
    costs = {each: _cost(pairs) for each, pairs in sentences.items()}
    ids, size = special_ids(model.tokenizer), vocabulary_size(model.tokenizer)
    params = jax.device_put(model.place.load()[0])
    copies = 0
    with Display(len(pending), sum(costs.values()), log, label=name, unit="sentences", every=_LOOK_EVERY) as display:
        for paradigm in pending:
            running = 0

            def look(done: int, tokens: int) -> None:
                nonlocal copies, running
                check()
                copies, running = copies + done, running + tokens
                display.look(running, copies)

            pairs = sentences[paradigm.name]
            flat = [sentence for pair in pairs for sentence in pair]
            with jax.default_matmul_precision("highest"):  # some accelerators round float32 operands otherwise
                likelihood = pseudo_log_likelihoods(model.place.shape, params, flat, ids, size, batch_size, look)
            differences = [likelihood[good] - likelihood[bad] for good, bad in pairs]
            line: PairScore = {
                "format": PROBE_FORMAT,
                "model": name,
                "path": model.place.given,
                "weights": model.identity[0],
                "tokenizer": model.identity[1],
                "config": model.identity[2],
                "data": paradigm.sha256,
                "paradigm": paradigm.name,
                "phenomenon": paradigm.phenomenon,
                "pairs": len(pairs),
                "correct": sum(difference > 0 for difference in differences),
                "ties": sum(difference == 0 for difference in differences),
                "unknown": sum(ids["unk"] in good + bad for good, bad in pairs),
                "backend": "jax",
            }
            display.ended(costs[paradigm.name])
            yield line


def _cost(pairs: Sequence[tuple[Sentence, Sentence]]) -> int:
    """Tokens of all masked copies."""
    return sum(len(sentence) * (len(sentence) + 2) for pair in pairs for sentence in pair)


def _identity(line: PairScore) -> tuple[Any, ...]:
    return line["weights"], line.get("tokenizer"), line.get("config")


def _check_known(known: Sequence[PairScore], paradigms: Sequence[Paradigm], path: Path) -> None:
    """Raises UserError where other pairs of a paradigm were scored: they do not belong into one table."""
    now = {paradigm.name: paradigm for paradigm in paradigms}
    for line in known:
        paradigm = now.get(line["paradigm"])
        if paradigm and paradigm.sha256 != line["data"]:
            raise UserError(
                f"{path}: '{line['paradigm']}' was scored on other pairs ({line['pairs']:,}, now "
                f"{len(paradigm.pairs):,}); use another --out"
            )


def _others(
    known: Sequence[PairScore], paradigms: Sequence[Paradigm], asked: Sequence[_Model]
) -> list[list[PairScore]]:
    """Returns the lines of the folder's other models that have scores for all paradigms."""
    rest: dict[tuple, dict[str, PairScore]] = {}
    for line in known:
        if _identity(line) not in {model.identity for model in asked}:
            rest.setdefault(_identity(line), {})[line["paradigm"]] = line
    names = [paradigm.name for paradigm in paradigms]
    return [[lines[name] for name in names] for lines in rest.values() if lines.keys() >= set(names)]
