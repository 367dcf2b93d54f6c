"""Samples from the run directory to the picture."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures import style
from analysis.figures.samples import KINDS, REAL, Pixels, _sheet
from analysis.figures.table import FIGURES
from analysis.results import Results
from analysis.runs import load_results
from study import schema
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep

TASK = "manifold-d2"
PICTURE = FIGURES["samples"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a tiny sweep of points and images, one pack per trial."""
    sweep = parse_sweep(
        {
            "name": "tiny",
            "tasks": ["ring8", "digits", "manifold-d2"],
            "methods": ["ns", "ns+gp1"],
            "budget": {"steps": 4, "evaluations": 2},
            "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
            "design": {"points": 2},
            "execution": {"pack": 1, "device": "cpu"},
        },
        source="test",
    )
    directory = RunDirectory(tmp_path_factory.mktemp("samples") / "run")
    run_sweep(directory, sweep, expand(sweep), InProcess(), watch=live, say=lambda _: None)
    return directory, load_results(directory)


@pytest.fixture(scope="session")
def pictured(build):
    """A function giving `Results` samples: of all trials but `without`, with their place in the plan as mean."""

    def make(results=None, *, shape=(1, 4, 4), without=(), real=True, **design):
        results = results or build(**({"confirmatory": (), "points": 2} | design))
        place = {trial_id: i for i, trial_id in enumerate(results.plan["trial_id"])}
        task = dict(results.plan[["trial_id", "task"]].itertuples(index=False))
        rng = np.random.default_rng(0)
        noise = rng.uniform(-1, 1, (9, *shape)).astype(np.float32)
        asked = []

        def read(trial_ids):
            asked.append(trial_ids)
            rows = [(t, task[t], place[t] + noise / 4) for t in trial_ids if t not in without]
            rows += [(None, name, noise) for name in results.tasks] if real else []
            frame = pd.DataFrame(rows, columns=["trial_id", "task", "values"])
            return frame.assign(generator_steps=50)

        found = Results(results.name, results.plan, results.trials, results.confirmatory, None, read_samples=read)
        return found, place, asked

    return make


# From disk


def test_samples_of_asked_trials_are_read_with_the_real_ones(finished):
    _, results = finished
    ids = list(results.plan.query("task == 'ring8'")["trial_id"][:2])
    found = results.samples(*ids)
    assert sorted(found["trial_id"].dropna()) == sorted(ids)
    assert sorted(found.loc[found["trial_id"].isna(), "task"]) == ["digits", "ring8"]
    assert {values.shape for values in found.loc[found["task"] == "ring8", "values"]} == {(256, 2)}
    assert {values.shape for values in found.loc[found["task"] == "digits", "values"]} == {(16, 1, 8, 8)}
    assert {values.dtype for values in found["values"]} == {np.dtype(np.float32)}
    assert list(found.columns) == [column.name for column in schema.SAMPLES]


def test_only_the_packs_of_asked_trials_are_read(finished, monkeypatch):
    _, results = finished
    real, read = RunDirectory.read_file, []

    def read_file(self, table, file, columns=None):
        read.append((table, file))
        return real(self, table, file, columns)

    monkeypatch.setattr(RunDirectory, "read_file", read_file)
    first = results.plan.iloc[0]
    results.samples(first["trial_id"])
    packs = {part for table, part in read if table == "samples" and not part.startswith("real-")}
    assert packs == {first["pack"]}


def test_a_trial_without_samples_has_no_row(finished):
    _, results = finished
    manifold = results.plan.query("task == 'manifold-d2'")["trial_id"]
    assert results.samples(*manifold)["trial_id"].isna().all()
    assert set(PICTURE.numbers(results)["task"]) == {"ring8", "digits"}


def test_a_broken_file_is_left_out(finished, tmp_path):
    directory, results = finished
    copy = RunDirectory(tmp_path / "copy")
    for name in ("sweep.toml", "manifest.json"):
        copy.publish(name, directory.read(name))
    for table in ("plan", "trials", "history", "samples"):
        for part in directory.parts(table):
            copy.publish(f"{table}/{part}.parquet", directory.read(f"{table}/{part}.parquet"))
    first = results.plan.iloc[0]
    copy.publish(f"samples/{first['pack']}.parquet", b"not whole")
    with pytest.warns(UserWarning, match="not a whole Parquet file"):
        found = load_results(copy).samples(first["trial_id"])
    assert found["trial_id"].isna().all()


def test_results_without_a_directory_have_none(build):
    found = build().samples("x")
    assert found.empty
    assert list(found.columns) == [column.name for column in schema.SAMPLES]
    assert PICTURE.numbers(build()).empty


def test_a_finished_run_can_be_drawn(finished):
    _, results = finished
    numbers = PICTURE.numbers(results)
    for task in ("ring8", "digits"):
        assert set(numbers.loc[numbers["task"] == task, "trial"]) == {REAL, "best", "median", "worst"}
    assert style.render(style.draw(PICTURE, numbers), "svg").startswith(b"<?xml")


# Which trials


def chosen(results):
    numbers = PICTURE.numbers(results)
    return numbers[numbers["trial"] != REAL].set_index("trial")["trial_id"].to_dict()


