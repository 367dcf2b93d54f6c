import dataclasses
import math

import pytest

from analysis import words
from analysis.comparisons import Comparison, compare_all
from analysis.intervals import Estimate
from analysis.pairing import FourWay, Record


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.66, ".66"), (1.0, "1.00"), (0.999, "1.00"), (0.0, ".00"), (-0.05, "-.05"), (-0.001, ".00"), (math.nan, "n/a")],
)
def test_shares(value, text):
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.3, "+.30"), (-0.3, "-.30"), (0.001, ".00"), (1.0, "+1.00"), (math.nan, "n/a")]
)
def test_signed_shares(value, text):
    assert words.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0009, "p < .001"), (0.012, "p = .012"), (1.0, "p = 1.000"), (None, "p n/a")]
)
def test_p_values(value, text):
    assert words.p_value(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.012345, "0.01235"), (math.inf, "∞"), (math.nan, "n/a")])
def test_numbers(value, text):
    assert words.number(value) == text


def test_percents():
    assert (words.percent(0.154), words.percent(math.nan)) == ("15 %", "n/a")


EXAMPLE = Comparison(
    task="manifold-d2",
    first="ns+gp1",
    second="wgan+gp1",
    confirmatory=True,
    metric="w2sq",
    threshold=0.2,
    setting="budget 1000 generator_steps, prior sobol 8x16 points",
    planned=128,
    pairs=128,
    points=128,
    unpaired=0,
    missing=0,
    stopped=0,
    log_auc=(0.66, 0.36),
    log_auc_difference=Estimate(0.30, 0.26, 0.34, 128, "t over 8 replicates", 1e-6),
    bounds=(0.30, 0.30),
    spread=0.2,
    success=(0.58, 0.19),
    success_difference=Estimate(0.39, 0.31, 0.47, 128, "t over 8 replicates", 1e-5),
    failures=(0.15, 0.38),
    best=(),
    record=Record(win=107, both_failed=12, tie=0, loss=9),
    finished=FourWay(both=75, only_first=34, only_second=5, neither=14),
    reached=FourWay(both=20, only_first=54, only_second=4, neither=50),
    poi_paired=Estimate(0.88, 0.83, 0.93, 128, "t over 8 replicates"),
    poi_pop=Estimate(0.75, 0.70, 0.80, 128, "t over 8 replicates"),
    mcnemar=1e-9,
    p_adjusted=1e-6,
    verdict="ns+gp1 survives more",
)


def test_a_claim_reads_as_it_should():
    assert words.sentence(EXAMPLE) == (
        "On manifold-d2, budget 1000 generator_steps, prior sobol 8x16 points, ns+gp1 vs wgan+gp1: "
        "log-AUC .66 vs .36, paired difference +.30 [.26, .34] (t over 8 replicates); "
        "success (w2sq <= 0.2) .58 vs .19, difference +.39 [.31, .47] (t over 8 replicates); "
        "failures 15 % vs 38 %; win/both failed/tie/loss 107/12/0/9; Holm p < .001; missing 0."
    )


def test_an_exploratory_comparison_says_so():
    text = words.sentence(dataclasses.replace(EXAMPLE, confirmatory=False, p_adjusted=None, verdict=None))
    assert "exploratory, unadjusted p < .001" in text
    assert "Holm" not in text
    among = dataclasses.replace(EXAMPLE, confirmatory=False, p_adjusted=None, verdict=None, p_discovery=0.02)
    assert "; exploratory, Benjamini-Hochberg p = .020; " in words.sentence(among)
    unfinished = dataclasses.replace(among, p_discovery=None, missing=2)
    assert "; exploratory, unfinished, no p; missing 2" in words.sentence(unfinished)


def test_nothing_is_claimed_of_a_search():
    text = words.sentence(dataclasses.replace(EXAMPLE, p_adjusted=None, verdict="adaptive: no claim"))
    assert "; adaptive: no claim, as configurations that a search chose are no draws from the prior; " in text
    assert " p " not in text
    assert "p <" not in text


def test_differences_have_an_interval_where_there_is_one():
    assert words.ends(Estimate(0.3, 0.26, 0.34, 128, "t")) == "+.30 [.26, .34]"
    assert words.ends(Estimate(0.3, math.nan, math.nan, 30, "none")) == "+.30"
    assert words.difference(Estimate(0.3, math.nan, math.nan, 30, "none")) == "+.30 (none)"


def test_an_unfinished_comparison_has_bounds_and_no_p():
    text = words.sentence(
        dataclasses.replace(
            EXAMPLE, p_adjusted=None, verdict="interim", pairs=120, missing=8, unpaired=2, stopped=1, bounds=(0.2, 0.35)
        )
    )
    assert "interim, no p; missing 8, stopped 1, unpaired 2 (the difference of log-AUC can still end between" in text
    assert text.endswith("between .20 and .35).")


def test_every_comparison_has_a_sentence(build):
    for comparison in (*compare_all(build()), *compare_all(build(keep=0)), *compare_all(build(keep=30))):
        assert comparison.first in words.sentence(comparison)
