"""How the benchmark of the engine makes ratios of what it has measured."""

import pytest

from benchmarks import engine, methods
from study.plan import expand
from study.schema import NATIVE, RECORDED
from study.tasks.table import TASKS


def of_jax(capacity, draws, milliseconds, method="ns+gp1"):
    return {
        "arm": "jax",
        "method": method,
        "draws": draws,
        "capacity": capacity,
        "milliseconds": milliseconds,
        "compiling_seconds": capacity,
    }


def ours(capacity, milliseconds, method="ns+gp1"):
    return {"arm": NATIVE, "method": method, "capacity": capacity, "milliseconds": milliseconds}


ROWS = [
    *(of_jax(8, "threefry2x32", 0.3), of_jax(8, "threefry2x32", 0.5), of_jax(32, "threefry2x32", 0.45)),
    *(of_jax(8, "rbg", 0.7), of_jax(32, "rbg", 0.1), of_jax(32, "rbg", 0.5)),
    *(ours(1, 0.2), ours(1, 0.4), ours(8, 0.1), ours(8, 0.2)),
    *(of_jax(8, "rbg", 0.01, "wgan+gp1"), ours(8, 0.01, "wgan+gp1")),
]


def test_pack_sizes_are_compared_by_means_of_processes():
    milliseconds, row = engine.best_of(ROWS, "ns+gp1", jax=True)
    assert (milliseconds, row["capacity"], row["draws"]) == (pytest.approx(0.3), 32, "rbg")
    milliseconds, row = engine.best_of(ROWS, "ns+gp1", jax=False)
    assert (milliseconds, row["capacity"]) == (pytest.approx(0.15), 8)


def test_the_ratio_to_jax_is_of_the_better_size_of_each():
    lines = {line.what: line for line in engine._of_jax(ROWS)}
    (ratio,) = (line for what, line in lines.items() if what.startswith("ns+gp1, native: our CPU time"))
    assert ratio.measured == pytest.approx(0.5)
    assert ratio.required == "<= 1.2"
    assert lines["JAX, its default draws: until the first stretch is done (wall), longest"].measured == 32
    assert list(engine._of_jax([])) == []


def test_without_jax_it_is_said(monkeypatch):
    monkeypatch.delenv(engine.JAX_PYTHON, raising=False)
    assert engine.against_jax(NATIVE, quick=True) == []
    (remark,) = engine._jax_remarks([])
    assert remark.startswith("JAX: not measured")


def test_a_python_without_jax_is_refused(monkeypatch, tmp_path):
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\necho no jax here >&2\nexit 3\n")
    wrong.chmod(0o755)
    monkeypatch.setenv(engine.JAX_PYTHON, str(wrong))
    with pytest.raises(RuntimeError, match=r"exit code 3:\nno jax here"):
        engine.against_jax(NATIVE, quick=True)


def test_what_is_required_is_measured():
    for (_, program), required in engine.REQUIRED.items():
        assert set(required) <= set(engine.CAPACITIES[program])
    assert set(engine.CAPACITIES[NATIVE]) <= set(engine.CAPACITIES[RECORDED])  # which is walked
    for method in ("ns+gp1", "wgan+gp1"):
        assert method in engine.METHODS
        assert set(engine.REQUIRED[method, NATIVE].values()) == {">= 9"}


def test_rows_become_ratios_with_what_is_required():
    row = {"method": "ns+gp1", "capacity": 128, "ratio": {NATIVE: 20.0, RECORDED: 3.9}}
    other = {"method": "ns+gp1", "capacity": 64, "ratio": {RECORDED: 3.8}}
    lines = list(engine._ratios([other, row]))
    assert [(line.measured, line.required) for line in lines] == [(20.0, ">= 9"), (3.8, ""), (3.9, ">= 4")]
    assert all(line.what.endswith(engine.PLAIN) for line in lines)


def test_packs_are_full():
    trials = engine.trials("wgan+gp1", 4, 10)
    assert len(trials) == 4
    assert {trial.generator_steps for trial in trials} == {10}


def test_every_method_can_be_timed():
    TASKS[methods.TASK] = lambda: methods.TIMED
    for name in methods.methods():
        assert len(expand(methods.sweep(name, 2, 1))) == methods.CAPACITY
