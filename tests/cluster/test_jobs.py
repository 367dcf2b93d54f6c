"""Jobs against a small job server of this process: what is asked, what is said when the answer is a bad one."""

import contextlib
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from cluster import jobs
from cluster.jobs import Cluster, checked_address, job_name
from cluster.shipping import Shipment
from study.errors import UserError

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

SHIPMENT = Shipment("small", "0123456789abcdef", "shipped/small.toml", {"shipped/small.toml": b"name = 'small'"})
NAME = job_name(SHIPMENT, "/out")


class Server(http.server.ThreadingHTTPServer):
    """Answers as Ray 2.60's job server does; `asked` remembers requests, `token` is what it wants."""

    def __init__(self, *, token=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.asked, self.jobs, self.logs, self.answers = token, [], {}, {}, {}
        self.address = f"http://127.0.0.1:{self.server_port}"

    def add(self, name, status="RUNNING", **content):
        self.jobs[name] = {
            "type": "SUBMISSION",
            "submission_id": name,
            "status": status,
            "entrypoint": "exec python",
            "start_time": 1000 * (len(self.jobs) + 1),
        } | content


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def handle_one(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        self.reply(*self.decide(body))

    do_GET = do_POST = do_PUT = handle_one

    def decide(self, body):
        server, given = self.server, self.headers.get("Authorization")
        if server.token and given != f"Bearer {server.token}":
            return (403, "Forbidden: Invalid authentication token") if given else (401, "Unauthorized: Missing")
        if (self.command, self.path) in server.answers:
            return server.answers[self.command, self.path]
        if self.path == "/api/version":
            return 200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
        if self.path.startswith("/api/packages/"):
            return 200 if self.command == "PUT" else 404, ""
        if (self.command, self.path) == ("GET", "/api/jobs/"):
            return 200, list(server.jobs.values())
        if (self.command, self.path) == ("POST", "/api/jobs/"):
            asked = json.loads(body)
            server.add(asked["submission_id"], "PENDING")
            return 200, {"job_id": asked["submission_id"], "submission_id": asked["submission_id"]}
        name = self.path.split("/")[3]
        if self.path.endswith("/logs"):
            return 200, {"logs": server.logs.get(name, "")}
        server.jobs[name]["status"] = "STOPPED"
        return 200, {"stopped": True}

    def reply(self, status, content):
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)


@pytest.fixture
def serve():
    """A function that starts a server."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            server = stack.enter_context(Server(**options))
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


def submitted(server):
    return [json.loads(body) for method, path, _, body in server.asked if (method, path) == ("POST", "/api/jobs/")]


def test_a_sweep_is_submitted_once(serve):
    server = serve()
    first, new = Cluster(server.address).submit(SHIPMENT, "/out")
    second, newer = Cluster(server.address).submit(SHIPMENT, "/out")
    assert (first.id, new, second.id, newer) == (NAME, True, NAME, False)
    (request,) = submitted(server)
    assert request["entrypoint"] == (
        'exec python -P -m manypaths run shipped/small.toml --out /out --address "$RAY_ADDRESS"'
    )
    assert request["runtime_env"]["working_dir"].startswith("gcs://")
    assert request["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "30"}
    other, new = Cluster(server.address).submit(SHIPMENT, "/elsewhere")
    assert (other.id != NAME, new) == (True, True)


@pytest.mark.parametrize("ended", ["FAILED", "STOPPED"])
def test_after_one_that_ended_badly_the_next_one_is_numbered(serve, ended):
    server = serve()
    server.add(NAME, ended)
    server.add(f"{NAME}-2", ended)
    job, new = Cluster(server.address).submit(SHIPMENT, "/out")
    assert (job.id, new) == (f"{NAME}-3", True)


def test_a_success_is_repeated_only_if_asked(serve):
    server = serve()
    server.add(NAME, "SUCCEEDED")
    cluster = Cluster(server.address)
    assert cluster.submit(SHIPMENT, "/out")[1] is False
    job, new = cluster.submit(SHIPMENT, "/out", again=True)
    assert (job.id, new) == (f"{NAME}-2", True)


def test_who_loses_a_race_attaches_to_the_winner(serve):
    server = serve()
    cluster = Cluster(server.address)
    before = cluster.jobs
    lists = iter([lambda: before()])  # what the loser saw before the winner came
    cluster.jobs = lambda: next(lists, before)()
    server.answers["POST", "/api/jobs/"] = (
        500,
        f"Traceback\nValueError: Job with submission_id {NAME} already exists.",
    )
    original = cluster._send

    def send(*arguments, **options):
        server.add(NAME, "RUNNING")
        original(*arguments, **options)

    cluster._send = send
    job, new = cluster.submit(SHIPMENT, "/out")
    assert (job.id, job.state, new) == (NAME, "running", False)


def test_the_job_of_a_sweep_is_the_one_under_way_or_else_the_last(serve):
    server = serve()
    cluster = Cluster(server.address)
    with pytest.raises(UserError, match="has no job there: there are none yet"):
        cluster.latest(SHIPMENT)
    server.add("small-0123456789ab-aaaaaa", "RUNNING")
    server.add("small-0123456789ab-bbbbbb-2", "FAILED")
    server.add("small-ffffffffffff-bbbbbb", "RUNNING")
    server.add(None, type="DRIVER", job_id="01000000")
    assert cluster.latest(SHIPMENT).id == "small-0123456789ab-aaaaaa"
    server.jobs["small-0123456789ab-aaaaaa"]["status"] = "SUCCEEDED"
    assert cluster.latest(SHIPMENT).id == "small-0123456789ab-bbbbbb-2"
    assert len(cluster.jobs()) == 3


@pytest.mark.parametrize(
    ("status", "given", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", 143, 143),
        ("FAILED", None, 1),
        ("STOPPED", None, 143),
        ("RUNNING", None, None),
        ("PENDING", None, None),
    ],
)
def test_exit_codes(serve, status, given, code):
    server = serve()
    server.add(NAME, status, driver_exit_code=given)
    assert Cluster(server.address).job(NAME).code == code


def test_words_of_failures(serve):
    server = serve()
    tail = "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nerror: no"
    server.add("a", "FAILED", driver_exit_code=2, message=tail)
    server.add("b", "FAILED", message='Traceback (most recent call last):\n  File "x.py"\nOSError: no disk\n\n')
    cluster = Cluster(server.address)
    assert (cluster.job("a").words, cluster.job("a").last_lines) == ("job a failed with exit code 2", ["error: no"])
    assert cluster.job("b").words == "job b failed before or outside its own program: OSError: no disk"
    assert cluster.job("b").last_lines == []


def test_a_log_is_followed_to_its_end_once(serve):
    server = serve()
    server.add(NAME)
    server.logs[NAME] = "one\n"
    written = []

    def write(text):
        written.append(text)
        if len(written) == 2:
            server.logs[NAME] += "twö\n"
        if len(written) == 4:
            server.logs[NAME] += "three"
            server.jobs[NAME] |= {"status": "FAILED", "driver_exit_code": 5}

    job = Cluster(server.address).follow(NAME, write)
    assert ("".join(written), job.code) == ("one\ntwö\nthree", 5)


def test_a_cluster_may_be_silent_for_a_while(serve, monkeypatch):
    server = serve()
    server.add(NAME, "SUCCEEDED")
    server.logs[NAME] = "all\n"
    cluster = Cluster(server.address)
    server.answers["GET", "/api/jobs/"] = (500, "Traceback\nTimeoutError: no agent")
    threading.Timer(0.3, server.answers.clear).start()
    written = []
    assert cluster.follow(NAME, written.append).state == "succeeded"
    assert "".join(written) == "all\n"
    server.answers["GET", "/api/jobs/"] = (500, "Traceback\nTimeoutError: no agent")
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(
        UserError, match=r"lost sight of job .* may well go on: .* could not do it: TimeoutError: no agent"
    ):
        cluster.follow(NAME, written.append)


def test_stop_waits_for_the_end(serve):
    server = serve()
    server.add(NAME)
    assert Cluster(server.address).stop(NAME, say=print).state == "stopped"
    assert ("POST", f"/api/jobs/{NAME}/stop") in [request[:2] for request in server.asked]


def test_the_token_goes_to_the_server_and_nowhere_else(serve, monkeypatch, capfd, caplog):
    server = serve(token="secret-1")
    with pytest.raises(UserError, match=r"asks for a token: set RAY_AUTH_TOKEN"):
        Cluster(server.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-2")
    with pytest.raises(UserError, match="refuses the token from RAY_AUTH_TOKEN") as refused:
        Cluster(server.address)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-1")
    Cluster(server.address).submit(SHIPMENT, "/out")
    assert all(request[2].get("Authorization") == "Bearer secret-1" for request in server.asked[-4:])
    assert not any(b"secret" in body for *_, body in server.asked)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match="RAY_AUTH_MODE=disabled keeps it back"):
        Cluster(server.address)
    assert "secret" not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize(
    "address", ["", "10.0.0.1:6379", "ray://h:10001", "http://", "http://h:99999", "http://h:0", "auto", "http://["]
)
def test_what_is_no_address(address):
    with pytest.raises(UserError, match="must be the address of the cluster's dashboard"):
        checked_address(address)


def test_an_address_with_a_password_is_refused_without_being_shown():
    with pytest.raises(UserError, match=r"holds a password") as refused:
        checked_address("http://me:secret@host:8265")
    assert "secret" not in str(refused.value)


def test_an_address_where_nobody_answers_is_one_sentence_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"cannot reach http://127.0.0.1:\d+: Connection refused"):
        Cluster(f"http://127.0.0.1:{port}")
    monkeypatch.setattr(jobs, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="no answer in time"):
        Cluster(f"http://127.0.0.1:{silent.getsockname()[1]}")
    with pytest.raises(UserError, match=r"cannot reach http://nowhere.invalid:8265: "):
        Cluster("http://nowhere.invalid:8265")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    "answer", [(200, "<html>"), (200, []), (200, {}), (404, ""), (500, "x"), (200, {"ray_version": 3})]
)
def test_what_answers_is_not_ray(serve, answer):
    server = serve()
    server.answers["GET", "/api/version"] = answer
    with pytest.raises(UserError, match="is not a Ray cluster's dashboard"):
        Cluster(server.address)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_with_a_certificate_that_is_trusted_and_one_that_is_not(serve, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    paths = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *paths], check=True, capture_output=True
    )
    server = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = server.address.replace("http:", "https:")
    with pytest.raises(UserError, match=r"certificate of https://.* REQUESTS_CA_BUNDLE"):
        Cluster(address)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert Cluster(address).jobs() == []
