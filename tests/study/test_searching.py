import contextlib
import itertools
import math
import shutil

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.runs import missing
from study.doctor import examine
from study.errors import UserError
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.records import planned_pack
from study.replay import replay
from study.search import asked_next, slots, unasked
from study.searching import UNASKED, median_of_seeds
from study.spec import parse_sweep
from study.store import RunDirectory, build_table
from study.sweep_run import lost, run_sweep
from study.worker import run_pack

RAW = {
    "name": "searching",
    "tasks": ["manifold-d2", "dirac"],
    "methods": ["ns", "ns+gp1"],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {
        "override": {
            "lr": {"log_uniform": [1e-4, 1.0]},
            "beta1": {"uniform": [0.0, 0.9]},
            "lr_d_ratio": {
                "log_uniform": [0.1, 10.0]
            },  # kept as a product: what is read back differs in the last digit
        }
    },
    "search": {"trials": 7, "batch": 3},
    "execution": {"pack": 4, "device": "cpu"},
}
SAMPLERS = ("tpe", "cmaes", "random")


def sweep(**changes):
    found = RAW | changes
    found["search"] = RAW["search"] | changes.get("search", {})
    return parse_sweep(found, source="a.toml")


CROSSED = {"space": {"override": RAW["space"]["override"] | {"n_critic": {"cross": [1, 2]}}}}


def bowl(row):
    """What a trial would measure; None where it diverges."""
    return None if row["lr_g"] > 0.1 else abs(row["lr_g"] - 0.01) + abs(row["beta1"] - 0.5) + row["seed"] / 10


class Quick:
    """An executor that measures a formula instead of training, pack by pack in a given order.

    Attributes:
        stop: Packs after which it is interrupted.
        lose: Packs, by their place in the order of running, that it gives up.
        last_first: True to run what was named last first.
    """

    def __init__(self, *, stop=None, lose=(), last_first=False):
        self.stop, self.lose, self.last_first, self.ran = stop, lose, last_first, []

    def run(self, directory, packs, *, after=None):
        waiting = list(packs)
        while waiting:
            if self.stop is not None and len(self.ran) >= self.stop:
                raise KeyboardInterrupt
            pack = waiting.pop(-1 if self.last_first else 0)
            self.ran.append(pack)
            if len(self.ran) - 1 not in self.lose:
                publish(directory, pack)
            waiting.extend(after(pack) if after else ())


def publish(directory, pack):
    rows, metrics = planned_pack(directory, pack)
    ends = [{"status": "diverged", "success": False} if bowl(row) is None else done(bowl(row)) for row in rows]
    results = [row | end for row, end in zip(rows, ends, strict=True)]
    directory.write_part("history", pack, build_table("history", [], metrics))
    directory.write_part("trials", pack, build_table("trials", results, metrics))


def done(value):
    return {"status": "completed", "primary": value, "success": False}


def go(root, spec, executor=None):
    directory = RunDirectory(root)
    said = []
    prepared, tally = run_sweep(directory, spec, slots(spec, "cpu"), executor or Quick(), watch=live, say=said.append)
    return directory, prepared, tally, said


def asked(directory, columns=("task", "method", "n_critic", "point", "seed", "trial_id", "config", "pack")):
    return sorted(tuple(row[name] for name in columns) for row in directory.read_table("plan").to_pylist())


# To the end


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_study_is_asked_for_all_its_trials_once(tmp_path, sampler):
    spec = sweep(search={"sampler": sampler}, **CROSSED)
    directory, prepared, tally, said = go(tmp_path / "run", spec)
    plan, rows = directory.read_table("plan").to_pylist(), directory.read_table("trials").to_pylist()
    assert (tally.planned, tally.done, lost(prepared), said) == (56, 56, 0, [])
    assert sorted(row["trial_id"] for row in rows) == sorted({row["trial_id"] for row in plan})
    for key in itertools.product(RAW["tasks"], RAW["methods"], [1, 2]):
        mine = [row for row in plan if (row["task"], row["method"], row["n_critic"]) == key]
        assert sorted(row["point"] for row in mine) == list(range(7))
    assert {row["sampler"] for row in plan} == {sampler}


