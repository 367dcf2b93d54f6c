"""Adaptive search: what to try next, given how what was tried turned out. Pure functions over Optuna's samplers.

No sampler's state is kept: a study is built anew for every batch, from what its batches held and how they ended, and
its sampler is seeded for that batch alone. So whoever has the past of a study asks for the same batch, to the bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from search_spaces.domains import Choice, DomainError, LogUniform, Uniform, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study

Searched = Uniform | LogUniform | Choice
Option = bool | int | float
TOLERANCE = 1e-9
"""Relative difference up to which a number of the past is the one that was asked for: both are kept at 12 digits."""


@dataclass(frozen=True)
class Sampler:
    """A sampler of Optuna's.

    Attributes:
        title: Its class.
        options: Its options: the type, and the smallest value of a number.
        package: What has to be installed for it beside Optuna.
        numbers: How many numbers it has to have to search.
        learns: Whether it looks at results.
    """

    title: str
    options: Mapping[str, tuple[type, float]] = field(default_factory=dict)
    package: str | None = None
    numbers: int = 0
    learns: bool = True


SAMPLERS = {
    "tpe": Sampler(
        "TPESampler",
        {
            "n_startup_trials": (int, 0),
            "n_ei_candidates": (int, 1),
            "prior_weight": (float, 1e-6),
            "multivariate": (bool, 0),
            "group": (bool, 0),
            "constant_liar": (bool, 0),
        },
    ),
    "cmaes": Sampler(
        "CmaEsSampler",
        {
            "n_startup_trials": (int, 1),
            "popsize": (int, 3),
            "use_separable_cma": (bool, 0),
            "with_margin": (bool, 0),
            "lr_adapt": (bool, 0),
        },
        package="cmaes",
        numbers=2,
    ),
    "gp": Sampler(
        "GPSampler", {"n_startup_trials": (int, 1), "deterministic_objective": (bool, 0)}, package="torch", numbers=1
    ),
    "random": Sampler("RandomSampler", learns=False),
}
"""Samplers by the name that a sweep file and the column `sampler` give them."""


PRUNERS: dict[str, Mapping[str, tuple[type, float]]] = {
    "none": {},
    "asha": {"grace_period": (int, 1), "reduction_factor": (int, 2), "brackets": (int, 1)},
    "median": {"grace_period": (int, 1), "min_samples_required": (int, 1)},
}
"""What may stop a trial early, by name, and its options; times are in evaluations."""


@dataclass(frozen=True)
class Tried:
    """A configuration that was tried.

    Attributes:
        values: Hyperparameter to value.
        outcome: The primary value, lower is better; None if it failed.
    """

    values: Mapping[str, Value]
    outcome: float | None


def option_fault(sampler: str, options: Mapping[str, object]) -> str | None:
    """The rule that a sampler's options break, in words, or None."""
    fault = unfit(sampler, SAMPLERS[sampler].options, options)
    if fault:
        return fault
    if options.get("group") and options.get("multivariate") is False:
        return "group = true: only with multivariate = true"
    tuned = [name for name in ("use_separable_cma", "with_margin", "lr_adapt") if options.get(name)]
    return f"{tuned[0]} and {tuned[1]}: one of them at most" if len(tuned) > 1 else None


def unfit(whose: str, known: Mapping[str, tuple[type, float]], options: Mapping[str, object]) -> str | None:
    """The first option that does not exist or has a wrong value, in words, or None.

    Args:
        whose: Whose options they are.
        known: Those that exist: the type, and the smallest value of a number.
        options: Those that are given.
    """
    for name, value in options.items():
        if name not in known:
            return f"{name}: {whose} has {'no such option, only ' + ', '.join(known) if known else 'no options'}"
        fault = _fault(value, *known[name])
        if fault:
            return f"{name} = {value!r}: {fault}"
    return None


def _fault(value: object, kind: type, least: float) -> str | None:
    if kind is bool or isinstance(value, bool):
        return None if kind is bool and isinstance(value, bool) else f"must be {_KINDS[kind]}"
    if not isinstance(value, int if kind is int else int | float):
        return f"must be {_KINDS[kind]}"
    return None if least <= value < math.inf else f"must be finite and at least {least:g}"


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def missing_package(sampler: str) -> str | None:
    """What has to be installed before a sampler can be used, or None."""
    package = SAMPLERS[sampler].package
    return package if package and find_spec(package) is None else None


