"""What a run remembers of what was stated: when it came, what went, and how the plan grew in between."""

import copy
import json

import pytest

from analysis.runs import load_results
from study.claim_forms import read_claim
from study.claims import resolved
from study.plan import expand
from study.statements import Extension, brought_up_to_date, declared, extensions, known, note, registered, statements
from study.store import RunDirectory
from study.sweep_run import prepare

BASE = {
    "id": "c1",
    "statement": "Penalties help.",
    "source": "Fedus et al. (2018), abstract",
    "methods": ["ns+gp1", "ns"],
    "measures": ["success"],
}
NS, GP, WGAN = "ns", "ns+gp1", "wgan+gp1"


def said(*claims, pairs=()):
    return statements(claims, pairs)


def claim(**change):
    return resolved([read_claim(BASE | change)], tasks=("ring8",), ranges={"fast": "lr > 0.01"})[0]


def test_what_is_stated_before_results_is_remembered_as_such():
    known, remarks = note([], said(claim(), claim(id="c2")), 0, 96)
    assert [(record["id"], record["rows"], record["withdrawn"]) for record in known] == [
        ("c1", 0, None),
        ("c2", 0, None),
    ]
    assert remarks == []
    assert note(known, said(claim(id="c2"), claim()), 50, 96) == (known, [])
    assert [item.rows for item in registered(known, [claim()])] == [0, 0]


def test_what_changes_before_results_leaves_no_trace():
    known, _ = note([], said(claim(), claim(id="c2")), 0, 96)
    again, remarks = note(known, said(claim(margin=0.1)), 0, 96)
    assert [record["id"] for record in again] == ["c1"]
    assert remarks == []


def test_what_comes_changes_or_goes_after_results_is_noted():
    known, _ = note([], said(claim(), claim(id="c2")), 0, 96)
    before = copy.deepcopy(known)
    changed, remarks = note(known, said(claim(margin=0.1), claim(id="late")), 30, 96)
    assert known == before
    assert [(r["id"], r["rows"], r["withdrawn"]) for r in changed] == [
        ("c1", 0, 30),
        ("c2", 0, 30),
        ("c1", 30, None),
        ("late", 30, None),
    ]
    assert remarks == [
        "claim 'c1' was changed or taken out after 30 trials had rows: that is noted",
        "claim 'c2' was changed or taken out after 30 trials had rows: that is noted",
        "claim 'c1' came after 30 trials had rows: its verdict is labelled 'after the fact'",
        "claim 'late' came after 30 trials had rows: its verdict is labelled 'after the fact'",
    ]
    found = registered(changed, [claim(margin=0.1), claim(id="late")])
    assert [(item.id, item.rows, item.withdrawn) for item in found] == [
        ("c1", 30, None),
        ("late", 30, None),
        ("c1", 0, 30),
        ("c2", 0, 30),
    ]
    assert note(changed, said(claim(margin=0.1), claim(id="late")), 40, 96) == (changed, [])
    # what comes back as it was said before the run was said before the run
    back, _ = note(changed, said(claim(), claim(id="c2")), 60, 96)
    assert [(r["id"], r["withdrawn"]) for r in back] == [("c1", None), ("c2", None), ("c1", 60), ("late", 60)]


def test_a_claim_that_a_run_does_not_know_has_no_time():
    (found,) = registered([], [claim()])
    assert (found.rows, found.withdrawn) == (None, None)


def test_a_run_notes_its_claims_when_it_is_made_and_whenever_they_change(tmp_path, run_here, tiny):
    first = BASE | {"methods": ["ns+gp1", "ns"]}
    sweep = tiny(methods=["ns", "ns+gp1"], claims=[first])
    directory = RunDirectory(tmp_path / "run")
    prepare(directory, sweep, expand(sweep))
    assert [r["rows"] for r in directory.read_json("manifest.json")["stated"]] == [0]
    _, _, said = run_here(tmp_path / "run", sweep)
    assert said == []
    assert [r["rows"] for r in directory.read_json("manifest.json")["stated"]] == [0]
    later = tiny(methods=["ns", "ns+gp1"], claims=[first, first | {"id": "late"}])
    _, _, said = run_here(tmp_path / "run", later)
    assert said == ["claim 'late' came after 4 trials had rows: its verdict is labelled 'after the fact'"]
    gone = tiny(methods=["ns", "ns+gp1"])
    _, _, said = run_here(tmp_path / "run", gone)
    assert len(said) == 2
    records = directory.read_json("manifest.json")["stated"]
    assert [(r["id"], r["rows"], r["withdrawn"]) for r in records] == [("c1", 0, 4), ("late", 4, 4)]


