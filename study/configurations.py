"""The configurations of a sweep as columns: a design's points, crossed with what changes the program."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.designs import DRAWN, grid
from search_spaces.domains import (
    Choice,
    Cross,
    Domain,
    Fixed,
    LogUniform,
    Published,
    Uniform,
    Value,
    When,
    grid_coordinates,
    parts_of,
)
from search_spaces.hyperparameters import ARCHITECTURE, HYPERPARAMETERS, SHARED, STRUCTURE
from study.errors import UserError
from study.methods import parse_method
from study.spec import Sweep
from study.trial import hashes, rounded

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """A hyperparameter of every configuration.

    Attributes:
        values: The values that it takes, in any order, repeated or not.
        codes: Shape (configurations,): which of them each configuration has.
        words: The values as JSON.
    """

    values: Sequence[Value | None]
    codes: IntArray
    words: Sequence[str]

    @cached_property
    def numbers(self) -> FloatArray:
        """Shape (configurations,), NaN for none."""
        return np.array(self.values, np.float64)[self.codes]

    @cached_property
    def texts(self) -> list[str]:
        """What each configuration has, as JSON."""
        return self.spread(self.words)

    @property
    def constant(self) -> bool:
        """True where there is one value only."""
        return len(self.values) == 1

    def spread(self, items: Sequence[str]) -> list[str]:
        """One of some items, which stand for the values, for each configuration."""
        return [items[code] for code in self.codes.tolist()]


def column(values: Sequence[Value | None], codes: IntArray) -> Column:
    """A column of few values."""
    return Column(values, codes, [json.dumps(value) for value in values])


def rounded_column(values: Iterable[float], codes: IntArray) -> Column:
    """A column of any numbers at 12 digits, as `study.trial.rounded` makes them."""
    texts = [f"{value:.12g}" for value in values]
    numbers = [float(text) for text in texts]
    # as JSON: a plain decimal fraction of so few digits is spelt alike, all others are not
    pairs = zip(texts, numbers, strict=True)
    words = [text if "." in text and "e" not in text else repr(number) for text, number in pairs]
    return Column(numbers, codes, words)


def merged(columns: Sequence[Column], chosen: IntArray) -> Column:
    """A column that has what the chosen one of some columns has."""
    starts = np.cumsum([0, *(len(part.values) for part in columns)])
    codes = np.zeros(len(chosen), np.intp)
    for place, part in enumerate(columns):
        here = chosen == place
        codes[here] = part.codes[here] + starts[place]
    values = [value for part in columns for value in part.values]
    return Column(values, codes, [word for part in columns for word in part.words])


def product(first: Column, second: Column) -> Column:
    """The products of two columns of numbers, rounded."""
    if second.constant or first.codes is second.codes:
        others = list(second.values) * (len(first.values) if second.constant else 1)
        pairs = zip(np.array(first.values, np.float64), np.array(others, np.float64), strict=True)
        codes = first.codes
    else:
        pairs, codes = zip(first.numbers, second.numbers, strict=True), np.arange(len(first.codes))
    return rounded_column((float(a) * float(b) for a, b in pairs), codes)


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a design.

    Attributes:
        replicate: Shape (points,).
        index: Of a point in its replicate, shape (points,).
        coordinates: Hyperparameter to its coordinate in [0, 1) at each point: shape (points,).
        given: Hyperparameter to its value at each point, of a table.
    """

    replicate: IntArray
    index: IntArray
    coordinates: Mapping[str, FloatArray] = field(default_factory=dict)
    given: Mapping[str, Sequence[Value]] = field(default_factory=dict)


def points_of(sweep: Sweep, table: Sequence[Mapping[str, Value]] | None) -> Points:
    """The points that a sweep's design visits, in order."""
    design = sweep.design
    if design.kind == "table":
        rows = table or []
        given = {name: [_clean(name, row[name]) for row in rows] for name in (rows[0] if rows else ())}
        return Points(np.zeros(len(rows), np.int32), np.arange(len(rows)), given=given)
    if design.kind == "grid":
        levels = {
            name: grid_coordinates(domain, design.levels)
            for name, domain in sweep.space.domains.items()
            if HYPERPARAMETERS[name].role == "shared"
            or (name in STRUCTURE and isinstance(domain, Choice))
            or used(sweep, name)
        }
        count = math.prod(map(len, levels.values()))
        return Points(np.zeros(count, np.int32), np.arange(count), grid(levels))
    owners = {name: entry.dimension for name, entry in HYPERPARAMETERS.items() if entry.dimension is not None}
    wanted = [name for name in owners if name in _drawn_names(sweep)]
    parts = [
        DRAWN[design.kind](
            design.points, seed=design.seed, replicate=replicate, dimensions=[owners[name] for name in wanted]
        )
        for replicate in range(design.replicates)
    ]
    drawn = np.concatenate(parts)
    return Points(
        np.repeat(np.arange(design.replicates), design.points),
        np.tile(np.arange(design.points), design.replicates),
        {name: drawn[:, place] for place, name in enumerate(wanted)},
    )


