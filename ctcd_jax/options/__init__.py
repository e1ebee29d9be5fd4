"""What every verb of the command line takes, and says of itself.

Where a stage has the default, the option has none, and its help says {default}: see `Parser`.
"""

from ctcd_jax import __version__
from ctcd_jax.arguments import Parser
from ctcd_jax.options import making, measuring, showing, studying


def make_parser() -> Parser:
    """Returns the parser of the command: what it parses has `verb`, and `parser`, that of the verb."""
    parser = Parser(
        prog="ctcd",
        description="Train language models together and let them teach each other (Lee et al. 2023).",
        epilog="Exit codes: 0 finished, 2 user error (one line says what), 3 the loss is not finite, "
        "75 stopped on request: run the same command again to go on.",
    )
    parser.add_argument("--version", action="version", version=f"ctcd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    for room in (making, measuring, studying, showing):
        room.add_verbs(verbs)
    return parser
