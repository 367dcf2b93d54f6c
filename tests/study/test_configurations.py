import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import Choice, LogUniform, Uniform
from study.configurations import Column, Configurations, column, merged, object_texts, product, rounded_column
from study.errors import UserError
from study.trial import rounded

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def codes(*values):
    return np.array(values, np.intp)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_numbers_are_rounded_and_spelt_as_json_does(values):
    found = rounded_column(values, np.arange(len(values)))
    assert list(found.values) == [rounded(value) for value in values]
    assert found.texts == [json.dumps(rounded(value)) for value in values]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=10), st.booleans())
def test_a_product_is_that_of_each_pair(pairs, shared):
    first, second = zip(*pairs, strict=True)
    places = np.arange(len(pairs))
    found = product(rounded_column(first, places), rounded_column(second, places if shared else places.copy()))
    expected = [rounded(rounded(a) * rounded(b)) for a, b in pairs]
    np.testing.assert_array_equal(found.numbers, expected)


def test_a_product_with_one_number_keeps_the_codes():
    found = product(column([0.5, 0.25], codes(1, 0, 1)), column([3.0], codes(0, 0, 0)))
    assert found.numbers.tolist() == [0.75, 1.5, 0.75]
    assert found.texts == ["0.75", "1.5", "0.75"]


def test_columns_are_merged_row_by_row():
    found = merged([column([1.0], codes(0, 0, 0)), column([2.0, 3.0], codes(1, 0, 1))], codes(1, 0, 1))
    assert found.numbers.tolist() == [3.0, 1.0, 3.0]
    assert found.texts == ["3.0", "1.0", "3.0"]


def test_an_object_leaves_out_what_has_no_value_and_sorts_its_keys():
    rows = {
        "zeta": column([None, 1.5], codes(0, 1, 0)),
        "beta": column([0.5, 2.0], codes(0, 1, 1)),
        "alpha": column(["x", None], codes(0, 1, 1)),
        "gamma": column([None], codes(0, 0, 0)),
        "delta": column([7], codes(0, 0, 0)),
    }
    expected = [
        {"alpha": "x", "beta": 0.5, "delta": 7},
        {"beta": 2.0, "delta": 7, "zeta": 1.5},
        {"beta": 2.0, "delta": 7},
    ]
    assert list(object_texts(rows, 3)) == [
        json.dumps(row, sort_keys=True, separators=(",", ":"))[1:-1] for row in expected
    ]


@pytest.mark.parametrize(
    "domain", [LogUniform(1e-5, 1e-2), LogUniform(3.0, 7.0), Uniform(0.1, 0.9), Choice((0.1, 0.30000000000000004, 1))]
)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=30))
def test_a_column_has_what_the_domain_gives_at_each_coordinate(tiny, domain, u):
    found = Configurations(tiny())
    found._of_point = np.arange(len(u))
    drawn = found._at("lr", domain, np.array(u))
    assert drawn.numbers.tolist() == [rounded(float(domain.at(x))) for x in u]


def test_what_is_drawn_beyond_its_range_is_refused(tiny):
    with pytest.raises(UserError, match=r"beta1 = 1\.0: must be at least 0 and below 1"):
        Configurations(tiny(space={"override": {"lr": 0.1, "beta1": {"uniform": [0, 1]}}}, design={"kind": "grid"}))


def test_configurations_are_points_with_structures_fastest(tiny):
    space = {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "n_critic": {"cross": [1, 5, 2]}}}
    found = Configurations(tiny(space=space, design={"points": 2, "replicates": 2}))
    assert len(found) == 12
    assert found.replicate.tolist() == [0] * 6 + [1] * 6
    assert found.point.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert found.shared["n_critic"].numbers.tolist() == [1, 5, 2] * 4
    assert [len(set(rates)) for rates in found.shared["lr"].numbers.reshape(4, 3).tolist()] == [1, 1, 1, 1]
    assert len(set(found.config)) == 12
    assert len({*found.keys(0), *found.keys(1)}) == 24


def test_alike_configurations_are_counted(tiny):
    found = Configurations(tiny(space={"override": {"lr": 0.5}}, design={"points": 4}))
    assert [root.rpartition("/")[2] for root in found.roots] == ["0", "1", "2", "3"]
    assert len({root.rpartition("/")[0] for root in found.roots}) == 1
    assert len(set(found.config)) == 4


def test_a_column_without_a_value_is_not_a_number():
    found = Column([0.5, None], codes(1, 0), ["0.5", "null"])
    assert math.isnan(found.numbers[0])
    assert found.numbers[1] == 0.5
