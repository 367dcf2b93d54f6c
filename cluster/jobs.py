"""Sweeps as jobs of a Ray cluster, through Ray's job API: submit, find, follow, stop."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from cluster.auth import HOW, Token, token
from cluster.shipping import Shipment, entrypoint, package_files, write_files
from study.errors import UserError
from study.trial import digest

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""How long a job is followed without an answer from its cluster."""
GRACE_SECONDS = 30
"""What a stopped job gets to end by itself. Ray's own default of 3 s is shorter than our driver's orderly end."""

UNDER_WAY = ("pending", "running")
SIGTERM = 15


@dataclass(frozen=True)
class Job:
    """A job of a cluster.

    Attributes:
        id: Its submission id.
        state: One of pending, running, succeeded, failed, stopped.
        code: The exit code of its program as a shell would give it; None until it has ended.
        message: What Ray says of it.
        started: When it was submitted, seconds since 1970; None if Ray does not say.
        ended: Likewise.
    """

    id: str
    state: str
    code: int | None
    message: str
    started: float | None
    ended: float | None

    @property
    def under_way(self) -> bool:
        """Whether it has not ended."""
        return self.state in UNDER_WAY

    @property
    def row(self) -> dict[str, Any]:
        """The job as JSON data."""
        times = {name: _clock(at) for name, at in (("started", self.started), ("ended", self.ended))}
        return {"job": self.id, "state": self.state, "exit_code": self.code, **times}

    @property
    def words(self) -> str:
        """How it stands, in a sentence."""
        if self.state == "stopped":
            return f"job {self.id} was stopped: what is finished is kept, and `manypaths submit` goes on from there"
        if self.state != "failed":
            return f"job {self.id} {'is ' if self.under_way else ''}{self.state}"
        if self.message.startswith("Job entrypoint command failed"):
            return f"job {self.id} failed with exit code {self.code}"
        reason = next((line.strip() for line in reversed(self.message.splitlines()) if line.strip()), "no reason given")
        return f"job {self.id} failed before or outside its own program: {reason[:500]}"

    @property
    def last_lines(self) -> list[str]:
        """Of a program that failed, the last lines of its log."""
        return self.message.splitlines()[1:] if self.words.endswith(f"exit code {self.code}") else []


def _clock(at: float | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _job(details: JobDetails) -> Job:
    state = str(details.status.value).lower()
    code = {"succeeded": 0, "stopped": 128 + SIGTERM, "failed": 1}.get(state)
    if details.driver_exit_code is not None:
        given = int(details.driver_exit_code)
        code = given if given >= 0 else 128 - given
    started, ended = (None if at is None else at / 1000 for at in (details.start_time, details.end_time))
    return Job(str(details.submission_id), state, code, details.message or "", started, ended)


class Cluster:
    """The jobs of one cluster; every method raises UserError, in one sentence, for what keeps it from answering."""

    def __init__(self, address: str) -> None:
        """Connect.

        Args:
            address: The address of the cluster's dashboard, http(s)://HOST:PORT.
        """
        self.address = checked_address(address)
        self._client = _connected(self.address)

    def jobs(self) -> list[Job]:
        """All jobs that were submitted, in that order."""
        with _sentences(self.address):
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started or 0.0, job.id))

    def job(self, name: str) -> Job:
        """One job.

        Raises:
            UserError: If there is none of that name.
        """
        found = self.jobs()
        for job in found:
            if job.id == name:
                return job
        raise UserError(f"there is no job {name!r} on {self.address}: {_known(found)}")

    def latest(self, shipment: Shipment) -> Job:
        """The last job of a sweep, wherever it writes to.

        Raises:
            UserError: If there is none.
        """
        found = self.jobs()
        own = [job for job in found if re.fullmatch(rf"{re.escape(_stem(shipment))}-[0-9a-f]{{6}}(-\d+)?", job.id)]
        if not own:
            raise UserError(f"the sweep {shipment.name!r}, as the file has it now, has no job there: {_known(found)}")
        return next((job for job in reversed(own) if job.under_way), own[-1])

    def log(self, name: str) -> str:
        """What a job's driver has printed so far."""
        with _sentences(self.address):
            return str(self._client.get_job_logs(name))

    def stop(self, name: str, *, say: Callable[[str], None]) -> Job:
        """Ask a job to end, and wait until it has."""
        with _sentences(self.address):
            self._client.stop_job(name)
        begun = time.monotonic()
        job = self.job(name)
        while job.under_way:
            if time.monotonic() - begun > GRACE_SECONDS + PATIENCE_SECONDS:
                say(f"job {name} was asked to stop and has not ended yet")
                return job
            time.sleep(POLL_SECONDS / 2)
            job = self.job(name)
        return job

    def follow(self, name: str, write: Callable[[str], None]) -> Job:
        """Write a job's log as it grows, until the job ends; the cluster may be silent for a minute on the way."""
        shown, heard = 0, time.monotonic()
        while True:
            try:
                job = self.job(name)  # before the log, so that after the end nothing is missing
                log = self.log(name)
            except UserError as error:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    raise UserError(f"lost sight of job {name}, which may well go on: {error}") from None
            else:
                heard = time.monotonic()
                write(log[shown:])
                shown = max(shown, len(log))
                if not job.under_way:
                    return job
            time.sleep(POLL_SECONDS + shown / 1e6)  # the whole log comes each time

    def submit(
        self,
        shipment: Shipment,
        out: str,
        *,
        with_package: bool = False,
        python: str = "python",
        again: bool = False,
    ) -> tuple[Job, bool]:
        """Start a sweep as a job, unless it has one.

        A job that is under way, or that succeeded, is the sweep's. After one that failed or was stopped the next one
        gets a number at its end, for Ray takes each name once; it goes on from what the run directory holds.

        Args:
            shipment: The sweep and what it needs.
            out: The run directory as `cluster.shipping.destination` gives it.
            with_package: True to send this package along.
            python: The interpreter there.
            again: True to start anew after a success.

        Returns:
            The job, and True if it was started now.
        """
        stem = job_name(shipment, out)
        for _ in range(3):  # somebody else may submit the same at the same time
            before = [job for job in self.jobs() if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", job.id)]
            for job in reversed(before):
                if job.under_way or (job.state == "succeeded" and not again):
                    return job, False
            name = f"{stem}-{len(before) + 1}" if before else stem
            try:
                self._send(name, shipment, out, with_package=with_package, python=python)
            except _Taken:
                continue
            return self.job(name), True
        raise UserError(f"job {name} is neither free nor to be found on {self.address}: try again")

    def _send(self, name: str, shipment: Shipment, out: str, *, with_package: bool, python: str) -> None:
        files = {**(package_files() if with_package else {}), **shipment.files}
        with tempfile.TemporaryDirectory(prefix="manypaths") as folder, _sentences(self.address):
            write_files(files, Path(folder))
            try:
                self._client.submit_job(
                    entrypoint=entrypoint(shipment, out, python=python),
                    submission_id=name,
                    runtime_env={
                        "working_dir": folder,
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_SECONDS)},
                    },
                )
            except RuntimeError as error:
                if "already exists" in str(error):
                    raise _Taken from None
                raise