def test_a_part_of_the_plan_is_a_batch_in_packs_of_its_own(tmp_path):
    directory, *_ = go(tmp_path / "run", sweep())
    first, *others = sorted(directory.parts("plan"))
    assert len(directory.read_part("plan", first)) == 4 * 3  # the first batch of every study
    assert sorted(len(directory.read_part("plan", part)) for part in others) == [1] * 4 + [3] * 4
    for part in others:
        table = directory.read_part("plan", part)
        assert len(set(table["pack"].to_pylist())) == 1
    assert {row["slot"] for row in directory.read_table("plan").to_pylist()} == {0, 1, 2}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_in_which_packs_end_does_not_matter(tmp_path, sampler):
    spec = sweep(search={"sampler": sampler})
    one, *_ = go(tmp_path / "one", spec)
    other, *_ = go(tmp_path / "other", spec, Quick(last_first=True))
    assert asked(one) == asked(other)


def test_running_again_asks_for_nothing(tmp_path):
    directory, *_ = go(tmp_path / "run", sweep())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.parquet")}
    executor = Quick()
    _, prepared, tally, said = go(tmp_path / "run", sweep(), executor)
    assert (executor.ran, prepared.missing, said, tally.done, lost(prepared)) == ([], (), [], 28, 0)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.parquet")} == before
    manifest = directory.read_json("manifest.json")
    assert manifest["extensions"] == []


def test_one_at_a_time_is_optunas_own_loop(tmp_path):
    """The loop of Optuna's documentation on the same formula, its sampler seeded as docs/search.md says."""
    from study.search import studies_of

    space = {"override": RAW["space"]["override"] | {"lr_d_ratio": 1.0}}
    spec = sweep(tasks=["manifold-d2"], methods=["ns"], search={"trials": 20, "batch": 1}, space=space)
    directory, *_ = go(tmp_path / "run", spec)
    (study,) = studies_of(spec)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loop, expected = optuna.create_study(), []
    for number in range(20):
        loop.sampler = optuna.samplers.TPESampler(seed=study.seed(0, number))
        trial = loop.ask()
        row = {"lr_g": trial.suggest_float("lr", 1e-4, 1.0, log=True), "beta1": trial.suggest_float("beta1", 0.0, 0.9)}
        value = bowl(row | {"seed": 0})
        loop.tell(trial, 1e3 if value is None else value)
        expected.append((row["lr_g"], row["beta1"]))
    rows = sorted(directory.read_table("plan").to_pylist(), key=lambda row: row["point"])
    for row, values in zip(rows, expected, strict=True):
        assert (row["lr_g"], row["beta1"]) == pytest.approx(values, rel=1e-10)


def test_of_several_seeds_the_median_is_told_and_all_are_trained(tmp_path):
    spec = sweep(design={"seeds": 3}, execution={"pack": 9, "device": "cpu"})
    directory, _, tally, _ = go(tmp_path / "run", spec)
    assert tally.done == 3 * 28
    plain, *_ = go(tmp_path / "plain", sweep(space=spec.space.model_dump(mode="json")))
    # seed 1 is the median of the formula, and adds the same to every trial: a sampler of ranks asks for the same
    settings = ("task", "method", "point", "lr_g", "beta1")
    assert sorted(set(asked(directory, settings))) == asked(plain, settings)


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ([0.3], 0.3),
        ([0.3, 0.1, 0.2], 0.2),
        ([0.1, 0.4], 0.4),
        ([0.1, math.inf, 0.2], 0.2),
        ([0.1, math.inf], None),
        ([math.inf, 0.1, math.inf], None),
        ([math.inf], None),
    ],
)
def test_of_seeds_the_worse_middle_is_told_and_a_failing_middle_is_a_failure(outcomes, told):
    assert median_of_seeds(outcomes) == told


def scripted(values):
    """Asks for given configurations, one after the other, whatever the study."""

    def ask(spec, study, past, *, count, starts):
        return values[starts[-1] : starts[-1] + count]

    return ask


@st.composite
def repetitions(draw):
    """A space with ends of many digits, and a few values of it, asked for again and again."""
    number = st.floats(1e-6, 1e3)
    override, values = {"beta1": 0.5, "lr": draw(number)}, {}
    for name in draw(st.sampled_from([["lr_d_ratio"], ["lr"], ["lr", "lr_d_ratio"]])):
        low, high = sorted(draw(st.lists(number, min_size=2, max_size=2, unique_by=lambda x: f"{x:.9g}")))
        if draw(st.booleans()):
            override[name], found = {"choice": [low, high]}, [low, high]
        else:
            override[name], found = {"log_uniform": [low, high]}, [low, high, *draw(st.lists(st.floats(low, high)))]
        values[name] = [float(f"{value:.12g}") for value in found]  # as it is asked for
    one = st.fixed_dictionaries({name: st.sampled_from(found) for name, found in values.items()})
    seeds, batch = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    asked = draw(st.lists(one, min_size=2, max_size=9))
    return override, asked, seeds, batch


