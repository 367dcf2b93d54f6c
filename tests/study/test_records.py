import math

import numpy as np
import pytest

from study import parquet, records, schema
from study.errors import UserError
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.plan import expand, pack
from study.records import (
    history_rows,
    metric_columns,
    oom_rows,
    plan_table,
    planned_pack,
    tail_median,
    trial_from_row,
    trial_rows,
)
from study.step import MEASURED
from study.store import RunDirectory, build_table
from study.sweep_run import packs_of
from study.techniques import TECHNIQUES
from study.train import Evaluation, PackState

METRICS = ("w2sq", "distance_sq", "spread")


@pytest.fixture
def planned(tiny):
    """A pack of two trials of six steps and two evaluations, with an n_critic of two."""
    space = {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "n_critic": 2}}
    return pack(
        expand(tiny(methods=["ns+gp1@v"], variant={"v": {"beta1": 0.1}}, space=space)), capacity=2, device="cpu"
    )[0]


def trained(primary, *, selection=None, sound=None):
    """A state after one evaluation per column of `primary`, one row per slot, six steps in all."""
    primary = np.array(primary, dtype=float)
    selection = primary if selection is None else np.array(selection, dtype=float)
    slots, count = primary.shape
    evaluations = []
    for i in range(count):
        step = 6 * (i + 1) // count
        last = np.full(slots, float(step)) if sound is None else np.minimum(step, np.array(sound, dtype=float))
        values = {name: np.ones(slots) for name in MEASURED}
        values |= dict.fromkeys(METRICS, primary[:, i]) | {"selection": selection[:, i]}
        evaluations.append(Evaluation(step, values | {"sound_d": 2 * last, "sound_g": last}))
    return PackState({}, step=6, evaluations=evaluations, seconds=3.0)


def rows_of(state, planned):
    return trial_rows(state, planned, sweep="tiny", name=planned.name, capacity=2, device="cpu")


def test_a_planned_trial_is_the_same_after_its_row(planned):
    rows = plan_table(pack(planned.trials, capacity=2, device="cpu"), "tiny").to_pylist()
    assert tuple(trial_from_row(row) for row in rows) == planned.trials
    assert [row["slot"] for row in rows] == [0, 1]
    assert {(row["loss"], row["penalty"], row["technique"], row["method"]) for row in rows} == {
        ("ns", "gp1", None, "ns+gp1@v")
    }


def test_the_schedule_is_planned_and_a_plan_without_that_column_is_even(tiny):
    for schedule in ("even", "late"):
        sweep = tiny(budget={"steps": 60, "evaluations": 7, "schedule": schedule})
        rows = plan_table(packs_of(sweep, expand(sweep)), "tiny").to_pylist()
        assert {row["schedule"] for row in rows} == {schedule}
        assert {trial_from_row(row).budget.schedule for row in rows} == {schedule}
        if schedule == "even":
            older = [{name: value for name, value in row.items() if name != "schedule"} for row in rows]
            assert [trial_from_row(row) for row in older] == [trial_from_row(row) for row in rows]


def test_a_plan_of_another_engine_is_refused(planned):
    row = plan_table(pack(planned.trials, capacity=2, device="cpu"), "tiny").to_pylist()[0]
    with pytest.raises(UserError, match=f"trial {row['trial_id'][:-1]}x was planned by another version of task"):
        trial_from_row(row | {"trial_id": row["trial_id"][:-1] + "x"})


