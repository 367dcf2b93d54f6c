import json
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import manypaths
from analysis.confirmation import (
    POINTS,
    allowed_failures,
    confirm,
    confirm_region,
    confirmation_of,
    confirmation_sweep,
    lower_bound,
)
from analysis.regions import Region, safe_region
from analysis.runs import load_results
from study.errors import UserError
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import read_sweep, to_toml
from study.store import RunDirectory
from study.sweep_run import prepare, run_sweep
from tests.analysis.drawn import BAD, GOOD, TASK, adaptive, declared, drawn, good_where, sweep_of

LR = {"log_uniform": [1e-5, 1e-2]}
DESIGN = {"kind": "sobol", "points": 16, "replicates": 8, "seed": 3}
WEIGHTS = {"when": {"penalty": {"gp1": {"log_uniform": [0.1, 100.0]}, "gp0": {"log_uniform": [0.01, 1.0]}}}}
SPACES = {
    "a range": ({"lr": LR}, lambda plan: plan["lr_g"] > 10**-3.5),
    "two ranges": (
        {"lr": LR, "beta1": {"uniform": [0.0, 0.9]}},
        lambda plan: (plan["lr_g"] > 1e-4) & (plan["beta1"] < 0.5),
    ),
    "crossed": ({"lr": LR, "n_critic": {"cross": [1, 2, 5]}}, lambda plan: plan["n_critic"] >= 2),
    "texts": ({"lr": LR, "optimiser": {"cross": ["adam", "sgd"]}}, lambda plan: plan["optimiser"] == "sgd"),
    "choice": ({"lr": LR, "beta1": {"choice": [0.0, 0.5, 0.9]}}, lambda plan: plan["beta1"] < 0.8),
    "ratio": ({"lr": LR, "lr_d_ratio": {"choice": [0.1, 1.0, 3.0]}}, lambda plan: plan["lr_d"] < 2 * plan["lr_g"]),
    "weights": ({"lr": LR, "penalty_weight": WEIGHTS}, lambda plan: plan["penalty_weight"].fillna(1.0) > 3),
    "drawn structure": (
        {"lr": LR, "network": "random", "depth_d": {"choice": [2, 4]}, "activation_g": {"choice": ["relu", "tanh"]}},
        lambda plan: (plan["depth_d"] == 4) & (plan["activation_g"] == "tanh"),
    ),
    "dependent": (
        {
            "lr": {"when": {"optimiser": {"sgd": {"log_uniform": [1e-1, 1.0]}}}, "log_uniform": [1e-5, 1e-3]},
            "optimiser": {"cross": ["adam", "sgd", "rmsprop"]},
        },
        lambda plan: plan["lr_g"] < 1e-2,
    ),
}
"""A space, and where in it trials succeed."""


def region_of(results, method, task=TASK):
    return safe_region(results, task, method, rng=np.random.default_rng(0))


def written(text, folder):
    path = folder / "region.toml"
    path.write_text(text)
    return read_sweep(path)


def inside(region, trial):
    """Whether a trial lies in the box, looked up in its hyperparameters."""
    values = trial.hyperparameters.given
    values["lr"] = values["lr_g"]
    values["lr_d_ratio"] = float(f"{values['lr_d'] / values['lr_g']:.9g}")
    for side in region.sides:
        value = values[side.axis.word]
        if not (value in side.levels if side.levels else side.low <= value <= side.high):
            return False
    return True


# ---- the round trip


@pytest.mark.parametrize("name", SPACES)
def test_what_is_printed_is_a_sweep_inside_the_box(name, tmp_path):
    override, condition = SPACES[name]
    task = "digits" if "network" in override else TASK
    changes = {"tasks": [task], "methods": ["ns+gp1"], "space": {"override": override}, "design": DESIGN}
    results, sweep = drawn(good_where(condition), **changes), sweep_of(**changes)
    region = region_of(results, "ns+gp1", task)
    assert 0 < region.fraction < 1
    fresh = written(confirmation_sweep(sweep, region, "ns+gp1", seed=4), tmp_path)
    assert fresh.notice == f"Fresh configurations inside the region that drawn found for ns+gp1 on {task}."
    trials = expand(fresh)
    assert all(inside(region, trial) for trial in trials)
    assert not {trial.config for trial in trials} & set(results.plan["config"])
    assert len({trial.point for trial in trials}) == POINTS
    assert {(trial.task, trial.label) for trial in trials} == {(task, "ns+gp1")}
    assert fresh.budget == sweep.budget
    assert (fresh.name, fresh.design.kind, fresh.design.seeds) == ("drawn-region", "random", 1)


