"""The report and `manypaths watch` in a real browser, without a window.

Needs Chromium or Chrome: MANYPATHS_CHROMIUM names it, else chromium, chromium-browser or google-chrome on PATH is
taken; without any these tests are skipped.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from analysis import intervals, profiles, report, watch
from analysis.background import Pictures
from analysis.outcomes import point_means, sample
from analysis.report import write_report
from analysis.runs import load_results
from analysis.words import share
from study.store import RunDirectory
from tests.analysis.stored import end, finished, plan

pytestmark = pytest.mark.timeout(240)  # one of them draws every figure, which takes ten seconds on two quiet cores

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 390, 1280)
SCHEMES = ("light", "dark")
TASK = "manifold-d2"
METHODS = ("ns", "ns+gp1", "wgan+gp1")
SPACE = {
    "lr": {"log_uniform": [1e-3, 1e-1]},
    "beta1": {"uniform": [0.0, 0.95]},
    "n_critic": {"cross": [1, 5]},
}
SWEEP = {
    "methods": [*METHODS],
    "confirmatory": [["ns+gp1", "ns"]],
    "space": {"override": SPACE},
    "design": {"points": 8, "replicates": 4, "seeds": 2},
}
"""32 points crossed with two n_critic and two seeds: 128 trials of each of three methods."""
READABLE = 4.5
"""Least contrast of text, WCAG 2.1 AA."""

CONTRASTS = """
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = read(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest("script, style, option")) continue;
    const style = getComputedStyle(element), svg = element.namespaceURI.endsWith("svg");
    const [a, b] = [light(read(svg ? style.fill : style.color)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
}
"""


def executable():
    named = os.environ.get("MANYPATHS_CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


@pytest.fixture(scope="module")
def browser():
    path = executable()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH and MANYPATHS_CHROMIUM names none")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield found
        found.close()


def endings(rows):
    """Outcomes that get worse with the learning rate, and from method to method; one in five fails."""
    place = METHODS.index(rows[0]["method"])
    rng = np.random.default_rng(place)
    values = [float(0.1 * 2**place * (row["lr_g"] / 0.01) ** 0.8 * np.exp(rng.normal(0, 0.8))) for row in rows]
    return ["diverged" if failed else value for value, failed in zip(values, rng.random(len(rows)) < 0.2, strict=True)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A finished run of three methods."""
    folder = tmp_path_factory.mktemp("browser")
    _, rows = plan(folder / "drawn", **SWEEP)
    return load_results(finished(folder / "run", {name: endings(rows[name]) for name in METHODS}, **SWEEP))


@pytest.fixture(scope="module")
def page_of(results, tmp_path_factory):
    """The address of its report without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FIGURES", {})
        return write_report(results, tmp_path_factory.mktemp("report")).html.as_uri()


@pytest.fixture
def visit(browser):
    """A function opening an address in a window; at the end nothing may have gone wrong or asked the network."""
    contexts, complaints = [], []

    def hear(message):
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def go(address, *, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:100]}"))
        if address.startswith("file:"):
            page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(address)
        return page

    go.complaints = complaints
    yield go
    for context in contexts:
        context.close()
    assert complaints == []


def field(page, axis):
    return page.locator(f'fieldset[data-axis="{axis}"]')


def ends(page, axis):
    """Both boxes that take the ends of a range."""
    return field(page, axis).locator('input[type="text"]')


def narrow(page, axis, low, high):
    for box, value in zip(ends(page, axis).all(), (low, high), strict=True):
        box.fill(f"{value:g}")
        box.press("Enter")


def table(page):
    """The explorer's table, method to its cells."""
    rows = page.locator(".explorer tbody tr").all()
    return {row.get_attribute("data-method"): row.locator("td").all_inner_texts()[1:] for row in rows}


def expected(outcomes, facts):
    """What pandas and the package's own statistics say of some trials, as the table has it."""
    found = {}
    for method, rows in outcomes.groupby("method"):
        trials = sample(rows)
        success = intervals.wilson_mean(point_means(trials.values <= facts.threshold, trials))
        area = profiles.log_auc(trials, low=facts.anchor_low, high=facts.anchor_high).value
        shown = f"{share(success.value)} [{share(success.low)}, {share(success.high)}]"
        failed = int((rows["status"] == "diverged").sum())
        found[method] = [shown, share(area), str(len(rows)), str(success.n), str(failed)]
    return found


# What it shows


def test_methods_are_switched_off_and_on(visit, page_of):
    page = visit(page_of)
    button = page.locator('.chips button[data-method="ns"]')
    curves = page.locator(".explorer path.curve")
    expect(curves).to_have_count(3)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(curves).to_have_count(2)
    expect(page.locator('path.curve[data-method="ns"]')).to_have_count(0)
    assert set(table(page)) == {"ns+gp1", "wgan+gp1"}
    expect(page.get_by_text("256 of 384 trials are shown.")).to_be_visible()
    button.press("Enter")
    expect(curves).to_have_count(3)
    expect(button).to_have_attribute("aria-pressed", "true")


def test_without_a_filter_the_table_is_that_of_all_trials(visit, page_of, results):
    assert table(visit(page_of)) == expected(results.outcomes(TASK), results.facts(TASK))


def test_of_a_search_the_table_has_no_interval(visit, results, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FIGURES", {})
    searched = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    page = visit(write_report(searched, tmp_path).html.as_uri())
    told = expected(results.outcomes(TASK), results.facts(TASK))
    bare = {name: [f"{cells[0].partition(' ')[0]} [no interval]", *cells[1:]] for name, cells in told.items()}
    assert table(page) == bare


def test_a_filter_shows_what_pandas_says_of_the_same_trials(visit, page_of, results):
    page = visit(page_of)
    narrow(page, "lr_g", 0.003, 0.03)
    narrow(page, "beta1", 0.1, 0.7)
    field(page, "n_critic").get_by_label("5").uncheck()
    outcomes = results.outcomes(TASK)
    inside = outcomes["lr_g"].between(0.003, 0.03) & outcomes["beta1"].between(0.1, 0.7) & (outcomes["n_critic"] == 1)
    assert 0 < inside.sum() < len(outcomes) / 4
    assert table(page) == expected(outcomes[inside], results.facts(TASK))
    expect(page.get_by_text(f"{inside.sum()} of 384 trials are shown.")).to_be_visible()


def test_the_curve_is_the_profile_of_the_filtered_trials(visit, page_of, results):
    page = visit(page_of)
    narrow(page, "lr_g", 0.003, 0.03)
    outcomes = results.outcomes(TASK)
    rows = outcomes[outcomes["lr_g"].between(0.003, 0.03) & (outcomes["method"] == "ns")]
    # the curve is read off at the threshold, where a dashed line crosses it
    rule = float(page.locator(".explorer .rule").first.get_attribute("x1"))
    page.locator(".explorer .stage").first.hover(position={"x": rule, "y": 100})
    text = page.locator(".readout").first.inner_text()
    tau, height = re.search(r"At or below \S+ ([\d.]+): ns (\S+),", text).groups()
    assert float(tau) == pytest.approx(results.facts(TASK).threshold, rel=0.02)
    assert height == share(float(profiles.fraction_at(sample(rows), float(tau))))


def test_a_filter_that_nothing_passes_says_so(visit, page_of):
    page = visit(page_of)
    for level in ("1", "5"):
        field(page, "n_critic").get_by_label(level).uncheck()
    expect(page.get_by_text("0 of 384 trials are shown.")).to_be_visible()
    assert table(page)["ns"] == ["n/a", "n/a", "0", "0", "0"]
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_text("384 of 384 trials are shown.")).to_be_visible()
    expect(field(page, "n_critic").get_by_label("5")).to_be_checked()


def test_sliders_obey_the_keyboard(visit, page_of):
    page = visit(page_of)
    slider = page.get_by_role("slider", name="lr from")
    slider.focus()
    slider.press("PageUp")  # a tenth of two decades from 0.001
    expect(ends(page, "lr_g").first).to_have_value("0.001585")
    assert float(table(page)["ns"][2]) < 128
    slider.press("Home")
    expect(page.get_by_text("384 of 384 trials are shown.")).to_be_visible()


def test_what_is_no_number_is_marked_and_changes_nothing(visit, page_of):
    page = visit(page_of)
    box = ends(page, "beta1").first
    box.fill("half")
    box.press("Enter")
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("384 of 384 trials are shown.")).to_be_visible()


