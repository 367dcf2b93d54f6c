import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import words
from analysis.claims import evaluate_claims
from analysis.comparisons import compare_all
from analysis.findings import design, find, survival
from analysis.results import Reference
from study.claims import Check, Claim
from study.statements import Extension, Registered


def plan_with(results, **columns):
    return dataclasses.replace(results, plan=results.plan.assign(**columns))


@pytest.fixture(scope="module")
def results(build):
    return build(replicates=8, points=4)


@pytest.fixture(scope="module")
def found(results):
    return find(results, compare_all(results))


def test_a_design_names_what_a_statement_rests_on(results):
    controls = (
        Reference("fitted", 0.05, "pass"),
        Reference("copied", 0.02, "pass"),
        Reference("collapsed", 1.0, "fail"),
        Reference("half the spread", 0.25, "fail"),
        Reference("odd", 0.001, None),
    )
    full = dataclasses.replace(results, prior="wide", references={"manifold-d2": controls})
    assert design(full, "manifold-d2") == (
        "Prior wide (sobol): 32 configurations in 8 replicates, 1 seed each; "
        "budget 1000 generator and 1000 discriminator steps; "
        "w2sq: floor 0.02 (copied), success at or below 0.2, control that fails 0.25 (half the spread); "
        "log-AUC between 0.02 (scores 1) and 2 (scores 0)."
    )


def test_a_design_without_prior_or_controls(results):
    text = design(results, "manifold-d2")
    assert text.startswith("Prior sobol: 32 configurations")
    assert "w2sq: success at or below 0.2;" in text


@pytest.mark.parametrize(
    ("unit", "steps", "critic", "expected"),
    [
        ("generator_steps", 1000, 5, "1000 generator and 5000 discriminator steps"),
        ("discriminator_steps", 1000, 5, "200 generator and 1000 discriminator steps"),  # 1000 / 5
        ("discriminator_steps", 1000, 3, "333 generator and 999 discriminator steps"),  # the rest of one step is unused
        ("updates", 600, 5, "100 generator and 500 discriminator steps"),  # 600 / (5 + 1)
        ("generator_steps", 10, np.nan, "10 generator and 10 discriminator steps"),
        ("epochs", 7, 1, "7 epochs"),
    ],
)
def test_budgets_are_in_steps_of_both_players(results, unit, steps, critic, expected):
    changed = plan_with(results, budget_unit=unit, budget_steps=steps, n_critic=critic)
    assert f"; budget {expected}; " in design(changed, "manifold-d2")


def test_crossed_structures_and_seeds_are_told(build):
    text = design(build(critics=(1, 5), seeds=2, replicates=1), "manifold-d2")
    # 4 points crossed with two n_critic make 8 configurations
    assert "8 configurations (4 points crossed with structures) in 1 replicate, 2 seeds each" in text
    assert "budget 1000 generator and 1000 discriminator steps or 1000 generator and 5000 discriminator steps" in text


def test_confirmatory_comparisons_have_their_verdict_and_grounds(results, found):
    (judged,) = found.confirmatory["manifold-d2"]
    comparison = next(item for item in compare_all(results) if item.confirmatory)
    assert (judged.verdict, judged.settled) == (comparison.verdict, True)
    assert judged.sentences[0] == words.sentence(comparison)
    reached = comparison.reached
    assert judged.sentences[1] == (
        f"Discordance: of 32 pairs, ns+gp1 alone succeeded in {reached.only_first} and wgan+gp1 alone in "
        f"{reached.only_second}, both in {reached.both}, neither in {reached.neither}."
    )
    text = " ".join(judged.sentences)
    assert text.count(words.sentence(comparison)) == 1
    assert "Verdict:" not in text  # the card's title says it
    assert all(part in text for part in ("25: ", "In parts: ", "80 % power", "equal discriminator steps"))


