"""What was measured, for people: the options of `card`, `report` and `bench`."""

from ctcd_jax.arguments import file_path, located
from ctcd_jax.options.verb import add_models, add_verb


def add_verbs(verbs) -> None:
    _add_card(verbs)
    _add_report(verbs)
    _add_bench(verbs)


def _add_card(verbs) -> None:
    verb = add_verb(
        verbs,
        "card",
        "exported models and what was measured of them -> their model cards",
        "Each README.md is written anew from ctcd.json, which `ctcd export` wrote, and from the scores and timings of "
        "the model's own weights that are found now: name all places at once. What you wrote above or below the marks "
        "in README.md stays, and so does your metadata.",
    )
    add_models(verb)
    verb.add_argument(
        "--from",
        action="append",
        required=True,
        type=file_path,
        metavar="PLACE",
        dest="places",
        help="results.jsonl, evaluation.jsonl, probe.jsonl, latency.json, or a directory that is searched for them; "
        "may be given several times",
    )


def _add_report(verbs) -> None:
    verb = add_verb(verbs, "report", "runs and results -> one HTML page that opens without a network")
    verb.add_argument(
        "directories", nargs="+", type=located, metavar="DIR", help="searched for runs, results, latency files, exports"
    )
    verb.add_argument("--out", required=True, type=located, metavar="FILE", help="report.html")


def _add_bench(verbs) -> None:
    verb = add_verb(
        verbs,
        "bench",
        "how fast it is here, and against what",
        "Whole steps in separate, interleaved processes; medians; ratios pair by pair.",
    )
    verb.add_argument("--suite", default="cpu", choices=("cpu", "gpu", "memory", "data"), help="default %(default)s")
    verb.add_argument("--full", action="store_true", help="more shapes, dtypes and opponents; many minutes")
    verb.add_argument("--out", type=located, metavar="DIR", help="also write bench.json and bench.png")
