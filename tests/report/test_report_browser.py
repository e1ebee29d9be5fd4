"""The report in a real browser, headless; needs `chromium` or `google-chrome` on the PATH."""

import csv
import html
import io
import json
import os
import re
import shutil
import subprocess

import pytest

from tests.report.reporting import downloads, latency, make, make_project, measurement

pytestmark = pytest.mark.slow

# The page stands in a frame, for a window cannot be as narrow as a telephone. What is found ends up in the outer page.
FRAME = """<!doctype html><title>check</title><iframe style="width: {width}px; height: 740px; border: 0"
  srcdoc="{page}"></iframe><pre id="found"></pre><script>
addEventListener("load", async () => {{
  const inner = document.querySelector("iframe").contentDocument, found = {{errors: []}};
  addEventListener("error", event => found.errors.push(event.message));
  const shown = () => [...inner.querySelectorAll("a[href], summary, [tabindex='0']")].filter(e => e.checkVisibility());
  found.paper = inner.defaultView.getComputedStyle(inner.body).backgroundColor;
  found.width = inner.scrollingElement.scrollWidth;
  inner.querySelectorAll("details").forEach(element => element.open = true);
  found.widthUnfolded = inner.scrollingElement.scrollWidth;
  found.scrolling = [...inner.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
    && ["auto", "scroll"].includes(inner.defaultView.getComputedStyle(e).overflowX)).map(e => e.tabIndex);
  found.unreached = shown().filter(e => {{ e.focus({{focusVisible: true}});
    const outline = inner.defaultView.getComputedStyle(e).outlineStyle;
    return inner.activeElement !== e || outline === "none"; }}).map(e => e.outerHTML.slice(0, 80));
  found.reached = shown().length;
  found.clipped = [...inner.querySelectorAll("svg")].flatMap(svg => {{ const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {{ const box = text.getBoundingClientRect();
      return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
        || box.bottom > frame.bottom + 1; }}).map(text => text.textContent); }});
  found.files = {{}};
  for (const link of inner.querySelectorAll("a[download]"))
    found.files[link.download] = await (await fetch(link.href)).text();
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium and no google-chrome on the PATH")
    return found


@pytest.fixture
def page(tmp_path):
    project = make_project(tmp_path / "runs")
    lines = [
        measurement("student", p50, threads=threads, runtime=runtime, batch_size=batch)
        for p50, threads, runtime, batch in ((2.0, 1, "eager", 1), (9.0, 1, "compile", 32), (1.0, 4, "eager", 1))
    ]
    (project / "ctcd" / "latency.json").write_text(json.dumps(latency(lines)))
    return make([project], tmp_path)


def look(browser, page, tmp_path, width, *flags):
    """What the script finds in a frame of `width` pixels, and what the console said."""
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    usual = ["--headless", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=10000"]
    if os.geteuid() == 0:
        usual.append("--no-sandbox")
    usual += ["--window-size=1400,900", "--enable-logging=stderr", "--dump-dom", f"file://{tmp_path}/frame.html"]
    done = subprocess.run([browser, *flags, *usual], capture_output=True, text=True, timeout=120, check=True)
    found = re.search('<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), re.findall(r"CONSOLE[^\n]*", done.stderr)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_and_all_of_it_can_be_reached(browser, page, tmp_path, width):
    found, console = look(browser, page, tmp_path, width)
    assert console == found["errors"] == []
    assert found["width"] <= width
    assert found["widthUnfolded"] <= width
    assert found["clipped"] == []
    assert found["unreached"] == []
    assert found["reached"] > 30
    assert set(found["scrolling"]) <= {0}
    assert bool(found["scrolling"]) == (width == 360)  # that something is there to be scrolled


def test_the_browser_reads_the_same_files_as_we_do(browser, page, tmp_path):
    found, _ = look(browser, page, tmp_path, 1280)
    read = {name: list(csv.reader(io.StringIO(text))) for name, text in found["files"].items()}
    assert read == downloads(page)


def test_the_page_is_dark_where_that_is_preferred(browser, page, tmp_path):
    papers = [
        look(browser, page, tmp_path, 1280, f"--blink-settings=preferredColorScheme={scheme}")[0]["paper"]
        for scheme in (1, 0)
    ]
    assert papers == ["rgb(253, 253, 251)", "rgb(22, 24, 27)"]


def test_a_page_that_is_too_wide_is_noticed(browser, page, tmp_path):
    broken = page.replace("<main>", '<main><p style="width: 500px">wide</p><a href="#cost" style="outline: none">x</a>')
    found, console = look(browser, broken.replace("</body>", "<script>nothing()</script></body>"), tmp_path, 360)
    assert found["width"] > 360
    assert len(found["unreached"]) == 1
    assert len(console) == 1