def test_discordance_by_hand(ended):
    # threshold .2; pairs: both, first alone twice, second alone, neither (a failure and a value above)
    results = ended(
        {"a": [0.1, 0.1, 0.2, 3.0, np.inf], "b": [0.1, 9.0, np.inf, 0.05, 0.3]},
        replicates=1,
        points=5,
        confirmatory=(("a", "b"),),
    )
    (judged,) = find(results, compare_all(results)).confirmatory["manifold-d2"]
    expected = "Discordance: of 5 pairs, a alone succeeded in 2 and b alone in 1, both in 1, neither in 1."
    assert expected in judged.sentences


def test_exploratory_comparisons_are_described_and_not_judged(found):
    others = found.exploratory["manifold-d2"]
    assert len(others) == 2
    assert all(item.verdict is None and len(item.sentences) == 1 for item in others)


def test_a_brief_page_says_what_is_cheap(results):
    short = find(results, compare_all(results), brief=True)
    assert short.confirmatory["manifold-d2"][0].verdict
    assert len(short.confirmatory["manifold-d2"][0].sentences) == 1
    assert (short.exploratory, short.survival, short.breaks) == ({"manifold-d2": ()},) * 3


def test_the_best_of_25_is_told_where_there_are_25_points(results, build):
    (text, *_) = survival(results, "manifold-d2")
    assert text.startswith("Expected score of the best of 25 configurations: ns+gp1 ")
    assert survival(build(replicates=1, points=4), "manifold-d2") == ()


def test_failures_that_were_never_trained_are_told(ended):
    # a misses .2 twice, once after 0.1 on the way: one of two was never there; b misses once and was never there
    results = ended({"a": [0.5, 0.5, 0.1], "b": [0.1, 0.1, 0.5]}, replicates=1, points=3, confirmatory=(("a", "b"),))
    ids = list(results.plan["trial_id"])
    paths = [[0.5, 0.1, 0.5, 0.5, 0.5], [0.5] * 5, [0.1] * 5, [0.1] * 5, [0.1] * 5, [0.5] * 5]
    rows = [
        {"trial_id": name, "evaluation": i, "primary": value}
        | dict.fromkeys(("generator_steps", "discriminator_steps"), 200 * (i + 1))
        for name, path in zip(ids, paths, strict=True)
        for i, value in enumerate(path)
    ]
    history = pd.DataFrame(rows)
    told = dataclasses.replace(results, read_history=lambda names: history[list(names)] if names else history)
    # Wilson of 1 of 2 is [.09, .91], of 1 of 1 [.21, 1]
    (judged,) = find(told, compare_all(told)).confirmatory["manifold-d2"]
    assert judged.sentences[-1] == (
        "Of the trials that missed the threshold, never trained within the budget: .50 [.09, .91] of a, "
        "1.00 [.21, 1.00] of b."
    )
    assert survival(told, "manifold-d2")[-1].endswith(
        "the share never trained within the budget: a .50 [.09, .91], b 1.00 [.21, 1.00]."
    )


def test_every_method_has_its_safe_region_or_none(found):
    assert len(found.breaks["manifold-d2"]) == 3


def test_no_verdict_is_said_to_be_none(build, ended):
    quiet = build(confirmatory=())
    assert "declares no comparison" in find(quiet, compare_all(quiet)).silence
    single = ended({"a": [0.1, 0.2]}, replicates=1, points=2)
    assert "a is the only method" in find(single, compare_all(single)).silence
    searched = plan_with(quiet, sampler="optuna")
    assert find(searched, compare_all(searched)).silence == (
        "There is no verdict: optuna chose configurations after seeing results."
    )
    assert design(searched, "manifold-d2").startswith("Configurations chosen by optuna: ")
    assert survival(searched, "manifold-d2") == ()


def test_where_there_is_a_verdict_nothing_is_said_of_silence(found):
    assert found.silence is None


