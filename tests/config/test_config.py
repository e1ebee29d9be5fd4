"""Every mistake in a config is one line that names the field; every shipped config resolves at every preset."""

import itertools
import json
import math
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from ctcd_jax.config import PRESETS, OptimizerSettings, base_config, edge, member, resolve
from ctcd_jax.config.check import RANGES
from ctcd_jax.config.file import find_config, load_config, recorded_config
from ctcd_jax.config.init_spec import split_init
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from tests.small import config, ctcd, make_corpus

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = {
    "standalone": [],
    "oneway": ["teacher->student"],
    "cotrain_oneway": ["teacher->student"],
    "ctcd": ["teacher->student", "student->teacher"],
    "reversed": ["student->teacher"],
    "mutual": ["student1->student2", "student2->student1"],
    "ensemble": ["teacher1->student", "teacher2->student", "teacher3->student"],
    "community": ["teacher->student1", "teacher->student2", "student1->student2", "student2->student1"],
}


@pytest.fixture(scope="module")
def opened(corpus):
    return Corpus.open(corpus)


def test_there_is_a_config_for_every_method():
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(METHODS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_shipped_configs(method, preset, opened):
    loaded = load_config(f"{CONFIGS / method}.py:{preset}", ["--config.data.batch_size=8"])
    frozen = [name for name, m in loaded.members.items() if not m.trainable]
    for name in frozen:  # what the user must say; here any random member does
        with pytest.raises(UserError, match=rf"members.{name}.init: a frozen member needs|no such directory"):
            resolve(loaded, opened)
        loaded.members[name] = member(preset, "teacher", layers=12 if preset == "paper" else 6)
        if preset == "smoke":
            loaded.members[name].layers = 2
    resolved = resolve(loaded, opened)
    assert [e.name for e in resolved.cohort.edges] == METHODS[method]
    assert all((e.temperature, e.tau_squared, e.positions) == (2.0, True, "masked") for e in resolved.cohort.edges)
    rate = {"smoke": 3e-3, "tiny": 2e-3}.get(preset, 5e-4)
    assert resolved.optimizers[resolved.cohort.trainable[0]].learning_rate == rate


def test_the_paper_preset_is_the_papers(opened):
    loaded = load_config(f"{CONFIGS}/ctcd.py:paper", ["--config.data.batch_size=8"])
    assert loaded.train.epochs == 10
    assert load_config(f"{CONFIGS}/ctcd.py:paper").data.batch_size == 128
    models = resolve(loaded, opened).models
    assert {name: model.layers for name, model in models.items()} == {"teacher": 6, "student": 4}
    assert {(m.hidden, m.heads, m.intermediate, m.max_positions) for m in models.values()} == {(768, 12, 3072, 512)}
    community = load_config(f"{CONFIGS}/community.py:paper")
    assert community.train.epochs == 3
    assert community.members.student1.init == "layers:teacher#0,2,4,7,9,11"


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_standalone_has_presets_for_both(name, opened):
    loaded = load_config(f"{CONFIGS}/standalone.py:smoke-{name}")
    assert resolve(loaded, opened).models[name].layers == {"teacher": 2, "student": 1}[name]


def test_the_teachers_of_an_ensemble_learn_alone_and_side_by_side(opened):
    resolved = resolve(load_config(f"{CONFIGS}/ensemble.py:smoke-teachers"), opened)
    assert (resolved.cohort.trainable, resolved.cohort.edges) == (("teacher1", "teacher2", "teacher3"), ())
    assert sum(edge.weight for edge in load_config(f"{CONFIGS}/ensemble.py:smoke").edges) == pytest.approx(1)
    with pytest.raises(UserError, match="no preset 'smoke-pupils' of ensemble: smoke or smoke-teachers"):
        load_config(f"{CONFIGS}/ensemble.py:smoke-pupils")


@pytest.mark.parametrize("name", ["a/b", "a->b", "a#b", "a@1", ""])
def test_a_member_is_called_as_a_directory_can_be(name, opened, corpus):
    made = config(corpus, ())
    made.members[name] = member("smoke", "student")
    with pytest.raises(UserError, match=f"members: '{name}' is no name; use letters, digits, - and _"):
        resolve(made, opened)


def test_epochs_without_end_are_one_line(opened, corpus):
    made = config(corpus, steps=None, epochs=1e308)
    with pytest.raises(UserError, match=r"train\.epochs is 1e\+308; that is .* steps, and 2,147,483,647 are the most"):
        resolve(made, opened)


def test_epochs_become_steps(opened, corpus):
    made = config(corpus)
    made.train.steps, made.train.epochs = None, 2.5
    per_epoch = opened.rows("train") // 8
    assert resolve(made, opened).train.steps == round(2.5 * per_epoch)


def test_a_member_may_have_its_own_optimizer(opened, corpus):
    made = config(corpus)
    made.members.teacher.optimizer.learning_rate = 1e-3
    settings = resolve(made, opened).optimizers
    assert (settings["teacher"].learning_rate, settings["student"].learning_rate) == (1e-3, 3e-3)
    assert settings["teacher"].b2 == settings["student"].b2


def test_a_shipped_config_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("ctcd:tiny").members.teacher.layers == 6
    assert find_config("corpora/wiki_books").is_file()
    with pytest.raises(UserError, match=r"--config ctdc: no such file \(did you mean 'ctcd'\?\)"):
        load_config("ctdc:tiny")
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(UserError, match=r"--config mien\.py: no such file \(did you mean 'mine\.py'\?\)"):
        load_config("mien.py")


def test_command_line_overrides(config_file):
    loaded = load_config(
        str(config_file),
        ["--config.train.steps=7", "--config.edges[0].weight=3", "--config.members.student.dropout=0.2"],
    )
    assert (loaded.train.steps, loaded.edges[0].weight, loaded.members.student.dropout) == (7, 3.0, 0.2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.stpes=7", r"train.stpes: no field 'stpes' \(did you mean 'steps'\?\)"),
        ("--config.optimiser.b1=0.8", r"no field 'optimiser' \(did you mean 'optimizer'\?\)"),
        ("--config.members.studnet.layers=2", r"no field 'studnet' \(did you mean 'student'\?\)"),
        ("--config.edges[0].wieght=2", r"no field 'wieght' \(did you mean 'weight'\?\)"),
        ("--config.edges[7].weight=2", r"edges\[7\].weight: no entry \[7\]; there are 2"),
        ("--config.train.steps=many", "train.steps"),
        ("--steps=3", "unknown argument --steps=3"),
    ],
)
def test_a_wrong_override_is_one_line(override, message, config_file):
    with pytest.raises(UserError, match=message) as caught:
        load_config(str(config_file), [override])
    assert "\n" not in str(caught.value)


