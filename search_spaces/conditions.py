"""Conditions on hyperparameters, such as `n_critic == 1 and beta1 > 0.8`: a small language, read and never executed.

What it has: names of hyperparameters, numbers, texts in quotes, the comparisons `== != < <= > >=`, chained ones too,
`in [...]` and `not in [...]` with numbers or texts, `and`, `or`, `not`, and parentheses. It means what Python means by
the same text. A value that is missing, such as the weight of a penalty that a method does not have, behaves as NaN
does: it meets only `!=` and `not in`.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

BoolArray = NDArray[np.bool_]
LONGEST = 1000
"""Characters of the longest condition."""

_ORDERS: dict[type[ast.cmpop], Callable[..., BoolArray]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[..., BoolArray]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    **_ORDERS,
}
_MEMBERSHIPS = (ast.In, ast.NotIn)


class ConditionError(ValueError):
    """A condition that cannot be read, or that the columns cannot answer; one sentence that names the condition."""


@dataclass(frozen=True)
class Condition:
    """A condition on hyperparameters.

    Attributes:
        text: As it was written.
        names: The hyperparameters that it names, in the order of their first appearance.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr = field(repr=False, compare=False)

    def holds(self, columns: Mapping[str, ArrayLike]) -> BoolArray:
        """Where the condition is met.

        Args:
            columns: Values by name, all of one shape (rows,): numbers, or texts; None and NaN are missing values.

        Returns:
            Shape (rows,).

        Raises:
            ConditionError: A name is no column, or a text is compared with a number.
        """
        for name in self.names:
            if name not in columns:
                raise self._error(f"unknown hyperparameter {name!r}: there are {', '.join(sorted(columns))}")
        read = {name: _column(columns[name]) for name in self.names}
        return np.asarray(self._value(self._tree, read), dtype=np.bool_)

    def _value(self, node: ast.expr, columns: Mapping[str, NDArray[np.generic]]) -> BoolArray:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            found = self._value(node.values[0], columns)
            for part in node.values[1:]:
                found = join(found, self._value(part, columns))
            return found
        if isinstance(node, ast.UnaryOp):
            return np.logical_not(self._value(node.operand, columns))
        if not isinstance(node, ast.Compare):
            raise self._error(f"{_shown(node)} is no comparison")
        ends = [node.left, *node.comparators]
        pairs = zip(ends, node.ops, node.comparators, strict=False)  # the last end has nothing to its right
        return _all([self._compared(left, comparison, right, columns) for left, comparison, right in pairs])

    def _compared(
        self, left: ast.expr, comparison: ast.cmpop, right: ast.expr, columns: Mapping[str, NDArray[np.generic]]
    ) -> BoolArray:
        if isinstance(comparison, _MEMBERSHIPS):
            items = right.elts if isinstance(right, ast.List | ast.Tuple) else []
            others = [self._compared(left, ast.NotEq(), item, columns) for item in items]
            return _all(others) if isinstance(comparison, ast.NotIn) else np.logical_not(_all(others))
        a, b = _operand(left, columns), _operand(right, columns)
        if _nothing(a) or _nothing(b):
            return np.full(np.broadcast_shapes(a.shape, b.shape), isinstance(comparison, ast.NotEq))
        if a.dtype != b.dtype:
            raise self._error(f"{_shown(left)} and {_shown(right)} cannot be compared: one is a text, one a number")
        if a.dtype != object:
            return np.asarray(_COMPARISONS[type(comparison)](a, b), dtype=np.bool_)
        if type(comparison) in _ORDERS:
            text = left if isinstance(left, ast.Name) else right
            raise self._error(f"{_shown(text)} is a text, which has no order: use == or in")
        same = np.asarray((a == b) & np.array([value is not None for value in a.flat]).reshape(a.shape), dtype=np.bool_)
        return same if isinstance(comparison, ast.Eq) else np.logical_not(same)

    def _error(self, reason: str) -> ConditionError:
        return ConditionError(f"condition {self.text!r}: {reason}")


