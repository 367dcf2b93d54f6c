"""The tables of costs, from packs whose costs are known."""

from types import SimpleNamespace

import pytest

from benchmarks import costs
from study.schema import NATIVE, RECORDED

UPDATE, PENALTY, GENERATOR, MEASURED = 0.25, 0.125, 0.5, 8.0
"""Milliseconds of a slot; sums of powers of two are exact."""


@pytest.fixture
def _pack(monkeypatch):
    """Packs that take as long as these say, by a clock of their own; the first stretch takes longer."""
    clock = SimpleNamespace(now=100.0)

    def train(trials, *, capacity, program, after_block, after_evaluation):
        h, state = trials[0].hyperparameters, SimpleNamespace(program=program)
        update = UPDATE + (PENALTY if h.penalty_weight is not None else 0)
        periods = trials[0].budget.evaluations
        for period in range(periods):
            steps = trials[0].generator_steps // periods
            clock.now += capacity * steps * (h.n_critic * update + GENERATOR) * (100 if period == 0 else 1) / 1000
            after_block(state)
            clock.now += capacity * MEASURED / 1000
            after_evaluation(state)
        return state

    monkeypatch.setattr(costs, "train", train)
    monkeypatch.setattr(costs, "time", SimpleNamespace(process_time=lambda: clock.now))


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("program", [RECORDED, NATIVE])
def test_costs_of_known_packs_are_found(program):
    found = costs.costs("manifold-d2", program, quick=False)
    assert found == pytest.approx((UPDATE, UPDATE + PENALTY, GENERATOR, MEASURED))


def test_a_step_that_is_not_compiled_has_no_native_costs(monkeypatch):
    def train(trials, **callbacks):
        for _ in range(trials[0].budget.evaluations):
            callbacks["after_block"](None)
            callbacks["after_evaluation"](None)
        return SimpleNamespace(program=RECORDED)

    monkeypatch.setattr(costs, "train", train)
    assert costs.costs("manifold-d2", NATIVE, quick=True) == ()


def test_what_is_pasted_is_the_table_with_two_digits():
    table = {"ring8": (0.1234, 0.00567, 12.3), "digits": (1234.0, 1.0, 0.5)}
    text = costs.pasted("RECORDED_MILLISECONDS", table)
    names = {}
    exec(text, names)
    assert names["RECORDED_MILLISECONDS"] == {"ring8": (0.12, 0.0057, 12), "digits": (1200, 1, 0.5)}
