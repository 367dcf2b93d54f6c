import json
import math

import pytest

from analysis.outlook import needed, needed_lines, outlook, sharpness_lines, size_lines
from study.capacity import CPU_MILLISECONDS
from study.errors import UserError
from study.plan import expand
from study.spec import parse_sweep
from study.sweep_run import packs_of


@pytest.fixture
def planned(monkeypatch):
    """A function giving the outlook of a small sweep, where every slot costs 10 ms a step and nothing else."""
    monkeypatch.setitem(CPU_MILLISECONDS["recorded"], "manifold-d2", (6.0, 6.0, 4.0, 0.0))

    made = {}

    def make(
        design,
        *,
        pack=4,
        workers=2,
        device="cpu",
        methods=("ns", "ns+gp1"),
        task="manifold-d2",
        evaluations=2,
        schedule="even",
        steps=100,
        **override,
    ):
        raw = {
            "name": "tiny",
            "tasks": [task],
            "methods": methods,
            "budget": {"steps": steps, "evaluations": evaluations, "schedule": schedule},
            "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}} | override},
            "design": design,
            "execution": {"pack": pack, "device": "cpu"},
        }
        sweep = parse_sweep(raw, source="tiny.toml")
        made["sweep"] = sweep
        return outlook(sweep, packs_of(sweep, expand(sweep)), workers=workers, device=device)

    make.made = made
    return make


@pytest.mark.parametrize(
    ("design", "warned"),
    [({"points": 16}, True), ({"points": 32}, False), ({"points": 16, "kind": "random"}, False)],
)
def test_networks_drawn_with_few_sobol_points_are_warned_of(planned, design, warned):
    remarks = planned(design, task="ring8", depth_g={"choice": [2, 4]})["remarks"]
    assert any("a depth may follow the learning rate" in remark for remark in remarks) == warned
    assert not any("a depth may" in remark for remark in planned(design, task="ring8", depth_g=2)["remarks"])


def test_a_plan_is_counted(planned):
    found = planned({"points": 8, "replicates": 2, "seeds": 3})
    assert (found["trials"], found["packs"], found["points"], found["filled"]) == (96, 24, 16, 1.0)
    assert found["cells"] == [
        {"task": "manifold-d2", "method": "ns", "trials": 48},
        {"task": "manifold-d2", "method": "ns+gp1", "trials": 48},
    ]
    assert found["prior"] == "own"


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        # four packs of 4 slots x 100 steps x 10 ms = 4 s each
        (1, 16.0),
        (2, 8.0),
        # no faster than one pack
        (64, 4.0),
    ],
)
def test_the_time_is_the_work_shared_by_the_workers(planned, workers, seconds):
    assert planned({"points": 8}, workers=workers)["seconds"] == pytest.approx(seconds)


def test_the_time_on_a_device_without_measured_costs_is_not_known(planned):
    assert planned({"points": 8}, device="cuda")["seconds"] is None


def test_evaluations_that_take_long_are_remarked(planned, monkeypatch):
    many = {"points": 16, "replicates": 8}

    def remarks(cost, evaluations=2):
        # of evaluations to 100 steps of 10 ms
        monkeypatch.setitem(CPU_MILLISECONDS["recorded"], "manifold-d2", (6.0, 6.0, 4.0, cost))
        found = planned(many, evaluations=evaluations)
        assert found["evaluations_over_training"] == pytest.approx(evaluations * cost / 1000)
        # 256 trials on two workers
        assert found["seconds"] == pytest.approx(256 * (1 + evaluations * cost / 1000) / 2)
        return found["remarks"]

    assert remarks(40.0) == remarks(50.0) == []
    assert remarks(52.0) == [
        "evaluations take 10.4% of the time of training: fewer of them (budget.evaluations = 2; 1 would take a "
        "tenth) or longer trials make it less"
    ]
    # of 3 evaluations none would do
    assert remarks(400.0, 3) == ["evaluations take 120.0% of the time of training: longer trials make it less"]
    assert remarks(200.0, 1) == ["evaluations take 20.0% of the time of training: longer trials make it less"]
    # late ones are as few as do
    late = planned(many, evaluations=6, schedule="late")["remarks"]
    assert late == ["evaluations take 120.0% of the time of training: longer trials make it less"]
    assert planned(many, device="cuda")["evaluations_over_training"] is None


def test_few_evaluations_before_the_end_are_remarked_unless_the_file_asks_for_them(planned):
    sweep = {"points": 16, "replicates": 8}

    def remarks(task, **budget):
        return [remark for remark in planned(sweep, task=task, **budget)["remarks"] if "last fifth" in remark]

    # of ring8 each takes as long as 20 steps: five, the least, of 1,000, and eight of 1,600
    assert remarks("ring8", steps=1000, evaluations="auto", schedule="late") == [
        "trials of ring8 have 0 evaluations before the last fifth of their budget, which say little of the way there "
        "and how trials ended: budget.evaluations = 25 says more and takes longer"
    ]
    assert "have 3 evaluations before" in remarks("ring8", steps=1600, evaluations="auto", schedule="late")[0]
    assert "evaluations = 20 says" in remarks("ring8", steps=20, evaluations="auto", schedule="late")[0]
    assert remarks("ring8", steps=2000, evaluations="auto", schedule="late") == []
    assert remarks("manifold-d2", steps=1000, evaluations="auto", schedule="late") == []
    assert remarks("ring8", steps=1000, evaluations=5, schedule="late") == []
    assert remarks("ring8", steps=1000, evaluations=5) == []
    # a fifth of the budget of those with five updates of the discriminator would have to be known
    crossed = {"task": "ring8", "evaluations": "auto", "schedule": "late", "n_critic": {"cross": [1, 5]}}
    assert "have 5 evaluations" in (found := remarks(steps=2000, **crossed))[0]
    assert "the way there, how trials ended and equal discriminator steps: budget" in found[0]
    assert remarks(steps=5000, **crossed) == []