def test_every_key_of_a_row_is_a_column(planned):
    state = trained([[1.0, 2.0], [1.0, 2.0]])
    names = {table: {column.name for column in columns} for table, columns in schema.TABLES.items()}
    assert {key for row in rows_of(state, planned) for key in row} == names["trials"] | set(METRICS)
    assert {key for row in history_rows(state, planned.trials) for key in row} == names["history"] | set(METRICS)
    full = oom_rows(planned, sweep="tiny", name="p", device="cpu", reason="out of memory")
    assert {key for row in full for key in row} <= names["trials"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.0], 4.0),
        ([9.0, 1.0, 5.0], 5.0),
        # a fifth of ten is two: five is the least
        ([100.0] * 5 + [1.0, 2.0, 3.0, 4.0, 50.0], 3.0),
        # a fifth of thirty is six
        ([100.0] * 24 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3.5),
        # a fifth of twenty-six is rounded up to six
        ([100.0] * 20 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3.5),
    ],
)
def test_the_tail_is_the_last_fifth_and_at_least_five(values, expected):
    assert tail_median(np.array(values)) == expected


def test_a_completed_trial_has_its_last_and_best_beside_the_median(planned):
    state = trained([[0.9, 0.1, 0.2], [3.0, 1.0, 2.0]], selection=[[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]])
    first, second = rows_of(state, planned)
    assert (first["primary"], first["primary_last"], first["primary_best"]) == (0.2, 0.2, 0.9)
    assert (second["primary"], second["primary_last"], second["primary_best"]) == (2.0, 2.0, 2.0)
    assert (first["success"], second["success"]) == (True, False)  # the threshold is 0.2, and included
    assert (first["status"], first["reason"], first["diverged_step"]) == ("completed", None, None)
    assert (first["generator_steps"], first["discriminator_steps"], first["updates"]) == (6, 12, 18)
    assert first["train_seconds"] == 1.5
    assert first["w2sq"] == first["primary"]


def test_a_diverged_trial_has_a_step_and_no_metric(planned):
    state = trained([[1.0, 1.0], [1.0, 1.0]], sound=[6, 4])
    sound, diverged = rows_of(state, planned)
    assert sound["status"] == "completed"
    assert (diverged["status"], diverged["diverged_step"], diverged["success"]) == ("diverged", 5, False)
    assert (diverged["generator_steps"], diverged["discriminator_steps"], diverged["updates"]) == (4, 8, 12)
    assert "not finite" in diverged["reason"]
    assert not {"primary", "primary_last", "primary_best", *METRICS} & diverged.keys()


def test_a_metric_that_is_not_finite_is_a_divergence(planned):
    _, diverged = rows_of(trained([[1.0, 1.0], [math.inf, 1.0]]), planned)
    assert (diverged["status"], diverged["diverged_step"]) == ("diverged", 3)
    assert diverged["reason"] == "w2sq not finite"


def test_history_ends_where_a_trial_diverged(planned):
    found = history_rows(trained([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], sound=[6, 3]), planned.trials)
    of = {trial.trial_id: [row for row in found if row["trial_id"] == trial.trial_id] for trial in planned.trials}
    sound, diverged = of.values()
    assert [row["generator_steps"] for row in sound] == [2, 4, 6]
    assert [row["discriminator_steps"] for row in sound] == [4, 8, 12]
    assert [row["samples_seen"] for row in sound] == [4 * 64, 8 * 64, 12 * 64]
    assert [row["evaluation"] for row in sound] == [0, 1, 2]
    assert [row["primary"] for row in sound] == [1.0, 2.0, 3.0]
    assert [row["generator_steps"] for row in diverged] == [2]


def test_a_trial_without_memory_is_a_failure_without_steps(planned):
    for row in oom_rows(planned, sweep="tiny", name="p", device="cuda", reason="out of memory"):
        assert (row["status"], row["success"], row["capacity"], row["updates"]) == ("oom", False, 1, 0)
        assert "primary" not in row


def test_metric_columns_are_those_of_the_tasks_each_once():
    assert metric_columns(["manifold-d2", "manifold-d8", "manifold-d2"]) == tuple(sorted(METRICS))
    assert set(metric_columns(["manifold-d2", "ring8"])) > set(METRICS)


def test_the_tail_is_what_the_schema_says():
    primary = next(column for column in schema.OUTCOME if column.name == "primary")
    assert f"{records.TAIL_SHARE:.0%}".replace("%", " %") in primary.meaning
    assert f"at least {records.TAIL_LEAST}" in primary.meaning


