"""How whole sweeps are compared."""

import pytest

from benchmarks import sweep
from study.plan import expand
from study.spec import parse_sweep


def test_the_start_counts_once_when_some_trials_stand_for_all():
    size = sweep.Size(trials=256, steps=1000, few=34)
    start, each = 10.0, 3.0
    of = {trials: start + each * trials for trials in (sweep.CPUS, 34, 256)}
    assert sweep.scaled(of[34], of[sweep.CPUS], size) == pytest.approx(of[256])


def test_what_is_extrapolated_says_so():
    size, seconds = (
        sweep.Size(256, 1000, 96),
        {"ours": [9.0, 11.0], "warm": [9.0, 8.0], "reused": [80.0], "new": [250.0]},
    )
    lines = {line.what: line for line in sweep._lines(seconds, size, short=True)}
    slow = "Ray Tune, a new process for each trial, EXTRAPOLATED from 96 trials"
    assert lines[f"{slow}, over manypaths run"].measured == 25
    assert lines[f"{slow}, over manypaths run"].required == ">= 20"
    assert lines["Ray Tune, reuse_actors=True, over manypaths run"].measured == 8
    assert lines["Ray Tune, reuse_actors=True, over manypaths run"].required == ">= 7"
    assert lines["256 trials x 1,000 steps, manypaths run, compiled by an earlier sweep"].measured == 8
    assert not [what for what in (line.what for line in sweep._lines(seconds, size, short=False)) if "EXTRA" in what]


def test_the_sweep_has_the_trials_that_the_others_train():
    size = sweep.Size(trials=12, steps=40, few=12)
    trials = expand(parse_sweep(sweep.sweep(size), source="benchmark"))
    assert len(trials) == 12
    assert {(trial.task, trial.method, trial.generator_steps) for trial in trials} == {("manifold-d2", "ns+gp1", 40)}
    assert {trial.hyperparameters.n_critic for trial in trials} == {1}