def change(path, value):
    def apply(made):
        *parts, last = re.split(r"\.", path)
        for part in parts:
            made = made[part]
        made[last] = value

    return apply


def add_edge(**fields):
    def apply(made):
        made.edges = (*made.edges, edge(**fields))

    return apply


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (change("stpes", 3), r"^stpes: no such field"),
        (change("train.eval_evry", 3), r"train.eval_evry: no such field \(did you mean 'eval_every'\?\)"),
        (change("members.student.layer", 3), r"members.student.layer: no such field \(did you mean 'layers'\?\)"),
        (change("members", {}), "members: there are none"),
        (change("edges", (3,)), "edges: each must be an edge"),
        (add_edge(source="techer", target="student"), r"no member 'techer' \(did you mean 'teacher'\?\)"),
        (change("members.teacher.trainable", False), "members.teacher.init: a frozen member needs trained weights"),
        (change("members.student.hidden", 15), r"members.student: hidden \(15\) must be divisible by heads \(2\)"),
        (change("members.student.hidden", None), "members.student.hidden is not set"),
        (
            change("members.student.max_positions", 16),
            "members.student.max_positions is 16, but the corpus has rows of 32",
        ),
        (change("members.student.init", "magic:x"), "members.student.init: no kind 'magic'"),
        (change("members.student.init", "layers:nobody#0"), "members.student.init: no other member 'nobody'"),
        (change("members.student.init", "layers:teacher"), "names no layers"),
        (change("members.student.init", "layers:teacher#0,9"), "there is no layer 9; 'teacher' has 2"),
        (change("members.student.init", "run:somewhere"), "names no member"),
        (change("members.student.init", "run:/nowhere#student"), "no such file; name the --workdir"),
        (change("data.batch_size", 12), "data.batch_size is 12; it must be a multiple of 8"),
        (change("train.micro_batches", 3), "data.batch_size is 8; it must be a multiple of 24"),
        (change("data.batch_size", 100_000), "data.batch_size"),
        (change("mesh.fsdp", 3), "mesh: data x fsdp is -1 x 3, but there are 8 devices"),
        (change("train.epochs", 1.0), "exactly one of train.steps and train.epochs"),
        (change("train.steps", 0), "train.steps is 0"),
        (change("train.log_every", 0), "train.log_every is 0"),
        (change("train.attention", "cuddn"), r"train.attention: no attention 'cuddn' \(did you mean 'cudnn'\?\)"),
        (change("train.attention", "cudnn"), "train.attention: cuDNN's attention needs an NVIDIA GPU"),
        (change("train.loss_chunk", 0), "train.loss_chunk is 0; it must be a whole number at least 1, or None"),
        (change("train.dtype", "float23"), r"train.dtype: no dtype 'float23' \(did you mean 'float32'\?\)"),
        (change("optimizer.schedule", "liner"), r"no schedule 'liner' \(did you mean 'linear'\?\)"),
        (change("optimizer.warmup_fraction", 5), "optimizer.warmup_fraction is 5"),
        (change("masking.rate", 15.0), "masking.rate is 15.0"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(mistake, message, corpus, opened):
    made = config(corpus)
    made.unlock()
    with pytest.raises(UserError, match=message) as caught:  # noqa: PT012  some mistakes cannot even be written down
        mistake(made)
        resolve(made, opened, jax.devices())
    assert "\n" not in str(caught.value)


def test_fsdp_must_divide_the_widths(corpus, opened):
    made = config(corpus)
    made.mesh.fsdp = 8
    made.members.student.update({"hidden": 12})
    with pytest.raises(UserError, match=r"members.student.hidden is 12; it must be divisible by mesh.fsdp \(8\)"):
        resolve(made, opened, jax.devices())


@pytest.mark.parametrize(
    ("preset", "override", "steps", "epochs"),
    [("tiny", "train.epochs=3", None, 3.0), ("small", "train.steps=70", 70, None), ("tiny", "seed=1", 2000, None)],
)
def test_steps_on_the_command_line_replace_epochs_and_the_other_way_round(preset, override, steps, epochs):
    train = load_config(f"{CONFIGS}/ctcd.py:{preset}", [f"--config.{override}"]).train
    assert (train.steps, train.epochs) == (steps, epochs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
        ("from ctcd_jax.config import experiment", "'experiment' is now 'base_config'; import and call that instead"),
        ("def get_config(preset=''):\n    return {}['techer']", "'techer'"),
        ("def get_config(preset=''):\n    pass", "get_config returned None; it must return the ConfigDict"),
        ("def get_config(preset=''):\n    return {'seed': 1}", "get_config returned a dict; it must return the Config"),
    ],
)
def test_a_broken_config_file_is_one_line(text, message, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_the_wrong_one_of_several_overrides_is_named_alone(config_file):
    with pytest.raises(UserError) as caught:
        load_config(str(config_file), ["--config.seed=1", "--config.edges[0].weight=abc", "--config.train.steps=3"])
    assert str(caught.value) == "--config.edges[0].weight=abc: 'abc' is no number"


def test_of_a_field_given_twice_the_last_counts_and_it_is_said(config_file):
    said = []
    arguments = ["--config.seed=1", "--config.seed=2", "--config.train.log_every=7", "--config.train.log_every=7"]
    assert load_config(str(config_file), arguments, warn=said.append).seed == 2
    assert said == ["--config.seed is given twice; it is 2, not 1"]


def test_an_override_without_a_value_does_not_take_the_next_for_one(config_file):
    with pytest.raises(UserError, match=r"^--config.data.corpus: no value; a field is set with --config.data.corpus=V"):
        load_config(str(config_file), ["--config.data.corpus", "--config.seed=3"])
    assert load_config(str(config_file), ["--config.train.remat"]).train.remat is True
    assert load_config(str(config_file), ["--noconfig.members.student.trainable"]).members.student.trainable is False


@pytest.mark.parametrize("none", ["None", "none"])
def test_none_on_the_command_line(none, config_file):
    made = load_config(str(config_file), [f"--config.train.steps={none}", "--config.train.epochs=2"])
    assert (made.train.steps, made.train.epochs) == (None, 2.0)
    assert load_config(str(config_file), [f"--config.members.student.layers={none}"]).members.student.layers is None
    assert load_config(str(config_file), [f"--config.edges[0].weight={none}"]).edges[0].weight is None


def test_a_tilde_is_the_home_directory(config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = {"data.corpus": "~/corpus", "members.student.init": "run:~/run#student", "members.teacher.init": "hf:~"}
    made = load_config(str(config_file), [f"--config.{name}={value}" for name, value in arguments.items()])
    assert made.data.corpus == f"{tmp_path}/corpus"
    assert made.members.student.init == f"run:{tmp_path}/run#student"
    assert made.members.teacher.init == f"hf:{tmp_path}"


def test_a_config_file_without_get_config_is_one_line(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1")
    # In a process of its own: config_flags loads every file under one module name, on top of the one before.
    done = ctcd("train", "--config", path, "--workdir", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "get_config" in done.stderr


def test_layers_of_a_member_that_copies_layers_itself(corpus, opened):
    made = config(corpus)
    made.members.big = member(trainable=False, init="layers:teacher#0,1")
    made.members.aide = member(init="layers:big#1")
    assert resolve(made, opened).models["aide"].layers == 1


def test_a_circle_of_layers_is_named(corpus, opened):
    made = config(corpus)
    made.members.a, made.members.b = member(init="layers:b#0"), member(init="layers:a#0")
    with pytest.raises(UserError, match=r"members.a.init: layers:b#0 leads in a circle"):
        resolve(made, opened)


def test_an_unknown_preset_of_a_file():
    with pytest.raises(UserError, match=r"no preset 'tinny' \(did you mean 'tiny'\?\)"):
        load_config(f"{CONFIGS}/community.py:tinny")


def test_unknown_presets_and_fields_of_builders():
    with pytest.raises(UserError, match=r"no preset 'tinny' \(did you mean 'tiny'\?\)"):
        base_config("tinny")
    with pytest.raises(UserError, match=r"no size 'techer' in a preset \(did you mean 'teacher'\?\)"):
        member("tiny", "techer")
    with pytest.raises(UserError, match=r"member: no field 'layer' \(did you mean 'layers'\?\)"):
        member("tiny", layer=3)


def test_another_vocabulary_is_refused_and_both_are_named(corpus, tmp_path):
    """Law 4: same size or not, ids of another tokenizer mean other words."""
    from ctcd_jax.training import train

    train(config(corpus, members=("teacher",), steps=1), tmp_path / "run", log=lambda _: None)
    (tmp_path / "other").mkdir()
    other = Corpus.open(make_corpus(tmp_path / "other", vocab_size=140))
    made = config(other.directory)
    made.members.teacher = member(trainable=False, init=f"run:{tmp_path}/run#teacher")
    made.edges = (edge("teacher", "student"),)
    with pytest.raises(UserError, match=r"its tokenizer .* is not that of the corpus") as caught:
        resolve(made, other)
    assert other.tokenizer_hash[:12] in str(caught.value)
    assert Corpus.open(corpus).tokenizer_hash[:12] in str(caught.value)


# Every number has a range, every field a kind.


def numbers_of(section, kind=""):
    """The number fields of a schema, as `config_check.RANGES` calls them."""
    for key in section:
        if isinstance(section.get(key), ConfigDict):
            yield from numbers_of(section[key], f"{key}.")
        elif section.get_type(key) in (int, float):
            yield kind + key


def test_every_number_of_the_schema_has_a_range():
    found = {
        *numbers_of(base_config("smoke")),
        *numbers_of(member(), "members."),
        *numbers_of(edge("a", "b"), "edges."),
    }
    assert len(found) > 30
    assert found == set(RANGES)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_default_is_within_its_range(preset):
    sections = [(base_config(preset), ""), (member(preset), "members."), (edge("a", "b"), "edges.")]
    values = {kind + key: section[key] for section, kind in sections for key in section if kind + key in RANGES}
    values |= {f"{part}.{key}": v for part in ("data", "train", "masking", "mesh", "optimizer")
               for key, v in sections[0][0][part].items() if f"{part}.{key}" in RANGES}  # fmt: skip
    assert len(values) > 30
    for field, value in values.items():
        assert value is None or RANGES[field].holds(value), field


def places(field):
    """Where a config of `tests.small` has the field."""
    section, _, key = field.rpartition(".")
    return {
        "members": [f"members.student.{key}"],
        "edges": [f"edges[1].{key}"],
        "optimizer": [f"optimizer.{key}", f"members.teacher.optimizer.{key}"],
    }.get(section, [field])


@pytest.mark.parametrize("field", sorted(RANGES))
def test_a_number_out_of_its_range_is_one_line_that_names_the_field(field, corpus, opened):
    whole = RANGES[field].whole  # a ConfigDict makes floats of what is given for one
    values = [math.nan, math.inf, -math.inf, -1, 0, *([True, 2.5, 10**400] if whole else [])]
    outside = [value for value in values if not RANGES[field].holds(value)]
    assert len(outside) > 2
    for place, value in itertools.product(places(field), outside):
        made = section = config(corpus)
        made.unlock()
        *parts, last = place.split(".")
        for part in parts:
            section = section.edges[1] if part == "edges[1]" else section[part]
        del section[last]  # and with it its type
        section[last] = value
        with pytest.raises(UserError, match=rf"^{re.escape(place)} is .*; it must be ") as caught:
            resolve(made, opened)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.clip_norm=-1", "optimizer.clip_norm is -1.0; it must be a number above 0, or None for no clipping"),
        ("optimizer.clip_norm=0", "optimizer.clip_norm is 0.0; it must be a number above 0, or None for no clipping"),
        ("members.student.hard_weight=-1", "members.student.hard_weight is -1.0; it must be a number at least 0"),
        ("seed=-1", "seed is -1; it must be a whole number at least 0 and at most 4,294,967,295"),
        ("seed=4294967296", "seed is 4294967296; it must be a whole number at least 0 and at most 4,294,967,295"),
        ("train.steps=4000000000", "train.steps is 4000000000; it must be a whole number at least 1 and at most 2,147"),
        ("edges[0].temperature=0", r"edges[0].temperature is 0.0; it must be a number above 0"),
    ],
)
def test_what_a_shell_says_of_a_number(override, message, config_file, corpus, opened):
    made = load_config(str(config_file), [f"--config.data.corpus={corpus}", f"--config.{override}"])
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        resolve(made, opened)


@pytest.mark.parametrize("epochs", [0.0, -3.0, math.nan])
def test_epochs_that_are_none(epochs, corpus, opened):
    made = config(corpus)
    made.train.steps, made.train.epochs = None, epochs
    with pytest.raises(UserError, match=r"^train.epochs is .*; it must be a number above 0"):
        resolve(made, opened)
    made.train.epochs = 1e-9
    with pytest.raises(UserError, match=r"^train.epochs is 1e-09; that is less than a step, of which an epoch has"):
        resolve(made, opened)
    made.train.epochs = 1e12
    with pytest.raises(
        UserError, match=r"^train.epochs is 1000000000000.0; that is .* steps, and 2,147,483,647 are the most"
    ):
        resolve(made, opened)


@pytest.mark.parametrize("settings", [{"clip_norm": -1.0}, {"b1": 1.0}, {"learning_rate": math.nan}, {"eps": 0.0}])
def test_an_optimizer_built_from_python_is_checked_alike(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^optimizer: {name} is .*; it must be a number"):
        OptimizerSettings(**settings)
    with pytest.raises(ValueError, match=r"^optimizer: no schedule 'liner'; there are linear, cosine, constant$"):
        OptimizerSettings(schedule="liner")


def test_no_clipping_is_none(config_file, corpus, opened):
    made = load_config(str(config_file), ["--config.optimizer.clip_norm=None"])
    assert {settings.clip_norm for settings in resolve(made, opened).optimizers.values()} == {None}
    made = load_config(
        str(config_file), ["--config.optimizer.clip_norm=None", "--config.members.teacher.optimizer.clip_norm=2"]
    )
    settings = resolve(made, opened).optimizers
    assert (settings["teacher"].clip_norm, settings["student"].clip_norm) == (2.0, None)


def delete(path):
    def apply(made):
        *parts, last = path.split(".")
        for part in parts:
            made = made[part]
        del made[last]

    return apply


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (delete("masking"), r"masking is missing; start from base_config\(preset\)"),
        (delete("members"), r"members is missing; start from base_config\(preset\)"),
        (delete("edges"), r"edges is missing; start from base_config\(preset\)"),
        (delete("train.dtype"), r"train.dtype is missing; start from base_config\(preset\)"),
        (delete("members.student.dropout"), r"members.student.dropout is missing; make the member with member\(preset"),
        (change("masking", None), "masking is None; change its fields, not the section"),
        (change("members", None), "members is None; change its fields, not the section"),
        (change("members.student", None), r"members.student is None; make it with member\(preset\)"),
        (change("members.student", {"layers": 2}), r"members.student.attention_dropout is missing; make the member"),
        (change("members.student", 3), r"members.student is a int; make it with member\(preset\)"),
        (change("edges", None), "edges is None; it must be a tuple: config.edges = "),
        (change("edges", ({"source": "teacher", "target": "student"},)), r"edges: each .* edges\[0\] is a dict"),
        (change("seed", None), "seed is None, and it must be set; its default is 0"),
        (change("data.batch_size", None), "data.batch_size is None, and it must be set"),
        (change("train.dtype", None), "train.dtype is None, and it must be set; its default is 'auto'"),
        (change("train.remat", None), "train.remat is None, and it must be set; its default is False"),
        (change("members.student.trainable", None), "members.student.trainable is None, and it must be set"),
        (change("members.student.optimizer", None), "members.student.optimizer is None; change its fields"),
        (change("members.teacher.optimizer.schedule", "liner"), "members.teacher.optimizer.schedule: no schedule"),
    ],
)
def test_what_is_missing_or_none_is_one_line(mistake, message, corpus, opened):
    made = config(corpus)
    made.unlock()
    with made.ignore_type():
        mistake(made)
    with pytest.raises(UserError, match=f"^{message}") as caught:
        resolve(made, opened)
    assert "\n" not in str(caught.value)


def test_edges_may_be_a_list(config_file, corpus, opened):
    made = config(corpus)
    made.edges = list(made.edges)
    assert len(resolve(made, opened).cohort.edges) == 2


@pytest.mark.parametrize("weight", [0.0, None])
def test_a_member_that_would_learn_nothing(weight, corpus, opened):
    made = config(corpus)
    made.members.teacher.hard_weight = 0.0
    assert resolve(made, opened).cohort.members["teacher"].hard_weight == 0  # the student teaches it
    if weight is None:
        made.edges = made.edges[:1]
    else:
        made.edges[1].weight = weight
    with pytest.raises(UserError, match=r"members.teacher.hard_weight is 0 and no edge teaches 'teacher'"):
        resolve(made, opened)


@pytest.mark.parametrize("asked", ["0,5", "5,5", "6,5", "5,21", "-1,5", "5", "5,6,7", "1.5,3", "a,b", "True,5"])
def test_steps_that_cannot_be_traced(asked, config_file, corpus, opened):
    made = load_config(str(config_file), [f"--config.data.corpus={corpus}", f"--config.train.profile_steps={asked}"])
    message = "must be START,STOP, whole numbers with 0 < START < STOP <= 20 (the run's steps), or None for no trace"
    with pytest.raises(UserError, match=rf"^train.profile_steps is \(.*\); it {re.escape(message)}$"):
        resolve(made, opened)


def test_steps_to_trace_are_what_they_were_when_they_are_read_back(config_file, corpus, opened):
    made = load_config(str(config_file), [f"--config.data.corpus={corpus}", "--config.train.profile_steps=5,20"])
    read_back = recorded_config(json.loads(made.to_json_best_effort()))
    for one in (made, read_back):
        assert resolve(one, opened).train.profile_steps == (5, 20)
    with pytest.raises(UserError, match=r"<= 18 "):
        resolve(recorded_config(json.loads(made.to_json_best_effort()), ["--config.train.steps=18"]), opened)


@pytest.mark.parametrize(
    ("init", "parts"),
    [
        (None, ("scratch", "", "")),
        ("scratch", ("scratch", "", "")),
        ("hf:models/#1", ("hf", "models/#1", "")),
        ("run:runs/a#b#student", ("run", "runs/a#b", "student")),
        ("run:c:/runs", ("run", "c:/runs", "")),
        ("layers:teacher#0,2", ("layers", "teacher", "0,2")),
    ],
)
def test_an_init_has_a_kind_a_location_and_a_detail(init, parts):
    assert split_init(init) == parts
