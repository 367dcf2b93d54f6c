"""Claims in the sweep file: what may be said, that writing keeps it, and what a run remembers of when it was said."""

import dataclasses
import json
import tomllib

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.axes import ratio
from study.claim_forms import read_claim
from study.claims import (
    DIRECTIONS,
    LEAST,
    MARGIN,
    MEASURES,
    Check,
    Claim,
    digest_of,
    refuse_small_regions,
    region_rows,
    resolved,
    write_claim,
)
from study.errors import UserError
from study.plan import expand
from study.spec import parse_sweep, to_toml
from study.sweep_run import load

SWEEP = """
name = "claimed"
tasks = ["manifold-d2", "ring8"]
methods = ["ns", "ns+gp1", "wgan+gp1", "energy"]
ranges = {fast = "lr > 0.01"}
budget.steps = 100
space.override.lr = {log_uniform = [1e-3, 1e-1]}
space.override.beta1 = {uniform = [0.0, 0.9]}
design.replicates = 8
design.points = 4
"""
CLAIM = """
[[claims]]
id = "c1"
statement = "Penalties help."
source = "Fedus et al. (2018), abstract"
methods = ["ns+gp1", "ns"]
measures = ["success"]
"""
BASE = {
    "id": "c1",
    "statement": "Penalties help.",
    "source": "Fedus et al. (2018), abstract",
    "methods": ["ns+gp1", "ns"],
    "measures": ["success"],
}


def sweep_of(*claims, text=SWEEP, **changes):
    raw = tomllib.loads(text) | {"claims": list(claims)} | changes
    return parse_sweep(raw, source="f.toml")


def test_a_claim_with_nothing_but_what_is_needed():
    (claim,) = parse_sweep(tomllib.loads(SWEEP + CLAIM), source="f.toml").claims
    assert claim == Claim(
        id="c1",
        statement="Penalties help.",
        source="Fedus et al. (2018), abstract",
        checks=(Check(measure="success", methods=("ns+gp1", "ns")),),
        family="claims",
    )
    assert claim.checks[0].margin == MARGIN == 0.05
    assert claim.checks[0].direction == "higher"


def test_what_a_claim_says_holds_for_its_measures_unless_they_say_otherwise():
    raw = BASE | {
        "direction": "lower",
        "metric": "distance_sq",
        "tasks": ["manifold-d2"],
        "measures": [
            {"measure": "success", "at_most": 0.2},
            {"measure": "log_auc", "anchors": [0.1, 4], "direction": "equal", "methods": ["wgan+gp1", "ns"]},
            "failures",
        ],
    }
    success, score, failures = read_claim(raw).checks
    assert (success.direction, success.metric, success.at_most) == ("lower", "distance_sq", 0.2)
    assert (score.direction, score.anchors, score.methods) == ("equal", (0.1, 4.0), ("wgan+gp1", "ns"))
    assert (failures.direction, failures.metric) == ("lower", None)  # it has no metric


def test_tasks_are_all_and_ranges_are_written_out_when_resolved():
    sweep = sweep_of(BASE | {"range": "fast", "where": "beta1 < 0.5"})
    (claim,) = sweep.stated
    assert claim.checks[0].tasks == ("manifold-d2", "ring8")
    assert claim.checks[0].where == "(lr > 0.01) and (beta1 < 0.5)"
    assert claim.checks[0].range is None
    assert sweep_of(BASE | {"range": "fast"}).stated[0].checks[0].where == "lr > 0.01"