def shown_trial(page, results):
    """The trial that the note is about, and the note's text."""
    text = page.locator(".tip").inner_text()
    rows = results.outcomes(TASK)
    (name,) = [name for name in rows["trial_id"] if name in text]
    return rows.set_index("trial_id").loc[name], text


def places(page, count):
    """Where the first trials from the left stand in the picture, with their ids, by the keyboard."""
    canvas, found = page.locator(".explorer canvas"), []
    canvas.focus()
    for _ in range(count):
        canvas.press("ArrowRight")
        ring = page.locator(".ring")
        place = [float(ring.get_attribute(name)) for name in ("cx", "cy")]
        found.append((np.array(place), page.locator(".tip dd").last.inner_text()))
    canvas.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()
    return found


def test_a_trial_under_the_pointer_shows_its_configuration(visit, page_of, results):
    page = visit(page_of)
    found = places(page, 40)
    alone = max(found[:-10], key=lambda one: sorted(float(np.abs(one[0] - other[0]).max()) for other in found)[1])
    page.locator(".explorer canvas").hover(position=dict(zip("xy", alone[0], strict=True)))
    expect(page.locator(".tip")).to_be_visible()
    row, text = shown_trial(page, results)
    assert row.name == alone[1]
    assert text.startswith(row["method"])
    for word, value in (("lr", row["lr_g"]), ("beta1", row["beta1"]), ("n_critic", row["n_critic"])):
        assert re.search(rf"{word}\s+{float(f'{value:.4g}'):g}", text)
    page.mouse.move(5, 5)
    expect(page.locator(".tip")).to_be_hidden()