@settings(max_examples=40, deadline=None)
@given(repetitions())
def test_what_is_asked_for_again_is_another_trial_whatever_the_numbers(tmp_path_factory, drawn):
    override, asked_for, seeds, batch = drawn
    spec = sweep(
        tasks=["manifold-d2"],
        methods=["ns"],
        space={"override": override},
        search={"trials": len(asked_for), "batch": batch},
        design={"seeds": seeds},
    )
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.searching.asked_next", scripted(asked_for))
        directory, *_ = go(folder / "run", spec)
        with contextlib.suppress(KeyboardInterrupt):
            go(folder / "stopped", spec, Quick(stop=1))
        again, *_ = go(folder / "stopped", spec)
    ids = [row["trial_id"] for row in directory.read_table("plan").to_pylist()]
    assert len(ids) == len(set(ids)) == len(asked_for) * seeds
    assert asked(again) == asked(directory)


def test_an_end_of_a_ratio_that_is_asked_for_again_has_the_draws_of_a_table_with_the_same_rows(tmp_path, monkeypatch):
    override = {"lr": 0.07, "beta1": 0.5, "lr_d_ratio": {"log_uniform": [0.113, 1.7]}}
    assert 0.119 / 0.07 < 1.7  # as it is read from the plan, which has the product
    ratios = [1.7, 0.113, 1.7, 1.7, 0.5, 1.7]
    monkeypatch.setattr("study.searching.asked_next", scripted([{"lr_d_ratio": ratio} for ratio in ratios]))
    raw = {"tasks": ["manifold-d2"], "methods": ["ns"], "space": {"override": override}}
    directory, *_ = go(tmp_path / "run", sweep(**raw, search={"trials": 6, "batch": 2}))
    table = {name: value for name, value in (RAW | raw).items() if name != "search"}
    plain = parse_sweep(table | {"design": {"kind": "table", "table": "a.csv"}}, source="b.toml")
    rows = [{"lr": 0.07, "beta1": 0.5, "beta2": 0.999, "lr_d_ratio": ratio} for ratio in ratios]
    expected = [(trial.point, trial.trial_id, trial.config) for trial in expand(plain, rows)]
    assert asked(directory, ("point", "trial_id", "config")) == expected


# Stopped and taken up again


def test_a_search_that_stopped_between_batches_is_not_done(tmp_path):
    root = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(root, sweep(), Quick(stop=4))  # of each of the 4 studies the first batch of 3 is over, the second asked for
    found = examine(RunDirectory(root))
    assert (found.planned, found.rows, found.unasked) == (4 * 6, 4 * 3, 4 * 7 - 4 * 6)
    assert "ask for 4 trials more" in found.next
    assert missing(RunDirectory(root)) == 4 * 7 - 4 * 3
    go(root, sweep(), Quick())
    found = examine(RunDirectory(root))
    assert (found.planned, found.rows, found.unasked) == (28, 28, 0)
    assert found.next == "`manypaths run` would find nothing to do"
    assert missing(RunDirectory(root)) == 0


def test_what_is_unasked_is_counted_for_each_structure(tmp_path):
    spec = sweep(**CROSSED)
    assert unasked(spec, {("dirac", "ns"): 14, ("manifold-d2", "ns"): 3}) == {
        ("manifold-d2", "ns"): 2 * 7 - 3,
        ("manifold-d2", "ns+gp1"): 2 * 7,
        ("dirac", "ns+gp1"): 2 * 7,
    }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_after_any_batch_it_goes_on_to_the_same_trials(tmp_path, sampler):
    spec = sweep(tasks=["manifold-d2"], search={"sampler": sampler})
    whole, *_ = go(tmp_path / "whole", spec)
    for stop in range(6):
        root = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            go(root, spec, Quick(stop=stop))
        directory, prepared, tally, said = go(root, spec)
        assert asked(directory) == asked(whole)
        assert (tally.done, lost(prepared), said) == (14, 0, [])
        assert directory.read_json("manifest.json")["extensions"] == []


