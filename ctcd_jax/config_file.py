"""Loads `configs/FILE.py[:PRESET]` with the overrides of the command line, `--config.a.b=VALUE`."""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from ctcd_jax.config import experiment, member
from ctcd_jax.errors import UserError, did_you_mean


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns `get_config(PRESET)` of a config file, with overrides applied.

    Raises:
      UserError: no such file or preset, an unknown field (the nearest one is named), a value of another type.
    """
    path, _, _ = spec.partition(":")
    if not Path(path).is_file():
        near = sorted(str(p) for p in Path(path).parent.glob("*.py"))
        raise UserError(f"--config {path}: no such file{did_you_mean(path, near) if near else ''}")
    for override in overrides:
        if not re.match(r"--(no)?config\.\S", override):
            raise UserError(f"unknown argument {override}; a field is set with --config.NAME=VALUE")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
    try:
        values(["ctcd", f"--config={spec}", *overrides])
        return values.config
    except AttributeError as error:
        raise UserError(_unknown_field(overrides, error)) from error
    except KeyError as error:
        if "get_config" in str(error):
            raise
        raise UserError(f"--config {spec}: {path} has no preset {error}") from error
    except (flags.Error, ValueError, TypeError, IndexError) as error:
        raise UserError(f"--config: {str(error).splitlines()[0]}") from error


def _unknown_field(overrides: Sequence[str], error: AttributeError) -> str:
    """Names the override whose last part is the unknown field, and the nearest field there is."""
    known = set(experiment("smoke")) | set(member())
    for group in ("data", "train", "optimizer", "masking", "mesh", "wandb"):
        known |= set(experiment("smoke")[group])
    for override in overrides:
        name = override.lstrip("-").partition("=")[0]
        parts = re.split(r"[.\[\]]+", name)
        unknown = next((part for part in parts[1:] if part and f"'{part}'" in str(error)), None)
        if unknown or f'"{parts[-1]}"' in str(error):
            unknown = unknown or parts[-1]
            return f"{name.removeprefix('config.')}: no field '{unknown}'{did_you_mean(unknown, known)}"
    return f"--config: {str(error).splitlines()[0]}"
