import math

import numpy as np
import pandas as pd
import pytest

from analysis.axes import Axis, axes_of, axis_named
from analysis.intervals import wilson
from analysis.sensitivity import COLUMNS, along, basin, basins, bins_for, sensitivity
from tests.analysis.drawn import BAD, FACTS, GOOD, TASK, adaptive, declared, drawn, good_where, noisy, shuffled

LR = Axis("lr_g", "lr", log=True, levels=(), low=1e-5, high=1e-2)
BETA = Axis("beta1", "beta1", log=False, levels=(), low=0.0, high=0.8)
CROSSED = {
    "space": {"preset": "lucic_wide"},
    "design": {"kind": "random", "points": 30, "seeds": 2},
}


def rows_of(results, method="ns", task=TASK):
    outcomes = results.outcomes(task)
    return outcomes[outcomes["method"] == method]


def table(shares, points=10, axis=LR):
    edges = axis.edges(len(shares))
    return pd.DataFrame(
        {
            "success": shares,
            "points": points,
            "label": [axis.label(i, len(shares)) for i in range(len(shares))],
            "low": edges[:-1],
            "high": edges[1:],
        }
    )


# ---- ranges of a variant's own


def test_the_basin_of_a_variant_is_of_its_own_range():
    """Half a decade is all that it draws from: that is the measure of its basin, not the sweep's three decades."""
    variant = {"v": {"lr": {"log_uniform": [1e-4, 10**-3.5]}}}
    results = declared(methods=["ns", "ns@v"], variant=variant)
    found = {method: basins(results, TASK, method)[0] for method in ("ns", "ns@v")}
    assert (found["ns@v"].word, found["ns@v"].unit) == ("lr", "decades")
    assert (found["ns@v"].of, found["ns@v"].width) == pytest.approx((0.5, 0.5))
    assert (found["ns"].of, found["ns"].width) == pytest.approx((3.0, 3.0))


# ---- success in bins


def test_ten_points_by_hand():
    """Ten rates in the lowest of three decades, seven of which succeed: Wilson of 7/10 is .396778 to .892209."""
    results = drawn(
        lambda plan: np.where(np.argsort(np.argsort(plan["lr_g"])) < 7, GOOD, BAD),
        methods=["ns"],
        space={"override": {"lr": {"log_uniform": [1e-5, 1e-4]}, "beta1": 0.5}},
        design={"kind": "random", "points": 10},
    )
    found = along(rows_of(results), LR, FACTS["threshold"], bins=3)
    assert list(found["points"]) == [10, 0, 0]
    assert found.loc[0, ["success", "success_low", "success_high"]].tolist() == pytest.approx(
        [0.7, 0.396778, 0.892209], abs=1e-6
    )
    assert math.isnan(found.loc[1, "success"])
    assert found.loc[1, ["success_low", "success_high"]].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(found["centre"], [10**-4.5, 10**-3.5, 10**-2.5])
    assert list(found["label"]) == ["1e-05 to 0.0001", "0.0001 to 0.001", "0.001 to 0.01"]


@pytest.mark.parametrize("seed", range(4))
def test_bins_are_those_of_a_loop_over_points(seed):
    results = drawn(noisy(seed, missing=0.2), **CROSSED)
    for axis in axes_of(results, TASK, "ns+gp1"):
        rows = rows_of(results, "ns+gp1")
        found = along(rows, axis, FACTS["threshold"], bins=4)
        place = axis.bin(axis.of(rows), 4)
        for i in range(axis.count(4)):
            here = rows[place == i]
            known = here[here["status"].notna()]
            by_point = [float((group["primary"] <= FACTS["threshold"]).mean()) for _, group in known.groupby("point")]
            assert found.loc[i, "points"] == len(by_point)
            assert found.loc[i, "undecided"] == len(here) - len(known)
            assert found.loc[i, "success"] == pytest.approx(np.mean(by_point))
            low, high = wilson(sum(by_point), len(by_point))
            assert found.loc[i, ["success_low", "success_high"]].tolist() == pytest.approx([low, high])


def test_bins_put_together_are_all_of_it():
    results = drawn(noisy(1))
    rows = rows_of(results)
    found = along(rows, axis_named(axes_of(results, TASK), "lr"), FACTS["threshold"])
    assert found["points"].sum() == 32
    assert (found["points"] * found["success"]).sum() == pytest.approx((rows["primary"] <= FACTS["threshold"]).sum())


def test_failures_stay_in_the_denominator():
    results = drawn(lambda plan: np.where(np.arange(len(plan)) % 2, GOOD, np.inf), methods=["ns"])
    found = along(rows_of(results), BETA, FACTS["threshold"], bins=1)
    assert (found.loc[0, "success"], found.loc[0, "points"]) == (0.5, 32)


