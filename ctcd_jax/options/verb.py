"""What the options of several verbs have in common."""

from collections.abc import Callable, Mapping

from ctcd_jax.arguments import file_path

MOST_PROCESSES = 4096
ANY_ENCODER = "of `ctcd export`, of any encoder that transformers' AutoModel loads, or its id on the hub"


def add_verb(verbs, name: str, summary: str, more: str = "", stage_defaults: Callable[[], Mapping[str, object]] = dict):
    description = f"{summary[0].upper()}{summary[1:]}. {more}"
    verb = verbs.add_parser(name, help=summary, description=description, stage_defaults=stage_defaults)
    verb.set_defaults(parser=verb)
    return verb


def add_models(verb, which: str = "of `ctcd export`"):
    text = f"{which}; may be given several times"
    verb.add_argument("--model", action="append", required=True, type=file_path, metavar="DIR", help=text)