def test_a_click_keeps_the_configuration(visit, page_of, results):
    page = visit(page_of, has_touch=True)
    canvas = page.locator(".explorer canvas")
    canvas.focus()
    canvas.press("End")
    place = {axis: float(page.locator(".ring").get_attribute(f"c{axis}")) for axis in "xy"}
    canvas.click(position=place)
    page.mouse.move(5, 5)
    expect(page.locator(".tip.kept")).to_be_visible()
    canvas.focus()
    canvas.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()


def test_trials_are_shown_along_the_chosen_hyperparameter(visit, page_of):
    page = visit(page_of)
    page.locator(".explorer select").select_option(label="n_critic")
    labels = page.locator(".stage:has(canvas) svg text").all_text_contents()
    assert {"1", "5", "n_critic"} <= set(labels)


def test_choices_outlive_a_reload(visit, page_of):
    page = visit(page_of)
    narrow(page, "lr_g", 0.003, 0.03)
    page.locator('.chips button[data-method="ns"]').click()
    before = table(page)
    page.reload()
    assert table(page) == before
    expect(ends(page, "lr_g").first).to_have_value("0.003")


# How it looks


@pytest.fixture(scope="module")
def whole(results, tmp_path_factory):
    """The address of its report with every figure that there is."""
    found = write_report(results, tmp_path_factory.mktemp("whole"), processes=2)
    assert found.html.stat().st_size < 5_000_000
    return found.html.as_uri()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_can_be_read(visit, whole, width, scheme):
    page = visit(whole, width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    faint = [(text, ratio) for ratio, text in page.evaluate(CONTRASTS) if ratio < READABLE]
    assert faint == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_picture_is_drawn(visit, whole):
    page = visit(whole)
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    sizes = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.width, image.alt.length])")
    assert len(sizes) > 8
    assert all(natural > 100 and shown > 100 and words > 20 for natural, shown, words in sizes)


