"""Many runs that answer a question: the options of `study`."""

import argparse

from ctcd_jax.arguments import located, number, share_of_work
from ctcd_jax.options.verb import MOST_PROCESSES, add_verb
from ctcd_jax.ranges import Range


def add_verbs(verbs) -> None:
    _add_study(verbs)
    _add_verify(verbs)


def _add_verify(verbs) -> None:
    verb = add_verb(
        verbs,
        "verify",
        "a run -> whether it trains as a study's runs of its method did",
        "Every validation loss beside the band in which 99 % of such runs lie, by the study's seeds. The exit code is "
        "1 where one lies outside.",
    )
    verb.add_argument("workdir", type=located, metavar="WORKDIR", help="of `ctcd train`; it may still be trained")
    verb.add_argument("--study", required=True, type=located, metavar="DIR", help="of `ctcd study`: OUT/NAME")


def _add_study(verbs) -> None:
    verb = add_verb(
        verbs,
        "study",
        "arms x seeds -> models, paired differences, a verdict for every claim; resumes by itself",
        "Runs what is missing and writes study.json, models.csv, curves.csv and a page into "
        "OUT/NAME. Runs and corpora lie below OUT and are known by their content, so that studies share them. A field "
        "of the config can be set in every arm: --config.train.steps=100.",
    )
    verb.add_argument(
        "spec", type=located, metavar="FILE[:SIZE]", help="mine.py:tiny, or one that is shipped, figure4:tiny"
    )
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="for all studies together")
    verb.add_argument(
        "--text",
        dest="texts",
        action="append",
        default=[],
        type=_named,
        metavar="NAME=SPEC",
        help="where a text of the study lies, SPEC as for `ctcd prepare`; may be given several times",
    )
    verb.add_argument(
        "--data",
        action="append",
        default=[],
        type=_named,
        metavar="NAME=PLACE",
        help="where a model lies that the study starts from, or what it scores models on: a folder of minimal pairs as "
        "for `ctcd probe`, or of tasks as for `ctcd glue`; may be given several times",
    )
    verb.add_argument(
        "--seeds",
        type=number(Range(2, whole=True)),
        metavar="N",
        help="of pre-training (default: the study's own number)",
    )
    verb.add_argument(
        "--shard", type=share_of_work, default=(0, 1), metavar="I/N", help="run every N-th seed alone, 0/N to N-1/N"
    )
    verb.add_argument(
        "--jobs",
        type=number(Range(0, MOST_PROCESSES, whole=True)),
        default=1,
        metavar="N",
        help="runs at once on the same devices: small models leave GPUs idle (default %(default)s; 0: debug here)",
    )
    verb.add_argument(
        "--finished",
        action="append",
        default=[],
        type=located,
        metavar="DIR",
        help="OUT/NAME of a study that ran on another machine: runs that are finished there are not run again; may be "
        "given several times",
    )
    verb.add_argument("--plan", action="store_true", help="say what there is to run and what it would cost, and stop")


def _named(text: str) -> tuple[str, str]:
    name, equals, spec = text.partition("=")
    if not (name and equals and spec):
        raise argparse.ArgumentTypeError(f"'{text}' names nothing; write NAME=PLACE, e.g. books=text:novels.txt")
    return name, spec
