import itertools
import re
import shutil
from pathlib import Path

import pytest

from ctcd_jax import page
from ctcd_jax.artifacts.collect import collect
from ctcd_jax.errors import UserError
from ctcd_jax.page.style import STYLE
from ctcd_jax.report.report import report
from tests.report.reporting import Page, make, metric_line, write_run


def test_the_page_shows_everything_found(project, models, tmp_path):
    words = [word.strip() for word in Page(make([project, models[1]], tmp_path)).words]
    for expected in (
        "5.1234",  # hard loss at the last validation
        "25.00 %",
        "0.2500",  # soft loss at temperature 1
        "37.50 %",  # agreement
        "61.00 ± 0.00",
        "53.00",  # majority class
        "42.25",
        "1.50×",
        "1:02:05",  # 3,725 seconds
        "0.02 M",  # tokens
        "hard loss of student",
        "Quality against latency: CPU, 2 threads",
        "accuracy of student",
        "soft loss teacher → student",
        "KL teacher → student at τ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1",
        "agreement teacher ~ student",
        "config.json of ctcd",
        "Exported checkpoints",
    ):
        assert expected in words, expected
    assert any(word.startswith("This page reports 2 training runs (alone, ctcd); 1 model fine-tuned") for word in words)


def test_an_export_that_is_being_written_is_none(models, tmp_path):
    shutil.copytree(models[1], tmp_path / "student")
    shutil.copytree(models[1], tmp_path / "next.partial")
    assert list(collect([tmp_path]).exports) == ["student"]


def test_runs_with_the_same_member_share_a_panel(project, tmp_path):
    html = make([project], tmp_path)
    panel = html[html.index("<h3>hard loss of student</h3>") :].split("</figure>")[0]
    curves = re.findall(r"<title>(.*?)</title>", panel)
    assert sorted(curves) == ["alone, train", "alone, validation", "ctcd, train", "ctcd, validation"]


def test_the_page_needs_no_network_and_is_accessible(project, tmp_path):
    for tag, attributes in Page(make([project], tmp_path)).tags:
        assert tag not in ("script", "link", "img", "iframe")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:text/csv;charset=utf-8,"))
        assert tag != "th" or attributes["scope"] in ("row", "col")
        assert tag != "svg" or (attributes["role"] == "img" and attributes["aria-label"])
    html = make([project], tmp_path)
    assert "http" not in html
    assert "@import" not in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", html)) <= set(ids)


def test_the_same_artifacts_give_the_same_bytes(project, tmp_path):
    assert make([project], tmp_path / "a") == make([project], tmp_path / "b")


def test_text_from_files_is_escaped(tmp_path):
    write_run(tmp_path / "<i>run", ("<b>&",))
    html = make([tmp_path], tmp_path)
    assert "<b>&" not in html
    assert "<i>run" not in html
    assert "hard loss of &lt;b&gt;&amp;" in html


def test_cells_of_tables_are_escaped():
    html = page.table([["<a>", "<b>"], ["<c>", "<d>"]], caption="<e>")
    assert set(re.findall(r"&lt;(.)&gt;", html)) == set("abcde")
    assert not re.search("<[a-e]>", html)


def test_a_run_that_has_only_begun_is_shown_without_curves(tmp_path):
    write_run(tmp_path / "run", ("student",), lines=[])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # torn: still being written
    html = make([tmp_path], tmp_path)
    assert "What ran" in html
    assert "Training curves" not in html


def test_a_loss_that_is_no_number_is_left_out_of_the_curve(tmp_path):
    lines = [metric_line("train", step, ("student",), ()) for step in (10, 20, 30)]
    lines[-1]["members"]["student"]["hard"] = float("nan")
    write_run(tmp_path / "run", ("student",), lines=lines)
    assert "nan" not in re.findall(r'class="thin" d="([^"]+)"', make([tmp_path], tmp_path))[0]


def test_checkpoints_are_not_searched_and_overlaps_count_once(project):
    write_run(project / "ctcd" / "checkpoints" / "old", ("student",))
    assert list(collect([project, project / "ctcd"]).runs) == ["alone", "ctcd"]


def test_what_cannot_be_reported_is_named(project, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty: nothing to report"):
        collect([project, empty])
    with pytest.raises(UserError, match="no such directory"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="not a directory"):
        collect([project / "latency.json"])
    with pytest.raises(UserError, match=r"^--out \.: a directory; give a file, such as report\.html"):
        report([project], Path())


# For everyone.


def test_headings_are_in_order_and_links_lead_to_every_section(project, models, tmp_path):
    html = make([project, models[1]], tmp_path)
    levels = [int(tag[1]) for tag, _ in Page(html).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    contents = html.split("<nav")[1].split("</nav>")[0]
    assert re.findall('href="#([^"]+)"', contents) == re.findall('<section id="([^"]+)"', html)
    assert re.findall(">([^<]+)</a>", contents) == re.findall("<h2>([^<]+)</h2>", html)


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(project, tmp_path):
    tags = Page(make([project], tmp_path)).tags
    scrolling = [given for tag, given in tags if given.get("class") == "scroll" or tag == "pre"]
    assert len(scrolling) == sum(tag in ("table", "pre") for tag, _ in tags)
    for attributes in scrolling:
        assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
        assert attributes["aria-label"]


def luminance(colour):
    """Of #rrggbb, after WCAG 2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [0, 1], ids=["light", "dark"])
def test_text_of_every_colour_can_be_read(palette):
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#777777") == pytest.approx(0.1845, abs=1e-4)  # 4.48 on white, the usual example
    rules = re.findall(r":root \{([^}]*)\}", STYLE)
    assert len(rules) == 2
    colours = dict(re.findall(r"--(\w+): (#\w{6})", rules[palette]))
    for name in ("ink", "quiet", *(f"c{index}" for index in range(8))):
        for ground in ("paper", "wash"):
            low, high = sorted(luminance(colours[key]) for key in (name, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
