"""Domains: what values a hyperparameter may take, and how a number in [0, 1) picks one.

Bounds are closed and in the hyperparameter's own unit, never exponents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Value = float | int | str


class DomainError(ValueError):
    """A domain that could not be sampled; the text says the rule and the values received."""


@dataclass(frozen=True)
class Fixed:
    """One value."""

    value: Value

    def at(self, _u: float) -> Value:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Uniform:
    """A real interval, uniform in the value."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse bounds that are not finite and in order."""
        _check_bounds("uniform", self.low, self.high)

    def at(self, u: float) -> Value:
        """The value at u in [0, 1]."""
        return _clamp(self.low + u * (self.high - self.low), self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """A positive real interval, uniform in the logarithm of the value."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse bounds that are not positive, finite and in order."""
        _check_bounds("log_uniform", self.low, self.high)
        if self.low <= 0:
            raise DomainError(f"log_uniform needs low > 0, got low = {self.low:g}")

    def at(self, u: float) -> Value:
        """The value at u in [0, 1]."""
        low, high = math.log(self.low), math.log(self.high)
        return _clamp(math.exp(low + u * (high - low)), self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """Some values, equally likely."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Refuse an empty or repeating list."""
        _check_values("choice", self.values)

    def at(self, u: float) -> Value:
        """The value at u in [0, 1]."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Cross:
    """Some values, every one of which is combined with every design point. For choices that change the program."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Refuse an empty or repeating list."""
        _check_values("cross", self.values)


@dataclass(frozen=True)
class Published:
    """The value that the method's source gives."""


Domain = Fixed | Uniform | LogUniform | Choice | Cross | Published


@dataclass(frozen=True)
class When:
    """A domain that depends on another choice.

    Attributes:
        name: The choice it depends on, e.g. "optimiser".
        cases: Its value, as text, to the domain there.
        otherwise: The domain for other values; None refuses them.
    """

    name: str
    cases: dict[str, Domain]
    otherwise: Domain | None


def grid_coordinates(domain: Domain | When, n: int) -> list[float]:
    """Coordinates of a grid's levels: every value of a choice, or n evenly spaced levels with both ends."""
    match domain:
        case Choice(values):
            return [(i + 0.5) / len(values) for i in range(len(values))]
        case Uniform() | LogUniform():
            return [i / (n - 1) for i in range(n)]
        case When():
            return max((grid_coordinates(part, n) for part in parts_of(domain)), key=len)
        case _:
            return [0.0]


def parts_of(domain: Domain | When) -> list[Domain]:
    """The plain domains that a domain is made of: itself, or every case of a dependent one."""
    if not isinstance(domain, When):
        return [domain]
    return [*domain.cases.values(), *([domain.otherwise] if domain.otherwise is not None else [])]


def values_of(domain: Domain) -> list[Value | float]:
    """The values or bounds that appear in a plain domain, for range checks."""
    match domain:
        case Fixed(value):
            return [value]
        case Uniform(low, high) | LogUniform(low, high):
            return [low, high]
        case Choice(values) | Cross(values):
            return list(values)
        case _:
            return []


def _check_bounds(kind: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DomainError(f"{kind} needs finite bounds, got [{low:g}, {high:g}]")
    if low >= high:
        raise DomainError(f"{kind} needs low < high, got low = {low:g}, high = {high:g}")


def _check_values(kind: str, values: tuple[Value, ...]) -> None:
    if not values:
        raise DomainError(f"{kind} needs at least one value, got []")
    strange = [value for value in values if not isinstance(value, int | float | str)]
    if strange:
        raise DomainError(f"{kind} takes numbers and texts, got {strange[0]}")
    if len(set(values)) < len(values):
        raise DomainError(f"{kind} needs distinct values, got {list(values)}")


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
