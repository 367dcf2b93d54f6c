"""What a prior may say of each hyperparameter: checked domain by domain, in one sentence each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from search_spaces.domains import (
    Choice,
    Cross,
    Domain,
    Fixed,
    LogUniform,
    Published,
    Uniform,
    When,
    parts_of,
    values_of,
)
from search_spaces.hyperparameters import HYPERPARAMETERS, STRUCTURE
from study.architecture import family
from study.errors import UserError, unknown
from study.forms import CONDITIONS
from study.penalties import PENALTIES


def check_domains(table: str, domains: Mapping[str, Domain | When], *, stored: bool) -> None:
    """Check what a table of a sweep file says of hyperparameters.

    Args:
        table: Its name, for messages.
        domains: Hyperparameter to domain.
        stored: True if nothing of the user's may be read or run for it.

    Raises:
        UserError: For the first that may not be.
    """
    for name, domain in domains.items():
        if name not in HYPERPARAMETERS:
            raise unknown(f"hyperparameter in {table}:", name, HYPERPARAMETERS)
        entry, key = HYPERPARAMETERS[name], f"{table}.{name}"
        for part in parts_of(domain):
            if entry.integer and isinstance(part, Uniform | LogUniform):
                raise UserError(f"{key} is a whole number: draw it by choice, e.g. {{ choice = [...] }}")
            for value in values_of(part):
                fault = entry.fault(value)
                if name == "network" and not fault and not stored:
                    family(str(value))
                # a uniform interval may touch an excluded end: it is drawn with probability zero
                if fault and not (isinstance(part, Uniform) and value in (entry.low, entry.high)):
                    raise UserError(f"{key} = {json.dumps(value)}: {fault}")
            if entry.role != "method" and isinstance(part, Published):
                raise UserError(f"{key} = 'published': only a method's own hyperparameters have a published value")
        _check_kind(key, entry.role, domain)


def _check_kind(key: str, role: str, domain: Domain | When) -> None:
    drawn = HYPERPARAMETERS[key.rpartition(".")[2]].dimension is not None
    if role == "structure" and not isinstance(domain, Fixed | Cross) and not (drawn and isinstance(domain, Choice)):
        also = ", or draw it, {choice = [...]}" if drawn else ""
        raise UserError(f"{key} changes the program: give one value or cross it, e.g. {{ cross = [...] }}{also}")
    if isinstance(domain, Cross) and role != "structure":
        raise UserError(f"{key} = {{cross = ...}}: only {', '.join(STRUCTURE)} are crossed; use choice here")
    if isinstance(domain, Cross) and key.startswith("variant."):
        raise UserError(f"{key} = {{cross = ...}}: a variant takes one value; cross it in [space.override]")
    if isinstance(domain, When):
        if CONDITIONS[domain.name] == "method" and role != "method":
            raise UserError(f"{key} depends on {domain.name}: methods share it, so only n_critic or optimiser go")
        for case in domain.cases:
            _check_case(key, domain.name, case)


def _check_case(key: str, condition: str, case: str) -> None:
    known = tuple(PENALTIES) if condition == "penalty" else HYPERPARAMETERS[condition].names
    if known and case not in known:
        raise unknown(f"{condition} in {key}.when:", case, known)
    if not known and not re.fullmatch("[1-9][0-9]*", case):
        raise UserError(f"unknown {condition} in {key}.when: {case!r}: must be a whole number, at least 1")
