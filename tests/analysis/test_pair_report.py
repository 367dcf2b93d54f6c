import dataclasses
import json
import re

import numpy as np
import pytest

from analysis import power, words
from analysis.comparisons import compare_pair
from analysis.pair_report import data, pair_reports, save_figures
from analysis.pair_words import paragraph, rows
from analysis.ranges import signs
from study.errors import UserError

TASK = "manifold-d2"
INF = np.inf
FACTS = {"threshold": 50.0, "anchor_low": 10.0, "anchor_high": 1000.0}


@pytest.fixture(scope="module")
def drawn(build):
    """128 points with a learning rate and, for one method, a penalty's weight of its own."""
    results = build(points=16)
    rng = np.random.default_rng(3)
    rate = dict(zip(results.plan["config"].unique(), 10 ** rng.uniform(-4, -2, 128), strict=True))
    penalised = results.plan["method"] == "ns+gp1"
    weight = np.where(penalised, results.plan["config"].map(rate) * 1000, np.nan)
    plan = results.plan.assign(lr_g=results.plan["config"].map(rate), penalty_weight=weight)
    return dataclasses.replace(results, plan=plan.assign(lr_d=plan["lr_g"]))


def one(results, first="ns+gp1", second="wgan+gp1", **options):
    (report,) = pair_reports(results, first, second, **options)
    return report


def test_a_report_holds_what_the_statistics_say(drawn):
    found = one(drawn)
    assert found.comparison == compare_pair(drawn, TASK, "ns+gp1", "wgan+gp1")
    assert found.parts == signs(drawn, TASK, "ns+gp1", "wgan+gp1")
    reached = found.comparison.reached
    differ = (reached.only_first + reached.only_second) / 128
    assert found.success_detectable == power.detectable(128, discordance=differ)
    assert found.log_auc_detectable == power.detectable_mean(128, spread=found.comparison.spread)
    assert found.difference.value[-1] == pytest.approx(found.comparison.failures[1] - found.comparison.failures[0])


def test_the_same_results_give_the_same_report(drawn):
    shuffled = dataclasses.replace(
        drawn, plan=drawn.plan.sample(frac=1, random_state=1), trials=drawn.trials.sample(frac=1, random_state=2)
    )
    here, there = one(drawn), one(shuffled)
    assert here.difference.half_width == there.difference.half_width
    assert rows(here) == rows(there)


def test_the_paragraph_names_what_a_claim_has_to(drawn):
    text = paragraph(one(drawn))
    assert text.startswith(words.sentence(compare_pair(drawn, TASK, "ns+gp1", "wgan+gp1")))
    for piece in (
        "On manifold-d2, budget 1000 generator_steps, prior sobol 8x16 points, ns+gp1 vs wgan+gp1: log-AUC",
        "; success (w2sq <= 0.2) ",
        "; failures ",
        "; win/both failed/tie/loss ",
        "; Holm p = ",
        "Expected best score of so many configurations: 1: ",
        "The profile of ns+gp1 is ahead ",
        "In parts: ns+gp1 survives more in 4 of 4 parts of the prior",
        "At the spread and discordance seen, 128 independent points find a difference of log-AUC of ",
        "At equal discriminator steps: all trials make the same number",
        "Verdict: ns+gp1 survives more.",
    ):
        assert piece in text
    assert "nan" not in text


def test_the_table_has_the_methods_side_by_side(drawn):
    table = rows(one(drawn))
    assert all(list(row) == ["quantity", "ns+gp1", "wgan+gp1", "difference", "by"] for row in table)
    found = compare_pair(drawn, TASK, "ns+gp1", "wgan+gp1")
    by = {row["quantity"]: row for row in table}
    assert by["log-AUC"]["ns+gp1"] == words.share(found.log_auc[0])
    assert by["alone finished"]["wgan+gp1"] == str(found.finished.only_second)
    assert by["lower on a configuration"]["ns+gp1"] == str(found.record.win)
    assert by["P(lower), apart"]["ns+gp1"] == words.share(found.poi_pop.value)
    assert by["P(lower), apart"] != by["P(lower), paired"]
    assert by["alone succeeded"]["by"].startswith("exact McNemar p")
    assert {"success (w2sq <= 0.2)", "expected best of 5", "expected best of 25"} <= set(by)
    shown = {"ns+gp1": "", "wgan+gp1": "", "difference": found.verdict, "by": f"Holm {words.p_value(found.p_adjusted)}"}
    assert by["verdict"] == {"quantity": "verdict"} | shown


def test_every_task_that_has_both_methods_is_reported(build):
    results = build(tasks=("x", "y", "z"))
    plan = results.plan[~((results.plan["task"] == "y") & (results.plan["method"] == "ns"))]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    apart = dataclasses.replace(results, plan=plan, trials=trials)
    assert [report.comparison.task for report in pair_reports(apart, "ns", "ns+gp1")] == ["x", "z"]
    assert one(apart, "ns", "ns+gp1", task="z").comparison.task == "z"
    with pytest.raises(UserError, match="ns and ns\\+gp1 are planned together not on y but on x, z"):
        pair_reports(apart, "ns", "ns+gp1", task="y")


@pytest.mark.parametrize("ending", [INF, 20.0, None])
def test_equal_or_missing_endings_are_reported(ended, ending):
    results = ended({"a": [ending] * 8, "b": [ending] * 8}, facts=FACTS, replicates=1, points=8)
    found = one(results, "a", "b")
    assert "nan" not in paragraph(found).replace("finance", "")
    assert json.dumps(data(found), allow_nan=False)
    assert rows(found)
    # 1 - .025^(1/8) = .369 of the prior may be in none of 8 points, and .369 / .631 = .59
    assert re.search("not known: no pair differs|find a difference of log-AUC of .59", paragraph(found))


