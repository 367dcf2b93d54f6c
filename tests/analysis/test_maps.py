import numpy as np
import pandas as pd
import pytest

from analysis.axes import axes_of, axis_named
from analysis.intervals import wilson
from analysis.maps import COLUMNS, cells_for, failure_map, success_map, usual_pair
from study.errors import UserError
from tests.analysis.drawn import FACTS, GOOD, TASK, adaptive, declared, drawn, good_where, noisy, shuffled

CROSSED = {
    "space": {"preset": "lucic_wide", "override": {"optimiser": {"cross": ["adam", "sgd"]}}},
    "design": {"kind": "random", "points": 24, "seeds": 2},
}


def cells(found, column="count"):
    return found.pivot_table(index="y_bin", columns="x_bin", values=column, dropna=False).to_numpy()


def test_four_cells_by_hand():
    """A grid of two rates and two betas, three methods' worth of nothing: only low rate and high beta succeed."""
    results = drawn(
        good_where(lambda plan: (plan["lr_g"] < 1e-4) & (plan["beta1"] > 0.4)),
        methods=["ns"],
        design={"kind": "grid", "levels": 2, "seeds": 3},
    )
    found = success_map(results, TASK, "ns", "lr", "beta1")
    np.testing.assert_array_equal(cells(found), [[0, 0], [1, 0]])  # three seeds are one point
    np.testing.assert_array_equal(cells(found, "points"), [[1, 1], [1, 1]])
    assert list(found["x_label"].unique()) == ["1e-05", "0.01"]
    assert (found["low"][0], found["high"][0]) == wilson(0, 1)


def test_the_map_of_a_variant_covers_its_own_range():
    variant = {"v": {"lr": {"log_uniform": [1e-4, 1e-3]}}}
    found = success_map(declared(methods=["ns@v"], variant=variant), TASK, "ns@v", "lr", "beta1")
    assert (found["x_low"].min(), found["x_high"].max()) == pytest.approx((1e-4, 1e-3))
    assert (found.groupby("x_bin")["points"].sum() > 0).all()


@pytest.mark.parametrize("pair", [("lr", "beta1"), ("n_critic", "lr"), ("optimiser", "n_critic")])
@pytest.mark.parametrize("event", ["success", "failure"])
def test_cells_are_those_of_a_loop_over_points(pair, event):
    results = drawn(noisy(7, missing=0.1), **CROSSED)
    axes = axes_of(results, TASK, "ns+gp1")
    x, y = (axis_named(axes, name) for name in pair)
    outcomes = results.outcomes(TASK)
    rows = outcomes[outcomes["method"] == "ns+gp1"]
    known = rows[rows["status"].notna()]
    met = known["primary"] <= FACTS["threshold"] if event == "success" else known["status"] == "diverged"
    found = success_map(results, TASK, "ns+gp1", *pair, cells=3, event=event)
    assert len(found) == x.count(3) * y.count(3)
    for row in found.itertuples():
        here = (x.bin(x.of(known), 3) == row.x_bin) & (y.bin(y.of(known), 3) == row.y_bin)
        by_point = met[here].groupby(known["point"][here]).mean()
        assert row.points == len(by_point)
        assert row.count == pytest.approx(by_point.sum())
    assert found["undecided"].sum() == len(rows) - len(known)


def test_cells_put_together_are_all_of_it():
    results = drawn(noisy(2))
    found = success_map(results, TASK, "ns", "lr", "beta1")
    assert found["points"].sum() == 32
    outcomes = results.outcomes(TASK)
    diverged = (outcomes["method"] == "ns") & (outcomes["status"] == "diverged")
    assert failure_map(results, TASK, "ns")["count"].sum() == diverged.sum()


def test_an_empty_cell_is_empty_and_its_interval_says_nothing():
    found = success_map(drawn(design={"kind": "random", "points": 2}), TASK, "ns", "lr", "beta1")
    empty = found[found["points"] == 0]
    assert len(empty) >= 7
    assert empty["share"].isna().all()
    assert (empty[["low", "high"]] == [0.0, 1.0]).all(axis=None)


def test_nothing_finished_is_a_map_of_empty_cells():
    found = success_map(drawn(lambda plan: np.full(len(plan), np.nan)), TASK, "ns", "lr", "beta1")
    assert (found["points"] == 0).all()
    assert found["undecided"].sum() == 32


def test_the_order_of_rows_does_not_matter():
    results = drawn(noisy(2, missing=0.1), **CROSSED)
    maps = [success_map(found, TASK, "ns", "lr", "optimiser") for found in (results, shuffled(results))]
    pd.testing.assert_frame_equal(*maps)
    assert list(maps[0].columns) == list(COLUMNS)


def test_ends_are_given_in_the_hyperparameters_unit():
    found = success_map(drawn(), TASK, "ns", "lr", "beta1", cells=3)
    np.testing.assert_allclose(found.drop_duplicates("x_bin")["x_low"], [1e-5, 1e-4, 1e-3])
    np.testing.assert_allclose(found.drop_duplicates("y_bin")["y_high"], [0.8 / 3, 1.6 / 3, 0.8])
    texts = success_map(drawn(noisy(2), **CROSSED), TASK, "ns", "optimiser", "n_critic")
    assert texts["x_low"].isna().all()
    assert list(texts.drop_duplicates("y_bin")["y_low"]) == [1.0, 5.0]


def test_a_sampler_that_looked_at_results_is_named():
    assert set(success_map(adaptive(drawn()), TASK, "ns", "lr", "beta1")["visited"]) == {"tpe"}


@pytest.mark.parametrize(("points", "count"), [(0, 3), (72, 3), (128, 4), (200, 5), (10_000, 6)])
def test_cells_grow_with_the_points(points, count):
    assert cells_for(points) == count


def test_the_usual_pair():
    assert usual_pair(drawn(), TASK) == ("lr", "beta1")
    assert usual_pair(drawn(space={"override": {"lr": 1e-3}}), TASK) is None
    space = {"override": {"lr": {"log_uniform": [1e-4, 1e-2]}, "penalty_weight": {"log_uniform": [1.0, 10.0]}}}
    crossed = {"override": space["override"] | {"n_critic": {"cross": [1, 5]}}}
    assert usual_pair(drawn(space=space), TASK) == ("lr", "penalty_weight")
    assert usual_pair(drawn(space=crossed), TASK) == ("lr", "n_critic")  # both methods vary it, one the weight


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ("lr", "lr", "a map has two different sides, got lr for both"),
        (
            "lr",
            "momentum",
            "unknown hyperparameter that varies for ns on manifold-d2: 'momentum': choose from beta1, lr",
        ),
        ("clip", "lr", "unknown hyperparameter that varies for ns on manifold-d2: 'clip': choose from"),
    ],
)
def test_a_side_that_does_not_vary_is_refused(x, y, said):
    with pytest.raises(UserError, match=said):
        success_map(drawn(), TASK, "ns", x, y)


def test_an_unknown_event_is_refused():
    with pytest.raises(ValueError, match="a map counts one of"):
        success_map(drawn(lambda plan: np.full(len(plan), GOOD)), TASK, "ns", "lr", "beta1", event="luck")
