"""A run in the browser while it goes on: the report's page, served to this machine alone and made anew when asked.

Nothing is computed while nobody looks, no more than a tenth of one core is spent while somebody does, and nothing is
written into the run directory. Pictures take seconds each set, so another process draws them; the page shows the last
ones that there are, and says of how many trials they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from analysis.background import Job, Painter, Parts
from analysis.comparisons import compare_all
from analysis.findings import Findings, find
from analysis.origin import origin
from analysis.page import Live, page
from analysis.results import Results
from analysis.runs import load_results
from analysis.summary import summary
from study.errors import UserError
from study.lease import holder
from study.progress import Tally, words
from study.search import UNASKED
from study.store import RunDirectory

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
"""What a browser on this machine calls the server; who calls it otherwise was sent here by somebody else's page."""

POLL = 3.0
"""Seconds between two questions of a page."""

SPARING = 20.0
"""Neither the page nor its pictures are made anew before so many times the time have passed that they took to make."""

AFFORDABLE = 2_000
"""Up to so many planned trials a run that goes on gets every sentence of the report; of more, only the cheap ones."""

SVG = "image/svg+xml"

HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Answer:
    """What the server says to a question.

    Attributes:
        kind: Its media type.
        body: Its bytes.
        version: Changes with the body.
    """

    kind: str
    body: bytes
    version: str


class Watched:
    """A run directory that is read again when somebody asks, it has changed, and enough time has passed."""

    def __init__(
        self,
        directory: RunDirectory,
        *,
        clock: Callable[[], float] = time.monotonic,
        begin: Callable[[str], Job] | None = None,
    ) -> None:
        """Read the run once.

        Args:
            directory: The run directory.
            clock: Seconds, from any beginning.
            begin: Begins to draw the pictures of the run at a root; in another process without it.

        Raises:
            UserError: If it is not a run directory, or its tables cannot be trusted.
        """
        self._directory, self._clock, self._lock = directory, clock, threading.Lock()
        self._painter = Painter(directory, sparing=SPARING, clock=clock, begin=begin)
        self._begun, self._base, self._tally = clock(), 0.0, Tally(directory, {})
        self._read(self._there())
        self._base = self._work()
        self._next, self._due = clock() + POLL, clock() + max(POLL, SPARING * (clock() - self._begun))
        self._painted = 0
        self._render()

    def page(self) -> Answer:
        """The page; the last one while there is no news, it was made a moment ago, or the run cannot be read."""
        with self._lock:
            self._look()
            return self._page

    def whole(self) -> Answer:
        """The page with all its pictures, which are waited for."""
        with self._lock:
            self._look()
            self._painter.wait(self._parts)
            self._render()
            return self._page

    def status(self) -> Answer:
        """JSON: the page's `version`, and in `words` how far the run is, or why it can no longer be read."""
        with self._lock:
            self._look()
            body = json.dumps({"version": self._page.version, "words": self._words}).encode()
            return Answer("application/json", body, _digest(body))

    def figure(self, name: str) -> Answer | None:
        """The vector picture of a name as the page shows it; None where there is none."""
        with self._lock:
            shown = self._painter.shown
            found = {drawing.name: drawing.svg for drawing in shown.drawings} if shown else {}
            return Answer(SVG, found[name], _digest(found[name])) if name in found else None

    def close(self) -> None:
        """Draw no more."""
        with self._lock:
            self._painter.stop()

    def _look(self) -> None:
        begun = self._clock()
        if begun < self._next:
            return
        try:
            parts = self._there()
            self._tally.update()
            self._words = self._said()
            self._painter.look(parts, ended=self._tally.done == self._tally.planned)
            self._next = self._clock() + max(POLL, SPARING * (self._clock() - begun))
            self._make(parts)
        except (UserError, OSError) as error:
            self._words = f"This is what was there last: {error}"
            self._next = self._clock() + max(POLL, SPARING * (self._clock() - begun))

    def _make(self, parts: Parts) -> None:
        """Make the page anew where there are other trials or pictures, and it is time."""
        begun = self._clock()
        if begun < self._due or (parts, self._painter.version) == (self._parts, self._painted):
            return
        if parts != self._parts:
            self._read(parts)
        self._render()
        self._due = self._clock() + SPARING * (self._clock() - begun)

    def _read(self, parts: Parts) -> None:
        results = load_results(self._directory)
        self._tally.packs = {str(pack): int(size) for pack, size in results.plan["pack"].value_counts().items()}
        self._tally.packs |= {UNASKED: sum(results.unasked.values())}
        self._tally.update()
        self._words = self._said()
        self._content = results, summary(results), sentences(results)
        self._origin, self._parts = origin(self._directory), parts

    def _render(self) -> None:
        results, rows, found = self._content
        shown, self._painted = self._painter.shown, self._painter.version
        version = _digest(repr((self._parts, self._painted)).encode())
        said = self._painter.words(len(results.trials), len(results.plan))
        live = Live(version, self._words, POLL, said, self._painted)
        html = page(results, rows, found, shown.drawings if shown else (), live=live, origin=self._origin)
        self._page = Answer("text/html; charset=utf-8", html.encode(), version)

    def _there(self) -> Parts:
        return [self._directory.parts(table) for table in ("plan", "trials")]

    def _work(self) -> float:
        return self._tally.done + self._tally.under_way()

    def _said(self) -> str:
        """Counts, speed, time left, and who runs it."""
        driver, work, elapsed = holder(self._directory), self._work(), self._clock() - self._begun
        rate = (work - self._base) / elapsed if driver and elapsed > POLL and work > self._base else 0.0
        left = (self._tally.planned - work) / rate if rate > 0 else None
        who = f"being run by process {driver['pid']} on {driver['host']}" if driver else "nobody is running it"
        return f"{words(self._tally, left, rate)}; {who}."