def test_on_a_phone_every_picture_fits_and_has_its_full_size(visit, whole):
    page = visit(whole, width=390)
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    boxes = page.evaluate(
        """[...document.querySelectorAll("figure")].map((one) => {
          const shown = one.querySelector("img").getBoundingClientRect(), around = one.querySelector(".picture");
          return [shown.left >= 0, shown.right <= 390, around.scrollWidth <= around.clientWidth];
        })"""
    )
    assert len(boxes) > 8
    assert all(all(box) for box in boxes)
    links = page.locator("figcaption a").evaluate_all("(all) => all.map((one) => one.href)")
    assert len(links) == len(boxes)
    assert all(Path(urlsplit(link).path).is_file() for link in links)


def test_everything_is_reached_by_keyboard_and_has_a_name(visit, page_of):
    page = visit(page_of)
    found = page.locator(".explorer").evaluate(
        """(root) => [...root.querySelectorAll("button, input, select, canvas")].map((one) =>
            [one.tabIndex, Boolean(one.ariaLabel || one.labels?.length || one.textContent.trim())])"""
    )
    assert len(found) > 12
    assert all(order >= 0 and named for order, named in found)


def test_paper_gets_the_pictures_and_not_the_controls(visit, whole):
    page = visit(whole)
    page.emulate_media(media="print")
    expect(page.locator(".explorer").first).to_be_hidden()
    expect(page.locator(".picture img").first).to_be_visible()


def test_without_javascript_the_page_still_reads(visit, whole):
    page = visit(whole, java_script_enabled=False)
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator(".picture img").first).to_be_visible()


def test_names_do_not_run(visit, results, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FIGURES", {})
    evil = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
    changed = {"method": results.plan["method"].replace("ns", evil), "optimiser": evil + results.plan["method"]}
    named = dataclasses.replace(results, name=evil, plan=results.plan.assign(**changed), confirmatory=(), notice=evil)
    page = visit(write_report(named, tmp_path).html.as_uri())
    expect(page.locator(".chips button").first).to_have_text(evil)
    page.locator(".explorer canvas").focus()
    page.locator(".explorer canvas").press("ArrowRight")
    expect(page.locator(".tip")).to_be_visible()
    assert page.evaluate("window.hurt") is None
    assert page.title() == f"{evil}: robustness report"


# While it runs


@pytest.fixture
def sweep(tmp_path):
    """A run of which one method of three has ended, and the rows of all."""
    directory, rows = plan(tmp_path / "run", **SWEEP)
    end(directory, rows["ns"], endings(rows["ns"]))
    return directory, rows


class Few:
    """Draws one figure here, since all of them take another process ten seconds and more."""

    def __init__(self, root):
        self.root = root

    def result(self, *, wait=False):
        results = load_results(RunDirectory(self.root))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "FIGURES", {"success": report.FIGURES["success"]})
            return Pictures(tuple(report.drawings(results)), len(results.trials), len(results.plan), 0.0)

    def stop(self):
        """Nothing is left to end."""


@pytest.fixture
def gate():
    """Nothing is drawn before it is open."""
    return threading.Event()


@pytest.fixture
def address(sweep, monkeypatch, gate):
    """Where it is served, by a server that is asked ten times a second."""
    monkeypatch.setattr(watch, "POLL", 0.1)
    monkeypatch.setattr(watch, "SPARING", 0.0)

    class Gated(Few):
        def result(self, *, wait=False):
            return super().result(wait=wait) if gate.is_set() else None

    with watch.server(watch.Watched(sweep[0], begin=Gated)) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield watch.address(found)
        found.shutdown()
        thread.join(10)