def test_best_median_and_worst_are_by_the_primary_metric(ended, pictured):
    results, _, _ = pictured(ended({"ns": [0.5, 0.1, np.inf, 3.0, 0.7, 0.6]}, replicates=6, points=1))
    ids = list(results.plan["trial_id"])
    # finished in order: 0.1 0.5 0.6 0.7 3.0
    assert chosen(results) == {"best": ids[1], "median": ids[5], "worst": ids[3], "failed": ids[2]}


def test_the_failed_one_lived_about_as_long_as_others(ended, pictured):
    results = ended({"ns": [np.inf] * 4}, replicates=4, points=1)
    trials = results.trials.assign(generator_steps=[10, 400, 30, 20])
    results = Results("x", results.plan, trials, (), None)
    ids = list(results.plan["trial_id"])
    found, _, _ = pictured(results)
    assert chosen(found) == {"failed": ids[2]}  # 10 20 30 400: of the two in the middle the later
    found, _, _ = pictured(results, without={ids[2], ids[3]})
    assert chosen(found) == {"failed": ids[1]}  # 20 and 30 have none; 400 is as far off as 10, and later
    found, _, _ = pictured(results, without=set(ids))
    assert PICTURE.numbers(found).empty


def test_a_trial_out_of_memory_is_not_asked(ended, pictured):
    results, _, asked = pictured(ended({"ns": ["oom", 0.1]}, replicates=2, points=1))
    assert chosen(results) == dict.fromkeys(("best", "median", "worst"), results.plan["trial_id"][1])
    assert results.plan["trial_id"][0] not in asked[0]


def test_few_trials_are_read(pictured):
    results, _, asked = pictured(replicates=8, points=32)
    PICTURE.numbers(results)
    assert len(asked) == 1
    assert len(set(asked[0])) <= 3 * (3 + 12)


def test_the_samples_are_the_trials_own(pictured):
    results, place, _ = pictured()
    numbers = PICTURE.numbers(results)
    for row in numbers[numbers["trial"] != REAL].to_dict("records"):
        np.testing.assert_allclose(row["values"].values.mean(axis=(0, 1, 2, 3)), place[row["trial_id"]], atol=0.25)
        assert (row["count"], row["shape"], row["shown"]) == (9, "1x4x4", "images")


def test_the_csv_says_what_there_is(pictured, tmp_path):
    results, _, _ = pictured(methods=("ns",))
    numbers = PICTURE.numbers(results)
    style.save("samples", PICTURE, numbers, tmp_path, ("csv",))
    found = pd.read_csv(tmp_path / "samples.csv")
    assert set(found["values"]) == {"9 of 1x4x4: in samples/"}
    assert list(found["trial"]) == [REAL, *[kind for kind in KINDS if kind in set(found["trial"])]]
    assert (tmp_path / "samples.csv").stat().st_size < 2000


# Ink


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (1, 8, 8), (3, 8, 8), (2, 5, 3)], ids=str)
@pytest.mark.parametrize("real", [True, False])
def test_every_shape_can_be_drawn(pictured, shape, real):
    results, _, _ = pictured(shape=shape, real=real)
    assert style.render(style.draw(PICTURE, PICTURE.numbers(results)), "png", dpi=40)


def test_twelve_methods_and_six_tasks_stay_a_page_wide(pictured):
    methods = tuple(f"loss{i}+penalty{i}@technique" for i in range(12))
    results, _, _ = pictured(methods=methods, tasks=tuple("abcdef"), replicates=1)
    width, height = style.draw(PICTURE, PICTURE.numbers(results)).get_size_inches()
    assert width < 13
    assert height < 40


def test_values_that_are_all_alike_can_be_drawn(pictured):
    results, _, _ = pictured(shape=(2,), real=False)
    numbers = PICTURE.numbers(results)
    numbers["values"] = [Pixels(np.zeros((9, 2), dtype=np.float32))] * len(numbers)
    style.render(style.draw(PICTURE, numbers), "png", dpi=40)


def test_points_outside_the_frame_are_counted(pictured):
    """Real points are 0 to 1, so that the frame reaches from -.12 to 1.12: of 4 points one is outside, or none."""
    results, _, _ = pictured(shape=(2,), methods=("ns",))
    numbers = PICTURE.numbers(results)
    real = np.array([[0, 0], [1, 1], [0, 1], [1, 0]], dtype=np.float32)
    for far, said in ((1.5, True), (1.1, False)):
        made = np.array([[0.5, 0.5], [0.1, far], [1, 1], [0.2, 0.3]], dtype=np.float32)
        cells = [Pixels(real if trial == REAL else made) for trial in numbers["trial"]]
        texts = [t.get_text() for t in style.draw(PICTURE, numbers.assign(values=cells)).axes[0].texts]
        assert texts.count("25 % outside") == (len(numbers) - 1) * said
        assert said or not any("outside" in text for text in texts)


def test_a_sheet_of_images_by_hand():
    images = np.array([-1, 0, 1], dtype=np.float32).reshape(3, 1, 1, 1)
    sheet = _sheet(images)
    # two by two, a white line between: black, grey / white, nothing
    assert sheet[..., 0].tolist() == [[0, 1, 0.5], [1, 1, 1], [1, 1, 1]]
    colours = np.array([[-1, 0, 1]], dtype=np.float32).reshape(1, 3, 1, 1)
    assert _sheet(colours).tolist() == [[[0, 0.5, 1]]]
    assert _sheet(np.full((1, 1, 1, 1), 7, dtype=np.float32)).tolist() == [[[1, 1, 1]]]  # beyond white is white