def test_the_plan_says_how_often_trials_are_measured(planned):
    def told(task, **budget):
        found = planned({"points": 16}, task=task, **budget)
        (line,) = [line for line in size_lines(found) if line.startswith("evaluations")]
        return found["evaluations"], line

    late = [{"task": "ring8", "count": 5, "schedule": "late"}]
    assert told("ring8", steps=1000, evaluations="auto", schedule="late") == (late, "evaluations of a trial: 5, late")
    even = [{"task": "ring8", "count": 4, "schedule": "even"}]
    assert told("ring8", evaluations=4) == (even, "evaluations of a trial: 4, evenly spaced")


def test_the_half_widths_are_those_of_wilson_and_of_the_band_over_points(planned):
    found = planned({"points": 16, "replicates": 4, "seeds": 5})
    z = 1.959963984540054
    # at one half, Wilson's half-width is z / (2 sqrt(n + z^2))
    assert found["success_half_width"] == pytest.approx(z / (2 * math.sqrt(64 + z**2)), rel=1e-9)
    # Dvoretzky, Kiefer and Wolfowitz, with Massart's constant
    assert found["profile_half_width"] == pytest.approx(math.sqrt(math.log(2 / 0.05) / (2 * 64)), rel=1e-9)


def test_empty_slots_are_remarked(planned):
    found = planned({"points": 2}, pack=16)
    assert found["filled"] == 4 / 32
    assert found["remarks"][0].startswith("only 12% of the slots are filled (packs of 16)")


def test_a_large_plan_has_no_remarks(planned):
    assert planned({"points": 16, "replicates": 8})["remarks"] == []


def test_few_points_and_few_replicates_are_remarked(planned):
    few = planned({"points": 4, "replicates": 2})["remarks"]
    assert [remark.split(":")[0] for remark in few] == ["fewer than 8 replicates (2)", "8 points are few for a verdict"]


def test_what_a_plan_can_show_is_told(planned):
    found = planned({"points": 16, "replicates": 8})
    sharp = found["sharpness"]
    assert sharp["success"]["0.5"] == found["success_half_width"]
    assert sharp["profile"] == found["profile_half_width"]
    assert list(sharp["success_difference"]) == ["0.3", "0.4", "0.5"]
    assert sharp["success_difference"]["0.4"] == pytest.approx(0.1552, abs=1e-4)  # pairs_needed(.1552, .4) is 128
    text = "\n".join(sharpness_lines(found))
    assert "success +-0.09 / 0.07 / 0.05 at 0.5 / 0.8 / 0.9, whole profile +-0.12" in text
    assert "success 0.13 / 0.16 / 0.17 at discordance 0.3 / 0.4 / 0.5" in text
    assert "Sobol design of 8 or more replicates is usually sharper" in text
    json.dumps(found, allow_nan=False)


def test_what_cannot_be_found_is_said_to_be_none(planned):
    found = planned({"points": 1})
    assert found["sharpness"]["success_difference"] == {"0.3": None, "0.4": None, "0.5": None}
    assert "success none / none / none at" in "\n".join(sharpness_lines(found))


def test_what_a_difference_takes_is_rounded_up_to_whole_replicates(planned):
    """77 points at discordance .4: 5 replicates of 16 are 80; three seeds and two methods, 6 trials a point."""
    found = planned({"points": 16, "replicates": 2, "seeds": 3})
    sweep = planned.made["sweep"]
    wanted = needed(sweep, found, 0.2, 0.4)
    assert (wanted["pairs"], wanted["points"], wanted["replicates"], wanted["trials"]) == (77, 80, 5, 480)
    assert wanted["seconds"] == pytest.approx(found["seconds"] * 80 / 32)
    assert not wanted["enough"]
    text = "\n".join(needed_lines(sweep, wanted))
    assert "77 points; in whole replicates 80 (5 replicates of 16), 480 trials; this plan has fewer" in text
    assert needed(sweep, found, 0.35, 0.4)["enough"]


def test_a_grid_has_no_replicates_to_round_to(planned):
    found = planned({"kind": "grid", "levels": 4})
    wanted = needed(planned.made["sweep"], found, 0.2, 0.4)
    assert (wanted["points"], wanted["replicates"]) == (77, None)
    assert needed_lines(planned.made["sweep"], wanted)[0].endswith("77 points; 154 trials; this plan has fewer")


@pytest.mark.parametrize(("difference", "discordance"), [(0.5, 0.4), (0.0, 0.4), (-0.1, 0.4), (0.2, 1.5), (0.2, 0.0)])
def test_a_difference_that_cannot_be_is_refused(planned, difference, discordance):
    found = planned({"points": 4})
    with pytest.raises(UserError, match="--d"):
        needed(planned.made["sweep"], found, difference, discordance)
