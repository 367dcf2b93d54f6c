import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from analysis import watch as module
from analysis.background import Pictures
from analysis.page import Drawing
from analysis.runs import load_results
from analysis.watch import Watched, address, server
from study.errors import UserError
from study.lease import lease
from study.store import RunDirectory
from tests.analysis.stored import ENDINGS, end, finished, plan

ROOT = Path(__file__).parents[2]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Easel:
    """Draws pictures when a test says so; `root` is what was asked for last."""

    def __init__(self):
        self.begun, self.stopped, self.ready, self.root = 0, 0, None, None

    def __call__(self, root):
        self.begun, self.root, self.ready = self.begun + 1, root, None
        return self

    def result(self, *, wait=False):
        if wait and self.ready is None:
            self.draw()
        return self.ready

    def draw(self, seconds=1.0):
        """Finish the pictures of the run as it is."""
        results = load_results(RunDirectory(self.root))
        svg = f"<svg>{len(results.trials)}</svg>".encode()
        drawn = (Drawing("success", "profiles", "A caption.", svg, PNG, 150),)
        self.ready = Pictures(drawn, len(results.trials), len(results.plan), seconds)

    def stop(self):
        self.stopped += 1


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (300).to_bytes(4) + (200).to_bytes(4)


@pytest.fixture
def easel():
    return Easel()


@pytest.fixture
def run(tmp_path):
    """A run of which half has ended, and the rows of the rest."""
    directory, rows = plan(tmp_path / "run")
    end(directory, rows["ns"], ENDINGS["ns"])
    return directory, rows["ns+gp1"]