def _all(parts: list[BoolArray]) -> BoolArray:
    return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*parts)), dtype=np.bool_)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionError: It is no expression, it has a piece that the language lacks, or it names no hyperparameter.
    """
    tree = _tree(text)
    try:
        names = tuple(dict.fromkeys(_check(tree)))
    except ConditionError as error:
        raise ConditionError(f"condition {text!r}: {error}") from None
    if not names:
        raise ConditionError(f"condition {text!r} names no hyperparameter: it would hold everywhere or nowhere")
    return Condition(text, names, tree)


def _tree(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ConditionError(f"a condition of {len(text)} characters is too long: at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on code, which this is not
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ConditionError(f"condition {text!r} is not an expression: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ConditionError(f"condition {text!r} cannot be read") from None


def _check(node: ast.expr) -> Iterator[str]:
    """The names in a truth value.

    Raises:
        ConditionError: For whatever the language lacks, without the condition's text.
    """
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            yield from _check(part)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield from _check(node.operand)
    elif isinstance(node, ast.Compare):
        yield from _check_operand(node.left)
        if any(isinstance(comparison, _MEMBERSHIPS) for comparison in node.ops[:-1]):
            raise ConditionError("`in` has to be the last of a chain of comparisons")
        for comparison, right in zip(node.ops, node.comparators, strict=True):
            yield from _check_right(comparison, right)
    elif isinstance(node, ast.Name | ast.Constant):
        raise ConditionError(f"{_shown(node)} alone is neither true nor false: compare it, e.g. {_shown(node)} == 1")
    else:
        raise _unsupported(node)


def _check_right(comparison: ast.cmpop, right: ast.expr) -> Iterator[str]:
    if not isinstance(comparison, _MEMBERSHIPS):
        if type(comparison) not in _COMPARISONS:
            raise ConditionError("`is` is not supported: use ==")
        yield from _check_operand(right)
    elif not (isinstance(right, ast.List | ast.Tuple) and right.elts) or None in map(_literal, right.elts):
        raise ConditionError(f"`in` needs a list of numbers or texts, e.g. in [1, 5], got {_shown(right)}")


def _check_operand(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif _literal(node) is None:
        raise _unsupported(node)


def _unsupported(node: ast.expr) -> ConditionError:
    return ConditionError(
        f"{_shown(node)} is not supported: there are names, numbers, quoted texts, == != < <= > >=, in [...], "
        "and, or, not and parentheses"
    )


def _literal(node: ast.expr) -> float | str | None:
    """The number or text that a node spells; None if it does not spell one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _literal(node.operand)
        if not isinstance(number, float):
            return None
        return -number if isinstance(node.op, ast.USub) else number
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _operand(node: ast.expr, columns: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    if isinstance(node, ast.Name):
        return columns[node.id]
    value = _literal(node)
    return np.asarray(value, dtype=object if isinstance(value, str) else np.float64)


def _column(values: ArrayLike) -> NDArray[np.generic]:
    """A column as float64, missing as NaN, or of texts as objects, missing as None."""
    found = np.asarray(values)
    if found.dtype.kind in "iufb":
        return found.astype(np.float64)
    found = np.asarray(values, dtype=object)  # not from above: a list of texts and NaN became texts alone there
    flat = found.ravel()
    if any(isinstance(value, str) for value in flat):
        texts = [value if isinstance(value, str) else None for value in flat]
        return np.array(texts, dtype=object).reshape(found.shape)
    return np.array([_number(value) for value in flat], dtype=np.float64).reshape(found.shape)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def _nothing(values: NDArray[np.generic]) -> bool:
    """True for a column in which every value is missing: it may be of texts or of numbers."""
    return values.ndim > 0 and values.dtype != object and bool(np.isnan(values.astype(np.float64)).all())


def _shown(node: ast.expr) -> str:
    return f"`{ast.unparse(node)}`"
