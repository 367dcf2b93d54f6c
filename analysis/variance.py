"""What spreads a method's scores: its hyperparameters, the seed, and the noise of measuring.

A nested analysis of variance of the score of `profiles.utility` (0 to 1, a failure scores 0), seeds within
configurations. Its sums of squares allow for configurations with different numbers of decided seeds.

Its intervals hold whatever the distribution of scores, see `unseen`. They are wide, since a few configurations cannot
show how often a seed fails: where one in fifty does, the exact intervals of normal scores hold the variance of seeds in
three of ten sweeps and not in 95 %, and a jackknife of 16 configurations in six.

References: Searle, Casella and McCulloch 1992, section 3.6, for the estimator; Bouthillier et al. 2021 for the
question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import intervals, unseen
from analysis.intervals import TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Sample, point_means, sample
from analysis.profiles import utility
from analysis.results import Results, TaskFacts
from study.records import TAIL_LEAST, TAIL_SHARE


@dataclass(frozen=True)
class Components:
    """Variance of one score, split; all in squared units of the score, so between 0 and 1.

    Attributes:
        between: Of configurations (sigma2_HP), never below 0.
        seed: Of seeds within a configuration (sigma2_seed); the noise of measuring is in it.
        icc: Share of the configurations, between / (between + seed); NaN where there is no variance at all.
    """

    between: Estimate
    seed: Estimate
    icc: Estimate


@dataclass(frozen=True)
class Decomposition:
    """What spreads the scores of one method on one task.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        configurations: Configurations with a decided seed.
        repeated: Those among them with two or more.
        components: Variance of configurations and of seeds; None where `note` says why there is none.
        evaluation: Upper bound of the variance of one measurement (sigma2_eval), see `evaluation_noise`; None without
            a history that shows it.
        note: One sentence on what limits these numbers, or empty.
    """

    task: str
    method: str
    configurations: int
    repeated: int
    components: Components | None
    evaluation: Estimate | None
    note: str


def decompose(results: Results, task: str, method: str, *, rng: np.random.Generator) -> Decomposition:
    """Split the variance of a method's score into that of configurations, of seeds and of measuring.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        rng: Source of the shares that the intervals draw.

    Raises:
        ValueError: The task or the method is not planned.
    """
    rows = _rows(results, task, method)
    trials, facts = sample(rows), results.facts(task)
    held = _seeds(rows, trials)
    repeated = int(np.sum(held >= 2))
    return Decomposition(
        task=task,
        method=method,
        configurations=len(held),
        repeated=repeated,
        components=components(rows, facts, rng=rng) if repeated else None,
        evaluation=evaluation_noise(results, task, method),
        note=_note(held, results.adaptive),
    )


def components(rows: pd.DataFrame, facts: TaskFacts, *, rng: np.random.Generator) -> Components | None:
    """The variance of configurations and of seeds, with intervals that cover 95 % at least.

    With k seeds for every configuration: MSB = k var_i(mean_i), MSW = mean_i(var_i), seed = MSW and
    between = max(0, (MSB - MSW) / k). With unequal numbers each seed counts once in both mean squares, and k is
    `(N - sum k_i^2 / N) / (a - 1)` for N seeds of a configurations.

    Args:
        rows: Rows of `Results.outcomes` of one method on one task; undecided ones are left out.
        facts: The task's anchors.
        rng: Source of the shares that the intervals draw.

    Returns:
        The components, or None with fewer than two configurations, or none that has two decided seeds.
    """
    rows = rows.sort_values("trial_id")  # the order of rows must not matter, not to the last digit
    trials = sample(rows)
    known = trials.decided()
    configs = pd.factorize(rows["config"].to_numpy()[trials.known()], sort=True)[0]
    scores = utility(known.values, low=facts.anchor_low, high=facts.anchor_high)
    index, replicates = known.clusters()
    table = _squares(scores, configs, index, len(replicates))
    whole = _split(table.sum(axis=0)[None])
    if np.isnan(whole[:2]).any():
        return None
    low, high = _extremes(_moments(scores, configs, index, len(replicates)), rng)
    between, seed, icc = (
        _estimate(float(value), lowest, highest, len(table))
        for value, lowest, highest in zip(whole[:, 0], low, high, strict=True)
    )
    return Components(between, seed, icc)


def evaluation_noise(results: Results, task: str, method: str) -> Estimate | None:
    """An upper bound of the variance that measuring adds to one evaluation's score, from the history.

    Half the mean squared difference of successive scores in the tail that the primary value is the median of (von
    Neumann 1941). Every evaluation draws its own numbers, so this holds the noise of measuring in full; it also holds
    what training still moved between two evaluations, hence a bound from above. The primary value, a median of at least
    five evaluations, has less noise than one. A failed trial scores 0 without noise and counts as that, so that the
    bound compares with the variance of seeds.

    Returns:
        The mean over points with its interval; None where no completed trial has two evaluations in the history.
    """
    rows = _rows(results, task, method)
    history = results.history("trial_id", "method", "task", "evaluation", "primary")
    here = history[(history["method"] == method) & (history["task"] == task)]
    facts, trials = results.facts(task), sample(rows)
    halves = rows["trial_id"].map(_successive(here, facts)).to_numpy(dtype=np.float64)
    noise = np.where(np.isinf(trials.values), 0.0, np.where(trials.known(), halves, np.nan))
    kept = ~np.isnan(noise)
    if not (kept & np.isfinite(trials.values)).any():
        return None
    left = Sample(noise[kept], trials.replicates[kept], trials.points[kept])
    return intervals.bounded_mean(point_means(left.values, left))


def _rows(results: Results, task: str, method: str) -> pd.DataFrame:
    outcomes = results.outcomes(task)
    rows = outcomes[outcomes["method"] == method]
    if rows.empty:
        raise ValueError(f"method {method!r} is not planned on {task!r}; planned: {list(results.methods_of(task))}")
    return rows


def _seeds(rows: pd.DataFrame, trials: Sample) -> IntArray:
    """Decided seeds of each configuration that has one."""
    held = pd.factorize(rows["config"].to_numpy()[trials.known()])[0]
    return np.asarray(np.bincount(held), dtype=np.int64)


def _note(held: IntArray, adaptive: str | None) -> str:
    if len(held) < 2 or held.max() < 2:
        return "The spread of seeds needs two configurations and one of them with two decided seeds."
    if adaptive:
        return f"Configurations were chosen by {adaptive}: their spread is not that of the prior."
    if held.min() < held.max():
        return f"Configurations have {held.min()} to {held.max()} decided seeds, and each seed counts once."
    return ""


def _squares(scores: FloatArray, configs: npt.NDArray[np.intp], points: IntArray, n: int) -> FloatArray:
    """What the mean squares are made of, summed within points, shape (points, 6).

    Columns: configurations, seeds, sum of scores, squares of configurations' means, squares within configurations,
    and squared numbers of seeds. Scores are centred, which keeps the digits of small variances.
    """
    centred = scores - (scores.mean() if len(scores) else 0.0)
    held = np.bincount(configs)
    total = np.bincount(configs, weights=centred)
    mean = total / held
    within = np.bincount(configs, weights=(centred - mean[configs]) ** 2)
    point = np.zeros(len(held), dtype=np.int64)
    point[configs] = points
    columns = (np.ones(len(held)), held, total, total * mean, within, held.astype(np.float64) ** 2)
    return np.stack([np.bincount(point, weights=column, minlength=n) for column in columns], axis=1)


def _split(sums: FloatArray) -> FloatArray:
    """Variance between, variance of seeds and share of the first, shape (3, resamples), of sums (resamples, 6)."""
    count, seeds, total, square, within, held = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(seeds > count, within / (seeds - count), np.nan)
        each = (seeds - held / seeds) / (count - 1)
        between = np.maximum((np.maximum(square - total**2 / seeds, 0.0) / (count - 1) - error) / each, 0.0)
        between, error = (np.where(part < TINY, 0.0, part) for part in (between, error))
        share = np.where(between + error > 0, between / (between + error), np.nan)
    return np.stack([between, error, share])


def _moments(scores: FloatArray, configs: npt.NDArray[np.intp], points: IntArray, n: int) -> FloatArray:
    """What the variances of a prior are made of, sums over the configurations of each point, shape (points, 7).

    Columns: configurations, mean of the seeds, its square, sum of squares within, seeds less one, one over the number
    of seeds, and the largest sum of squares that so many seeds in [0, 1] can have.
    """
    held = np.bincount(configs).astype(np.float64)
    mean = np.bincount(configs, weights=scores) / held
    within = np.bincount(configs, weights=(scores - mean[configs]) ** 2)
    most = np.floor(held / 2) * np.ceil(held / 2) / held
    point = np.zeros(len(held), dtype=np.int64)
    point[configs] = points
    columns = (np.ones(len(held)), mean, mean**2, within, held - 1, 1 / held, most)
    return np.stack([np.bincount(point, weights=column, minlength=n) for column in columns], axis=1)


def _extremes(moments: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The lowest and the highest that each component is in random shares of the prior, shape (3, draws) each.

    What was not seen has the seeds of a mean configuration. For the variance of configurations it scores far from all
    others and without spread of seeds, or as all others do with the largest; and the other way round for that of seeds.
    """
    drawn = unseen.shares(np.ones(len(moments)), rng=rng)
    count, mean, _, _, spare, inverse, most = moments.mean(axis=0)
    far = count * float(mean < count / 2)
    apart = np.array([count, far, far, 0.0, spare, inverse, most])
    alike = np.array([count, mean, mean**2 / count, most, spare, inverse, most])
    spread, mixed = (drawn @ np.vstack([moments, row]) for row in (apart, alike))
    (high, low_seed, high_share), (low, high_seed, low_share) = (_parts(sums) for sums in (spread, mixed))
    return np.stack([low, low_seed, low_share]), np.stack([high, high_seed, high_share])


