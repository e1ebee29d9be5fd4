"""The report of a run that `train` made: it reads what runs write."""

import re

import jax
import pytest

from ctcd_jax.config.init_spec import read_run
from ctcd_jax.report.shapes import member_shapes
from ctcd_jax.training.checkpoint import load_member
from tests.report.reporting import Page, downloads, make


@pytest.fixture
def runs(smoke):
    """The real run, whose student starts from one of its teacher's layers."""
    return smoke.root / "runs"


def test_the_cohort_shows_sizes_and_parameters_also_of_a_member_with_an_init(runs, tmp_path):
    words = Page(make([runs], tmp_path)).words
    for line in ("2 layers, hidden 16", "1 layer, hidden 16", "7,878 parameters", "5,654 parameters"):
        assert words.count(line) == 1, line


def test_parameters_are_those_that_were_trained(runs):
    for name, shape in member_shapes(read_run(runs / "ctcd")).items():
        weights = load_member(runs / "ctcd", name)[1]
        assert shape["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(weights))


def test_members_are_downloaded_with_their_sizes(runs, tmp_path):
    head, *rows = downloads(make([runs], tmp_path))["ctcd-members.csv"]
    members = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert [members[name]["layers"] for name in ("teacher", "student")] == ["2", "1"]
    assert [members[name]["parameters"] for name in ("teacher", "student")] == ["7878", "5654"]
    assert members["student"]["init"] == "layers:teacher#1"


def test_every_part_of_the_page_has_something_to_show(runs, tmp_path):
    page = make([runs], tmp_path)
    titles = re.findall("<h2>(.*?)</h2>", page)
    first = ["Result", "What ran", "Training curves", "Cost"]
    assert titles == [*first, "Last validation", "Corpora", "To reproduce"]
    assert "not recorded" not in page
