import logging

import numpy as np
import pandas as pd
import pytest

from analysis import importance
from analysis.axes import Axis
from analysis.figures import style
from analysis.figures.importance import draw_importance, importance_numbers
from analysis.figures.table import FIGURES
from analysis.importance import COLUMNS, Sheet, divergences, fanova, main_effects, null_lines, shares, sheet
from analysis.results import Results


def sheet_of(columns, losses, levels=(), points=None):
    axes = tuple(
        Axis(
            name,
            name,
            log=False,
            levels=tuple(np.unique(column[~np.isnan(column)])) if name in levels else (),
            low=0,
            high=1,
        )
        for name, column in columns.items()
    )
    rows = np.arange(len(losses)) if points is None else points
    return Sheet(axes, tuple(columns.values()), np.asarray(losses, dtype=float), rows, 0)


def even(rows):
    return np.ones((1, len(rows.losses)))


@pytest.fixture(scope="module")
def swept(build):
    """A function making `Results` with hyperparameters of which lr decides alone, unless told otherwise."""

    def make(*, seed=0, keep=None, effect=lambda lr, beta: abs(lr + 3) * 0.8, **design) -> Results:
        base = build(methods=("ns", "ns+gp1"), confirmatory=(), points=16, seed=seed, **design)
        rng = np.random.default_rng(seed)
        points = base.plan["point"].to_numpy()
        lr, beta = (rng.random(points.max() + 1)[points] for _ in range(2))
        plan = base.plan.assign(lr_g=10 ** (-5 + 4 * lr), lr_d=10 ** (-5 + 4 * lr), beta1=beta)
        loss = effect(-5 + 4 * lr, beta)
        failed = loss > 1.2
        trials = base.trials.assign(
            status=np.where(failed, "diverged", "completed"), primary=np.where(failed, np.nan, 0.03 * np.exp(2 * loss))
        )
        return Results("swept", plan, trials[:keep], (), None)

    return make


def test_shares_sum_to_one_and_name_what_decides(swept):
    found = shares(swept(), "manifold-d2", "ns", rng=np.random.default_rng(0))
    assert tuple(found.columns) == COLUMNS
    assert list(found["axis"]) == ["lr", "beta1"]
    assert found["share"].sum() == pytest.approx(1)
    assert list(found["above"]) == [True, False]
    assert (found["low"] <= found["share"]).all()
    assert (found["share"] <= found["high"]).all()
    assert found["low"].min() >= 0
    assert found["high"].max() <= 1
    assert (found["n"] == 128).all()