@pytest.mark.parametrize("task", ["digits", "ring8"])
def test_a_trial_of_any_method_comes_back_from_its_plan_row(tiny, task):
    lipschitz = {name for name, loss in LOSSES.items() if loss.needs_lipschitz}
    losses = [f"{name}+clip" if name in lipschitz else name for name, loss in LOSSES.items() if not loss.value]
    penalties = [f"{(PENALTIES[name].losses or ['ns'])[0]}+{name}" for name in PENALTIES]
    methods = [*dict.fromkeys([*losses, *penalties, *(f"ns+{name}" for name in TECHNIQUES)])]
    networks = {"network": "mlp", "depth_g": 3, "activation_d": "tanh"}
    space = {"override": {"lr": 1e-3, "labelled": {"choice": [20, 50]}, **networks}}
    for sweep in (tiny(tasks=[task], methods=methods), tiny(tasks=[task], methods=methods, space=space)):
        for planned in packs_of(sweep, expand(sweep)):
            rows = plan_table(pack(planned.trials, capacity=2, device="cpu"), "tiny").to_pylist()
            assert [trial_from_row(row) for row in rows] == list(planned.trials)


# The plan


@pytest.fixture
def written(tmp_path, tiny, monkeypatch):
    """The directory and the packs of a plan in two parts, whose groups of rows begin inside packs."""
    monkeypatch.setitem(parquet.GROUP_ROWS, "plan", 5)
    directory, made = RunDirectory(tmp_path / "run"), []
    for part, design in (("0000", {"points": 8}), ("0001", {"kind": "random", "points": 7})):
        packs = pack(expand(tiny(methods=["ns", "wgan+gp1"], design=design)), capacity=3, device="cpu")
        directory.write_part("plan", part, plan_table(packs, "tiny"))
        made += list(packs)
    return directory, made


def test_a_pack_is_found_in_the_plan_wherever_it_is(written):
    directory, packs = written
    for one in packs:
        rows, metrics = planned_pack(directory, one.name)
        assert tuple(trial_from_row(row) for row in rows) == one.trials
        assert [row["slot"] for row in rows] == list(range(len(one.trials)))
        assert metrics == metric_columns(["manifold-d2"])


def test_only_the_groups_of_rows_that_hold_a_pack_are_read(written, monkeypatch):
    directory, packs = written
    real, seen = parquet.pq.ParquetFile.read_row_group, []
    planned_pack(directory, packs[0].name)

    def read(self, group, *columns, **options):
        seen.append(group)
        return real(self, group, *columns, **options)

    monkeypatch.setattr(parquet.pq.ParquetFile, "read_row_group", read)
    for one in packs[:3]:  # three rows each, in groups of five
        planned_pack(directory, one.name)
    assert seen == [0, *(0, 1), 1]


def test_rows_of_a_pack_need_not_lie_together(tmp_path, tiny):
    packs = pack(expand(tiny(design={"points": 4})), capacity=2, device="cpu")
    rows = plan_table(packs, "tiny").to_pylist()
    directory = RunDirectory(tmp_path / "run")
    directory.write_part("plan", "0000", build_table("plan", [rows[place] for place in (3, 0, 2, 1)]))
    for one in packs:
        assert tuple(trial_from_row(row) for row in planned_pack(directory, one.name)[0]) == one.trials


def test_a_pack_that_is_not_planned_is_not_found(written):
    with pytest.raises(KeyError, match="ffff"):
        planned_pack(written[0], "f" * 16)


def test_a_plan_that_grows_is_read_again(written, tiny):
    directory, packs = written
    planned_pack(directory, packs[0].name)
    more = pack(expand(tiny(methods=["hinge"])), capacity=2, device="cpu")
    directory.write_part("plan", "0002", plan_table(more, "tiny"))
    assert len(planned_pack(directory, more.names[0])[0]) == 2