def test_a_manifest_that_was_lost_cannot_say_that_claims_were_first(tmp_path, run_here, tiny):
    sweep = tiny(methods=["ns", "ns+gp1"], claims=[BASE])
    directory = run_here(tmp_path / "run", sweep)[0].directory
    directory.remove("manifest.json")
    _, _, said = run_here(tmp_path / "run", sweep)
    assert any("came after 4 trials had rows" in sentence for sentence in said)
    assert [r["rows"] for r in directory.read_json("manifest.json")["stated"]] == [4]


def test_the_claims_of_a_run_are_loaded_with_their_time(tmp_path, run_here, tiny):
    from analysis.runs import load_results

    sweep = tiny(methods=["ns", "ns+gp1"], claims=[BASE])
    directory = run_here(tmp_path / "run", sweep)[0].directory
    (found,) = load_results(directory).claims
    assert (found.id, found.rows) == ("c1", 0)
    assert found.claim == sweep.stated[0]


# Pairs


def test_a_pair_and_its_reverse_are_one_statement():
    first, second = said(pairs=[(NS, GP), (GP, NS), (NS, WGAN)])
    assert (first["id"], second["id"]) == ("ns vs ns+gp1", "ns vs wgan+gp1")
    records, remarks = note([first | {"rows": 0, "withdrawn": None}], said(pairs=[(GP, NS)]), 9, 96)
    assert (records[0]["withdrawn"], remarks) == (None, [])


def test_pairs_that_come_or_go_after_results_are_noted():
    records, _ = note([], said(pairs=[(NS, GP), (NS, WGAN)]), 0, 96)
    records, remarks = note(records, said(pairs=[(GP, WGAN), (WGAN, NS)]), 30, 96)
    assert remarks == [
        "confirmatory pair 'ns vs ns+gp1' was changed or taken out after 30 trials had rows: that is noted",
        "confirmatory pair 'ns+gp1 vs wgan+gp1' came after 30 trials had rows: it is exploratory, labelled "
        "'after the fact'",
    ]
    found = declared(records, [(GP, WGAN), (WGAN, NS)])
    assert (found.before, found.late, found.withdrawn) == (((WGAN, NS),), ((GP, WGAN),), ((NS, GP),))
    # a late one that goes again was never in the family
    records, _ = note(records, said(), 40, 96)
    assert declared(records, []).withdrawn == ((NS, GP), (NS, WGAN))
    # and what a file says that no run has seen came later than all of them
    assert declared(records, [(NS, "w")]).late == ((NS, "w"),)


def test_a_run_from_before_pairs_were_noted_has_them_from_its_file():
    older = {"claims": [{"id": "c", "hash": "x", "family": "claims", "rows": 4, "withdrawn": None}]}
    records = known(older, [(NS, GP)])
    assert [(record["kind"], record["rows"]) for record in records] == [("claim", 4), ("pair", 0)]
    assert declared(records, [(NS, GP)]).before == ((NS, GP),)
    assert known({"stated": []}, [(NS, GP)]) == []  # one that notes them has seen none
    told, remarks = brought_up_to_date(older, said(pairs=[(NS, WGAN)]), [(NS, GP)], 8, {}, {})
    assert [record["withdrawn"] for record in told["stated"]] == [8, 8, None]
    assert (len(remarks), "claims" in told) == (3, False)


# Extensions


