"""The table of figures: a new one is an entry here."""

from __future__ import annotations

import numpy as np

from analysis.figures.curves import draw_profiles, profile_numbers
from analysis.figures.dots import draw_dots, log_auc_numbers, success_numbers
from analysis.figures.endings import draw_failures, failure_numbers
from analysis.figures.forest import difference_numbers, draw_differences
from analysis.figures.style import Picture

SEED = 20_240_517
"""Seed of the bands in figures: the same results give the same picture."""

FIGURES: dict[str, Picture] = {
    "profiles": Picture(
        lambda results: profile_numbers(results, rng=np.random.default_rng(SEED)),
        draw_profiles,
        "Robustness profiles: for each method, the fraction of the prior at or below each value of the metric.",
        "profiles",
    ),
    "success": Picture(
        success_numbers, draw_dots, "Success fraction of each method with its 95 % interval.", "profiles"
    ),
    "log_auc": Picture(log_auc_numbers, draw_dots, "Log-AUC of each method with its 95 % interval.", "profiles"),
    "failures": Picture(
        failure_numbers, draw_failures, "How the planned trials of each method ended: failures by cause.", "breaks"
    ),
    "differences": Picture(
        difference_numbers,
        draw_differences,
        "Paired differences of the log-AUC between methods with 95 % intervals.",
        "compare",
    ),
}
"""Name to figure, in the order of a report."""