def test_a_watched_run_shows_what_is_new_and_keeps_the_choices(visit, address, sweep):
    page = visit(address)
    expect(page.get_by_text("interim: 128 of 384 trials")).to_be_visible()
    narrow(page, "lr_g", 0.003, 0.03)
    page.locator('.chips button[data-method="wgan+gp1"]').click()
    slider = page.get_by_role("slider", name="beta1 from")
    slider.focus()
    page.evaluate("window.same = true")
    before = table(page)
    assert before["ns+gp1"][0] == "n/a"
    directory, rows = sweep
    end(directory, rows["ns+gp1"], endings(rows["ns+gp1"]))
    expect(page.get_by_text("interim: 256 of 384 trials")).to_be_visible()
    after = table(page)
    assert after["ns"] == before["ns"]
    results = load_results(directory)
    outcomes = results.outcomes(TASK)
    inside = outcomes[outcomes["lr_g"].between(0.003, 0.03) & (outcomes["method"] == "ns+gp1")]
    assert {"ns+gp1": after["ns+gp1"]} == expected(inside, results.facts(TASK))
    assert set(after) == {"ns", "ns+gp1"}
    assert page.evaluate("window.same")  # it was not loaded again
    expect(slider).to_be_focused()


def test_a_watched_run_that_ends_loses_its_banner(visit, address, sweep, gate):
    page = visit(address)
    directory, rows = sweep
    for name in ("ns+gp1", "wgan+gp1"):
        end(directory, rows[name], endings(rows[name]))
    gate.set()
    expect(page.locator("figure").first).to_be_attached(timeout=60_000)
    expect(page.locator("p.drawn")).to_have_count(0, timeout=60_000)
    expect(page.locator("#live")).to_contain_text("384 of 384 trials done")
    expect(page.get_by_text("interim: ")).to_have_count(0)
    expect(page.locator(".verdict").first).not_to_have_class(re.compile("open"))


def test_a_watched_run_shows_pictures_and_then_newer_ones(visit, address, sweep, gate):
    page = visit(address)
    page.evaluate("window.same = true")
    expect(page.get_by_text("The pictures are being drawn.").first).to_be_visible()
    slider = page.get_by_role("slider", name="beta1 from")
    slider.focus()
    gate.set()
    expect(page.get_by_text("Pictures of 128 of 384 trials.").first).to_be_visible()
    picture = page.locator("#pictures-profiles img").first
    before = picture.get_attribute("src")
    gate.clear()
    directory, rows = sweep
    end(directory, rows["ns+gp1"], endings(rows["ns+gp1"]))
    expect(page.get_by_text("interim: 256 of 384 trials")).to_be_visible()
    expect(page.get_by_text("Pictures of 128 of 384 trials.").first).to_be_visible()  # the last ones stay until then
    gate.set()
    expect(page.get_by_text("Pictures of 256 of 384 trials.").first).to_be_visible()
    assert picture.get_attribute("src") != before
    assert page.evaluate("window.same")  # it was not loaded again
    expect(slider).to_be_focused()
    link = page.locator("#pictures-profiles figcaption a").first.get_attribute("href")
    assert page.request.get(address + link).headers["content-type"] == "image/svg+xml"


def test_the_command_serves_the_page_and_its_end_is_told(visit, sweep):
    command = [sys.executable, "-m", "manypaths", "watch", sweep[0].root]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        page = visit(process.stdout.readline().strip())
        expect(page.get_by_text("interim: 128 of 384 trials")).to_be_visible()
        process.terminate()
    expect(page.locator("#live")).to_contain_text("manypaths watch has ended", timeout=15_000)
    visit.complaints.clear()  # the browser's own, of a server that is gone