def _drawn_names(sweep: Sweep) -> set[str]:
    return {
        name
        for domains in (sweep.space.domains, *sweep.variant.values())
        for name, domain in domains.items()
        if any(isinstance(part, Uniform | LogUniform | Choice) for part in parts_of(domain))
    }


def used(sweep: Sweep, name: str) -> bool:
    """True where one of a sweep's methods has a hyperparameter of its own by that name."""
    return any(name in parse_method(sweep.split_method(label)[0]).defaults for label in sweep.methods)


class Configurations:
    """The draws from a sweep's prior, crossed with structures: what all its methods share.

    Attributes:
        point: Index of the design point in its replicate, of each configuration: shape (configurations,).
        replicate: Index of the replicate.
        shared: Shared and structural hyperparameters.
        own: The methods' own hyperparameters that a table gives.
        config: Content hashes of `shared` and of how many earlier configurations are alike.
        roots: What the keys of the configurations' random draws are hashes of, but for the seed.
        follows: True where ranges may follow a variant's structure: not in a table.
    """

    def __init__(self, sweep: Sweep, table: Sequence[Mapping[str, Value]] | None = None) -> None:
        """Draw the configurations of a sweep.

        Args:
            sweep: The sweep.
            table: The rows of a table design, hyperparameter to value.

        Raises:
            UserError: A hyperparameter has no value, or one that may not be.
        """
        self._points, self._domains = points_of(sweep, table), sweep.space.domains
        self._made: dict[tuple[str, Domain | None], Column] = {}
        crossed = {
            name: [_clean(name, value) for value in domain.values]
            for name in STRUCTURE
            if isinstance(domain := self._domains.get(name), Cross) and name not in self._points.given
        }
        count, structures = len(self._points.index), math.prod(map(len, crossed.values()))
        self._of_point = np.repeat(np.arange(count), structures)
        self._none = np.zeros(len(self._of_point), np.int8)
        self.point, self.replicate = self._points.index[self._of_point], self._points.replicate[self._of_point]
        self.follows = sweep.design.kind != "table"
        given = {
            name: Column(values, self._of_point, [json.dumps(value) for value in values])
            for name, values in self._points.given.items()
        }
        combined = grid({name: range(len(values)) for name, values in crossed.items()})
        levels = {
            name: column(crossed[name], np.tile(codes.astype(np.intp), count)) for name, codes in combined.items()
        }
        structure: dict[str, Column] = {}
        for name in STRUCTURE:
            domain = self._domains.get(name)
            if name in given or name in levels:
                structure[name] = given[name] if name in given else levels[name]
            elif domain is not None or name not in ARCHITECTURE:
                structure[name] = self.value(name, domain, {})
        shared = {
            name: given[name] if name in given else self.value(name, self._domains.get(name), structure)
            for name in SHARED
        }
        self.shared = structure | shared
        self.own = {name: values for name, values in given.items() if name not in self.shared}
        self._hash()

    def __len__(self) -> int:
        """How many configurations there are."""
        return len(self._of_point)

    def _hash(self) -> None:
        texts = [f"{{{text}}}" for text in object_texts(self.shared, len(self))]
        names = hashes(texts)
        copies = [0] * len(names)
        if len(set(names)) < len(names):
            seen: Counter[str] = Counter()
            for place, name in enumerate(names):
                copies[place] = seen[name]
                seen[name] += 1
        pairs = zip(texts, copies, strict=True)
        self.config = hashes([f"[{text},{copy}]" for text, copy in pairs])
        self.roots = [f"{name}/{copy}" for name, copy in zip(names, copies, strict=True)]

    def keys(self, seed: int) -> list[str]:
        """The root keys of random draws, as `study.prng.root_key` makes them, of each configuration."""
        return hashes([f"{root}/{seed}" for root in self.roots])

    def constant(self, value: Value | None) -> Column:
        """A column of one value."""
        return column((value,), self._none)

    def value(
        self,
        name: str,
        domain: Domain | When | None,
        context: Mapping[str, Column],
        published: float | None = None,
    ) -> Column:
        """The values of a hyperparameter.

        Args:
            name: The hyperparameter.
            domain: Where they are taken from; None where the space says nothing.
            context: Decides a `when`.
            published: The method's value, of a hyperparameter of its own.

        Raises:
            UserError: There is no value, or one that may not be.
        """
        if not isinstance(domain, When):
            return self._plain(name, domain, published)
        deciding = context[domain.name]
        cases = list(dict.fromkeys(str(deciding.values[code]) for code in np.unique(deciding.codes).tolist()))
        parts = [self._plain(name, _case(name, domain, case), published) for case in cases]
        if len(parts) == 1:
            return parts[0]
        by_value = np.array([cases.index(str(value)) if str(value) in cases else 0 for value in deciding.values])
        return merged(parts, by_value[deciding.codes])

    def _plain(self, name: str, domain: Domain | None, published: float | None) -> Column:
        if published is not None and (domain is None or isinstance(domain, Published)):
            return self.constant(rounded(float(published)))
        if (name, domain) not in self._made:
            self._made[name, domain] = self._drawn(name, domain)
        return self._made[name, domain]

    def _drawn(self, name: str, domain: Domain | None) -> Column:
        default = HYPERPARAMETERS[name].default
        if isinstance(domain, Fixed):
            return self.constant(_clean(name, domain.value))
        if isinstance(domain, Uniform | LogUniform | Choice):
            if name not in self._points.coordinates:
                raise UserError(
                    f"{name} is drawn, but the design table has no column for it: add the column or fix {name}"
                )
            return self._at(name, domain, self._points.coordinates[name])
        if default is None:
            raise UserError(f"{name} has no value: give it one in [space.override]")
        return self.constant(default)

    def _at(self, name: str, domain: Uniform | LogUniform | Choice, u: FloatArray) -> Column:
        """What `domain.at` says at every point, to the bit, checked and rounded."""
        if isinstance(domain, Choice):
            values = [_clean(name, value) for value in domain.values]
            return column(values, np.minimum((u * len(values)).astype(np.int32), len(values) - 1)[self._of_point])
        if isinstance(domain, LogUniform):
            low, high = math.log(domain.low), math.log(domain.high)
            # not numpy's, whose last bit depends on the processor
            found = np.array([math.exp(x) for x in (low + u * (high - low)).tolist()])
        else:
            found = domain.low + u * (domain.high - domain.low)
        found = np.minimum(np.maximum(found, domain.low), domain.high)
        for end in (found.min(), found.max()) if len(found) else ():
            _clean(name, float(end))
        return rounded_column(found.tolist(), self._of_point)