def test_fresh_configurations_fill_the_box():
    """Each side's values reach within 10 / 64 of both of its ends: a chance of e^-10 otherwise."""
    override, condition = SPACES["two ranges"]
    changes = {"methods": ["ns"], "space": {"override": override}, "design": DESIGN}
    results, sweep = drawn(good_where(condition), **changes), sweep_of(**changes)
    region = region_of(results, "ns")
    text = confirmation_sweep(sweep, region, "ns", points=64, seed=9)
    content = tomllib.loads(text)
    assert content["design"] == {"kind": "random", "replicates": 1, "points": 64, "seeds": 1, "seed": 9}
    low, high = content["space"]["override"]["lr"]["log_uniform"]
    side = region.sides[0]
    assert (low, high) == (side.low, side.high)
    rates = np.log([trial.hyperparameters.lr_g for trial in expand(sweep_of(**content))])
    gap = 10 / 64 * np.log(high / low)
    assert rates.min() < np.log(low) + gap
    assert rates.max() > np.log(high) - gap


def test_a_structure_whose_range_lies_outside_leaves_the_sweep(tmp_path):
    override, condition = SPACES["dependent"]
    changes = {"methods": ["ns"], "space": {"override": override}, "design": DESIGN}
    region = region_of(drawn(good_where(condition), **changes), "ns")
    rate, optimiser = region.sides
    assert optimiser.levels == ("adam", "rmsprop")
    assert rate.high < 1e-1
    named = replace(region, sides=(rate, replace(optimiser, levels=("adam", "rmsprop", "sgd"), whole=True)))
    for box in (region, named):
        fresh = written(confirmation_sweep(sweep_of(**changes), box, "ns", seed=4), tmp_path)
        assert {trial.hyperparameters.optimiser for trial in expand(fresh)} == {"adam", "rmsprop"}


def test_a_variant_keeps_its_name_and_its_own_range(tmp_path):
    variant = {"ttur": {"lr": {"log_uniform": [1e-4, 1e-1]}, "lr_d_ratio": 3.0}}
    changes = {"methods": ["ns", "ns@ttur"], "variant": variant, "design": DESIGN}
    results, sweep = declared(good_where(lambda plan: plan["lr_g"] > 1e-2), **changes), sweep_of(**changes)
    region = region_of(results, "ns@ttur")
    trials = expand(written(confirmation_sweep(sweep, region, "ns@ttur", seed=4), tmp_path))
    assert {trial.label for trial in trials} == {"ns@ttur"}
    assert all(inside(region, trial) for trial in trials)
    assert {round(t.hyperparameters.lr_d / t.hyperparameters.lr_g, 6) for t in trials} == {3.0}
    assert max(trial.hyperparameters.lr_g for trial in trials) > 1e-2


def test_a_grid_is_confirmed_between_its_levels(tmp_path):
    changes = {"methods": ["ns"], "design": {"kind": "grid", "levels": 6}}
    results, sweep = drawn(good_where(lambda plan: plan["lr_g"] > 1e-4), **changes), sweep_of(**changes)
    region = region_of(results, "ns")
    rates = [t.hyperparameters.lr_g for t in expand(written(confirmation_sweep(sweep, region, "ns", seed=4), tmp_path))]
    low, high = min(region.sides[0].levels), max(region.sides[0].levels)
    assert low <= min(rates) < max(rates) <= high
    assert len(set(rates)) == POINTS


def test_a_long_name_is_cut():
    changes = {"methods": ["ns"], "name": "x" * 100}
    text = confirmation_sweep(sweep_of(**changes), region_of(drawn(**changes), "ns"), "ns", seed=1)
    assert tomllib.loads(text)["name"] == "x" * 93 + "-region"


def test_the_budget_and_where_it_runs_are_the_sweeps():
    changes = {
        "methods": ["ns"],
        "budget": {"unit": "updates", "steps": 600, "evaluations": 12},
        "execution": {"pack": 8, "device": "cpu"},
    }
    sweep = sweep_of(**changes)
    content = tomllib.loads(confirmation_sweep(sweep, region_of(drawn(**changes), "ns"), "ns", seed=1))
    before = tomllib.loads(to_toml(sweep))
    assert content["budget"] == before["budget"]
    assert content["execution"] == before["execution"]


# ---- what cannot be confirmed


def test_no_region_is_nothing_to_confirm():
    results = drawn(good_where(lambda plan: plan["lr_g"] < 0))
    with pytest.raises(UserError, match="there is no region to confirm: ns on manifold-d2: no box of 10 points"):
        confirmation_sweep(sweep_of(), region_of(results, "ns"), "ns", seed=1)


def test_what_holds_no_fresh_configuration_is_refused():
    changes = {
        "methods": ["ns"],
        "space": {"override": {"lr": {"choice": [1e-3, 1e-2]}, "n_critic": {"cross": [1, 5]}}},
    }
    region = region_of(drawn(**changes), "ns")
    with pytest.raises(UserError, match="the box draws nothing from a range, so none of its configurations is fresh"):
        confirmation_sweep(sweep_of(**changes), region, "ns", seed=1)
    with pytest.raises(UserError, match="another seed than the sweep's, 0"):
        confirmation_sweep(sweep_of(), region_of(drawn(), "ns"), "ns", seed=0)