def test_profiles_that_cross_or_dominate_are_said_to(ended):
    crossing = {"a": [12.0] * 20 + [INF] * 20, "b": [100.0] * 40}
    text = paragraph(one(ended(crossing, facts=FACTS, replicates=1, points=40), "a", "b"))
    assert "The profiles cross: ahead is a at thresholds from 12 to 100, but b at thresholds from 100 to ∞ " in text
    ahead = {"a": [5.0] * 40, "b": [INF] * 40}
    text = paragraph(one(ended(ahead, facts=FACTS, replicates=1, points=40), "b", "a"))
    assert (
        "a dominates between the anchors: the profile of a is ahead at thresholds from 5 to ∞, behind nowhere" in text
    )


def test_nothing_is_claimed_of_an_adaptive_sweep(drawn):
    found = one(dataclasses.replace(drawn, plan=drawn.plan.assign(sampler="tpe")))
    assert (found.dominance, found.parts) == (None, ())
    text = paragraph(found)
    assert "Verdict: adaptive: no claim." in text
    assert not re.search(r"\bp [<=]|In parts|ahead", text)
    given = data(found)
    assert [given[name] for name in given if name.startswith("p_") or name.endswith("_p")] == [None] * 7


# ---- regions


def test_a_region_is_compared_by_itself_and_is_exploratory(drawn):
    found = one(drawn, where="lr > 1e-3")
    inside = drawn.plan[drawn.plan["lr_g"] > 1e-3]
    assert found.comparison.points == inside["point"].nunique()
    assert (found.comparison.confirmatory, found.comparison.p_adjusted, found.comparison.verdict) == (False, None, None)
    trials = drawn.trials[drawn.trials["trial_id"].isin(inside["trial_id"])]
    alone = dataclasses.replace(drawn, plan=inside, trials=trials, confirmatory=())
    assert found.comparison.log_auc == compare_pair(alone, TASK, "ns+gp1", "wgan+gp1").log_auc
    text = paragraph(found)
    assert "Only where lr > 1e-3, chosen afterwards: exploratory." in text
    assert "Holm" not in text
    assert "Verdict" not in text


def test_a_hyperparameter_of_one_method_restricts_the_configurations_of_both(drawn):
    found = one(drawn, where="penalty_weight > 1 and lr < 9e-3").comparison
    rate = drawn.plan.drop_duplicates("config")["lr_g"]
    assert found.points == int(((rate > 1e-3) & (rate < 9e-3)).sum())
    assert found.unpaired == 0


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("lr > 9e-3", r"--where 'lr > 9e-3' leaves \d of 128 points on manifold-d2: at least 20 are needed"),
        ("lr >", "--where: condition 'lr >' is not an expression"),
        ("nope > 1", "unknown hyperparameter in --where: 'nope': choose from .*lr"),
        ("beta1 > 0.5", "'beta1 > 0.5': neither ns\\+gp1 nor wgan\\+gp1 has all of what it names"),
        ("lr == 'a'", "--where: condition"),
    ],
)
def test_a_region_that_cannot_be_is_refused(drawn, where, sentence):
    with pytest.raises(UserError, match=sentence):
        pair_reports(drawn, "ns+gp1", "wgan+gp1", where=where)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("ns", "hinge"), "unknown method 'hinge': choose from .*wgan"),
        (("ns", "ns"), "ns cannot be compared with itself"),
    ],
)
def test_methods_that_cannot_be_compared_are_refused(drawn, names, sentence):
    with pytest.raises(UserError, match=sentence):
        pair_reports(drawn, *names)
    with pytest.raises(UserError, match="unknown task 'x': choose from manifold-d2"):
        pair_reports(drawn, "ns", "ns+gp1", task="x")


def test_methods_without_a_common_configuration_are_refused(build):
    results = build(confirmatory=())
    apart = dataclasses.replace(results, plan=results.plan.assign(config=results.plan["method"]))
    apart = dataclasses.replace(apart, plan=apart.plan.assign(config=apart.plan["trial_id"]))
    with pytest.raises(UserError, match="manifold-d2: 'ns' and 'ns\\+gp1' share no configuration"):
        pair_reports(apart, "ns", "ns+gp1")


# ---- data and figures


def test_data_says_what_the_report_says(drawn):
    found = one(drawn)
    given = json.loads(json.dumps(data(found), allow_nan=False))
    assert given["log_auc_difference"] == found.comparison.log_auc_difference.value
    assert given["best_5_first"] == found.comparison.best[1].first
    assert given["dominance"]["kind"] == found.dominance.kind
    assert given["parts"][0]["value"] == found.parts[0].difference.value
    assert given["equal_discriminator_steps"]["comparison"] is None
    assert set(given["equal_generator_steps"]) == {"steps", "words", "comparison"}
    assert given["paragraph"] == paragraph(found)


def test_figures_keep_the_colours_of_the_whole_run(drawn, tmp_path):
    paths = save_figures(drawn, (one(drawn, "wgan+gp1", "ns"),), None, tmp_path / "new")
    names = {path.stem for path in paths}
    assert names == {"profiles", "profile_differences", "discordance"}
    assert {path.suffix for path in paths} == {".csv", ".png", ".svg", ".pdf"}
    numbers = (tmp_path / "new" / "discordance.csv").read_text().splitlines()
    assert numbers[1].startswith("manifold-d2,wgan+gp1,ns,1,2,exploratory")
    orders = {line.split(",")[2] for line in (tmp_path / "new" / "profiles.csv").read_text().splitlines()[1:]}
    assert orders == {"1", "2"}


def test_a_folder_that_cannot_be_made_is_refused(drawn, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write figures into"):
        save_figures(drawn, (one(drawn),), None, tmp_path / "file")