def ask(
    sampler: str,
    space: Mapping[str, Searched],
    past: Sequence[Sequence[Tried]],
    *,
    count: int,
    seeds: Sequence[int],
    anchor: float,
    options: Mapping[str, Option] | None = None,
) -> list[dict[str, Value]]:
    """The next batch of a study: asked for together, before any of it is tried.

    A failure is told as a value worse than every value of the study so far and at least the anchor: it ranks last and
    is as far away as the worst, so a region of failures is learnt to be bad, and no number is made up that would drown
    the differences between values.

    Args:
        sampler: A key of `SAMPLERS`.
        space: Hyperparameter to domain.
        past: The batches so far, in order.
        count: Configurations to ask for.
        seeds: One for each batch so far, and one for this, each in [0, 2^32).
        anchor: A value of the primary metric that counts as failure.
        options: The sampler's.

    Returns:
        One dictionary for each configuration, hyperparameter to value, within the domains.

    Raises:
        DomainError: If the past is not what this sampler would have asked for, where it needs that: cmaes.
    """
    with quiet():
        if sampler == "cmaes":
            return _replayed(space, past, count=count, seeds=seeds, anchor=anchor, options=options or {})
        study = _study(_made(sampler, seeds[-1], options or {}))
        tried = [item for batch in past for item in batch]
        values, distributions = told(tried, anchor=anchor), _distributions(space)
        _add(study, distributions, tried, values)
        return [dict(study.ask(distributions).params) for _ in range(count)]


def told(tried: Sequence[Tried], *, anchor: float) -> list[float]:
    """What a study is told of configurations: their values, and for failures one that is worse than all of these."""
    worst = max((item.outcome for item in tried if item.outcome is not None), default=-math.inf)
    failed = max(anchor, math.nextafter(worst, math.inf))
    return [failed if item.outcome is None else item.outcome for item in tried]


def _replayed(
    space: Mapping[str, Searched],
    past: Sequence[Sequence[Tried]],
    *,
    count: int,
    seeds: Sequence[int],
    anchor: float,
    options: Mapping[str, Option],
) -> list[dict[str, Value]]:
    """The next batch of a sampler that keeps its state at the trials it was asked for: all are asked for again."""
    from optuna.trial import TrialState

    size = len(past[0]) if past else count  # so that it stays what it was
    least = 4 + int(3 * math.log(len(space)))  # the population that the algorithm is made for
    options = ({"popsize": size} if size > least else {}) | dict(options)
    study, distributions = _study(None), _distributions(space)
    before: list[Tried] = []
    for batch, seed in zip(past, seeds[:-1], strict=True):
        study.sampler = _made("cmaes", seed, options)
        asked = [study.ask(distributions) for _ in batch]
        for trial, item in zip(asked, batch, strict=True):
            if not all(_same(trial.params[name], item.values[name]) for name in space):
                raise DomainError(
                    f"cmaes asks for {_words(trial.params)} where {_words(item.values)} was tried: the options, the "
                    "version of optuna or cmaes, or an outcome is another than it was"
                )
        before += batch
        for trial, value in zip(asked, told(before, anchor=anchor)[-len(batch) :], strict=True):
            study.tell(trial, value, state=TrialState.COMPLETE)
    study.sampler = _made("cmaes", seeds[-1], options)
    return [dict(study.ask(distributions).params) for _ in range(count)]


def _same(asked: Value, kept: Value) -> bool:
    if isinstance(asked, str) or isinstance(kept, str):
        return asked == kept
    return math.isclose(asked, kept, rel_tol=TOLERANCE, abs_tol=1e-12)


def _words(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _add(
    study: Study, distributions: Mapping[str, BaseDistribution], tried: Sequence[Tried], values: Sequence[float]
) -> None:
    from optuna.trial import create_trial

    for item, value in zip(tried, values, strict=True):
        study.add_trial(create_trial(params=dict(item.values), distributions=dict(distributions), value=value))


def _study(sampler: BaseSampler | None) -> Study:
    import optuna

    return optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=0))


def _made(sampler: str, seed: int, options: Mapping[str, Option]) -> BaseSampler:
    from optuna import samplers

    quiet = {"warn_independent_sampling": False} if sampler in ("cmaes", "gp") else {}
    made: BaseSampler = getattr(samplers, SAMPLERS[sampler].title)(seed=seed, **quiet, **options)
    return made


def _distributions(space: Mapping[str, Searched]) -> dict[str, BaseDistribution]:
    """Optuna's names for domains."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    for name, domain in space.items():
        if isinstance(domain, Choice):
            found[name] = CategoricalDistribution(domain.values)
        else:
            found[name] = FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing of studies that come and go, nor of which of its parts are young, while the block runs."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
