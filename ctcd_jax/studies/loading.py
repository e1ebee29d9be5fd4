"""Loads the file of a study, `FILE.py[:SIZE]` or by its name one that is shipped, `NAME[:SIZE]`."""

import runpy
from pathlib import Path

from ctcd_jax.config.file import SHIPPED, find_config
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.studies.definition import Study

FOLDER = "studies"


def load_study(spec: str) -> tuple[str, Study]:
    """Returns (its name, the study) of `get_study(SIZE)` of a file; the name has the size in it.

    Args:
      spec: FILE[:SIZE], a path or the name of one that is shipped: "figure4:tiny".

    Raises:
      UserError: no such file, or what it returns is no study.
    """
    given, _, size = spec.partition(":")
    shipped = f"{FOLDER}/{given}"
    path = find_config(shipped if (SHIPPED / f"{shipped}.py").is_file() else given)
    try:
        get_study = runpy.run_path(str(path)).get("get_study")
        if get_study is None:
            raise UserError(f"{path}: no function get_study(size); a study is made with ctcd_jax.studies.Study")
        study = get_study(size) if size else get_study()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a study's file is a program: anything may go wrong in it
        raise UserError(f"{path}: {first_line(error)} ({type(error).__name__})") from error
    if not isinstance(study, Study):
        raise UserError(f"{path}: get_study returned a {type(study).__name__}; it must return a Study")
    return f"{Path(path).stem}-{size}" if size else Path(path).stem, study
