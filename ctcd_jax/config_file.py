"""Loads `configs/FILE.py[:PRESET]`, or a run's own config.json, with the overrides of the command line,
`--config.a.b=VALUE`."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from ctcd_jax.config import edge, experiment, member
from ctcd_jax.errors import UserError, did_you_mean


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns `get_config(PRESET)` of a config file, with overrides applied.

    Raises:
      UserError: no such file or preset, an unknown field (the nearest one is named), a value of another type.
    """
    path = Path(spec.partition(":")[0])
    if not path.is_file():
        near = [str(other) for other in path.parent.glob("*.py")]
        raise UserError(f"--config {path}: no such file{did_you_mean(str(path), near) if near else ''}")
    return _overridden(lambda overrides: _parse(spec, overrides), overrides)


def recorded_config(content: Mapping, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the config of a run from the content of its `config.json`, with overrides applied.

    Fields that an earlier version did not have get their defaults. Raises UserError as `load_config` does.
    """
    config = experiment("smoke")
    _fill(config, {name: value for name, value in content.items() if name not in ("members", "edges")})
    config.members = ConfigDict({name: _fill(member(), fields) for name, fields in content["members"].items()})
    config.edges = tuple(_fill(edge(e["source"], e["target"]), e) for e in content["edges"])
    return _overridden(lambda overrides: _set(config, overrides), overrides)


def _fill(config: ConfigDict, values: Mapping) -> ConfigDict:
    for name in config:
        if name in values:
            if isinstance(config[name], ConfigDict):
                _fill(config[name], values[name])
            else:
                with config.ignore_type():  # it is what the run was begun with
                    config[name] = values[name]
    return config


def _overridden(parse: Callable[[Sequence[str]], ConfigDict], overrides: Sequence[str]) -> ConfigDict:
    config = parse(())
    for override in overrides:
        _check_field(config, override)
    if not overrides:
        return config
    config = parse(overrides)
    if "train" in config:  # and not the recipe of a corpus
        _keep_the_one_set(config.train, overrides)
    return config


def _set(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    values = flags.FlagValues()
    arguments = ["ctcd", *overrides]
    config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
        return config
    except Exception as error:  # as absl and ml_collections raise it for a value of another type
        raise UserError(f"{' '.join(overrides)}: {error} ({type(error).__name__})") from error


def _parse(spec: str, overrides: Sequence[str]) -> ConfigDict:
    arguments = ["ctcd", f"--config={spec}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
        return values.config
    except UserError:
        raise
    except Exception as error:  # a config file is a program: anything may go wrong in it
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(f"{' '.join(overrides) or '--config ' + spec}: {reason} ({type(error).__name__})") from error


def _keep_the_one_set(train: ConfigDict, overrides: Sequence[str]) -> None:
    """Lets `--config.train.steps` replace a preset's epochs, and the other way round."""
    given = [name for name in ("steps", "epochs") if any(o.startswith(f"--config.train.{name}=") for o in overrides)]
    if len(given) == 1:
        train["epochs" if given == ["steps"] else "steps"] = None


def _check_field(config: ConfigDict, override: str) -> None:
    """Raises UserError unless an override names a field of the config."""
    match = re.fullmatch(r"--(?:no)?config\.([^=\s]+)(=.*)?", override, re.DOTALL)
    if not match:
        raise UserError(f"unknown argument {override}; a field is set with --config.NAME=VALUE")
    name, value = match[1], config
    for part in re.findall(r"[^.\[\]]+", name):
        if isinstance(value, tuple):
            if not part.isdigit() or int(part) >= len(value):
                raise UserError(f"{name}: no entry [{part}]; there are {len(value)}, counted from 0")
            value = value[int(part)]
        elif isinstance(value, ConfigDict) and part in value:
            value = value[part]
        else:
            known = list(value) if isinstance(value, ConfigDict) else []
            raise UserError(f"{name}: no field '{part}'{did_you_mean(part, known) if known else ''}")
