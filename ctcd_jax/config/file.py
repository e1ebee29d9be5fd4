"""Loads a config file, `FILE.py[:PRESET]` or by its name one that is shipped, `NAME[:PRESET]`, or a run's own
config.json, with the overrides of the command line, `--config.a.b=VALUE`."""

import ast
import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ctcd_jax.artifacts.runs import CONFIG
from ctcd_jax.config.builders import SIZES, base_config, edge, keep_preset, member
from ctcd_jax.config.init_spec import split_init
from ctcd_jax.errors import UserError, did_you_mean, warn
from ctcd_jax.files import expand_home

NONE = ("None", "none")
# The repository's configs/; a link, so that they are in the wheel, too.
SHIPPED = Path(__file__).parents[1] / "configs"


def load_config(spec: str, overrides: Sequence[str] = (), warn: Callable[[str], None] = warn) -> ConfigDict:
    """Returns `get_config(PRESET)` of a config file, with overrides applied.

    A `~` that begins a path of a run is the home directory. Of two overrides of one field the last counts, and it is
    said. VALUE may be None.

    Args:
      spec: FILE[:PRESET], the file as `find_config` looks for it.
      overrides: `--config.FIELD=VALUE`, each one argument.
      warn: called with a line about an override that another one replaces.

    Raises:
      UserError: no such file or preset, an unknown field (the nearest one is named), a value of another type.
    """
    name, colon, preset = spec.partition(":")
    path = find_config(name)
    spec = f"{path}{colon}{preset}"

    def define(values: flags.FlagValues, arguments: list[str]) -> None:
        arguments.insert(1, f"--config={spec}")
        config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=arguments)

    config = _parse(define, f"--config {spec}", ())
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config {path}: get_config returned {'None' if config is None else f'a {type(config).__name__}'}; "
            "it must return the ConfigDict that base_config(preset) made"
        )
    return _overridden(define, f"--config {spec}", config, overrides, warn)


def find_config(name: str) -> Path:
    """Returns the config file of a path, or of the name of one that is shipped ("ctcd", "corpora/wiki_books").

    Raises:
      UserError: there is none; a similar one is named.
    """
    path, shipped = Path(name), SHIPPED / f"{name}.py"
    if path.is_file():
        return path
    if not path.suffix and shipped.is_file():
        return shipped
    known = [other.relative_to(SHIPPED).with_suffix("").as_posix() for other in SHIPPED.rglob("*.py")]
    near = [str(other) for other in path.parent.glob("*.py")] + ([] if path.suffix else known)
    raise UserError(f"--config {name}: no such file{did_you_mean(name, near) if near else ''}")


def recorded_config(content: Mapping, overrides: Sequence[str] = (), warn: Callable[[str], None] = warn) -> ConfigDict:
    """Returns the config of a run from the content of its `config.json`, with overrides applied.

    Fields that an earlier version did not have get their defaults. Raises UserError as `load_config` does.

    Args:
      content: the parsed JSON.
      overrides, warn: as for `load_config`.
    """

    def define(values: flags.FlagValues, arguments: list[str]) -> None:
        recorded = _recorded(content)
        config_flags.DEFINE_config_dict("config", recorded, lock_config=True, flag_values=values, sys_argv=arguments)

    return _overridden(define, CONFIG, _recorded(content), overrides, warn)


def _recorded(content: Mapping) -> ConfigDict:
    config = base_config("smoke")
    keep_preset(config, "", {})  # what it holds is what the run was begun with
    _fill(config, {name: value for name, value in content.items() if name not in ("members", "edges")})
    config.members = ConfigDict({name: _fill(member(), fields) for name, fields in content["members"].items()})
    config.edges = tuple(_fill(edge(e["source"], e["target"]), e) for e in content["edges"])
    return config


def _fill(config: ConfigDict, values: Mapping) -> ConfigDict:
    for name in config:
        if name in values:
            if isinstance(section := config[name], ConfigDict):
                _fill(section, values[name])
            else:
                with config.ignore_type():  # it is what the run was begun with
                    config[name] = values[name]
    return config


Define = Callable[[flags.FlagValues, list[str]], None]
"""Defines the flag `config` among the values, for the arguments of a command line."""


def _overridden(
    define: Define, place: str, config: ConfigDict, overrides: Sequence[str], warn: Callable[[str], None]
) -> ConfigDict:
    """Returns a config, which `define` makes anew, with overrides applied."""
    given = _last_of_each(overrides, config, warn)
    values = [
        flag if value is None else f"{flag}={_spelt(config, flag, value)}"
        for flag, value in given.items()
        if value not in NONE
    ]
    if values:
        config = _parse(define, place, values)
    for flag in (flag for flag, value in given.items() if value in NONE):
        _set_none(config, flag)
    if "train" in config and isinstance(config.train, ConfigDict):  # and not the recipe of a corpus
        _keep_the_one_set(config.train, given)
        _shape_by_init(config, given)
        _expand_homes(config)
    return config


