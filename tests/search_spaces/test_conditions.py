"""Conditions on hyperparameters: what they mean, against Python's own meaning of the text, and what is refused."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.conditions import LONGEST, ConditionError, parse_condition

NUMBERS = ("lr", "beta1", "n_critic")
TEXTS = ("optimiser", "network")
WORDS = ("adam", "sgd", "rms prop", "")
VALUES = (0.0, 0.5, 1.0, 2.0, 1e-3, -1.0)

orders = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
numeric = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(VALUES).map(repr))
textual = st.one_of(st.sampled_from(TEXTS), st.sampled_from(WORDS).map(repr))


def chain(operands: st.SearchStrategy[str], comparisons: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    rest = st.lists(st.tuples(comparisons, operands), min_size=1, max_size=3)
    return st.builds(lambda first, more: first + "".join(f" {c} {o}" for c, o in more), operands, rest)


def member(operands: st.SearchStrategy[str], values: tuple[object, ...]) -> st.SearchStrategy[str]:
    lists = st.lists(st.sampled_from(values).map(repr), min_size=1, max_size=3).map(", ".join)
    return st.builds("{} {} [{}]".format, operands, st.sampled_from(("in", "not in")), lists)


leaves = st.one_of(
    chain(numeric, orders),
    chain(textual, st.sampled_from(("==", "!="))),
    member(numeric, VALUES),
    member(textual, WORDS),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
).filter(lambda text: any(name in text for name in (*NUMBERS, *TEXTS)))
rows = st.lists(
    st.fixed_dictionaries(
        {name: st.sampled_from((*VALUES, math.nan)) for name in NUMBERS}
        | {name: st.sampled_from((*WORDS, math.nan)) for name in TEXTS}
    ),
    min_size=1,
    max_size=6,
)


@given(expressions, rows)
def test_a_condition_means_what_python_means_by_the_text(text: str, table: list[dict[str, object]]) -> None:
    columns = {name: [row[name] for row in table] for name in (*NUMBERS, *TEXTS)}
    expected = [bool(eval(text, {"__builtins__": {}}, dict(row))) for row in table]
    found = parse_condition(text).holds(columns)
    assert found.dtype == np.bool_
    assert found.tolist() == expected


@given(expressions)
def test_what_is_read_names_what_it_needs(text: str) -> None:
    condition = parse_condition(text)
    assert set(condition.names) <= {*NUMBERS, *TEXTS}
    assert len(set(condition.names)) == len(condition.names)
    assert condition.text == text


@given(st.text(max_size=40))
def test_no_text_fails_otherwise_than_by_a_condition_error(text: str) -> None:
    with contextlib.suppress(ConditionError):
        assert parse_condition(text).names


def test_columns_may_be_pandas_with_missing_texts_and_numbers() -> None:
    frame = pd.DataFrame({"network": ["mlp", None, "dcgan"], "clip": [0.1, np.nan, 1.0], "n": pd.array([1, None, 5])})
    assert parse_condition("network == 'mlp'").holds(frame).tolist() == [True, False, False]
    assert parse_condition("network != 'mlp'").holds(frame).tolist() == [False, True, True]
    assert parse_condition("clip < 2").holds(frame).tolist() == [True, False, True]
    assert parse_condition("n not in [5]").holds(frame).tolist() == [True, True, False]


def test_a_column_with_nothing_in_it_may_be_of_texts_or_numbers() -> None:
    frame = pd.DataFrame({"network": [None, None], "lr": [1.0, 2.0]})
    assert not parse_condition("network == 'mlp'").holds(frame).any()
    assert not parse_condition("network > 3").holds(frame).any()
    assert parse_condition("network != 'mlp' and lr > 0").holds(frame).all()


def test_no_rows_are_no_error() -> None:
    assert parse_condition("lr > 1 or network == 'mlp'").holds({"lr": [], "network": []}).shape == (0,)


def test_names_come_once_in_the_order_of_the_text() -> None:
    assert parse_condition("b > 1 and (a < b or c in [3, 2])").names == ("b", "a", "c")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lr", "compare it"),
        ("not lr", "compare it"),
        ("lr + 1 > 2", r"`lr \+ 1` is not supported"),
        ("__import__('os')", "is not supported"),
        ("lr.real > 1", "`lr.real` is not supported"),
        ("lr > (lambda: 1)()", "is not supported"),
        ("lr > True", "`True` is not supported"),
        ("lr > 1j", "`1j` is not supported"),
        ("lr > -beta1", "`-beta1` is not supported"),
        ("lr is 3", "use =="),
        ("lr in beta1", "needs a list"),
        ("lr in []", "needs a list"),
        ("lr in [1, beta1]", "needs a list of numbers or texts"),
        ("lr in [1] == 2", "last of a chain"),
        ("(x := 3) > lr", "is not supported"),
        ("1 < 2", "names no hyperparameter"),
        ("lr >", "is not an expression"),
        ("", "is not an expression"),
        ("lr > 1; lr", "is not an expression"),
        ("lr > 1\nimport os", "is not an expression"),
        ("lr > 1" + " " * LONGEST, "too long"),
        ("(" * 250 + "lr" + ")" * 250 + " > 1", "not an expression"),
        ("lr > 1\0", "cannot be read|not an expression"),
    ],
)
def test_whatever_the_language_lacks_is_refused_in_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(ConditionError, match=reason):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("momentum > 1", "unknown hyperparameter 'momentum': there are lr, optimiser"),
        ("optimiser == 3", "one is a text, one a number"),
        ("lr == 'adam'", "one is a text, one a number"),
        ("lr in ['adam']", "one is a text, one a number"),
        ("optimiser > 'adam'", "`optimiser` is a text, which has no order"),
        ("'adam' < optimiser", "has no order"),
    ],
)
def test_what_the_columns_cannot_answer_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ConditionError, match=reason):
        parse_condition(text).holds({"lr": [1.0], "optimiser": ["adam"]})


def test_numbers_too_large_for_a_float_compare_as_infinite() -> None:
    assert parse_condition(f"lr < {10**400}").holds({"lr": [1e308]}).tolist() == [True]