def sentences(results: Results) -> Findings:
    """What the report says of a run; of a large one that goes on only what is cheap."""
    return find(results, compare_all(results), brief=results.open > 0 and len(results.plan) > AFFORDABLE)


@contextmanager
def server(watched: Watched, *, port: int = 0, once: bool = False) -> Iterator[ThreadingHTTPServer]:
    """A server for this machine; the caller says when it begins (`serve_forever`), and drawing ends with it.

    Args:
        watched: What it shows.
        port: Its port, 0 for any free one.
        once: Whether it ends when it has sent the page, which then waits for its pictures.

    Raises:
        UserError: If the port cannot be had.
    """

    class Handler(_Handler):
        shown, single = watched, once

    try:
        made = _Server((ADDRESS, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port} cannot be had on {ADDRESS}: {error}; 0 takes any free one") from None
    try:
        with made:
            yield made
    finally:
        watched.close()


def address(found: ThreadingHTTPServer) -> str:
    """Where a browser finds a server."""
    return f"http://{ADDRESS}:{found.server_port}/"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of browsers that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # the stubs name sockets


class _Handler(BaseHTTPRequestHandler):
    shown: Watched
    single: bool
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "manypaths", ""

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without."""
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Keep quiet: every question of a page would be a line."""

    def _answer(self, *, body: bool) -> None:
        if not self._local():
            self.send_error(HTTPStatus.FORBIDDEN, f"this server answers to {' and '.join(NAMES)} only")
            return
        path = urlsplit(self.path).path
        found = self._found(path, whole=self.single and body)
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(found, body=body)
        if self.single and path == "/" and body:
            self.wfile.flush()
            self.server.shutdown()

    def _found(self, path: str, *, whole: bool) -> Answer | None:
        if path == "/":
            return self.shown.whole() if whole else self.shown.page()
        if path == "/status":
            return self.shown.status()
        figure = re.fullmatch(r"/figures/([\w-]+)\.svg", path)
        return self.shown.figure(figure[1]) if figure else None

    def _local(self) -> bool:
        """Whether the browser was told to come here: a foreign name that resolves to this machine is a trick."""
        name, _, port = self.headers.get("Host", "").partition(":")
        return name.lower() in NAMES and port in ("", str(self.connection.getsockname()[1]))

    def _send(self, found: Answer, *, body: bool) -> None:
        tag = f'"{found.version}"'
        same = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK)
        for name, value in ({"ETag": tag, "Content-Type": found.kind} | HEADERS).items():
            self.send_header(name, value)
        if not same:
            self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if body and not same:
            self.wfile.write(found.body)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
