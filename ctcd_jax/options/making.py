"""Text to corpus to cohort to model: the options of `prepare`, `inspect`, `train` and `export`."""

import argparse
from dataclasses import fields
from typing import Any

from ctcd_jax.arguments import located, number, saved_step, share_of_work
from ctcd_jax.options.verb import MOST_PROCESSES, add_verb
from ctcd_jax.ranges import Range


def add_verbs(verbs) -> None:
    _add_prepare(verbs)
    _add_inspect(verbs)
    _add_train(verbs)
    _add_checkpoints(verbs)
    _add_export(verbs)


def _add_prepare(verbs) -> None:
    verb = add_verb(
        verbs,
        "prepare",
        "text -> a corpus of token rows; resumes by itself",
        "SPEC is KIND:LOCATION[,key=value ...]: text:'wiki/*.txt.xz' (one sentence or paragraph a line, a blank line "
        "between documents; plain, .gz, .xz, .zst, .bz2), jsonl:GLOB, parquet:GLOB, hf:ID_OR_DIRECTORY, "
        "tfds:NAME_OR_DIRECTORY (all with field=, the last two with split=, hf with name=) or docstrings (the English "
        "prose of this Python environment). share=0.5 keeps each sentence of a source with this "
        "probability; lines=sentences says that a line is a sentence.",
        _recipe_defaults,
    )
    verb.add_argument("--source", action="append", metavar="SPEC", help="may be given several times")
    verb.add_argument(
        "--config", type=located, metavar="FILE", help="a recipe, mine.py or corpora/wiki_books, instead of options"
    )
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the corpus to make")
    recipe = verb.add_argument_group("the recipe", argument_default=argparse.SUPPRESS)
    recipe.add_argument("--length", type=int, metavar="N", help="tokens a row (default {default})")
    recipe.add_argument(
        "--packing",
        metavar="MODE",
        help="sentence (one a row), packed (several, which do not see each other) or full (running text); default "
        "{default}",
    )
    recipe.add_argument("--every", type=int, metavar="K", help="keep 1 sentence in K (default {default}; the paper: 4)")
    recipe.add_argument("--seed", type=int, metavar="S", help="of the sampling (default {default})")
    recipe.add_argument("--tokenizer", metavar="T", help="a vocab.txt, a tokenizer directory or a hub id")
    recipe.add_argument("--vocab-size", type=int, metavar="V", help="train a WordPiece of V tokens (default {default})")
    recipe.add_argument("--cased", action="store_true", help="train it on text as it is, not in lower case")
    recipe.add_argument("--keep-accents", action="store_true", help="train it in lower case, but with accents")
    recipe.add_argument("--validation", type=float, metavar="F", help="share of documents held out (default {default})")
    recipe.add_argument(
        "--validation-by", metavar="UNIT", help="hold out documents or single sentences (default {default})"
    )
    recipe.add_argument(
        "--language", metavar="L", help="whose rules split paragraphs into sentences (default {default})"
    )
    recipe.add_argument("--min-characters", type=int, metavar="N", help="drop shorter sentences")
    recipe.add_argument("--max-characters", type=int, metavar="N", help="drop longer sentences")
    recipe.add_argument("--max-unknown", type=float, metavar="F", help="drop sentences with more [UNK] than this share")
    recipe.add_argument("--deduplicate", action="store_true", help="keep the first of equal sentences, case apart")
    work = verb.add_argument_group("the work; it does not change a byte of the corpus")
    work.add_argument(
        "--workers",
        type=number(Range(1, MOST_PROCESSES, whole=True)),
        metavar="N",
        help="processes (default: one a core)",
    )
    shard = work.add_mutually_exclusive_group()
    shard.add_argument("--shard", type=share_of_work, metavar="I/N", help="do one share of N of the work, 0/N to N-1/N")
    shard.add_argument("--finalize", action="store_true", help="put together what the shards have done")
    work.add_argument("--strict", action="store_true", help="stop at invalid UTF-8 instead of replacing it")


def _recipe_defaults() -> dict[str, Any]:
    from ctcd_jax.data.recipe import VOCAB_SIZE, Recipe

    return {field.name: field.default for field in fields(Recipe)} | {"vocab_size": VOCAB_SIZE}


def _add_inspect(verbs) -> None:
    verb = add_verb(verbs, "inspect", "a corpus -> what is in it", "Colours are left out where NO_COLOR is set.")
    verb.add_argument("directory", type=located, metavar="DIR", help="of `ctcd prepare`")
    verb.add_argument(
        "--html", type=located, metavar="FILE", help="also write it as a page that opens without a network"
    )
    verb.add_argument(
        "--rows",
        type=number(Range(0, whole=True)),
        default=3,
        metavar="N",
        help="validation rows to show (default %(default)s)",
    )


def _add_train(verbs) -> None:
    verb = add_verb(
        verbs,
        "train",
        "a corpus -> a trained cohort; resumes by itself",
        "Every field of the config can be set on the command line: --config.optimizer.learning_rate=1e-3, "
        "--config.edges[0].weight=4. The same command goes on with a run that was stopped or killed, and so does "
        "--workdir alone. --change extends a run (--config.train.steps, --config.train.epochs) or repairs one whose "
        "loss is no longer finite (--config.optimizer.*, --config.train.dtype), from its newest saved step on.",
    )
    verb.add_argument(
        "--config",
        type=located,
        metavar="FILE[:PRESET]",
        help="mine.py:tiny, or one that is shipped, ctcd:tiny (default: that of the run)",
    )
    verb.add_argument(
        "--workdir",
        type=located,
        metavar="DIR",
        help="checkpoints, metrics.jsonl, TensorBoard; --show and --plan of a --config need none",
    )
    verb.add_argument("--change", action="store_true", help="let the config extend or repair the run that is there")
    verb.add_argument("--plan", action="store_true", help="say what the run would cost, and stop")
    verb.add_argument(
        "--on",
        metavar="TARGET[:SHAPE]",
        help="with --plan: on devices that are not here, h100:8 or v5e:4x4; compiles for them",
    )
    verb.add_argument(
        "--show", action="store_true", help="say every field of the config, its meaning and its value, and stop"
    )


def _add_checkpoints(verbs) -> None:
    verb = add_verb(
        verbs,
        "checkpoints",
        "a run -> its saved steps, each read whole: is it as it was saved?",
        "The exit code is 1 where one is damaged.",
    )
    verb.add_argument("workdir", type=located, metavar="WORKDIR", help="of `ctcd train`; it may still be trained")


def _add_export(verbs) -> None:
    verb = add_verb(verbs, "export", "a member of a run -> a Hugging Face model, parity proven")
    verb.add_argument("--workdir", required=True, type=located, metavar="DIR", help="of `ctcd train`")
    verb.add_argument("--member", required=True, metavar="NAME", help="e.g. student")
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the model to write")
    verb.add_argument(
        "--step",
        type=saved_step,
        metavar="N",
        help="a saved step, or best: that of the lowest validation loss, see train.keep_best (default: the newest)",
    )