def test_what_a_sampler_is_told_is_the_same_to_the_bit_after_a_stop(tmp_path, monkeypatch):
    heard = {}

    def listen(spec, study, past, **rest):
        heard[root][study.title, rest["starts"][-1]] = past
        return asked_next(spec, study, past, **rest)

    monkeypatch.setattr("study.searching.asked_next", listen)
    spec = sweep(tasks=["manifold-d2"])
    heard[root := "whole"] = {}
    go(tmp_path / root, spec)
    heard[root := "stopped"] = {}
    for stop in (1, 1, 1, None):
        with contextlib.suppress(KeyboardInterrupt):
            go(tmp_path / root, spec, Quick(stop=stop))
    assert heard["stopped"] == heard["whole"]
    assert len(heard["whole"]) == 6


def test_a_search_of_a_gaussian_process_is_taken_up_too(tmp_path):
    search = {"sampler": "gp", "trials": 4, "batch": 2, "options": {"n_startup_trials": 2}}
    spec = sweep(tasks=["dirac"], methods=["ns"], search=search)
    whole, *_ = go(tmp_path / "whole", spec)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", spec, Quick(stop=1))
    assert asked(go(tmp_path / "stopped", spec)[0]) == asked(whole)


def test_killed_between_the_rows_and_the_next_question_it_asks_the_same(tmp_path):
    """Rows of a batch are there, the part of the plan with the next one is not."""
    whole, *_ = go(tmp_path / "whole", sweep())
    for part in sorted(whole.parts("plan"))[1:]:
        shutil.copytree(tmp_path / "whole", tmp_path / f"cut-{part}")
        directory = RunDirectory(tmp_path / f"cut-{part}")
        directory.remove(f"plan/{part}.parquet")
        assert asked(go(directory.root, sweep())[0]) == asked(whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_broken_part_of_the_plan_is_asked_for_again(tmp_path, sampler):
    spec = sweep(search={"sampler": sampler})
    whole, *_ = go(tmp_path / "whole", spec)
    for part in whole.parts("plan"):
        shutil.copytree(tmp_path / "whole", tmp_path / part)
        path = tmp_path / part / "plan" / f"{part}.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        executor = Quick()
        directory, prepared, _, said = go(tmp_path / part, spec, executor)
        assert asked(directory) == asked(whole)
        assert (executor.ran, lost(prepared)) == ([], 0)
        assert said == [f"{path} is not a whole Parquet file: planned again from the file"]


def test_a_sweep_file_that_cannot_be_read_in_the_run_is_written_anew(tmp_path):
    directory, *_ = go(tmp_path / "run", sweep())
    whole = directory.read("sweep.toml")
    for broken in (whole[:40], b"\xff\xfe", b""):
        directory.publish("sweep.toml", broken)
        assert go(tmp_path / "run", sweep())[3] == []
        assert directory.read("sweep.toml") == whole


def test_lost_rows_are_made_again_and_the_search_is_the_same(tmp_path):
    whole, *_ = go(tmp_path / "whole", sweep())
    before = asked(whole)
    for pack in whole.parts("trials")[:3]:
        whole.remove(f"trials/{pack}.parquet")
    executor = Quick()
    assert asked(go(tmp_path / "whole", sweep(), executor)[0]) == before
    assert len(executor.ran) == 3


def test_a_study_waits_for_a_lost_pack_while_the_others_go_on(tmp_path):
    executor = Quick(lose={0})
    directory, prepared, tally, _ = go(tmp_path / "run", sweep(), executor)
    assert tally.done == 21
    assert prepared.packs[UNASKED] == 4
    assert lost(prepared) == 3 + 4
    directory, prepared, tally, _ = go(tmp_path / "run", sweep())
    assert (tally.done, lost(prepared)) == (28, 0)
    assert asked(directory) == asked(go(tmp_path / "whole", sweep())[0])


def test_a_batch_that_trials_cut_short_says_nothing_of_the_next_wherever_it_stops(tmp_path):
    raw = {"tasks": ["manifold-d2"], "methods": ["ns"], "execution": {"pack": 16, "device": "cpu"}}
    few, many = (sweep(**raw, search={"trials": count, "batch": "auto"}) for count in (2, 34))
    go(tmp_path / "whole", few)
    whole, *_ = go(tmp_path / "whole", many)
    assert [len(whole.read_part("plan", part)) for part in sorted(whole.parts("plan"))] == [2, 16, 16]
    for stop in range(3):
        root = tmp_path / f"stopped-{stop}"
        go(root, few)
        for _ in range(2):
            with contextlib.suppress(KeyboardInterrupt):
                go(root, many, Quick(stop=stop))
        assert asked(go(root, many)[0]) == asked(whole)


def test_a_batch_keeps_the_size_that_its_search_began_with_on_another_device(tmp_path):
    raw = {"tasks": ["manifold-d2"], "methods": ["ns"], "search": {"trials": 20, "batch": "auto"}}
    small, large = (sweep(**raw, execution={"pack": pack, "device": "cpu"}) for pack in (4, 16))
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", small, Quick(stop=1))
    directory, *_ = go(tmp_path / "run", large)
    assert [len(directory.read_part("plan", part)) for part in sorted(directory.parts("plan"))] == [4] * 5


def test_a_search_may_get_more_trials_tasks_and_methods(tmp_path):
    small = sweep(tasks=["manifold-d2"], methods=["ns"])
    directory, *_ = go(tmp_path / "run", small)
    before = asked(directory)
    more = sweep(search={"trials": 9})
    directory, prepared, tally, _ = go(tmp_path / "run", more)
    assert set(before) <= set(asked(directory))
    assert (tally.done, lost(prepared)) == (36, 0)
    names = [set(directory.read_part("trials", part).column_names) for part in directory.parts("trials")]
    assert all(found == names[0] for found in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {"seed": 1}}, "search.seed was 0 and is 1"),
        ({"search": {"batch": 2}}, "search.batch was 3 and is 2"),
        ({"search": {"sampler": "random"}}, "search.sampler was tpe and is random"),
        ({"search": {"options": {"n_startup_trials": 3}}}, "search.options"),
        ({"budget": {"steps": 7, "evaluations": 2}}, "budget.steps was 6 and is 7"),
        ({"design": {"seeds": 2}}, "design.seeds was 1 and is 2"),
        ({"space": {"override": {"lr": {"log_uniform": [1e-4, 0.5]}, "beta1": 0.5}}}, "space.override.lr"),
        ({"methods": ["ns"]}, "was begun with ns+gp1 on manifold-d2 and a structure"),
    ],
)
def test_another_search_does_not_go_on_in_the_same_directory(tmp_path, changes, words):
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", sweep(), Quick(stop=2))
    before = asked(RunDirectory(tmp_path / "run"))
    with pytest.raises(UserError) as caught:
        go(tmp_path / "run", sweep(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked(RunDirectory(tmp_path / "run")) == before


def test_neither_does_a_search_in_the_directory_of_a_design_nor_a_design_in_that_of_a_search(tmp_path, tiny, run_here):
    run_here(tmp_path / "design", tiny(name="searching"))
    with pytest.raises(UserError, match="was begun with"):
        go(tmp_path / "design", sweep())
    go(tmp_path / "search", sweep(tasks=["manifold-d2"], methods=["ns"]))
    with pytest.raises(UserError, match="was begun with another plan"):
        run_here(tmp_path / "search", tiny(name="searching"))


def test_a_full_disk_is_a_sentence_and_the_search_goes_on_later(tmp_path, monkeypatch):
    real = RunDirectory.write_part

    def write_part(self, table, part, content):
        if table == "plan" and part == "0002":
            raise OSError(28, "No space left on device")
        real(self, table, part, content)

    monkeypatch.setattr(RunDirectory, "write_part", write_part)
    with pytest.raises(UserError, match=r"cannot write to the run directory .*: No space left on device"):
        go(tmp_path / "run", sweep())
    monkeypatch.setattr(RunDirectory, "write_part", real)
    assert asked(go(tmp_path / "run", sweep())[0]) == asked(go(tmp_path / "whole", sweep())[0])


# Trained


class Strict:
    """Trains here, and ends every trial of one in two after its first evaluation."""

    def __init__(self):
        self.heard = []

    def run(self, directory, packs, *, after=None):
        waiting = list(packs)
        while waiting:
            pack = waiting.pop(0)
            run_pack(directory.root, pack, stop=lambda *said: self.heard.append(said) or len(self.heard) % 2 == 0)
            waiting.extend(after(pack) if after else ())


def test_a_trial_that_is_stopped_is_censored_with_what_it_measured_and_its_last_value_is_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        "study.searching.asked_next", lambda *a, **k: told.append([i for b in a[2] for i in b]) or asked_next(*a, **k)
    )
    search = {"trials": 6, "batch": 2, "pruner": "asha"}
    spec = sweep(tasks=["manifold-d2"], methods=["ns"], search=search, execution={"pack": 1, "device": "cpu"})
    executor = Strict()
    directory, prepared, tally, _ = go(tmp_path / "run", spec, executor)
    rows = {row["trial_id"]: row for row in directory.read_table("trials").to_pylist()}
    history = directory.read_table("history").to_pylist()
    assert dict(tally.statuses) == {"completed": 3, "stopped": 3}
    assert lost(prepared) == 0
    assert [done for _, done, _ in executor.heard] == [1] * 6  # of two evaluations, never at the last
    for row in rows.values():
        mine = [entry for entry in history if entry["trial_id"] == row["trial_id"]]
        if row["status"] == "stopped":
            assert row["reason"] == "stopped by a pruner after 1 of 2 evaluations"
            assert (row["primary"], row["success"], row["w2sq"], row["generator_steps"], len(mine)) == (None,) * 3 + (
                3,
                1,
            )
        else:
            assert (row["generator_steps"], len(mine), row["reason"]) == (6, 2, None)
    stopped = [row for row in rows.values() if row["status"] == "stopped"]
    values = {entry["primary"] for entry in history if entry["trial_id"] in {row["trial_id"] for row in stopped}}
    assert len(values & {item.outcome for item in told[-1]}) == 2  # the last batch is asked for after four trials
    again = len(told)
    go(tmp_path / "run", spec, Quick())
    assert len(told) == again
    directory.remove(f"plan/{max(directory.parts('plan'))}.parquet")
    go(tmp_path / "run", spec, Quick())
    assert told[-1] == told[again - 1]  # read from the run directory as it was while it ran


def test_trials_that_are_really_trained_are_ordinary_rows_and_can_be_trained_again(tmp_path):
    spec = sweep(tasks=["manifold-d2"], search={"trials": 3, "batch": 2})
    directory, prepared, tally, _ = go(tmp_path / "run", spec, InProcess())
    rows = directory.read_table("trials").to_pylist()
    assert (tally.done, lost(prepared)) == (6, 0)
    assert {row["sampler"] for row in rows} == {"tpe"}
    row, same = replay(directory, spec, slots(spec, "cpu"), rows[-1]["trial_id"])
    assert (row["trial_id"], same) == (rows[-1]["trial_id"], True)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A run of trained trials of which a pruner stopped every second one after its first evaluation."""
    search = {"trials": 4, "batch": 2, "pruner": "asha"}
    spec = sweep(tasks=["manifold-d2"], methods=["ns"], search=search, execution={"pack": 1, "device": "cpu"})
    return go(tmp_path_factory.mktemp("pruned") / "run", spec, Strict())[0], spec


def test_a_stopped_trial_that_is_trained_again_ends_where_it_was_stopped(pruned):
    directory, spec = pruned
    rows = directory.read_table("trials").to_pylist()
    assert sorted(row["status"] for row in rows) == ["completed"] * 2 + ["stopped"] * 2
    for stored in rows:
        row, same = replay(directory, spec, slots(spec, "cpu"), stored["trial_id"])
        assert (row["status"], row["reason"], row["generator_steps"], same) == (
            *(stored[name] for name in ("status", "reason", "generator_steps")),
            True,
        )


@pytest.mark.parametrize("change", ["another value", "a later row"])
def test_of_a_stopped_trial_the_history_is_compared_for_its_row_has_no_metrics(pruned, tmp_path, change):
    whole, spec = pruned
    shutil.copytree(whole.root, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    stored = next(row for row in directory.read_table("trials").to_pylist() if row["status"] == "stopped")
    table = directory.read_part("history", stored["pack"])
    (row,) = table.to_pylist()
    changed = [row | {"loss_d": row["loss_d"] + 1e-9}] if change == "another value" else [row, row | {"evaluation": 1}]
    directory.write_part("history", stored["pack"], type(table).from_pylist(changed, schema=table.schema))
    assert replay(directory, spec, slots(spec, "cpu"), stored["trial_id"])[1] is False
