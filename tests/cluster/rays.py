"""For tests: Ray clusters of several nodes on this machine's loopback, and packs that only pretend to train."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from study.store import RunDirectory

BIN = Path(sys.executable).parent

PRETEND = '''
"""Stands in for `study.worker` in every process below a test's: packs that note where they ran, and may misbehave."""

import importlib.abc
import importlib.util
import sys

HERE = __file__


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_file_location(name, HERE) if name == "study.worker" else None


if __name__ == "study.worker":
    import json
    import os
    import time
    import uuid
    from pathlib import Path
    from types import SimpleNamespace

    time.sleep(float(os.environ.get("IMPORT_SECONDS", "0")))

    def run_pack(root, name, *, device, data=None, halvings=0, may_halve=True, **_):
        place = Path(root)
        wanted = json.loads((place / "wanted.json").read_text())
        wanted = wanted | wanted.get(name, {})
        note = {"pack": name, "pid": os.getpid(), "device": device, "data": data, "halvings": halvings}
        note |= {"may_halve": may_halve, "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "begun": time.time()}
        note |= {"parent": os.getppid(), "path": sys.path, "preloaded": "cluster.preloaded" in sys.modules}
        file = place / f"ran-{name}.{uuid.uuid4().hex}.json"
        file.with_suffix(".part").write_text(json.dumps(note))
        file.with_suffix(".part").rename(file)
        time.sleep(wanted.get("seconds", 0.0))
        if may_halve < wanted.get("crowded", False):
            raise MemoryError("no room beside others")
        if wanted.get("fails"):
            raise ValueError("a pack's own fault")
        if wanted.get("dies"):
            os._exit(3)
        file.with_suffix(".part").write_text(json.dumps(note | {"ended": time.time()}))
        file.with_suffix(".part").rename(file)
        return SimpleNamespace(share=wanted.get("share", 0.0))

    def out_of_memory(error):
        return isinstance(error, MemoryError)

    def storage_fault(directory, error):
        return isinstance(error, OSError)
else:
    sys.meta_path.insert(0, Finder())
'''


class Pretended:
    """A folder in which packs pretend to run, and what they noted."""

    def __init__(self, root):
        self.root = root
        self.directory = RunDirectory(root)
        self.wish()

    def wish(self, **wanted):
        """How packs behave: `seconds`, `share`, `fails`, `dies`, `crowded`, for all or, in a dictionary, for one."""
        (self.root / "wanted.json").write_text(json.dumps(wanted))

    @property
    def ran(self):
        """Notes of packs that were begun, in that order; those that have `ended` came to their end."""
        notes = []
        for path in self.root.glob("ran-*.json"):
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                notes.append(json.loads(path.read_text()))
        return sorted(notes, key=lambda note: note["begun"])

    @property
    def ended(self):
        return [note["pack"] for note in self.ran if "ended" in note]

    @property
    def attempts(self):
        """Notes of packs that were lost: outcome and error by pack."""
        found = defaultdict(list)
        for name in self.directory.names("attempts"):
            note = self.directory.read_json(f"attempts/{name}")
            found[note["pack"]].append((note["outcome"], note["error"]))
        return found


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count * 8)]
        # Ray gives 10002 to 19999 to its workers
        return [port for port in (s.getsockname()[1] for s in sockets) if not 10001 < port < 20000][:count]


def below(*tops):
    """Process ids of everything below some processes, by name."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text, pid = stat.read_text(), int(stat.parent.name)
            names[pid] = text[text.index("(") + 1 : text.rindex(")")]
            parents[pid] = int(text.rpartition(")")[2].split()[1])
    found = set(tops)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: names[pid] for pid in found - set(tops) if pid in names}


def until(holds, seconds=90.0):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
    return found


START = """
import sys, types
import ray.scripts.scripts as scripts
from ray._private import ray_constants as known
scripts.ray_constants = types.SimpleNamespace(**vars(known) | {"ENABLE_RAY_CLUSTER": True})
sys.exit(scripts.main())
"""
"""`ray start`, which refuses to start a second node where the variable is set that keeps listeners on loopback."""


class Nodes:
    """A Ray cluster on loopback whose nodes are groups of processes that `ray start` makes; number 1 is the head."""

    def __init__(self, environment, **variables):
        self.scratch = Path(tempfile.mkdtemp(prefix="mp"))
        own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(self.scratch)}
        kept = {key: value for key, value in environment.items() if not key.startswith("RAY_")}
        self._environment = kept | own | variables
        self.port = free_ports(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        self.processes = {}

    def start(self, number, *options, **has):
        """Start a node that has so many `cpus` and `gpus`."""
        options = [*options, *(f"--num-{kind}={count}" for kind, count in has.items())]
        (agent,) = free_ports(1)
        where = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.scratch}/r"]
        where = where if number == 1 else [f"--address={self.address}"]
        ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={agent}"]
        command = [sys.executable, "-c", START, "start", "--block", "--node-ip-address=127.0.0.1", *where, *options]
        self.scratch.mkdir(exist_ok=True)
        with (self.scratch / f"{number}.log").open("wb") as log:
            self.processes[number] = subprocess.Popen(
                [*command, *ports, "--object-store-memory=80000000"],
                env=self._environment,
                cwd=self.scratch,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: b"This command will now block" in (self.scratch / f"{number}.log").read_bytes())

    def pids(self, number, name):
        """Processes of a node by name; a worker at a trial is called `ray::`."""
        return [pid for pid, called in below(self.processes[number].pid).items() if called.startswith(name)]

    def kill(self, number, name, signal_=signal.SIGKILL):
        pids = self.pids(number, name)
        assert pids
        for pid in pids:
            os.kill(pid, signal_)

    def lose(self, number):
        """The node's machine loses its power."""
        process = self.processes.pop(number)
        for pid in [process.pid, *below(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for number in list(self.processes):
            self.lose(number)
        shutil.rmtree(self.scratch, ignore_errors=True)
