"""Kinds of arguments of the command line, each a `type` of argparse, and a parser whose every error is one line."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ctcd_jax.errors import did_you_mean
from ctcd_jax.files import expand_home
from ctcd_jax.ranges import COUNT, Range
from ctcd_jax.stores import is_remote


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations (`--seed 2` must not run two `--seeds`), and says in one line what is wrong.

    Args:
      stage_defaults: gives {option: what holds where it is not given}, which {default} in its help stands for. It is
        called for the help alone, so that it may import the stage that knows.
    """

    def __init__(self, stage_defaults: Callable[[], Mapping[str, object]] = dict, **options):
        super().__init__(allow_abbrev=False, **options)
        self._stage_defaults = stage_defaults

    def format_help(self) -> str:
        defaults = self._stage_defaults()
        for action in self._actions:
            if action.help and "{default}" in action.help:
                action.help = action.help.format(default=_shown(defaults[action.dest]))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` explains\n")

    def arguments_of(self, *kinds: Callable) -> list[argparse.Action]:
        """Returns the arguments whose type is one of `kinds`."""
        return [action for action in self._actions if action.type in kinds]

    def unknown(self, argument: str) -> NoReturn:
        """Ends with the error that no option is called so, and the one that nearly is."""
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        self.error(f"unknown argument {argument}{did_you_mean(argument.partition('=')[0], known)}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(allowed: Range) -> Callable[[str], Any]:
    """Returns the type of a number in a range."""

    def read(text: str) -> float | None:
        try:
            value = int(text) if allowed.whole else float(text)
        except ValueError:
            value = None
        if not allowed.holds(value):
            raise argparse.ArgumentTypeError(
                f"{text} is not {allowed}" + (f", or {allowed.off}" if allowed.off else "")
            )
        return value

    return read


def count_list(text: str) -> list[int]:
    """A list of whole numbers, 1 or more: 1,32."""
    return [number(COUNT)(part) for part in text.split(",")]


def name_list(text: str) -> list[str]:
    """A list of names: a,b."""
    return text.split(",")


def share_of_work(text: str) -> tuple[int, int]:
    """One share of several: 0/8 to 7/8."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with I from 0 to N - 1, e.g. 0/8")
    return int(index), int(count)


def saved_step(text: str) -> int | str:
    """A saved step: its number, or best."""
    return text if text == "best" else number(replace(COUNT, off="best"))(text)


def file_path(text: str) -> Path | str:
    """A file or directory; the shell leaves the ~ of --out=~/x to us. A folder of a store stays text."""
    place = located(text)
    return place if is_remote(place) else Path(place)


def located(text: str) -> str:
    """Text that may be, or hold, a path or a folder of a store: FILE:PRESET, KIND:DIR."""
    if scheme := re.match(r"(gs|gcs|s3):(?!//)", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no folder of a store; write {scheme[1]}://BUCKET/PATH")
    return expand_home(text)