def study_of(columns, losses, levels, repeats):
    """The same rows as an Optuna study, each as often as said; what has no value has no such parameter."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    distributions = {
        name: CategoricalDistribution(np.unique(column).tolist())
        if name in levels
        else FloatDistribution(np.nanmin(column), np.nanmax(column))
        for name, column in columns.items()
    }
    study = optuna.create_study()
    for row, loss in enumerate(losses):
        params = {name: float(column[row]) for name, column in columns.items() if column[row] == column[row]}
        for _ in range(int(repeats[row])):
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions={name: distributions[name] for name in params}, value=float(loss)
                )
            )
    return study


@pytest.fixture
def quiet_optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.mark.filterwarnings("ignore:Argument ``normalize``")
@pytest.mark.parametrize("resampled", [False, True])
def test_divergences_are_those_of_optuna(resampled, quiet_optuna):
    import optuna

    rng = np.random.default_rng(3)
    n = 150
    columns = {"a": rng.random(n), "b": rng.normal(size=n), "level": rng.integers(0, 3, n).astype(float)}
    columns["sometimes"] = np.where(rng.random(n) < 0.6, rng.random(n), np.nan)
    losses = np.abs(columns["a"] - 0.3) + 0.1 * columns["level"] + np.nan_to_num(columns["sometimes"])
    weights = rng.multinomial(n, np.full(n, 1 / n)) if resampled else np.ones(n, dtype=int)
    study = study_of(columns, losses, {"level"}, weights)
    theirs = optuna.importance.get_param_importances(study, normalize=False)
    ours = divergences(sheet_of(columns, losses, {"level"}), weights[None].astype(float))[0]
    # the same sums in another order: a few units in the last place of numbers near 1, over densities near 1e-2
    assert dict(zip(columns, ours, strict=True)) == pytest.approx(theirs, rel=1e-10)


def test_a_divergence_by_hand():
    # 40 rows, 20 at each of two levels; only 3 do better than the worst, all at level 0: these are the best.
    # best: counts 3, 0; kernels 1 + 1; density of level 0 (3/2 + 3) / (1 + 2/2) + 1/2 = 2.75 of 4, level 1 1.25 of 4
    # all: counts 20, 20: 1/2 each. Divergence: 1/2 (.6875/.5 - 1)^2 + 1/2 (.3125/.5 - 1)^2 = .375^2 = .140625
    # times (3/40)^2 = .005625
    level = np.repeat([0.0, 1.0], 20)
    losses = np.ones(40)
    losses[:3] = 0.0
    rows = sheet_of({"level": level}, losses, {"level"})
    assert divergences(rows, even(rows))[0, 0] == pytest.approx(0.140625 * 0.005625)


def test_failures_count():
    # beta decides who fails; of those that do not, all score the same but for noise: without failures nothing is left
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 400))
    losses = np.where(b < 0.85, 1.0, 0.1 * rng.random(400))
    rows = sheet_of({"a": a, "b": b}, losses)
    found = divergences(rows, even(rows))[0]
    assert found[1] / found.sum() > 0.9


def test_failures_at_the_cap_are_in_every_value(swept):
    results = swept()
    failed = (results.trials["status"] == "diverged").to_numpy()[: len(results.plan) // 2]
    for value, worst in (("utility", 1.0), ("log_metric", np.log(2.0)), ("success", 1.0)):
        rows = sheet(results, "manifold-d2", "ns", value=value)
        assert len(rows.losses) == 128
        assert np.isfinite(rows.losses).all()
        assert (rows.losses == worst).sum() >= failed.sum()
        assert rows.losses.max() == worst


def test_log_metric_has_no_log_of_zero(swept):
    results = swept()
    results = Results("zero", results.plan, results.trials.assign(status="completed", primary=0.0), (), None)
    rows = sheet(results, "manifold-d2", "ns", value="log_metric")
    assert (rows.losses == np.log(0.02)).all()
    assert shares(results, "manifold-d2", "ns", rng=np.random.default_rng(0)).empty  # all score the same


# Trap 2: logarithmic scales


def test_two_equal_factors_share_equally_on_a_logarithmic_axis():
    rng = np.random.default_rng(0)
    lr, b = rng.random((2, 300))
    losses = np.abs(lr - 0.5) + np.abs(b - 0.5)
    rows = sheet_of({"lr": -5 + 4 * lr, "b": b}, losses)
    found = divergences(rows, even(rows))[0]
    assert found[0] / found.sum() == pytest.approx(0.5, abs=0.1)
    forest = main_effects({"lr": -5 + 4 * lr, "b": b}, losses, seed=1)
    assert forest["lr"] / sum(forest.values()) == pytest.approx(0.5, abs=0.05)
    linear = main_effects({"lr": 10 ** (-5 + 4 * lr), "b": b}, losses, seed=1)
    assert linear["lr"] / sum(linear.values()) < 0.4  # what it is not


def test_the_learning_rate_enters_as_log10(swept):
    rows = sheet(swept(), "manifold-d2", "ns")
    lr = rows.columns[[axis.word for axis in rows.axes].index("lr")]
    assert lr.min() >= -5
    assert lr.max() <= -1


# fANOVA


FACTORIALS = [
    ([[0, 0], [1, 1]], 1, 0),
    ([[0, 1], [1, 2]], 1 / 2, 1 / 2),
    ([[0, 1], [1, 0]], 0, 0),
    ([[0, 0], [0, 1]], 1 / 3, 1 / 3),
    ([[0, 2], [0, 2]], 0, 1),
    # rows 0, 1, 2: variance 2/3; columns 0, 1: 1/4; shares 8/11 and 3/11
    ([[0, 1], [1, 2], [2, 3]], 8 / 11, 3 / 11),
    # rows 5/2, 5/2, 1: variance 1/2; columns 5/3, 7/3: 1/9; 0 5 3 2 2 0 has mean 2 and variance 42/6 - 4 = 3
    ([[0, 5], [3, 2], [2, 0]], 0.5 / 3, (1 / 9) / 3),
]


def check_factorial(cells, a, b, levels):
    # with 60 rows in every cell each bootstrap sample of a tree has all cells (it misses one with chance e^-60), so
    # that its leaves are the cells and the forest is the table: what is left is rounding
    table = np.array(cells, dtype=float)
    first, second = (axis.ravel().repeat(60).astype(float) for axis in np.indices(table.shape))
    found = main_effects({"a": first, "b": second}, table.ravel().repeat(60), levels=levels, seed=0)
    assert found == pytest.approx({"a": a, "b": b}, abs=1e-9)


@pytest.mark.parametrize(("cells", "a", "b"), FACTORIALS)
def test_fanova_of_a_full_factorial_is_exact(cells, a, b):
    check_factorial(cells, a, b, {"a": len(cells), "b": 2})


@pytest.mark.parametrize(("cells", "a", "b"), FACTORIALS[:5])
def test_fanova_of_two_ends_of_a_range_is_exact_too(cells, a, b):
    check_factorial(cells, a, b, None)


def test_fanova_of_results(swept):
    results = swept()
    found = fanova(results, "manifold-d2", "ns", rng=np.random.default_rng(0))
    assert set(found) == {"lr", "beta1"}
    assert found["lr"] > 0.8 > 0.1 > found["beta1"]
    assert found == fanova(results, "manifold-d2", "ns", rng=np.random.default_rng(0))
    assert fanova(swept(keep=20), "manifold-d2", "ns", rng=np.random.default_rng(0)) == {}


def test_fanova_says_nothing_and_leaves_optuna_as_it_was(capfd):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.INFO)
    main_effects({"a": np.arange(40.0), "b": np.arange(40.0)[::-1]}, np.arange(40.0), seed=0)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == logging.INFO


# The null line and the interval


def test_a_hyperparameter_without_effect_rises_above_its_line_in_five_percent():
    rng = np.random.default_rng(7)
    alarms = []
    for _ in range(150):
        a, b, c = rng.random((3, 64))
        rows = sheet_of({"a": a, "b": b, "level": np.floor(3 * c)}, rng.random(64), {"level"})
        alarms.append(divergences(rows, even(rows))[0] > null_lines(rows, rng))
    # 150 of each: a rate of .05 gives at most 15 with chance .996
    assert (np.sum(alarms, axis=0) <= 15).all()
    assert np.sum(alarms) >= 5  # and it is a line of 5 %, not one that nothing crosses: fewer than 5 of 450 < 1e-4


def test_rows_of_a_point_are_shuffled_together():
    # 4 rows of a point share what decides, so that a hyperparameter without effect follows its points' luck: shuffled
    # as if the rows were independent it rose above its line in most cases
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(100):
        points = np.repeat(np.arange(24), 4)
        columns = {"lone": rng.random(24)[points], "crossed": np.tile([0.0, 1.0, 2.0, 3.0], 24)}
        rows = sheet_of(columns, rng.random(24)[points] + 0.05 * rng.random(96), {"crossed"}, points)
        alarms.append(divergences(rows, even(rows))[0] > null_lines(rows, rng))
    assert (np.sum(alarms, axis=0) <= 11).all()  # .05 of 100: at most 11 with chance .996


def test_what_decides_rises_above_its_line():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 200))
    rows = sheet_of({"a": a, "b": b}, np.abs(a - 0.4))
    found, line = divergences(rows, even(rows))[0], null_lines(rows, rng)
    assert found[0] > 3 * line[0]


def test_the_interval_covers_the_share_of_a_large_sample(swept):
    def draw(n):
        a, b, c = rng.random((3, n))
        return {"a": a, "b": b, "c": c}, np.abs(a - 0.5) + 0.5 * np.abs(b - 0.3) + 0.1 * rng.random(n)

    rng = np.random.default_rng(5)
    rows = sheet_of(*draw(200_000))
    truth = divergences(rows, even(rows))[0]
    truth = truth / truth.sum()
    hits = []
    for _ in range(120):
        rows = sheet_of(*draw(128))
        share = importance._normalised(divergences(rows, even(rows)))[0]
        spread = importance._normalised(divergences(rows, importance._resampled(rows.points, 50, rng)))
        low, high = importance._ends(share, spread)
        hits.append((low <= truth) & (truth <= high))
    # measured over 200: .96, .96, 1.00; of 120, a coverage of .95 gives at least 107 with chance .997
    assert (np.sum(hits, axis=0) >= 107).all()


# What there is too little of, and what must not matter


def test_too_little_to_say_anything(swept):
    rng = np.random.default_rng(0)
    assert shares(swept(keep=29), "manifold-d2", "ns", rng=rng).empty
    assert len(shares(swept(keep=30), "manifold-d2", "ns", rng=rng)) == 2
    assert shares(swept(keep=30), "manifold-d2", "ns", rng=rng)["undecided"].tolist() == [98, 98]
    one = swept()
    one = Results("one", one.plan.assign(beta1=0.5), one.trials, (), None)
    assert shares(one, "manifold-d2", "ns", rng=rng).empty


def test_all_failed(swept, replaced):
    results = replaced(swept(), "diverged", np.nan)
    assert shares(results, "manifold-d2", "ns", rng=np.random.default_rng(0)).empty
    assert fanova(results, "manifold-d2", "ns", rng=np.random.default_rng(0)) == {}


def test_seeds_are_averaged_first(swept):
    rows = sheet(swept(seeds=2), "manifold-d2", "ns")
    assert len(rows.losses) == 128


def test_crossed_structures_are_configurations_of_their_point(swept):
    rows = sheet(swept(critics=(1, 5)), "manifold-d2", "ns")
    assert len(rows.losses) == 256
    assert len(np.unique(rows.points)) == 128
    assert [axis.word for axis in rows.axes] == ["lr", "beta1", "n_critic"]


@pytest.mark.parametrize("value", list(importance.VALUES))
def test_the_order_of_rows_does_not_matter(swept, value):
    results = swept(critics=(1, 5))
    mixed = Results(
        results.name,
        pd.concat([results.plan.iloc[::2], results.plan.iloc[1::2]]),
        results.trials.sample(frac=1, random_state=1),
        (),
        None,
    )
    first, second = (
        shares(r, "manifold-d2", "ns", rng=np.random.default_rng(0), value=value) for r in (results, mixed)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_an_adaptive_sweep_has_no_null_line(swept):
    results = swept()
    results = Results("tpe", results.plan.assign(sampler="tpe"), results.trials, (), None)
    found = shares(results, "manifold-d2", "ns", rng=np.random.default_rng(0))
    assert found["null"].isna().all()
    assert not found["above"].any()


def test_unknown_names_are_refused(swept):
    with pytest.raises(ValueError, match="unknown value 'fid': choose from utility, log_metric, success"):
        sheet(swept(), "manifold-d2", "ns", value="fid")
    with pytest.raises(ValueError, match=r"method 'wgan' is not planned on manifold-d2; planned: \['ns', 'ns\+gp1'\]"):
        sheet(swept(), "manifold-d2", "wgan")


# The figure


def test_the_figure_has_a_row_for_each_method_and_hyperparameter(swept):
    numbers = importance_numbers(swept(), rng=np.random.default_rng(0))
    assert list(numbers["method"]) == ["ns", "ns", "ns+gp1", "ns+gp1"]
    assert list(numbers["order"]) == [0, 0, 1, 1]
    figure = style.draw(FIGURES["importance"], numbers)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["manifold-d2"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ns", "ns+gp1"]
    filled = [patch.get_facecolor() != (1, 1, 1, 1) for patch in figure.axes[0].patches[2:]]
    assert filled == list(numbers["above"])


def test_the_figure_is_empty_without_hyperparameters(build, swept):
    assert importance_numbers(build(), rng=np.random.default_rng(0)).empty
    assert importance_numbers(swept(keep=20), rng=np.random.default_rng(0)).empty


def test_a_crowded_figure_stays_small():
    rows = [
        {
            "task": task,
            "method": f"m{m}",
            "axis": f"hyperparameter_{a}",
            "share": 0.1,
            "low": 0,
            "high": 0.3,
            "null": 2.0,
        }
        for task in ("one", "two")
        for m in range(12)
        for a in range(9)
    ]
    numbers = pd.DataFrame(rows).assign(above=False, order=lambda frame: frame["method"].str[1:].astype(int))
    width, height = draw_importance(numbers).get_size_inches()
    assert width < 9
    assert height < 10