def _parts(sums: FloatArray) -> FloatArray:
    """Variance of configurations, of seeds, and share of the first, shape (3, draws), of sums (draws, 7)."""
    mean, square, within, spare, inverse, _ = sums[:, 1:].T / sums[:, 0]
    seed = within / spare
    between = np.maximum(square - mean**2 - seed * inverse, 0.0)
    share = np.divide(between, between + seed, out=np.zeros_like(seed), where=between + seed > 0)
    return np.stack([between, seed, share])


def _estimate(value: float, lowest: FloatArray, highest: FloatArray, n: int) -> Estimate:
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan, n, "no interval: the scores are alike")
    return Estimate(value, *unseen.ends(value, lowest, highest), n, f"Gaffke, {intervals.counted(n)}")


def _successive(history: pd.DataFrame, facts: TaskFacts) -> pd.Series:
    """Half the mean squared difference of successive scores in each trial's tail, indexed by trial id."""
    codes, names = pd.factorize(history["trial_id"])
    order = np.lexsort((history["evaluation"].to_numpy(), codes))
    trial = codes[order]
    scores = utility(history["primary"].to_numpy(dtype=np.float64)[order], low=facts.anchor_low, high=facts.anchor_high)
    held = np.bincount(trial, minlength=len(names))
    last = np.cumsum(held)[trial] - np.arange(len(trial))  # evaluations from here to the trial's end
    tail = np.maximum(TAIL_LEAST, np.ceil(TAIL_SHARE * held))[trial]
    both = (np.diff(trial) == 0) & (last[:-1] <= tail[:-1])
    squares = np.bincount(trial[1:][both], weights=np.diff(scores)[both] ** 2 / 2, minlength=len(names))
    counts = np.bincount(trial[1:][both], minlength=len(names))
    means = np.divide(squares, counts, out=np.full(len(names), np.nan), where=counts > 0)
    return pd.Series(means, index=pd.Index(names, dtype=object))