def object_texts(columns: Mapping[str, Column], count: int) -> Iterable[str]:
    """The members of a JSON object with sorted keys, of each configuration; what has no value is left out.

    One of the columns has a value everywhere.
    """
    names = sorted(columns)
    always = next(i for i, name in enumerate(names) if None not in columns[name].values)
    parts: list[list[str] | str] = []
    for place, name in enumerate(names):
        before, after = "," * (place > always), "," * (place < always)
        found = columns[name]
        pairs = zip(found.values, found.words, strict=True)
        texts = ["" if value is None else f'{before}"{name}":{word}{after}' for value, word in pairs]
        if not found.constant:
            parts.append(found.spread(texts))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += texts[0]
        else:
            parts.append(texts[0])
    return map("".join, zip(*([part] * count if isinstance(part, str) else part for part in parts), strict=True))


def _case(name: str, domain: When, case: str) -> Domain:
    """The domain that holds where a `when` is decided."""
    found = domain.cases.get(case, domain.otherwise)
    if found is None:
        raise UserError(f"{name} depends on {domain.name}, but says nothing for {domain.name} = {case}")
    return found


def _clean(name: str, value: Value) -> Value:
    entry = HYPERPARAMETERS[name]
    fault = entry.fault(value)
    if fault:
        raise UserError(f"{name} = {value}: {fault}")
    if isinstance(value, str):
        return value
    return int(value) if entry.integer else rounded(float(value))