REFUSED = [
    ({"direction": "up"}, "claims.c1.direction = 'up': must be one of higher, lower, not_lower"),
    ({"margin": -0.1}, "claims.c1.margin = -0.1: must be a number, at least 0"),
    ({"margin": True}, "claims.c1.margin = True: must be a number, at least 0"),
    ({"id": "a b"}, "claims.id = 'a b': each claim needs an id of letters"),
    ({"id": 3}, "claims.id = 3"),
    ({"statement": None}, "claims.c1.statement is missing"),
    ({"statement": ""}, "claims.c1.statement = '': must be a text in quotes"),
    ({"source": 2018}, "claims.c1.source = 2018: must be a text in quotes"),
    ({"measures": []}, "claims.c1.measures is missing: a list of success, log_auc"),
    ({"measures": ["sucess"]}, "claims.c1.measure = 'sucess': must be one of success"),
    ({"measures": [3]}, "claims.c1.measures must hold names or tables with a measure, got 3"),
    ({"measures": [{"k": 2}]}, "claims.c1.measure is missing"),
    ({"methods": None}, "claims.c1.methods is missing"),
    ({"methods": ["ns", "ns"]}, "claims.c1.methods = ['ns', 'ns']: names something twice"),
    ({"methods": ["ns", 3]}, "must be a list of names"),
    ({"methods": ["ns", "lsgan"]}, "unknown name in claims.c1.methods: 'lsgan': choose from"),
    ({"tasks": ["digits"]}, "unknown name in claims.c1.tasks: 'digits': choose from manifold-d2, ring8"),
    ({"range": "slow"}, "unknown name in claims.c1.range: 'slow': choose from fast"),
    ({"where": "lr >"}, "claims.c1.where = 'lr >': condition 'lr >' is not an expression"),
    ({"where": "momentum > 1"}, "unknown hyperparameter in a condition: 'momentum'"),
    ({"margn": 0.1}, "unknown key 'margn' in claims.c1: did you mean 'margin'?"),
    ({"k": 3}, "claims.c1.k: none of its measures takes k"),
    ({"measures": [{"measure": "success", "k": 3}]}, "claims.c1.k: the measure success takes no k, but metric"),
    ({"measures": ["best_of"]}, "claims.c1: the measure best_of needs k"),
    ({"measures": [{"measure": "best_of", "k": 0}]}, "claims.c1.k = 0: must be a whole number, at least 1"),
    ({"metric": "w2sq", "at_most": 1}, "unknown metric in claims.c1 on ring8: 'w2sq'"),
    ({"metric": "fid", "at_most": 3, "tasks": ["ring8"]}, "unknown metric in claims.c1 on ring8: 'fid'"),
    ({"measures": ["association"]}, "claims.c1: the measure association needs metric, later"),
    ({"measures": ["seed_spread"]}, "claims.c1: the measure seed_spread needs design.seeds of at least 2"),
    ({"methods": "ns", "measures": ["improvement"]}, "claims.c1: the measure improvement compares two methods"),
    ({"interaction": True}, "claims.c1: interaction takes four methods"),
    ({"interaction": 1}, "claims.c1.interaction = 1: must be true or false"),
    ({"control": "energy"}, "claims.c1: control is for a single method"),
    ({"methods": "ns", "control": "lsgan"}, "unknown name in claims.c1.methods: 'lsgan'"),
    ({"against": 0.5}, "claims.c1: against is for a single method without a control"),
    ({"direction": "equal", "margin": 0.0}, "claims.c1: no number is shown to be equal up to a margin of 0"),
    ({"steps": 1000}, "claims.c1.steps = 1000: trials end after 100 generator_steps"),
    (
        {"steps": 50, "unit": "updates"},
        "claims.c1.unit = 'updates': must be one of generator_steps, discriminator_steps",
    ),
    ({"at": "best", "steps": 50}, "claims.c1: at = 'best' is known of the primary metric only"),
    ({"measures": [{"measure": "log_auc", "anchors": [1, 1]}]}, "must be two different positive numbers"),
    ({"measures": [{"measure": "log_auc", "anchors": 3}]}, "must be two different positive numbers"),
    ({"measures": [{"measure": "log_auc", "metric": "spread"}], "tasks": ["manifold-d2"]}, "needs anchors"),
    ({"measures": [{"measure": "success", "metric": "spread"}], "tasks": ["manifold-d2"]}, "needs at_most or at_least"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence[:60] for _, sentence in REFUSED])
