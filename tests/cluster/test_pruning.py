"""What is noted of a pack that is to stop, with the scheduler that Tune would have; no Ray runs."""

from types import SimpleNamespace

import pytest

from cluster.pruning import STUDY, TIME, VALUE, pruning

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
STOP = "manypaths-stop-a"


@pytest.fixture
def notes(monkeypatch):
    """Ray's key-value store."""
    from ray.experimental import internal_kv

    kept = {}
    monkeypatch.setattr(internal_kv, "_internal_kv_put", kept.__setitem__)
    monkeypatch.setattr(internal_kv, "_internal_kv_del", lambda key: kept.pop(key, None))
    return kept


@pytest.fixture
def scheduler(notes):
    from ray.tune.schedulers import FIFOScheduler

    found = pruning(FIFOScheduler(), {"name": "asha", "evaluations": 8, "options": {"grace_period": 1}})
    for number in range(8):  # what the pack is compared with
        begin(found, f"other-{number}", f"x{number}")
        report(found, f"other-{number}", f"x{number}", 0.0)
    return found


def tried(trial_id, pack):
    return SimpleNamespace(trial_id=trial_id, config={"pack": pack})


def begin(scheduler, trial_id, pack):
    scheduler.on_trial_add(None, tried(trial_id, pack))


def report(scheduler, trial_id, pack, value):
    result = {STUDY: "s", TIME: 1, VALUE: value}
    assert scheduler.on_trial_result(None, tried(trial_id, pack), result) == "CONTINUE"  # the worker ends it itself


def test_a_hopeless_trial_is_noted_until_its_pack_is_over(scheduler, notes):
    begin(scheduler, "first", "a")
    assert notes == {}
    report(scheduler, "first", "a", 9.0)
    assert list(notes) == [STOP]
    scheduler.on_trial_complete(None, tried("first", "a"), {})
    assert notes == {}


def test_a_pack_that_was_killed_after_it_was_stopped_is_not_stopped_at_once_when_it_is_tried_again(scheduler, notes):
    begin(scheduler, "first", "a")
    report(scheduler, "first", "a", 9.0)
    scheduler.on_trial_error(None, tried("first", "a"))
    assert notes == {}


def test_neither_is_one_whose_driver_died(scheduler, notes):
    notes[STOP] = b"1"  # left by the driver before, on a cluster that lives on
    begin(scheduler, "second", "a")
    assert notes == {}


def test_without_a_pruner_the_scheduler_is_as_it_was():
    base = object()
    assert pruning(base, None) is base