@pytest.fixture
def serving():
    """A function starting a server in the background; gives a function that asks it."""
    stops = []

    def start(watched, **options):
        manager = server(watched, **options)
        found = manager.__enter__()
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        stops.append((manager, found, thread))

        def ask(path="/", method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", found.server_port, timeout=10)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            return answer, body

        ask.thread, ask.address = thread, address(found)
        return ask

    yield start
    for manager, found, thread in stops:
        found.shutdown()
        thread.join(10)
        manager.__exit__(None, None, None)


def words(watched):
    return json.loads(watched.status().body)["words"]


def contents(directory):
    return {path: path.read_bytes() for path in Path(directory.root).rglob("*") if path.is_file()}


# What is shown


def test_the_page_is_the_report_of_now(run, clock, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    page = watched.page().body.decode()
    assert "interim: 3 of 8 trials" in page
    assert 'class="explorer"' in page
    assert "<img" not in page
    assert words(watched) == "3 of 8 trials done, 1 diverged; nobody is running it."


def test_a_new_part_is_shown_after_a_while(run, clock, easel):
    directory, rest = run
    watched = Watched(directory, clock=clock, begin=easel)
    before = watched.page()
    end(directory, rest, [0.1, 0.2, "oom", 0.3])
    assert watched.page() == before  # a moment later: nothing is read
    clock.now += module.POLL
    after = watched.page()
    assert after.version != before.version
    assert "interim: 7 of 8 trials" in after.body.decode()
    assert json.loads(watched.status().body)["version"] == after.version
    assert "7 of 8 trials done" in words(watched)


def test_nothing_is_made_anew_without_news(run, clock, monkeypatch, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    before = watched.page()
    clock.now += module.POLL
    watched.page()
    easel.draw()
    clock.now += 1000
    before = watched.page()
    monkeypatch.setattr(module, "load_results", None)  # would fail
    clock.now += 1000
    assert watched.page() == before
    assert easel.begun == 1


def test_a_page_that_took_long_is_made_seldom(run, clock, monkeypatch, easel):
    directory, rest = run
    said = module.sentences

    def slow(results):
        clock.now += 7
        return said(results)

    monkeypatch.setattr(module, "sentences", slow)
    watched = Watched(directory, clock=clock, begin=easel)
    before = watched.page()
    end(directory, rest, [0.1, 0.2, "oom", 0.3])
    clock.now += 139
    assert watched.page() == before
    assert "7 of 8 trials done" in words(watched)  # what is cheap is not kept waiting
    clock.now += 1  # twenty times seven seconds
    assert watched.page() == before  # asked a moment ago
    clock.now += 2
    assert watched.page() != before


def test_speed_and_time_left_are_told_while_it_runs(run, clock, easel):
    directory, rest = run
    with lease(directory):
        watched = Watched(directory, clock=clock, begin=easel)
        assert "trials/s" not in words(watched)
        end(directory, rest, [0.1, 0.2, "oom", None])
        clock.now += 6
        # three more in six seconds: two that are left take four
        assert words(watched) == (
            f"6 of 8 trials done, 1 diverged, 1 oom, 0.5 trials/s, 4 s left; "
            f"being run by process {os.getpid()} on {socket.gethostname()}."
        )


def test_a_finished_run_is_settled(tmp_path, clock, easel):
    directory = finished(tmp_path / "run", {"ns": [0.1] * 4, "ns+gp1": [3.0] * 4})
    watched = Watched(directory, clock=clock, begin=easel)
    page = watched.page().body.decode()
    assert "interim" not in page.split('id="reading"')[0].split("<body>")[1]
    assert words(watched) == "8 of 8 trials done; nobody is running it."


def test_a_run_that_goes_away_leaves_its_last_page(run, clock, easel):
    directory, _ = run
    watched = Watched(directory, clock=clock, begin=easel)
    before = watched.page()
    shutil.rmtree(directory.root)
    clock.now += 100
    assert watched.page() == before
    assert words(watched).startswith("This is what was there last: ")


def test_the_run_directory_is_left_alone(run, clock, serving, easel):
    before = contents(run[0])
    ask = serving(Watched(run[0], clock=clock, begin=easel))
    for path in ("/", "/status", "/nothing"):
        ask(path)
    assert contents(run[0]) == before


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        Watched(RunDirectory(tmp_path))


# Its pictures


def test_the_page_does_not_wait_for_pictures_and_says_of_how_many_trials_they_are(run, clock, easel):
    directory, _ = run
    watched = Watched(directory, clock=clock, begin=easel)
    assert easel.begun == 0  # nobody has looked
    clock.now += module.POLL
    first = watched.page()
    assert easel.begun == 1
    assert "The pictures are being drawn." in first.body.decode()
    assert "<img" not in first.body.decode()
    easel.draw()
    clock.now += module.POLL
    second = watched.page()
    assert second.version != first.version
    assert "Pictures of 3 of 8 trials." in second.body.decode()
    assert "<img" in second.body.decode()
    assert watched.figure("success").body == b"<svg>3</svg>"
    assert watched.figure("nothing") is None


def test_pictures_are_drawn_anew_after_twenty_times_what_they_took(run, clock, easel):
    directory, rest = run
    watched = Watched(directory, clock=clock, begin=easel)
    clock.now += module.POLL
    watched.status()
    easel.draw(seconds=15.0)
    clock.now += module.POLL
    watched.status()
    taken = clock.now
    end(directory, rest, [0.1, 0.2, "oom", None])
    clock.now = taken + 299
    page = watched.page().body.decode()
    assert easel.begun == 1
    assert "interim: 6 of 8 trials" in page
    assert "Pictures of 3 of 8 trials." in page
    clock.now = taken + 303  # twenty times fifteen seconds, and asked more than a moment ago
    watched.status()
    assert easel.begun == 2
    easel.draw()
    clock.now += module.POLL
    assert "Pictures of 6 of 8 trials." in watched.page().body.decode()


def test_a_run_that_ends_is_drawn_at_once_and_then_no_more(run, clock, easel):
    directory, rest = run
    watched = Watched(directory, clock=clock, begin=easel)
    clock.now += module.POLL
    watched.status()
    easel.draw(seconds=1e6)
    clock.now += module.POLL
    watched.status()
    end(directory, rest, [0.1, 0.2, "oom", 0.3])
    end(directory, plan_of(directory, "ns"), [0.1, 3.0, "diverged", 0.2])
    clock.now += module.POLL
    watched = Watched(directory, clock=clock, begin=easel)
    for _ in range(4):
        clock.now += module.POLL
        watched.status()
        easel.draw()
    assert easel.begun == 2
    page = watched.page().body.decode()
    assert "Pictures of" not in page
    assert "<img" in page


def plan_of(directory, method):
    return [row for row in directory.read_table("plan").to_pylist() if row["method"] == method]


def test_pictures_that_could_not_be_drawn_are_said_and_the_last_ones_stay(run, clock, easel):
    directory, rest = run
    watched = Watched(directory, clock=clock, begin=easel)
    clock.now += module.POLL
    watched.status()
    easel.draw()
    clock.now += module.POLL
    watched.status()
    end(directory, rest, [0.1, 0.2, "oom", None])
    clock.now += 100
    watched.status()
    easel.ready = "no more memory."
    clock.now += module.POLL
    page = watched.page().body.decode()
    assert "The pictures could not be drawn: no more memory." in page
    assert "<img" in page
    clock.now += 1e6
    watched.status()
    assert easel.begun == 2  # the same would come of it


def test_a_whole_page_waits_for_its_pictures(run, clock, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    assert "Pictures of 3 of 8 trials." in watched.whole().body.decode()
    assert easel.stopped == 1


def test_drawing_ends_with_the_server(run, clock, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    clock.now += module.POLL
    with server(watched):
        watched.status()
        assert (easel.begun, easel.stopped) == (1, 0)
    assert easel.stopped == 1


def test_a_large_run_that_goes_on_gets_only_the_cheap_sentences(run, monkeypatch):
    results = load_results(run[0])
    assert any(module.sentences(results).breaks.values())
    monkeypatch.setattr(module, "AFFORDABLE", 7)
    assert not any(module.sentences(results).breaks.values())


# How it is served


def test_the_page_and_its_status_are_served(run, clock, serving, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    ask = serving(watched)
    answer, body = ask()
    assert (answer.status, body) == (200, watched.page().body)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Frame-Options"] == "DENY"
    answer, body = ask("/status")
    assert (answer.status, set(json.loads(body))) == (200, {"version", "words"})
    with urllib.request.urlopen(ask.address) as found:
        assert found.status == 200


def test_a_picture_is_served_at_its_full_size(run, clock, serving, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    ask = serving(watched)
    assert ask("/figures/success.svg")[0].status == 404
    watched.whole()
    answer, body = ask("/figures/success.svg")
    assert (answer.status, answer.headers["Content-Type"], body) == (200, "image/svg+xml", b"<svg>3</svg>")


def test_what_has_not_changed_is_not_sent_again(run, clock, serving, easel):
    ask = serving(Watched(run[0], clock=clock, begin=easel))
    tag = ask()[0].headers["ETag"]
    answer, body = ask(**{"If-None-Match": tag})
    assert (answer.status, body) == (304, b"")
    end(*run, [0.1, 0.2, "oom", 0.3])
    clock.now += 100
    assert ask(**{"If-None-Match": tag})[0].status == 200


def test_the_head_alone_can_be_had(run, clock, serving, easel):
    ask = serving(Watched(run[0], clock=clock, begin=easel))
    answer, body = ask(method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 10_000


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost:1", "", "[::1]", "0.0.0.0"]
)
def test_other_names_for_this_machine_are_refused(run, clock, serving, host, easel):
    ask = serving(Watched(run[0], clock=clock, begin=easel))
    port = ask.address.rstrip("/").rpartition(":")[2]
    answer, body = ask(Host=host.format(port=port))
    assert answer.status == 403
    assert b"interim" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}"])
def test_its_own_names_are_accepted(run, clock, serving, host, easel):
    ask = serving(Watched(run[0], clock=clock, begin=easel))
    port = ask.address.rstrip("/").rpartition(":")[2]
    assert ask(Host=host.format(port=port))[0].status == 200


@pytest.mark.parametrize(
    "path", ["/sweep.toml", "/../sweep.toml", "/status/", "/trials", "/figures/", "/figures/../sweep.toml"]
)
def test_nothing_else_is_served(run, clock, serving, path, easel):
    assert serving(Watched(run[0], clock=clock, begin=easel))(path)[0].status == 404


def test_nothing_is_taken(run, clock, serving, easel):
    assert serving(Watched(run[0], clock=clock, begin=easel))("/", method="POST")[0].status == 501


def test_once_ends_after_the_page(run, clock, serving, easel):
    ask = serving(Watched(run[0], clock=clock, begin=easel), once=True)
    assert ask("/status")[0].status == 200
    assert ask.thread.is_alive()
    assert ask()[0].status == 200
    ask.thread.join(10)
    assert not ask.thread.is_alive()


def test_a_port_that_is_taken_is_one_sentence(run, clock, easel):
    watched = Watched(run[0], clock=clock, begin=easel)
    with server(watched) as first, pytest.raises(UserError, match=rf"--port {first.server_port} cannot be had"):
        server(watched, port=first.server_port).__enter__()


def test_only_this_machine_reaches_it(run, clock, easel):
    with server(Watched(run[0], clock=clock, begin=easel)) as found:
        assert found.server_address[0] == "127.0.0.1"


# As a command


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_prints_its_address_and_ends_cleanly(run, number, code):
    command = [sys.executable, "-m", "manypaths", "watch", run[0].root]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        place = process.stdout.readline().strip()
        assert place.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{place}status") as answer:
            assert "3 of 8 trials done" in json.load(answer)["words"]
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, "")


def test_the_command_refuses_what_is_no_run(tmp_path):
    command = [sys.executable, "-m", "manypaths", "watch", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