def _parse(define: Define, place: str, overrides: Sequence[str]) -> ConfigDict:
    arguments, values = ["ctcd", *overrides], flags.FlagValues()
    define(values, arguments)
    try:
        with _quiet():
            values(arguments)
        return values.config
    except UserError:
        raise
    except Exception as error:  # a config file is a program: anything may go wrong in it
        if len(overrides) > 1:
            for override in overrides:  # which of them is it?
                _parse(define, place, [override])
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        if isinstance(error, flags.Error) and overrides:
            reason = _plainly(reason.removeprefix(f"flag {overrides[0]}: "))
        else:
            reason += f" ({type(error).__name__})"
        raise UserError(f"{' '.join(overrides) or place}: {reason}") from error


def _plainly(reason: str) -> str:
    """Returns what is wrong with a value, in words where Python's own are about its functions."""
    value = re.search(r"(?:invalid literal for (int)\(\)|could not convert string to float).*?: ('.*')$", reason)
    return f"{value[2]} is no {'whole ' if value[1] else ''}number" if value else reason


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps absl from warning of what is an error here."""
    logger = logging.getLogger("absl")
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before


def _last_of_each(overrides: Sequence[str], config: ConfigDict, warn: Callable[[str], None]) -> dict[str, str | None]:
    """Returns {"--config.a.b": VALUE, or None where there is none}, of which each names a field of the config."""
    given: dict[str, str | None] = {}
    for override in overrides:
        _check_field(config, override)
        flag, equals, value = override.partition("=")
        value = value if equals else None
        if flag in given and given[flag] != value:
            warn(f"{flag} is given twice; it is {value}, not {given[flag]}")
        given.pop(flag, None)
        given[flag] = value
    return given


def _keep_the_one_set(train: ConfigDict, given: dict[str, str | None]) -> None:
    """Lets `--config.train.steps` replace a preset's epochs, and the other way round."""
    set_here = [name for name in ("steps", "epochs") if given.get(f"--config.train.{name}", "None") not in NONE]
    if len(set_here) == 1:
        train["epochs" if set_here == ["steps"] else "steps"] = None


def _shape_by_init(config: ConfigDict, given: dict[str, str | None]) -> None:
    """Lets `--config.members.NAME.init` replace the sizes of a preset: what a member starts from has its own."""
    for flag, init in given.items():
        named = re.fullmatch(r"--config\.members\.([^.]+)\.init", flag)
        if named and init not in NONE and split_init(init)[0] != "scratch":
            for size in SIZES:
                field = f"--config.members.{named[1]}.{size}"
                if field not in given:
                    _set_none(config, field)


def _check_field(config: ConfigDict, override: str) -> None:
    """Raises UserError unless an override names a field of the config."""
    if not re.fullmatch(r"--(?:no)?config\.([^=\s]+)(=.*)?", override, re.DOTALL):
        raise UserError(f"unknown argument {override}; a field is set with --config.NAME=VALUE")
    flag, equals, _ = override.partition("=")
    name = flag.partition("config.")[2]
    value: Any = config
    for part in field_path(flag):
        if isinstance(value, tuple):
            if not part.isdigit() or int(part) >= len(value):
                raise UserError(f"{name}: no entry [{part}]; there are {len(value)}, counted from 0")
            value = value[int(part)]
        elif isinstance(value, ConfigDict) and part in value:
            value = value[part]
        else:
            known = list(value) if isinstance(value, ConfigDict) else []
            raise UserError(f"{name}: no field '{part}'{did_you_mean(part, known) if known else ''}")
    if not equals and not isinstance(value, bool):
        raise UserError(f"{override}: no value; a field is set with --config.{name}=VALUE")


def field_path(flag: str) -> list[str]:
    """Returns the sections and the field that a flag names: ["edges", "0", "weight"] of "--config.edges[0].weight"."""
    return re.findall(r"[^.\[\]]+", flag.partition("config.")[2])


def value_at(config: ConfigDict, name: str) -> Any:
    """Returns the value of the field with a dotted name, e.g. "edges[0].weight"."""
    section, last = _holder(config, f"--config.{name}")
    return section[last]


def _spelt(config: ConfigDict, flag: str, value: str) -> str:
    """Returns a value as config_flags reads it: texts of a tuple, which people separate by commas, in quotes."""
    section, last = _holder(config, flag)
    if not (isinstance(section, ConfigDict) and section.get_type(last) is tuple):
        return value
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return repr(tuple(value.split(",")) if value else ())
    return value


def _set_none(config: ConfigDict, flag: str) -> None:
    section, last = _holder(config, flag)
    if isinstance(section, tuple):
        raise UserError(f"{flag}=None: an edge cannot be None; switch it off with {flag}.weight=0")
    section[last] = None


def _holder(config: ConfigDict, flag: str) -> tuple[Any, str]:
    """Returns the section that holds a flag's field (or the tuple that holds its entry), and its name there."""
    *sections, last = field_path(flag)
    place: Any = config
    for part in sections:
        place = place[int(part)] if isinstance(place, tuple) else place[part]
    return place, last


def _expand_homes(config: ConfigDict) -> None:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            _expand_homes(value)
        elif isinstance(value, str):
            config[name] = expand_home(value)
        elif isinstance(value, tuple):
            config[name] = tuple(expand_home(entry) if isinstance(entry, str) else entry for entry in value)
