import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import designs
from search_spaces.designs import DRAWN, grid, sobol
from search_spaces.hyperparameters import DIMENSIONS

DESIGNS = pytest.mark.parametrize("design", DRAWN.values(), ids=DRAWN.keys())


@DESIGNS
@given(seed=st.integers(0, 2**32), replicate=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_a_point_lies_in_the_half_open_unit_cube(design, seed, replicate):
    points = design(8, seed=seed, replicate=replicate)
    assert points.shape == (8, DIMENSIONS)
    assert np.all((points >= 0) & (points < 1))


@DESIGNS
def test_the_same_arguments_give_the_same_points_whatever_the_global_state(design):
    before = design(16, seed=3, replicate=1)
    np.random.seed(1)  # noqa: NPY002 - the point is to disturb it
    np.random.random(5)  # noqa: NPY002 - it is there to be disturbed
    np.testing.assert_array_equal(design(16, seed=3, replicate=1), before)


@DESIGNS
def test_the_global_state_is_left_alone(design):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is there to be disturbed
    design(8, seed=0, replicate=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - it is there to be disturbed


@DESIGNS
def test_a_longer_design_begins_with_the_shorter_one(design):
    np.testing.assert_array_equal(design(32, seed=0, replicate=2)[:8], design(8, seed=0, replicate=2))


@DESIGNS
def test_replicates_and_seeds_share_no_coordinate(design):
    base = design(8, seed=0, replicate=0)
    for other in (design(8, seed=0, replicate=1), design(8, seed=1, replicate=0)):
        assert not np.any(base == other)


@given(seed=st.integers(0, 2**32), replicate=st.integers(0, 100), log_n=st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_every_column_of_a_sobol_design_has_one_point_in_each_interval(seed, replicate, log_n):
    n = 2**log_n
    cells = np.floor(n * sobol(n, seed=seed, replicate=replicate)).astype(int)
    assert np.array_equal(np.sort(cells, axis=0), np.tile(np.arange(n)[:, None], DIMENSIONS))


def test_the_drawn_points_are_those_of_earlier_releases():
    # golden: a scipy that draws other points would move every configuration and every trial id
    point = sobol(2, seed=0, replicate=0)[:, 26]
    np.testing.assert_allclose(point, [0.6005914118140936, 0.13940377812832594], rtol=0, atol=1e-12)


def test_a_grid_is_every_combination_with_the_last_name_fastest():
    found = grid({"lr": [0.0, 1.0], "beta1": [0.25, 0.75]})
    assert {name: values.tolist() for name, values in found.items()} == {
        "lr": [0.0, 0.0, 1.0, 1.0],
        "beta1": [0.25, 0.75, 0.25, 0.75],
    }


def test_a_grid_of_nothing_has_no_name():
    assert grid({}) == {}


@DESIGNS
def test_some_dimensions_are_those_of_the_whole_design(design):
    whole = design(16, seed=4, replicate=2)
    np.testing.assert_array_equal(design(16, seed=4, replicate=2, dimensions=[26, 0, 55]), whole[:, [26, 0, 55]])


@DESIGNS
def test_points_drawn_in_blocks_are_those_drawn_at_once(design, monkeypatch):
    whole = design(64, seed=4, replicate=2)
    monkeypatch.setattr(designs, "BLOCK", 8)
    np.testing.assert_array_equal(design(64, seed=4, replicate=2), whole)