def test_unfinished_comparisons_are_not_settled(build):
    results = build(keep=60)
    (judged,) = find(results, compare_all(results)).confirmatory["manifold-d2"]
    assert (judged.verdict, judged.settled) == ("interim", False)


@pytest.mark.parametrize("keep", [0, 1])
def test_a_sweep_that_has_hardly_begun(build, keep):
    results = build(keep=keep)
    (judged,) = find(results, compare_all(results)).confirmatory["manifold-d2"]
    assert len(judged.sentences) == 1
    assert "nan" not in " ".join(judged.sentences)


def claim(name, *checks, statement="It survives more."):
    return Claim(id=name, statement=statement, source="a paper, section 1", checks=checks)


def test_claims_have_their_verdict_their_reason_and_all_their_numbers(results):
    both = {"tasks": ("manifold-d2",), "methods": ("ns+gp1", "ns"), "measure": "log_auc"}
    items = (
        claim("sure", Check(direction="higher", margin=0.0, **both), Check(direction="differ", margin=0.0, **both)),
        claim("wrong", Check(direction="lower", margin=0.0, **both)),
        claim("late", Check(direction="higher", margin=0.0, **both)),
    )
    rows = {"late": 5}
    stated = tuple(Registered(item.id, item.family, rows.get(item.id, 0), item) for item in items)
    claimed = dataclasses.replace(results, claims=stated, confirmatory=())
    verdicts = evaluate_claims(claimed)
    found = find(claimed, compare_all(claimed))
    assert found.silence is None
    assert [item.title for item in found.claims] == ["sure", "wrong", "late"]
    assert [item.verdict for item in found.claims] == [verdict.verdict for verdict in verdicts]
    assert [item.settled for item in found.claims] == [True, True, False]
    for item, verdict in zip(found.claims, verdicts, strict=True):
        assert item.sentences[0] == f"It survives more (a paper, section 1; stated {verdict.standing})."
        assert item.sentences[1] == f"{verdict.reason}."
        assert len(item.sentences) == 2 + len(verdict.findings)  # what was claimed, why, and every number
    short = find(claimed, compare_all(claimed), brief=True)
    assert (short.claims, short.silence) == ((), "3 claims will be judged by `manypaths report`.")


def test_what_grew_after_results_is_said_and_not_settled(results):
    both = {"tasks": ("manifold-d2",), "methods": ("ns+gp1", "ns"), "measure": "log_auc"}
    item = claim("sure", Check(direction="higher", margin=0.0, **both))
    cells = tuple(("manifold-d2", method) for method in results.methods)
    grown = dataclasses.replace(
        results, claims=(Registered(item.id, item.family, 0, item),), extensions=(Extension(9, 64, 96, cells),)
    )
    found = find(grown, compare_all(grown))
    label = "extended after 9 rows: no longer confirmatory"
    assert (found.claims[0].verdict, found.claims[0].settled) == (f"supported ({label})", False)
    assert found.claims[0].sentences[0].endswith(f"; stated before the run, {label}).")
    (judged,) = found.confirmatory["manifold-d2"]
    assert (judged.verdict.endswith(f" ({label})"), judged.settled) == (True, False)
    late = dataclasses.replace(results, confirmatory=(), late=results.confirmatory)
    assert find(late, compare_all(late)).silence == (
        "There is no verdict: every comparison that was to be decided was declared after results existed."
    )


def test_programs_that_are_not_the_same_are_told(results):
    def told(program):
        trials = results.trials.assign(program=program)
        (judged,) = find(dataclasses.replace(results, trials=trials), compare_all(results)).confirmatory["manifold-d2"]
        return [sentence for sentence in judged.sentences if "program" in sentence]

    assert told("native") == []
    assert told(None) == []
    mixed = np.where(results.trials["method"] == "ns+gp1", "recorded", "native")
    assert told(mixed) == [
        "Not all trials were trained by the same program, and programs differ by rounding: 32 of ns+gp1 by recorded, "
        "32 of wgan+gp1 by native."
    ]
