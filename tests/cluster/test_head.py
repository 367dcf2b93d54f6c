"""A local Ray's own processes: the parts that need no Ray."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import head
from tests.cluster.rays import until

STARTS_ANOTHER = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1]]).pid, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")
def test_what_stands_in_for_an_agent_lives_as_long_as_its_raylet():
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ANOTHER, str(head.STAND_IN)], stdout=subprocess.PIPE, text=True
    ) as raylet:
        pid = int(raylet.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            raylet.wait(1.5)
        os.kill(pid, 0)
        raylet.kill()

    def gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(gone, 10)


def test_a_raylet_gets_stand_ins_for_agents_and_as_many_workers_as_it_may_have(monkeypatch):
    monkeypatch.setattr(head, "STAND_IN", Path("/a folder/stand in.py"))
    before = [
        "/ray/raylet",
        "--node_ip_address=127.0.0.1",
        "--num_prestart_python_workers=64",
        '--dashboard_agent_command=python agent.py --a=b "c d"',
        "--runtime_env_agent_command=python env.py",
        "--head",
        "--labels=",
    ]
    after = head._without_agents(before, 2)
    stand_in = f'{sys.executable} -I -S "/a folder/stand in.py"'
    assert after == [
        "/ray/raylet",
        "--node_ip_address=127.0.0.1",
        "--num_prestart_python_workers=2",
        f"--dashboard_agent_command={stand_in}",
        f"--runtime_env_agent_command={stand_in}",
        "--head",
        "--labels=",
    ]


def test_what_is_replaced_comes_back():
    owner = SimpleNamespace(name=1)
    with contextlib.suppress(ValueError), head._replaced(owner, "name", 2):
        assert owner.name == 2
        raise ValueError("no Ray")
    assert owner.name == 1