def test_a_table_has_no_fresh_configurations():
    sweep = sweep_of(design={"kind": "table", "table": "d.csv"})
    with pytest.raises(UserError, match=r"the design table d\.csv says which configurations there are: none are fresh"):
        confirmation_sweep(sweep, region_of(drawn(), "ns"), "ns", seed=1)


def test_a_file_that_is_not_the_runs_is_noticed():
    region = region_of(drawn(), "ns")
    with pytest.raises(UserError, match="the sweep file says nothing of beta1, which the run varies"):
        confirmation_sweep(sweep_of(space={"override": {"lr": LR}}), region, "ns", seed=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "ns"}, "a region belongs to one task: choose one by --task, of ring8, manifold-d2"),
        ({"method": "ns", "task": "digits"}, "unknown task 'digits': choose from manifold-d2, ring8"),
        ({"method": "mm", "task": TASK}, "unknown method on manifold-d2 'mm': choose from"),
    ],
)
def test_a_region_is_of_one_task_and_method(options, said):
    changes = {"tasks": [TASK, "ring8"]}
    with pytest.raises(UserError, match=said):
        confirm_region(sweep_of(**changes), drawn(**changes), **options)


def test_a_run_of_another_sweep_is_noticed():
    with pytest.raises(UserError, match="the run is one of 'drawn', the file describes 'other'"):
        confirm_region(sweep_of(name="other"), drawn(), method="ns")


# ---- the bound


def test_29_of_29_confirm_and_28_do_not():
    """0.05^(1/29) = .9018, 0.05^(1/28) = .8985."""
    assert lower_bound(29, 29) == pytest.approx(0.05 ** (1 / 29))
    assert lower_bound(28, 28) == pytest.approx(0.05 ** (1 / 28))
    assert lower_bound(28, 28) < 0.9
    assert lower_bound(0, 7) == 0.0
    with pytest.raises(ValueError, match="got 8 of 7"):
        lower_bound(8, 7)


@pytest.mark.parametrize(("successes", "n"), [(1, 1), (3, 10), (31, 32), (46, 47), (90, 100)])
def test_the_bound_is_clopper_and_pearsons(successes, n):
    exact = stats.binomtest(successes, n, alternative="greater").proportion_ci(0.95, method="exact")
    assert lower_bound(successes, n) == pytest.approx(exact.low)


@pytest.mark.parametrize(("n", "failures"), [(1, -1), (28, -1), (29, 0), (45, 0), (46, 1), (60, 1), (61, 2), (64, 2)])
def test_how_many_may_fail(n, failures):
    """The sizes at which one more may fail, 29, 46 and 61, are those of the exact binomial test of .9 at 5 %."""
    assert allowed_failures(n) == failures
    if failures >= 0:
        assert stats.binom.cdf(failures, n, 0.1) <= 0.05 < stats.binom.cdf(failures + 1, n, 0.1)


@pytest.mark.parametrize("true", [0.8, 0.9, 0.97])
def test_the_bound_covers(true):
    """Exactly, by the binomial distribution: the bound exceeds the truth with a chance of at most 5 %."""
    n = 64
    above = sum(stats.binom.pmf(k, n, true) for k in range(n + 1) if lower_bound(k, n) > true)
    assert above <= 0.05


def test_there_is_one_size_and_one_look():
    """P(at most 2 of 64 fail) at .9 is .0389; none of the first 32, or else at most 2 of all 64, has .0607.

    P(0) + P(1) P(at most 1) + P(2) P(0) over the failures of each half, P(0) = .9^32.
    """
    assert (POINTS, allowed_failures(POINTS)) == (64, 2)
    once = stats.binom.cdf(2, 64, 0.1)
    half = [stats.binom.pmf(f, 32, 0.1) for f in range(3)]
    twice = half[0] + half[1] * (half[0] + half[1]) + half[2] * half[0]
    assert once <= 0.05 < twice
    assert (once, twice) == pytest.approx((0.0389, 0.0607), abs=5e-5)


# ---- what a confirmation is known by

NOTICE = "Fresh configurations inside the region that drawn found for ns on manifold-d2."


def test_a_confirmation_is_known_by_what_it_carries():
    """Its notice and its design, not its name."""
    run = drawn(methods=["ns"], name="another")
    assert confirmation_of(replace(run, notice=NOTICE)) == confirm(run)
    assert confirmation_of(replace(run, name="drawn-region")) is None
    assert confirmation_of(replace(run, name="drawn-region", notice="A pilot.")) is None
    assert confirmation_of(replace(drawn(), notice=NOTICE)) is None


