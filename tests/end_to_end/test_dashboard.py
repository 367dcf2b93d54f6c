"""Exported studies in optuna-dashboard, in a real browser without a window.

Needs Chromium or Chrome: MANYPATHS_CHROMIUM names it, else chromium, chromium-browser or google-chrome on PATH is
taken; without any these tests are skipped.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.analysis.stored import finished, plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWEEP = {
    "name": "shown",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1"],
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "n_critic": {"cross": [1, 5]}}},
    "design": {"points": 8},
    "execution": {"pack": 16, "device": "cpu"},
}
STUDIES = ["shown/manifold-d2/ns", "shown/manifold-d2/ns+gp1"]
WAIT = 60_000
"""Milliseconds."""

expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def page_of():
    """A function opening an address; at the end nothing may have gone wrong, nor have asked beyond this machine."""
    named = os.environ.get("MANYPATHS_CHROMIUM")
    path = named or next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH and MANYPATHS_CHROMIUM names none")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])

        def go(address):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(WAIT)
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda asked: complaints.append(asked.url) if _outside(asked.url) else None)
            page.goto(address)
            return page

        yield go
        browser.close()
    assert complaints == []


def _outside(address):
    parts = urlsplit(address)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which a third failed, and one trial was stopped."""
    folder = tmp_path_factory.mktemp("dashboard")
    _, rows = plan(folder / "drawn", **SWEEP)
    rng = np.random.default_rng(0)
    given = {name: [float(value) for value in rng.lognormal(-2, 1, len(found))] for name, found in rows.items()}
    for name in given:
        given[name][1::3] = ["diverged"] * len(given[name][1::3])
    given["ns"][0] = "stopped"
    return finished(folder / "run", given, **SWEEP)


@pytest.fixture(scope="module", params=["sqlite:///{}/x.db", "{}/x.log"], ids=["sqlite", "journal"])
def address(request, run, tmp_path_factory):
    """Where the dashboard of the exported studies is, on loopback."""
    storage = request.param.format(tmp_path_factory.mktemp("storage"))
    command = [sys.executable, "-m", "manypaths", "export", "optuna", run.root, storage]
    printed = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
    assert printed.stdout.splitlines() == STUDIES
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [program, storage, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref", "--quiet"]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/dashboard/", process)
            yield f"http://127.0.0.1:{port}/dashboard"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait(address, process):
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return
        time.sleep(0.2)
    pytest.fail(f"optuna-dashboard does not answer at {address} (exit code {process.poll()})")


def listed(page, name):
    """A study in the list; the dashboard writes its number before its name."""
    return page.locator(f'h5:text-matches("^[0-9]+[.] {name.replace("+", "[+]")}$")')


def test_the_studies_are_listed_and_open_with_trials_and_plots(page_of, address):
    page = page_of(address)
    for name in STUDIES:
        expect(listed(page, name)).to_be_visible()
    listed(page, STUDIES[0]).click()
    expect(page.get_by_role("heading", name="Hyperparameter Importance")).to_be_visible()
    points = page.locator(".js-plotly-plot").first.locator(".scatterlayer .point")
    expect(points).to_have_count(11)  # of 16 trials 5 failed, which have no value
    page.goto(f"{page.url.partition('/studies/')[0]}/studies/{number(page)}/trials")
    expect(page.get_by_text("16 Trials").first).to_be_visible()
    expect(page.get_by_text("lr 0.0", exact=False).first).to_be_visible()
    shown = page.locator("body").inner_text()
    states = re.findall(r"^Trial \d+\n(?:Best Trial\n)?(\w+)$", shown, flags=re.MULTILINE)
    assert (states.count("Complete"), states.count("Fail"), states.count("Pruned")) == (10, 5, 1)
    assert "status stopped" in shown
    page.close()


def number(page):
    """The dashboard's number of the study that is open."""
    return re.search(r"/studies/(\d+)", page.url).group(1)
