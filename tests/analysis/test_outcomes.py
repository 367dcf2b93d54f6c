import numpy as np
import pandas as pd

from analysis.outcomes import code, point_means, sample, trial_weights


def test_each_ending_has_its_number():
    coded = code(["completed", "diverged", "oom", "stopped", np.nan], [3.0, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(coded, [3.0, np.inf, np.inf, np.nan, np.nan])


def test_no_outcomes_are_no_numbers():
    assert code([], []).shape == (0,)


def test_decided_trials_keep_their_points(sampled):
    known = sampled([1.0, np.nan, np.inf], points=[4, 5, 6], replicates=[0, 1, 1]).decided()
    np.testing.assert_array_equal(known.values, [1.0, np.inf])
    np.testing.assert_array_equal(known.points, [4, 6])
    np.testing.assert_array_equal(known.replicates, [0, 1])


def test_points_are_averaged_before_anything_else(sampled):
    trials = sampled([0.0, 0.0, 0.0, 0.0], points=[0, 0, 0, 1])
    means = point_means([1.0, 1.0, 0.0, 0.0], trials)
    np.testing.assert_allclose(means.values, [2 / 3, 0.0])
    np.testing.assert_allclose(trial_weights(trials), [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_equal_point_numbers_of_two_replicates_are_two_points(sampled):
    means = point_means([1.0, 2.0, 3.0], sampled([0.0] * 3, points=[0, 0, 1], replicates=[0, 1, 1]))
    np.testing.assert_array_equal(means.values, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(means.replicates, [0, 1, 1])


def test_rows_of_a_table_become_a_sample():
    rows = pd.DataFrame(
        {"status": ["completed", None], "primary": [0.5, np.nan], "replicate": [0, 1], "point": [3, 9], "more": "x"}
    )
    found = sample(rows)
    np.testing.assert_array_equal(found.values, [0.5, np.nan])
    np.testing.assert_array_equal(found.points, [3, 9])
    np.testing.assert_array_equal(found.replicates, [0, 1])