@pytest.mark.parametrize("design", [{"kind": "sobol", "points": 32}, {"kind": "grid", "levels": 6}])
def test_what_was_not_drawn_at_random_confirms_nothing(design):
    """Points of one Sobol sequence depend on each other, and the bound is that of independent draws."""
    run = replace(drawn(methods=["ns"], design=design), notice=NOTICE)
    assert confirmation_of(run) is None
    with pytest.raises(UserError, match=rf"drawn afresh and at random .*, drawn has {design['kind']}"):
        confirm(run)


# ---- what fresh configurations say


def test_a_clean_sweep_confirms():
    found = confirm(drawn(methods=["ns"]))
    assert (found.successes, found.points, found.confirmed) == (32, 32, True)
    assert found.words == (
        "ns on manifold-d2, fresh configurations inside its region: 32 of 32 succeed, so at 95 % success there is at "
        "least .91: confirmed at 90 %"
    )


def test_one_failure_of_32_does_not():
    def one(plan):
        return np.where(plan["point"] == 0, np.inf, GOOD)

    found = confirm(drawn(one, methods=["ns"]))
    assert (found.successes, found.confirmed) == (31, False)
    assert found.words.endswith("at least .86: not confirmed at 90 %")


def test_a_point_succeeds_if_all_of_its_trials_do():
    space = {"override": {"lr": LR, "n_critic": {"cross": [1, 5]}}}

    def half(plan):
        return np.where((plan["point"] == 0) & (plan["n_critic"] == 5), BAD, GOOD)

    found = confirm(drawn(half, methods=["ns"], space=space))
    assert (found.successes, found.points) == (31, 32)


def test_an_unfinished_confirmation_is_interim():
    def late(plan):
        return np.where(plan["point"] < 2, np.nan, GOOD)

    found = confirm(drawn(late, methods=["ns"]))
    assert (found.successes, found.undecided, found.confirmed) == (30, 2, False)
    assert found.words.endswith("(interim: 2 points are undecided and count as failures)")


def test_what_is_no_confirmation_is_refused():
    with pytest.raises(UserError, match="a confirmation has one task and one method, drawn has 1 and 2"):
        confirm(drawn())
    with pytest.raises(UserError, match=r"needs configurations drawn afresh and at random .*, drawn has tpe"):
        confirm(adaptive(drawn(methods=["ns"])))


# ---- the command


def test_the_command_prints_a_sweep_file_that_runs(tmp_path, monkeypatch, capsys):
    """Sixteen trials of two steps, whose threshold is then so high that all succeed."""
    path = tmp_path / "tiny.toml"
    path.write_text(
        'name = "tiny"\ntasks = ["manifold-d2"]\nmethods = ["ns"]\nbudget.steps = 2\nbudget.evaluations = 2\n'
        "space.override.lr = {log_uniform = [1e-4, 1e-3]}\ndesign.kind = 'random'\ndesign.points = 16\n"
        'execution.device = "cpu"\n'
    )
    sweep, directory = read_sweep(path), RunDirectory(tmp_path / "run")
    run_sweep(directory, sweep, expand(sweep), InProcess(device="cpu"), watch=live, say=print)
    monkeypatch.setattr("analysis.runs._frame", _generous(directory))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["manypaths", "plan", str(path), *arguments])
        capsys.readouterr()
        try:
            manypaths.main()
        except SystemExit as end:
            return end.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    code, text, words = call("--confirm-region", str(directory), "--method", "ns")
    assert code == 0
    assert "all of the prior (100 % of the prior, 16 points)" in words
    assert words.endswith("90 % are confirmed at 95 % if at most 2 of its 64 fresh points fail\n")
    fresh = written(text, tmp_path)
    assert (fresh.name, fresh.design.seed, len(expand(fresh))) == ("tiny-region", 1, 64)
    assert tomllib.loads(text)["design"]["points"] == 64
    known = RunDirectory(tmp_path / "fresh")
    prepare(known, fresh, expand(fresh))
    assert confirmation_of(load_results(known)).points == 64
    assert confirmation_of(load_results(directory)) is None
    code, printed, _ = call("--confirm-region", str(directory), "--method", "ns", "--json")
    assert json.loads(printed)["sweep"] == text
    code, _, words = call("--confirm-region", str(directory))
    assert (code, words) == (2, "error: --confirm-region needs --method: the method whose region it is\n")
    assert call()[0] == 0


def _generous(directory):
    from analysis.runs import _frame

    def frame(found, table, columns=None):
        rows = _frame(found, table, columns)
        return rows.assign(threshold=1e9, anchor_high=1e10) if table == "plan" else rows

    return frame


def test_a_region_is_what_the_search_says():
    assert isinstance(region_of(drawn(), "ns"), Region)