@pytest.mark.parametrize(("points", "bins"), [(0, 5), (1, 5), (64, 5), (96, 6), (128, 8), (10_000, 8)])
def test_bins_grow_with_the_points(points, bins):
    assert bins_for(points) == bins


def test_a_level_is_its_own_bin():
    results = drawn(good_where(lambda plan: plan["n_critic"] == 5), **CROSSED)
    found = along(rows_of(results), axis_named(axes_of(results, TASK), "n_critic"), FACTS["threshold"])
    assert list(found["label"]) == ["1", "5"]
    assert list(found["success"]) == [0.0, 1.0]
    assert list(found["points"]) == [30, 30]


# ---- the table


def test_every_hyperparameter_of_every_method_is_in_the_table():
    found = sensitivity(drawn(noisy(3), **CROSSED))
    assert list(found.columns) == list(COLUMNS)
    by_method = found.groupby("method", sort=False)["axis"].unique()
    assert list(by_method["ns"]) == ["lr", "beta1", "n_critic"]
    assert list(by_method["ns+gp1"]) == ["lr", "beta1", "n_critic", "penalty_weight"]
    assert found["visited"].isna().all()


def test_the_order_of_rows_does_not_matter():
    results = drawn(noisy(3, missing=0.1), **CROSSED)
    pd.testing.assert_frame_equal(sensitivity(results), sensitivity(shuffled(results)))


def test_nothing_that_varies_gives_an_empty_table(build):
    found = sensitivity(build())
    assert found.empty
    assert list(found.columns) == list(COLUMNS)


def test_nothing_finished_gives_empty_bins():
    found = sensitivity(drawn(lambda plan: np.full(len(plan), np.nan)))
    assert (found["points"] == 0).all()
    assert found["success"].isna().all()
    assert found["undecided"].sum() == 2 * 2 * 32  # along two axes, two methods, 32 trials each


def test_a_sampler_that_looked_at_results_is_named_and_has_no_basin():
    results = adaptive(drawn(noisy(1)))
    assert set(sensitivity(results)["visited"]) == {"tpe"}
    with pytest.raises(
        ValueError, match="configurations were chosen by tpe, which looked at results: a basin of theirs"
    ):
        basins(results, TASK, "ns")


# ---- basins


def test_a_basin_by_hand():
    """Six bins of three decades are half a decade each; three of them reach one half."""
    found = basin(table([0.0, 0.6, 1.0, 0.5, 0.2, 0.0]), LR)
    assert (found.width, found.of, found.unit, found.open) == (pytest.approx(1.5), pytest.approx(3.0), "decades", False)
    assert found.bins == ("3.16e-05 to 0.001",)
    # at 1 - .05/6 the lower end of 10 of 10 is above one half, those of 6 and 5 of 10 are not; 2 of 10 may reach it
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(2.0)
    assert found.words == ("lr: success is at least one half over 1.5 of 3 decades [0.5, 2]: 3.16e-05 to 0.001")


def test_a_basin_at_an_end_may_go_on():
    found = basin(table([1.0, 0.0, 0.0, 0.9], axis=BETA), BETA)
    assert found.open
    assert found.unit == "units"
    assert found.width == pytest.approx(0.4)
    assert found.bins == ("0 to 0.2", "0.6 to 0.8")
    assert "may go on beyond it" in found.words


def test_no_bin_is_no_basin():
    found = basin(table([0.1, 0.2, math.nan], points=[10, 10, 0]), LR)
    assert (found.width, found.bins, found.open) == (0.0, (), False)
    # at 1 - .05/3, z = 2.394: the upper end of 2 of 10 is .59, that of 1 of 10 is .48; of an empty bin nothing is known
    assert found.high == pytest.approx(2.0)
    assert "at least one half nowhere" in found.words


def test_a_basin_of_levels_counts_them():
    results = drawn(good_where(lambda plan: plan["n_critic"] == 5), **CROSSED)
    found = {item.word: item for item in basins(results, TASK, "ns")}["n_critic"]
    assert (found.width, found.of, found.unit, found.bins, found.open) == (1.0, 2.0, "levels", ("5",), False)


def test_the_interval_of_a_basin_covers():
    """All bins hold together with 95 %: W leaves its interval in at most 5 % of samples, true halves included."""
    rng = np.random.default_rng(5)
    missed, sims = 0, 600
    for _ in range(sims):
        true = rng.choice([0.1, 0.35, 0.5, 0.65, 0.9], 8)
        drawn_successes = rng.binomial(16, true)
        found = basin(table(drawn_successes / 16, points=16), LR)
        width = 3 / 8 * (true >= 0.5).sum()
        missed += not found.low - 1e-9 <= width <= found.high + 1e-9
    assert missed / sims <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sims)