def test_only_what_had_trials_and_got_more_after_results_is_extended():
    before = {"a": {NS: 4, GP: 4}}
    after = {"a": {NS: 6, GP: 4, WGAN: 6}, "b": {NS: 6}}  # 6 of a's ns; wgan+gp1 and b are new
    stated = said(pairs=[(NS, GP)])
    start, _ = brought_up_to_date({}, stated, [], 0, {}, before)
    assert (start["planned"], start["extensions"], start["stated"][0]["planned"]) == (before, [], 8)
    told, remarks = brought_up_to_date(start, stated, [], 5, before, after)
    assert extensions(told) == (Extension(rows=5, before=8, after=22, cells=(("a", NS),)),)
    assert remarks == ["the design grew after 5 trials had rows: verdicts on it are labelled so"]
    assert brought_up_to_date(told, stated, [], 9, after, after) == (told, [])
    assert json.loads(json.dumps(told)) == told
    untouched, remarks = brought_up_to_date(start, stated, [], 0, before, after)
    assert (untouched["extensions"], remarks) == ([], [])  # nobody had seen a result


def test_a_pair_that_is_declared_after_results_is_exploratory_and_its_predecessor_stays(tmp_path, run_here, tiny):
    methods = [NS, GP, WGAN]
    run_here(tmp_path / "run", tiny(methods=methods, confirmatory=[[NS, GP]]))
    prepared, _, told = run_here(tmp_path / "run", tiny(methods=methods, confirmatory=[[NS, WGAN]]))
    assert len(told) == 2
    results = load_results(prepared.directory)
    assert (results.confirmatory, results.late, results.withdrawn) == ((), ((NS, WGAN),), ((NS, GP),))
    assert run_here(tmp_path / "run", tiny(methods=methods, confirmatory=[[NS, WGAN]]))[2] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"design": {"points": 2, "replicates": 2}}, [("manifold-d2", NS), ("manifold-d2", GP)]),
        ({"methods": [NS, GP, WGAN]}, []),
    ],
    ids=["replicates", "a method"],
)
def test_a_design_that_grows_after_results_is_remembered(tmp_path, run_here, tiny, change, expected):
    base = {"methods": [NS, GP], "confirmatory": [[NS, GP]]}
    run_here(tmp_path / "run", tiny(**base))
    prepared, _, told = run_here(tmp_path / "run", tiny(**base | change))
    assert any("verdicts on it are labelled" in sentence for sentence in told) == bool(expected)
    results = load_results(prepared.directory)
    assert [cell for item in results.extensions for cell in item.cells] == expected
    label = "extended after 4 rows: no longer confirmatory" if expected else "before the run"
    assert results.standing("manifold-d2", GP, NS) == label


def test_a_lost_plan_part_is_no_extension(tmp_path, run_here, tiny):
    base = {"methods": [NS, GP], "confirmatory": [[NS, GP]]}
    run_here(tmp_path / "run", tiny(**base))
    grown = base | {"tasks": ["manifold-d2", "ring8"]}
    directory = run_here(tmp_path / "run", tiny(**grown))[0].directory
    directory.remove("plan/0000.parquet")
    run_here(tmp_path / "run", tiny(**grown))
    assert load_results(directory).extensions == ()


def test_a_run_of_an_older_version_says_nothing_and_is_noted_from_then_on(tmp_path, run_here, tiny):
    sweep = tiny(methods=[NS, GP, WGAN], confirmatory=[[NS, GP]])
    directory = run_here(tmp_path / "run", sweep)[0].directory
    manifest = directory.read_json("manifest.json")
    directory.write_json(
        "manifest.json", {k: v for k, v in manifest.items() if k not in ("stated", "planned", "extensions")}
    )
    assert load_results(directory).confirmatory == ((NS, GP),)
    changed = tiny(methods=[NS, GP, WGAN], confirmatory=[[NS, GP], [NS, WGAN]], design={"points": 4})
    assert len(run_here(tmp_path / "run", changed)[2]) == 3
    results = load_results(directory)
    assert (results.confirmatory, results.late) == (((NS, GP),), ((NS, WGAN),))
    assert [(item.rows, item.before, item.after) for item in results.extensions] == [(6, 6, 12)]