class _Taken(Exception):
    """The name of the job is in use."""


def _stem(shipment: Shipment) -> str:
    return f"{shipment.name}-{shipment.hash[:12]}"


def job_name(shipment: Shipment, out: str) -> str:
    """The submission id of a sweep: its name, its hash, and six digits of where its results go."""
    return f"{_stem(shipment)}-{digest(out)[:6]}"


def _known(jobs: list[Job]) -> str:
    names = [job.id for job in jobs]
    more = f" and {len(names) - 10} before them" if len(names) > 10 else ""
    return f"there are {', '.join(reversed(names[-10:]))}{more}" if names else "there are none yet"


def checked_address(address: str) -> str:
    """An address of a dashboard, without a slash at its end.

    Raises:
        UserError: If it is none.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if "@" in parts.netloc:
        raise UserError(f"--address holds a password: Ray's way is a token; {HOW}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UserError(
            f"--address {address}: must be the address of the cluster's dashboard, e.g. http://10.0.0.1:8265 "
            "(`manypaths run` on the cluster itself takes HOST:6379)"
        )
    return address.rstrip("/")


class _Client(JobSubmissionClient):
    """Ray's client, which would wait for ever."""

    def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:
        timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
        with _sentences(self._address):  # before Ray's own code makes less of it
            answer: requests.Response = super()._do_request(method, endpoint, timeout=timeout, **kwargs)
        return answer


def _connected(address: str) -> _Client:
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.WARNING)
    given = token()
    try:
        return _Client(address, headers=given.headers if given else {})
    except (KeyError, TypeError, ValueError, RuntimeError, requests.HTTPError):
        raise UserError(f"what answers at {address} is not a Ray cluster's dashboard") from None


@contextlib.contextmanager
def _sentences(address: str) -> Iterator[None]:
    """Turn whatever a request can raise into one sentence; none quotes a request, whose headers hold the token."""
    try:
        yield
    except AuthenticationError:
        raise UserError(_refused(address, token())) from None
    except requests.exceptions.SSLError:
        raise UserError(
            f"the certificate of {address} is not one that this machine trusts: REQUESTS_CA_BUNDLE names a file of "
            "those that it is to trust"
        ) from None
    except (requests.Timeout, TimeoutError):
        raise UserError(f"cannot reach {address}: no answer in time") from None
    except OSError as error:  # requests' own are
        raise UserError(f"cannot reach {address}: {_cause(error)}") from None
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{address} could not do it: {lines[-1].rstrip('.') if lines else error}") from None


def _refused(address: str, given: Token | None) -> str:
    if given is not None:
        return f"{address} refuses the token from {given.source}: it is another cluster's"
    if os.environ.get("RAY_AUTH_MODE", "").strip().lower() == "disabled":
        return f"{address} asks for a token, and RAY_AUTH_MODE=disabled keeps it back"
    return f"{address} asks for a token: {HOW}"


def _cause(error: BaseException) -> str:
    """The system's own words, which lie deep in what is raised."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and not isinstance(found, requests.RequestException) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return "nothing answers there"


def listing(jobs: list[Job]) -> list[Mapping[str, Any]]:
    """Jobs as rows, the last one first."""
    return [job.row for job in reversed(jobs)]
