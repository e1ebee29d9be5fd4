"""What the options of several verbs have in common."""

from collections.abc import Callable, Mapping

from ctcd_jax.arguments import file_path

MOST_PROCESSES = 4096
ANY_ENCODER = "of `ctcd export`, of any encoder that transformers' AutoModel loads, or its id on the hub"


def add_verb(verbs, name: str, summary: str, more: str = "", stage_defaults: Callable[[], Mapping[str, object]] = dict):
    """Adds a verb and returns its parser.

    Args:
      verbs: of the command's parser.
      name: of the verb.
      summary: what becomes what, a line of `ctcd --help`.
      more: what its own help says after that.
      stage_defaults: gives {option: default} of the stage it calls, for its help.
    """
    description = f"{summary[0].upper()}{summary[1:]}. {more}"
    verb = verbs.add_parser(name, help=summary, description=description, stage_defaults=stage_defaults)
    verb.set_defaults(parser=verb)
    return verb


def add_models(verb, which: str = "of `ctcd export`"):
    """Adds `--model`, which may be given several times; `which` says what models it takes."""
    text = f"{which}; may be given several times"
    verb.add_argument("--model", action="append", required=True, type=file_path, metavar="DIR", help=text)
