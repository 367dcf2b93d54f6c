"""Reading what a large sweep leaves: 30,000 rows of `trials`, and 1.5 million rows of `history` by method.

As packs write them, in parts of a pack each, and once more as one file each.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.record import Found, Line
from study.capacity import CPU_CAPACITY
from study.store import RunDirectory, arrow_schema, build_table

TRIALS, PACK, EVALUATIONS = 30_000, CPU_CAPACITY, 50
METHODS = ("ns", "ns+gp1", "ns+gp0", "ns+r1", "ns+dragan", "wgan+gp1", "wgan+gp0", "wgan+clip")
METRICS = ("distance_sq", "spread", "w2sq")
REPEATS = 5
TRIALS_REQUIRED, HISTORY_REQUIRED = "<= 1", "<= 2"


def run(*, quick: bool = False) -> Found:
    count = 320 if quick else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        parts, whole = RunDirectory(Path(folder, "parts")), RunDirectory(Path(folder, "whole"))
        write(parts, count)
        for table in ("trials", "history"):
            whole.write_part(table, "all", parts.read_table(table))
        lines = []
        for directory, form in ((parts, f"{count // PACK:,} parts"), (whole, "1 part")):
            size = sum(file.stat().st_size for file in Path(directory.root).rglob("*.parquet"))
            lines.append(Line(f"{form}, both tables: size", size / 2**20, "MiB"))
            for name, work, required in readings(directory):
                lines.append(Line(f"{form}, {name}", seconds(work), "s", required))
    rows = f"trials: {count:,} rows; history: {count * EVALUATIONS:,} rows"
    found = Found(tuple(lines), (f"{rows}; medians of {REPEATS}, files in the page cache",), {"trials": count})
    found.show()
    return found


def readings(directory: RunDirectory) -> list[tuple[str, Callable[[], object], str]]:
    trials, history = f"{directory.root}/trials", f"{directory.root}/history"
    keys, value = ["method", "evaluation"], "primary"

    def by_pandas() -> pd.DataFrame:
        return pd.read_parquet(history, columns=[*keys, value]).groupby(keys)[value].median()

    def by_store() -> pd.DataFrame:
        return directory.read_table("history", [*keys, value]).to_pandas().groupby(keys)[value].median()

    return [
        ("trials, pd.read_parquet", lambda: pd.read_parquet(trials), TRIALS_REQUIRED),
        ("trials, RunDirectory.read_table", lambda: directory.read_table("trials").to_pandas(), TRIALS_REQUIRED),
        ("history, median by method and evaluation, pd.read_parquet", by_pandas, HISTORY_REQUIRED),
        ("history, median by method and evaluation, RunDirectory.read_table", by_store, HISTORY_REQUIRED),
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call, median over repeats."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def write(directory: RunDirectory, count: int, pack: int = PACK) -> None:
    """Write the tables of a run with as many trials, in parts as packs write them."""
    rng = np.random.default_rng(0)
    for first in range(0, count, pack):
        name = f"{first:016x}"
        rows = [_trial(first + i, name, rng) for i in range(pack)]
        directory.write_part("history", name, _history([row["trial_id"] for row in rows], rows[0]["method"], rng))
        directory.write_part("trials", name, build_table("trials", rows, METRICS))


def _trial(index: int, pack: str, rng: np.random.Generator) -> dict[str, object]:
    method = METHODS[index // PACK % len(METHODS)]
    loss, _, penalty = method.partition("+")
    lr, beta1, primary = (float(x) for x in rng.random(3))
    diverged = primary > 0.9
    row = {
        **{"trial_id": f"{rng.integers(2**63):016x}", "sweep": "benchmark", "task": "manifold-d2", "method": method},
        **{"loss": loss, "penalty": penalty or None, "config": f"{rng.integers(2**63):016x}", "point": index % 1024},
        **{"replicate": 0, "seed": 0, "pack": pack, "capacity": PACK, "lr_g": lr, "lr_d": lr, "beta1": beta1},
        **{"beta2": 0.999, "optimiser": "adam", "n_critic": 1, "penalty_weight": 10.0, "sampler": "sobol"},
        **{"engine_epoch": 1, "schema_version": 1, "generator_steps": 1000, "discriminator_steps": 1000},
        **{"updates": 2000, "success": primary < 0.2, "train_seconds": 0.4, "device": "cpu"},
    }
    if diverged:
        return row | {"status": "diverged", "reason": "generator loss or parameters not finite", "diverged_step": 7}
    return row | {
        "status": "completed",
        **dict.fromkeys(("primary", "primary_last", "primary_best", *METRICS), primary),
    }


def _history(ids: list[object], method: object, rng: np.random.Generator) -> pa.Table:
    schema, n = arrow_schema("history", METRICS), len(ids) * EVALUATIONS
    evaluation = np.tile(np.arange(EVALUATIONS), len(ids))
    steps = {
        "evaluation": evaluation,
        "generator_steps": 20 * (evaluation + 1),
        "discriminator_steps": 20 * (evaluation + 1),
        "samples_seen": 1280 * (evaluation + 1),
    }
    words = {"trial_id": np.repeat(ids, EVALUATIONS), "task": ["manifold-d2"] * n, "method": [method] * n}
    columns = steps | words
    return pa.table({f.name: pa.array(columns.get(f.name, rng.random(n)), f.type) for f in schema}, schema=schema)
