import dataclasses
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
from analysis.page import Live
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


def test_the_page_is_the_report_of_now(run, clock):
    watched = Watched(run[0], clock=clock)
    page = watched.page().body.decode()
    assert "interim: 3 of 8 trials" in page
    assert 'class="explorer"' in page
    assert "<img" not in page
    assert words(watched) == "3 of 8 trials done, 1 diverged; nobody is running it."


def test_a_new_part_is_shown_after_a_while(run, clock):
    directory, rest = run
    watched = Watched(directory, clock=clock)
    before = watched.page()
    end(directory, rest, [0.1, 0.2, "oom", 0.3])
    assert watched.page() == before  # a moment later: nothing is read
    clock.now += module.POLL
    after = watched.page()
    assert after.version != before.version
    assert "interim: 7 of 8 trials" in after.body.decode()
    assert json.loads(watched.status().body)["version"] == after.version
    assert "7 of 8 trials done" in words(watched)


def test_nothing_is_made_anew_without_news(run, clock, monkeypatch):
    watched = Watched(run[0], clock=clock)
    before = watched.page()
    monkeypatch.setattr(module, "load_results", None)  # would fail
    clock.now += 1000
    assert watched.page() == before


def test_a_page_that_took_long_is_made_seldom(run, clock, monkeypatch):
    directory, rest = run
    made = module.live_page

    def slow(results, live):
        clock.now += 7
        return made(results, live)

    monkeypatch.setattr(module, "live_page", slow)
    watched = Watched(directory, clock=clock)
    before = watched.page()
    end(directory, rest, [0.1, 0.2, "oom", 0.3])
    clock.now += 69
    assert watched.page() == before
    clock.now += 1  # ten times seven seconds
    assert watched.page() != before


def test_speed_and_time_left_are_told_while_it_runs(run, clock):
    directory, rest = run
    with lease(directory):
        watched = Watched(directory, clock=clock)
        assert "trials/s" not in words(watched)
        end(directory, rest, [0.1, 0.2, "oom", None])
        clock.now += 6
        # three more in six seconds: two that are left take four
        assert words(watched) == (
            f"6 of 8 trials done, 1 diverged, 1 oom, 0.5 trials/s, 4 s left; "
            f"being run by process {os.getpid()} on {socket.gethostname()}."
        )


def test_a_finished_run_is_settled(tmp_path, clock):
    watched = Watched(finished(tmp_path / "run", {"ns": [0.1] * 4, "ns+gp1": [3.0] * 4}), clock=clock)
    page = watched.page().body.decode()
    assert "interim" not in page.split('id="reading"')[0].split("<body>")[1]
    assert words(watched) == "8 of 8 trials done; nobody is running it."


def test_a_run_that_goes_away_leaves_its_last_page(run, clock):
    directory, _ = run
    watched = Watched(directory, clock=clock)
    before = watched.page()
    shutil.rmtree(directory.root)
    clock.now += 100
    assert watched.page() == before
    assert words(watched).startswith("This is what was there last: ")


def test_the_run_directory_is_left_alone(run, clock, serving):
    before = contents(run[0])
    ask = serving(Watched(run[0], clock=clock))
    for path in ("/", "/status", "/nothing"):
        ask(path)
    assert contents(run[0]) == before


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        Watched(RunDirectory(tmp_path))


# How it is served


def test_the_page_and_its_status_are_served(run, clock, serving):
    watched = Watched(run[0], clock=clock)
    ask = serving(watched)
    answer, body = ask()
    assert (answer.status, body) == (200, watched.page().body)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Frame-Options"] == "DENY"
    answer, body = ask("/status")
    assert (answer.status, set(json.loads(body))) == (200, {"version", "words"})
    with urllib.request.urlopen(ask.address) as found:
        assert found.status == 200


def test_what_has_not_changed_is_not_sent_again(run, clock, serving):
    ask = serving(Watched(run[0], clock=clock))
    tag = ask()[0].headers["ETag"]
    answer, body = ask(**{"If-None-Match": tag})
    assert (answer.status, body) == (304, b"")
    end(*run, [0.1, 0.2, "oom", 0.3])
    clock.now += 100
    assert ask(**{"If-None-Match": tag})[0].status == 200


def test_the_head_alone_can_be_had(run, clock, serving):
    ask = serving(Watched(run[0], clock=clock))
    answer, body = ask(method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 10_000


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost:1", "", "[::1]", "0.0.0.0"]
)
def test_other_names_for_this_machine_are_refused(run, clock, serving, host):
    ask = serving(Watched(run[0], clock=clock))
    port = ask.address.rstrip("/").rpartition(":")[2]
    answer, body = ask(Host=host.format(port=port))
    assert answer.status == 403
    assert b"interim" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}"])
def test_its_own_names_are_accepted(run, clock, serving, host):
    ask = serving(Watched(run[0], clock=clock))
    port = ask.address.rstrip("/").rpartition(":")[2]
    assert ask(Host=host.format(port=port))[0].status == 200


@pytest.mark.parametrize("path", ["/sweep.toml", "/../sweep.toml", "/status/", "/trials"])
def test_nothing_else_is_served(run, clock, serving, path):
    assert serving(Watched(run[0], clock=clock))(path)[0].status == 404


def test_nothing_is_taken(run, clock, serving):
    assert serving(Watched(run[0], clock=clock))("/", method="POST")[0].status == 501


def test_once_ends_after_the_page(run, clock, serving):
    ask = serving(Watched(run[0], clock=clock), once=True)
    assert ask("/status")[0].status == 200
    assert ask.thread.is_alive()
    assert ask()[0].status == 200
    ask.thread.join(10)
    assert not ask.thread.is_alive()


def test_a_port_that_is_taken_is_one_sentence(run, clock):
    watched = Watched(run[0], clock=clock)
    with server(watched) as first, pytest.raises(UserError, match=rf"--port {first.server_port} cannot be had"):
        server(watched, port=first.server_port).__enter__()


def test_only_this_machine_reaches_it(run, clock):
    with server(Watched(run[0], clock=clock)) as found:
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


def test_an_ended_run_is_shown_with_its_pictures(tmp_path):
    ended = load_results(finished(tmp_path / "run", ENDINGS))
    ended = dataclasses.replace(ended, plan=ended.plan[ended.plan["trial_id"].isin(ended.trials["trial_id"])])
    live = Live("1", "done", 3.0)
    assert "<figure" in module.live_page(ended, live)
    going_on = dataclasses.replace(ended, trials=ended.trials.iloc[:-1])
    assert "<figure" not in module.live_page(going_on, live)