def test_whatever_may_not_be_is_refused_in_one_sentence(change, sentence):
    raw = {key: value for key, value in (BASE | change).items() if value is not None}
    with pytest.raises(UserError) as caught:
        sweep_of(raw)
    assert str(caught.value).startswith("f.toml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_claims_are_tables_with_ids_of_their_own():
    with pytest.raises(UserError, match="two claims have the id 'c1': each needs its own"):
        sweep_of(BASE, BASE)
    with pytest.raises(UserError, match=r"claims must be tables: begin each with \[\[claims\]\]"):
        sweep_of("c1")
    with pytest.raises(UserError, match=r"ranges\.fast = 'lr': condition 'lr': `lr` alone is neither true nor false"):
        sweep_of(BASE, ranges={"fast": "lr"})


texts = st.text(min_size=1, max_size=20).filter(str.strip)
checks = st.builds(
    Check,
    measure=st.sampled_from(["success", "log_auc"]),
    methods=st.sampled_from([("ns",), ("ns+gp1", "ns"), ("ns", "ns+gp1", "wgan+gp1")]),
    tasks=st.sampled_from([(), ("ring8",), ("manifold-d2", "ring8")]),
    direction=st.sampled_from(sorted(DIRECTIONS)),
    margin=st.floats(0.001, 1),
    where=st.sampled_from([None, "lr > 0.01", "optimiser == 'adam'"]),
    range=st.sampled_from([None, "fast"]),
    at=st.sampled_from(["tail", "last"]),
    steps=st.sampled_from([None, 50]),
)
claims_ = st.builds(
    Claim, id=st.just("c1"), statement=texts, source=texts, family=texts, checks=st.lists(checks, min_size=1).map(tuple)
)


@given(claims_)
def test_writing_and_reading_gives_the_same_claim(claim):
    assert read_claim(write_claim(claim)) == claim
    sweep = sweep_of(write_claim(claim))
    again = parse_sweep(tomllib.loads(to_toml(sweep)), source="again.toml")
    assert again == sweep
    assert [digest_of(item) for item in again.stated] == [digest_of(item) for item in sweep.stated]


def test_a_file_without_claims_is_written_as_before():
    text = to_toml(sweep_of(ranges={}))
    assert "claims" not in text
    assert "ranges" not in text


def test_the_plan_does_not_depend_on_claims():
    with_claims, without = sweep_of(BASE), sweep_of(ranges={})
    assert [trial.trial_id for trial in expand(with_claims)] == [trial.trial_id for trial in expand(without)]


def digest(raw=None, tasks=("manifold-d2", "ring8"), ranges=None):
    return digest_of(resolved([read_claim(raw or BASE)], tasks=tasks, ranges=ranges or {"fast": "lr > 0.01"})[0])


def test_the_hash_is_of_the_content():
    same = [BASE, dict(reversed(BASE.items())), BASE | {"margin": 0.05}, BASE | {"tasks": ["manifold-d2", "ring8"]}]
    assert len({digest(raw) for raw in same}) == 1
    others = [
        *({key: "another"} for key in ("id", "statement", "source", "family")),
        *({"methods": ["ns", "ns+gp1"]}, {"margin": 0.06}, {"where": "lr > 0.02"}, {"direction": "lower"}),
        *({"range": "fast"}, {"tasks": ["ring8"]}, {"measures": ["success", "failures"]}),
    ]
    found = [digest(BASE | change) for change in others]
    assert len({digest(), *found}) == 1 + len(others)
    ranged = BASE | {"range": "fast"}
    assert digest(ranged) != digest(ranged, ranges={"fast": "lr > 0.02"})
    assert digest() != digest(tasks=("manifold-d2", "ring8", "digits"))  # what it is about has grown


def test_regions_are_counted_in_design_points():
    sweep = sweep_of(
        BASE | {"where": "lr > 0.01 and lr_g > 0.01 and lr_d_ratio == 1 and beta1 <= 0.9"}, BASE | {"id": "c2"}
    )
    trials = expand(sweep)
    rows = region_rows(sweep.stated, trials)
    expected = {(t.replicate, t.point) for t in trials if t.hyperparameters.lr_g > 0.01}
    assert [(row["claim"], row["task"], row["points"], row["of"]) for row in rows] == [
        *(("c1", task, len(expected), 32) for task in ("manifold-d2", "ring8")),
        *(("c2", task, 32, 32) for task in ("manifold-d2", "ring8")),
    ]
    json.dumps(rows)


def test_a_region_of_the_first_method_s_own_number():
    sweep = sweep_of(
        BASE | {"where": "penalty_weight > 1"},
        BASE | {"id": "c2", "methods": ["ns", "ns+gp1"], "where": "penalty_weight > 1"},
    )
    assert [row["points"] for row in region_rows(sweep.stated, expand(sweep))] == [32, 32, 0, 0]


def test_a_quotient_is_what_the_file_and_the_analysis_say_it_is():
    """3e-3 * 0.3 / 3e-3 is not 0.3 in floating point for most rates; both round to nine digits."""
    ratios = (0.1, 0.3, 0.7)
    changed = SWEEP + f"space.override.lr_d_ratio = {{choice = {list(ratios)}}}\n"
    sweep = sweep_of(
        *(BASE | {"id": f"c{i}", "where": f"lr_d_ratio == {r}"} for i, r in enumerate(ratios)), text=changed
    )
    trials = expand(sweep)
    counts = {row["claim"]: row["points"] for row in region_rows(sweep.stated, trials) if row["task"] == "ring8"}
    assert sum(counts.values()) == 32
    rows = pd.DataFrame([{"lr_g": t.hyperparameters.lr_g, "lr_d": t.hyperparameters.lr_d} for t in trials])
    place = pd.Series([(t.replicate, t.point) for t in trials])
    for i, r in enumerate(ratios):
        assert counts[f"c{i}"] == place[(ratio(rows) == r).to_numpy()].nunique() > 0


def test_a_region_with_few_points_is_refused_at_the_desk(tmp_path):
    file = tmp_path / "f.toml"
    file.write_text(SWEEP + CLAIM + 'where = "lr > 0.05"\n')
    with pytest.raises(UserError) as caught:
        load(file)
    assert "claims.c1: the region 'lr > 0.05' of ns+gp1 holds 5 of 32 design points on manifold-d2" in str(caught.value)
    assert f"a claim needs {LEAST}: widen the region, or raise design.points or design.replicates" in str(caught.value)
    file.write_text(SWEEP.replace("points = 4", "points = 2") + CLAIM)
    with pytest.raises(UserError, match="the design holds 16 of 16 design points on manifold-d2, and a claim needs 20"):
        load(file)
    file.write_text(SWEEP + CLAIM)
    assert len(load(file)[0].claims) == 1


def test_enough_points_are_not_refused():
    sweep = sweep_of(BASE)
    refuse_small_regions(sweep.stated, expand(sweep))


def test_a_stored_file_is_read_without_its_tasks():
    raw = tomllib.loads(to_toml(sweep_of(BASE))) | {"tasks": ["mine.py:task"]}
    assert parse_sweep(raw, source="f.toml", stored=True).stated[0].checks[0].tasks == ("mine.py:task",)


def test_every_key_of_a_check_can_be_written():
    assert {field.name for field in dataclasses.fields(Check)} >= {key for m in MEASURES.values() for key in m.takes}
