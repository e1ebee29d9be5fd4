"""`ctcd train --show`: every field has a meaning, and its value comes from where it is said to come from."""

import re

import pytest
from ml_collections import ConfigDict

from ctcd_jax.cli import main
from ctcd_jax.config import PRESETS, check, load_config
from ctcd_jax.config.fields import FIELDS
from ctcd_jax.config.show import Row, config_rows, show
from ctcd_jax.errors import UserError
from tests.config.test_config import CONFIGS, METHODS


def leaves(section, place=""):
    """The fields of a finished config, found without the table: (as FIELDS calls them, as the command line does)."""
    for key in section:
        value = section.get(key)
        if key == "members":
            for name in value:
                yield from ((f"members.{f}", f"members.{name}.{p}") for f, p in leaves(value[name]))
        elif key == "edges":
            for number, edge in enumerate(value):
                yield from ((f"edges.{f}", f"edges[{number}].{p}") for f, p in leaves(edge))
        elif isinstance(value, ConfigDict):
            yield from leaves(value, f"{place}{key}.")
        else:
            yield place + key, place + key


def full_names(rows):
    return [(row.prefix + row.name).removeprefix("--config.") for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_every_field_has_a_meaning_and_no_meaning_is_without_a_field(method):
    config = load_config(f"{CONFIGS / method}.py:smoke")
    expected = list(leaves(config))
    assert {field for field, _ in expected} == {f for f in FIELDS if config.edges or not f.startswith("edges.")}
    assert all(len(field.meaning) > 10 for field in FIELDS.values())
    shown = full_names(config_rows(config, config, (), "config file"))
    assert sorted(shown) == sorted(place for _, place in expected)


def origins(spec, *overrides):
    arguments = [f"--config.{override}" for override in overrides]
    rows = config_rows(load_config(spec, arguments), load_config(spec), arguments, "config file")
    return {name: (row.value, row.origin) for name, row in zip(full_names(rows), rows, strict=True)}


def test_where_values_come_from():
    found = origins("ctcd:tiny", "train.epochs=2", "edges[0].weight=1", "members.teacher.dropout=0.3")
    assert found["seed"] == ("0", "default")
    assert found["data.batch_size"] == (str(PRESETS["tiny"]["rows"]), "preset tiny")
    assert found["train.epochs"] == ("2.0", "command line")
    assert found["train.steps"] == ("None", "command line")  # which the epochs replace
    assert found["edges[0].weight"] == ("1.0", "command line")  # said, though it is the default
    assert found["edges[1].weight"] == ("4.0", "config file")
    assert found["edges[1].source"] == ("student", "config file")
    assert found["edges[1].temperature"] == ("2.0", "default")
    assert found["members.teacher.layers"] == ("6", "preset tiny")
    assert found["members.teacher.dropout"] == ("0.3", "command line")
    assert found["members.student.dropout"] == ("0.1", "default")
    assert origins("community:tiny")["members.student1.init"] == ("layers:teacher#0,2,4,5", "config file")


def test_fields_that_a_file_changes_are_the_files(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ctcd_jax.config import base_config, member\n"
        "def get_config(preset='tiny'):\n"
        "    config = base_config(preset)\n"
        "    config.train.log_every = 7\n"
        "    config.members.student = member(preset, 'student', layers=3)\n"
        "    return config\n"
    )
    found = origins(str(path))
    assert found["train.log_every"] == ("7", "config file")
    assert found["train.eval_every"][1] == "preset tiny"
    assert found["members.student.layers"] == ("3", "config file")
    assert found["members.student.hidden"][1] == "preset tiny"


def test_the_command_says_it_and_stops(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", "ctcd:smoke", "--show", "--config.data.corpus=nowhere/yet"]) == 0
    said, warned = capsys.readouterr()
    assert not warned
    assert re.search(r"^  corpus +nowhere/yet +command line +directory made by ctcd prepare$", said, re.MULTILINE)
    assert "--config.members.teacher.optimizer.\n" in said
    assert list(tmp_path.iterdir()) == []
    assert main(["train", "--config", "ctcd:smoke", "--show", "--config.seed=-1"]) == 2
    assert capsys.readouterr().err.startswith("ctcd train: seed is -1; it must be")
    for arguments in (["--config", "ctcd:smoke"], ["--show"]):
        with pytest.raises(SystemExit):
            main(["train", *arguments])
        assert "--workdir" in capsys.readouterr().err


ROWS = [
    Row("--config.", "seed", "0", "default", "of what is random"),
    Row("--config.data.", "corpus", "/a/path/of/thirty/characters/x", "command line", "directory"),
    Row("--config.data.", "batch_size", "64", "preset tiny", "rows of a step, those of all devices together"),
]


def shown(width):
    lines = []
    show(ROWS, lines.append, width)
    return "\n".join(lines)


def test_a_field_has_one_line_where_nothing_wraps():
    assert (
        shown(None)
        == """\
--config.
  seed        0                               default       of what is random
--config.data.
  corpus      /a/path/of/thirty/characters/x  command line  directory
  batch_size  64                              preset tiny   rows of a step, those of all devices together"""
    )


def test_meanings_wrap_at_the_width_and_a_wide_value_has_a_line_of_its_own():
    assert (
        shown(60)
        == """\
--config.
  seed        0   default       of what is random
--config.data.
  corpus      /a/path/of/thirty/characters/x
                  command line  directory
  batch_size  64  preset tiny   rows of a step, those of all
                                devices together"""
    )


def test_on_a_narrow_terminal_the_meaning_is_below():
    assert shown(45).splitlines()[-3:] == [
        "  batch_size  64  preset tiny",
        "      rows of a step, those of all devices",
        "      together",
    ]


# None, for every field.


def every_field():
    return [place for _, place in leaves(load_config("ctcd:smoke"))]


@pytest.mark.parametrize("place", every_field())
def test_none_for_every_field_does_or_is_one_line(place):
    field = re.sub(r"^members\.\w+\.|^edges\[\d\]\.", lambda found: found[0][:7].rstrip("[.01") + ".", place)
    made = load_config("ctcd:smoke", [f"--config.{place}=None"])
    if FIELDS[field].optional:
        check(made)
    else:
        with pytest.raises(UserError, match=rf"^{re.escape(place)} is None, and it must be set; ") as caught:
            check(made)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["edges[0]=None"], r"^--config.edges\[0\]=None: an edge cannot be None; switch it off with .*weight=0"),
        (["edges=None"], "^edges is None; it must be a tuple"),
        (["members.student=None"], "^members.student is None; make it with member"),
        (["train=None"], "^train is None; change its fields, not the section"),
        (["edges[0].source=None"], r"^edges\[0\].source is None, and it must be set; give it a value$"),
        (["data.batch_size=None"], "^data.batch_size is None, and it must be set; give it a value$"),
    ],
)
def test_none_for_what_is_no_field(overrides, said):
    with pytest.raises(UserError, match=said):
        check(load_config("ctcd:smoke", [f"--config.{override}" for override in overrides]))


@pytest.mark.parametrize(
    ("typed", "value"),
    [("5,6", (5, 6)), ("(5,6)", (5, 6)), ("a", ("a",)), ("runs/a,~/b-1.5", ("runs/a", "HOME/b-1.5")), ("", ())],
)
def test_a_tuple_is_typed_without_quotes(typed, value, monkeypatch):
    monkeypatch.setenv("HOME", "HOME")
    assert load_config("ctcd:smoke", [f"--config.train.profile_steps={typed}"]).train.profile_steps == value
