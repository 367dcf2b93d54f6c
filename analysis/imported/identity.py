"""Which trial of a source is which: method, task, hyperparameters, configuration, seed and id."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd

from analysis.imported.declared import GIVEN, Declaration
from analysis.imported.source import Source, as_float, as_text, is_missing, is_number
from analysis.imported.source import trials as in_words
from study.errors import UserError, unknown
from study.schema import HISTORY, OUTCOME, PLAN
from study.trial import Hyperparameters

OURS = {column.name: column.type for column in PLAN if column.name in {f.name for f in fields(Hyperparameters)}}
"""Hyperparameters that have a column of the schema, with its type."""

TAKEN = {column.name for column in (*PLAN, *OUTCOME, *HISTORY)} - set(OURS)
"""Names that mean something else here."""

BREAKING = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and of what ends lines and paragraphs."""

ALIASES = {"lr": "lr_g"}
"""The sweep file's word for a column, where they differ."""


def identify(source: Source, declaration: Declaration, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Who every trial is, and what it trained with.

    Args:
        source: The trials.
        declaration: What was said about them.
        name: The run's name, which the task has too unless told otherwise.

    Returns:
        `trial_id`, `task`, `method`, `config`, `point` and `seed`; and the hyperparameters under our names.

    Raises:
        UserError: If a column does not exist or is empty somewhere, a name is taken or breaks a line, or two trials are
            the same.
    """
    method, task = _label("method", source, declaration, name), _label("task", source, declaration, name)
    params = _hyperparameters(source, declaration)
    frame = pd.DataFrame({"task": task, "method": method})
    frame["config"] = _configs(params, method, source, declaration)
    frame["seed"] = _seeds(frame, source, declaration)
    rows = zip(frame["task"], frame["method"], frame["config"], frame["seed"], *_rounded(params), strict=True)
    frame["trial_id"] = [_hash(list(row)) for row in rows]
    frame["point"] = pd.factorize(frame["config"])[0]
    return frame, params


def _label(kind: str, source: Source, declaration: Declaration, name: str) -> list[str]:
    """The method or task of every trial: a column's texts, or one name for all."""
    said = getattr(declaration, kind)
    if said is None:
        several = {"optuna": "study", "ray": "experiment"}.get(source.kind) if kind == "method" else None
        said = kind if kind in source.cells.columns else several or f"{GIVEN}{name}"
    given = said.startswith(GIVEN)
    names = [said.removeprefix(GIVEN)] * len(source.cells) if given else _texts(kind, said, source)
    _check_labels(kind, names)
    return names


def _check_labels(kind: str, names: Sequence[str]) -> None:
    """Names stand in tables, files and addresses: on one line, and seen."""
    for name in dict.fromkeys(names):
        if not name.strip() or any(unicodedata.category(letter) in BREAKING for letter in name):
            raise UserError(
                f"{kind} {name!r}: must be a name on one line, without tabs and other control characters; rename it"
            )


def _texts(kind: str, column: str, source: Source) -> list[str]:
    """A column that no trial may lack."""
    _exists(kind, column, source)
    values = list(source.cells[column])
    empty = [place for place, value in enumerate(values) if is_missing(value)]
    if empty:
        raise UserError(f"{kind} column {column!r} is empty in trial {empty[0] + 1}: every trial needs one")
    return [as_text(value) for value in values]


def _exists(kind: str, name: str, source: Source) -> None:
    if name not in source.cells.columns:
        raise unknown(f"column in {kind}:", name, source.cells.columns)


def _hyperparameters(source: Source, declaration: Declaration) -> pd.DataFrame:
    """The hyperparameters under our names, numbers and texts apart."""
    roles = {declaration.method, declaration.task, declaration.seed, declaration.config, declaration.status}
    roles |= {"method", "task", "seed"} if source.kind != "table" else set()
    chosen = list(declaration.params or source.hyperparameters)
    for name in (*chosen, *declaration.map.values()):
        _exists("param", name, source)
    theirs = {name: ours for ours, name in declaration.map.items()}
    names = [name for name in dict.fromkeys([*chosen, *theirs]) if name not in roles or name in theirs]
    found = {}
    for name in names:
        ours = ALIASES.get(theirs.get(name, name), theirs.get(name, name))
        if ours in TAKEN:
            raise UserError(f"hyperparameter {name!r} has the name of something else here: call it --map NAME={name}")
        if ours in found:
            raise UserError(f"two hyperparameters are called {ours!r}: give each its own --map NAME={name}")
        found[ours] = _typed(ours, list(source.cells[name]))
    return pd.DataFrame(found, index=range(len(source.cells)))


def name_in(source: Source, declaration: Declaration, ours: str) -> str:
    """What the source calls a hyperparameter."""
    words = (ours, *(word for word, column in ALIASES.items() if column == ours))
    mapped = [declaration.map[word] for word in words if word in declaration.map]
    return next((name for name in (*mapped, *words) if name in source.cells.columns), ours)


def _typed(name: str, values: Sequence[object]) -> pd.Series:
    """A column of numbers if all of its values are, else of texts; ours have the type that they always have."""
    kind = OURS.get(name)
    present = [value for value in values if not is_missing(value)]
    if kind == "string" or (kind is None and not all(is_number(value) for value in present)):
        return pd.Series([None if is_missing(value) else as_text(value) for value in values], dtype=object)
    for value in present:
        if math.isnan(as_float(value)) or (kind == "int32" and not as_float(value).is_integer()):
            rule = "a whole number" if kind == "int32" else "a number"
            raise UserError(f"{name} = {value!r}: this hyperparameter is {rule} here; rename yours with --map")
        if math.isinf(as_float(value)):
            raise UserError(f"{name} = {value!r}: a hyperparameter must be finite; leave the cell empty, or use texts")
    return pd.Series([as_float(value) for value in values], dtype=np.float64)


def _configs(params: pd.DataFrame, method: Sequence[str], source: Source, declaration: Declaration) -> list[str]:
    """What methods share when they are compared: a column, or the hyperparameters that every one of them has."""
    if declaration.config is not None:
        return _texts("config", declaration.config, source)
    methods = pd.Series(list(method), dtype=object)
    shared = [name for name in params if params[name].notna().groupby(methods).any().all()]
    columns = _rounded(params[shared])
    return [_hash([shared, [column[row] for column in columns]]) for row in range(len(params))]


def _rounded(params: pd.DataFrame) -> list[list[object]]:
    """Columns as they enter a hash: numbers to 12 digits."""
    return [
        [
            None if is_missing(value) else f"{value:.12g}" if isinstance(value, float) else value
            for value in params[name]
        ]
        for name in params
    ]


def _hash(content: object) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _seeds(frame: pd.DataFrame, source: Source, declaration: Declaration) -> list[int]:
    """The seed of every trial: its column's, numbered in order, or how often its configuration was there before."""
    keys = ["task", "method", "config"]
    column = declaration.seed or ("seed" if "seed" in source.cells.columns else None)
    if column is None:
        return [int(place) for place in frame.groupby(keys).cumcount()]
    texts = _texts("seed", column, source)
    order = {text: place for place, text in enumerate(sorted(set(texts), key=_in_order))}
    found = [order[text] for text in texts]
    twice = frame.assign(seed=found).duplicated([*keys, "seed"], keep=False).to_numpy().nonzero()[0]
    if len(twice):
        raise UserError(
            f"{in_words(len(twice))} with the task, method, configuration and seed of another, the first is trial "
            f"{twice[0] + 1} (seed {texts[twice[0]]}): drop repetitions, or name what differs, e.g. with --param"
        )
    return found


def _in_order(text: str) -> tuple[float, str]:
    """Numbers by size, then texts by letters."""
    number = as_float(text)
    return (math.inf if math.isnan(number) else number), text
