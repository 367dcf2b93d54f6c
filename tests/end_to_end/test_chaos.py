"""A sweep on three nodes, each kind of process killed: nothing lost, nothing twice, the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through Linux's /proc"),
]
ROOT = Path(__file__).parents[2]


def test_a_sweep_survives_a_kill_of_each_kind():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "chaos", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("worker", "node", "head", "command", "driver"):
        assert f"killed: {kind}: 1 times  (required >= 1 times: holds)" in done.stdout
    assert "there once, and equal to the bit: 400 trials" in done.stdout
