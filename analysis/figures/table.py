"""The table of figures: a new one is an entry here."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from analysis.figures.budget_success import draw_over_budget, reached_over_budget, success_over_budget
from analysis.figures.budgets import budget_numbers, draw_budgets
from analysis.figures.curves import control_numbers, draw_controls, draw_profiles, profile_numbers
from analysis.figures.differences import draw_profile_differences, profile_difference_numbers
from analysis.figures.dots import draw_dots, log_auc_numbers, success_numbers
from analysis.figures.dumbbells import checkpoint_numbers, draw_checkpoints
from analysis.figures.endings import (
    draw_ending_map,
    draw_endings,
    draw_failures,
    ending_map_numbers,
    ending_numbers,
    failure_numbers,
)
from analysis.figures.forest import difference_numbers, draw_differences
from analysis.figures.importance import draw_importance, importance_numbers
from analysis.figures.maps import draw_failures_map, draw_map, map_numbers, plain_failure_numbers
from analysis.figures.mcnemar import discordance_numbers, draw_discordance
from analysis.figures.parallel import draw_parallel, parallel_numbers
from analysis.figures.samples import draw_samples, sample_numbers
from analysis.figures.sensitivity import critic_numbers, draw_critic, draw_sensitivity, sensitivity_numbers
from analysis.figures.spread import draw_spread, spread_numbers
from analysis.figures.style import Picture
from analysis.figures.trajectories import draw_trajectories, trajectory_numbers
from analysis.figures.tunability import draw_tunability, tunability_numbers
from study.errors import unknown

SEED = 20_240_517
"""Seed of the bands in figures: the same results give the same picture."""

FIGURES: dict[str, Picture] = {
    "profiles": Picture(
        lambda results: profile_numbers(results, rng=np.random.default_rng(SEED)),
        draw_profiles,
        "Robustness profiles: for each method, the fraction of the prior at or below each value of the metric, with "
        "the share of trials that finish, and of those whose values lie beyond the frame.",
        "profiles",
        searched="For each method, the fraction of the trials that a search chose at or below each value of the "
        "metric, with the share of trials that finish, and of those whose values lie beyond the frame: no "
        "profile of a prior, and no band.",
    ),
    "controls": Picture(
        control_numbers,
        draw_controls,
        "The robustness profiles above generators of known quality: the height of a curve at the line of one is the "
        "fraction of the prior that does at least as well.",
        "profiles",
        searched="The same curves above generators of known quality: the height of a curve at the line of one is the "
        "fraction of the trials that a search chose that does at least as well.",
    ),
    "success": Picture(
        success_numbers,
        draw_dots,
        "Success fraction of each method with its 95 % interval: the share of configurations that end at or below the "
        "threshold, failures counting as not; further right is better, and a pale bar spans what trials without a "
        "result leave open.",
        "profiles",
        searched="Success fraction of each method among the trials that a search chose: the share that ends at or "
        "below the threshold, failures counting as not; no fraction of a prior, so without interval, and a "
        "pale bar spans what trials without a result leave open.",
    ),
    "log_auc": Picture(
        log_auc_numbers,
        draw_dots,
        "Log-AUC of each method with its 95 % interval: the mean score of its configurations, 1 at the lower anchor of "
        "the metric or better, 0 at the upper one, worse or failed, and equal steps for equal ratios between them; "
        "further right is better, at any threshold rather than at one.",
        "profiles",
        searched="Log-AUC of each method over the trials that a search chose: their mean score, 1 at the lower "
        "anchor of the metric or better, 0 at the upper one, worse or failed, and equal steps for equal "
        "ratios between them; no number of a prior, so without interval.",
    ),
    "budgets": Picture(
        lambda results: budget_numbers(results, rng=np.random.default_rng(SEED)),
        draw_budgets,
        "What trying so many configurations gets: left the chance that at least one succeeds (dotted: 95 %), right the "
        "expected score of the best one, with its 95 % interval.",
        "profiles",
    ),
    "spread": Picture(
        lambda results: spread_numbers(results, rng=np.random.default_rng(SEED)),
        draw_spread,
        "What spreads each method's results: filled boxes hold configurations, hatched ones the seeds of a "
        "configuration (half of them in the box, 90 % within the whiskers, failures in a lane of their own), beside "
        "them the configurations' share of the score's variance with its 95 % interval.",
        "profiles",
        searched="What spreads each method's results: filled boxes hold configurations that a search chose, hatched "
        "ones the seeds of a configuration (half of them in the box, 90 % within the whiskers, failures in "
        "a lane of their own), beside them the configurations' share of the score's variance.",
    ),
    "checkpoints": Picture(
        checkpoint_numbers,
        draw_checkpoints,
        "How much the choice of a checkpoint matters: each method's success fraction and log-AUC at the last "
        "evaluation, by the median of the last fifth, and at the evaluation that a selection split calls best; the "
        "numbers stand in that order.",
        "profiles",
    ),
    "samples": Picture(
        sample_numbers,
        draw_samples,
        "What generators made at their last evaluation: samples of the best, the median and the worst trial of each "
        "method by the primary metric (below each), of one that diverged (its last sound evaluation), and of the data "
        "(grey behind points). Points outside the frame stand at its edge, and their share is said.",
        "profiles",
    ),
    "failures": Picture(
        failure_numbers, draw_failures, "How the planned trials of each method ended: failures by cause.", "breaks"
    ),
    "endings": Picture(
        ending_numbers,
        draw_endings,
        "What became of the planned trials of each method: diverged, collapsed to the level of an untrained generator, "
        "reached the threshold and lost it, never reached it, or succeeded.",
        "breaks",
        history=True,
    ),
    "endings_map": Picture(
        ending_map_numbers,
        draw_ending_map,
        "Where in the space each ending happens: a mark per trial, by its shape, over two hyperparameters. Trials at "
        "one place, say seeds or values of n_critic, are moved apart a little, with the worst ending in the middle.",
        "breaks",
        history=True,
    ),
    "budget_success": Picture(
        success_over_budget,
        draw_over_budget,
        "Success against the training budget: the fraction of trials that would have counted as successful had the "
        "budget ended there, with its 95 % interval; what still rises had not finished training.",
        "breaks",
        history=True,
        searched="Success against the training budget: the fraction of the trials that a search chose that would "
        "have counted as successful had the budget ended there; what still rises had not finished training.",
    ),
    "time_to_threshold": Picture(
        reached_over_budget,
        draw_over_budget,
        "When trials first evaluate at or below the threshold: the share of all of them, broken ones included, that "
        "has by each step, with its 95 % interval.",
        "breaks",
        history=True,
        searched="When trials first evaluate at or below the threshold: the share of all that a search chose, broken "
        "ones included, that has by each step.",
    ),
    "trajectories": Picture(
        trajectory_numbers,
        draw_trajectories,
        "The way there: median and quartiles of the primary metric, of another divergence and of gradient norms, and a "
        "few single trials (thin; of their gradients the generator's; a triangle at the frame: it goes on beyond). "
        "Rising steps: the mean share of evaluation intervals before a first success in which the primary metric rises "
        "by more than noise (raw: at all).",
        "breaks",
        history=True,
    ),
    "differences": Picture(
        difference_numbers,
        draw_differences,
        "Paired differences of the log-AUC between methods with 95 % intervals: right of 0 the first method scores "
        "better on the same configurations, left of it the second, and an interval that holds 0 leaves open which. "
        "Filled marks and bold names are pairs that were declared in advance.",
        "compare",
        searched="Paired differences of the log-AUC between methods on the configurations that a search chose and "
        "both visited, without intervals: right of 0 the first method scored better on them, left of it the "
        "second.",
    ),
    "profile_differences": Picture(
        lambda results: profile_difference_numbers(results, rng=np.random.default_rng(SEED)),
        draw_profile_differences,
        "Where one method is ahead: the difference of two robustness profiles at every threshold, with a 95 % band "
        "that holds at all of them together; thick lines at an edge mark where it leaves 0 out.",
        "compare",
    ),
    "discordance": Picture(
        discordance_numbers,
        draw_discordance,
        "Where two methods disagree: in how many pairs of trials both, one alone or neither succeeds, with the exact p "
        "of McNemar's test, a description, where each point is one pair of trials.",
        "compare",
    ),
    "sensitivity": Picture(
        sensitivity_numbers,
        draw_sensitivity,
        "Success along each hyperparameter, in bins that are equally likely under the prior, with 95 % intervals: "
        "where a line is above the dashed half, the method is in its basin there.",
        "breaks",
        searched="Success along each hyperparameter among what a search visited, in bins that draws from the "
        "prior would fill alike: a search does not, so without intervals.",
    ),
    "n_critic": Picture(
        critic_numbers,
        draw_critic,
        "Success against the learning rate, a panel for each number of discriminator steps, with 95 % intervals.",
        "breaks",
        searched="Success against the learning rate among what a search visited, a panel for each number of "
        "discriminator steps.",
    ),
    "success_map": Picture(
        map_numbers,
        draw_map,
        "Where each method succeeds over two hyperparameters: cells are equally likely under the prior, darker ones "
        "succeed more often, and each says how many of its points do; where points have several trials it "
        "says the share, each point counting once, of so many points; hatched cells hold none.",
        "breaks",
        searched="Where each method succeeds over two hyperparameters, among what a search visited: darker cells "
        "succeed more often, and each says how many of its points do; where points have several trials it "
        "says the share, each point counting once, of so many points; hatched cells hold none.",
    ),
    "failure_map": Picture(
        plain_failure_numbers,
        draw_failures_map,
        "Where and how trials end over two hyperparameters, a mark for each trial; those at the same place are moved "
        "apart a little.",
        "breaks",
    ),
    "parallel": Picture(
        parallel_numbers,
        draw_parallel,
        "Each trial as a line across its hyperparameters, from the least value below to the greatest above: coloured "
        "lines reached the threshold, dashed grey ones did not. Of more than 150 trials an even choice by their ids is "
        "drawn, and lines through one level lie side by side.",
        "breaks",
    ),
    "importance": Picture(
        lambda results: importance_numbers(results, rng=np.random.default_rng(SEED)),
        draw_importance,
        "How much each hyperparameter decides whether a configuration is among the best tenth: the method's share by "
        "PED-ANOVA with its 95 % interval; a bar is filled where it exceeds the dotted line, which chance alone "
        "exceeds in 5 % of cases.",
        "breaks",
        searched="How much each hyperparameter decides whether a configuration is among the best tenth of those that "
        "a search chose: the method's share by PED-ANOVA, without what chance reaches, which only draws "
        "from a prior could tell.",
    ),
    "tunability": Picture(
        lambda results: tunability_numbers(results, rng=np.random.default_rng(SEED)),
        draw_tunability,
        "What is lost on each task by tuning a method once for all tasks instead of for each, with its 95 % interval, "
        "against the score that tuning reaches: right is better, low needs no tuning of its own.",
        "breaks",
    ),
}
"""Name to figure, in the order of a report."""


def picture_of(name: str) -> Picture:
    """The figure of a name; `success_map[x,y]` is the map over any two hyperparameters.

    Raises:
        UserError: For an unknown name.
    """
    if name in FIGURES:
        return FIGURES[name]
    axes = re.fullmatch(r"success_map\[\s*([^\[\],\s]+)\s*,\s*([^\[\],\s]+)\s*\]", name)
    if axes is None:
        raise unknown("figure", name, [*FIGURES, "success_map[x,y]"])
    return replace(FIGURES["success_map"], numbers=lambda results: map_numbers(results, *axes.groups()))
