"""The published claims in examples/claims: every file plans, asks for what exists, and comes to a verdict when run."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import manypaths
from analysis.claims import VERDICTS, evaluate_claims
from analysis.outlook import outlook
from analysis.runs import load_results
from study.claims import DIRECTIONS, LEAST, MEASURES, Check, regions
from study.data import images as images_module
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import DATA_ROOT, parse_sweep
from study.store import RunDirectory
from study.sweep_run import load, packs_of, run_sweep
from study.tasks.table import get_task
from tests.study.data import files

FOLDER = Path(__file__).parents[2] / "examples" / "claims"
FILES = sorted(FOLDER.glob("*.toml"))
OF_FILES = "27-spectral-normalisation-survives-all-settings"
ON_CPU = [path for path in FILES if path.stem != OF_FILES]
MINUTES = 12
"""CPU minutes that a file may take."""
by_name = pytest.mark.parametrize("file", ON_CPU, ids=lambda path: path.stem)


def test_there_is_a_file_for_every_claim():
    numbers = [int(path.name.partition("-")[0]) for path in FILES]
    assert numbers == list(range(1, 35))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_file_names_its_claim_and_its_source(file):
    text = file.read_text()
    number = int(file.name.partition("-")[0])
    assert text.startswith(f"# Claim {number}: ")
    raw = tomllib.loads(text)
    assert raw["name"] == file.stem
    assert raw["notice"]
    for claim in raw["claims"]:
        assert claim["statement"].endswith(".")
        assert claim["source"]


@by_name
def test_a_file_plans_within_minutes_and_its_regions_hold_enough_points(file):
    sweep, trials = load(file)
    assert all(region.points >= LEAST for region in regions(sweep.stated, trials))
    for check in (check for claim in sweep.stated for check in claim.checks):
        for task in check.tasks:
            assert {check.metric, check.later} - {None} <= set(get_task(task).metrics)
    seconds = outlook(sweep, packs_of(sweep, trials), workers=1, device="cpu")["seconds"]
    assert seconds is None or seconds < 60 * MINUTES


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder with a small CIFAR-10 in its own format, below a copy of the file that wants it and of its table."""
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_ROOT, "")  # set by the sweep file, and taken back afterwards
    images_module._load.cache_clear()
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 10
    colours = generator.integers(40, 215, (10, 1, 1, 3))
    pictures = np.clip(colours[labels] + generator.integers(-40, 40, (300, 32, 32, 3)), 0, 255).astype(np.uint8)
    folder = tmp_path / "claims" / "data" / "cifar-10-batches-py"
    files.write_cifar_pickles(folder, (pictures, labels), (pictures[::-1], labels[::-1]))
    claims = tmp_path / "claims"
    text = (FOLDER / f"{OF_FILES}.toml").read_text()
    (claims / f"{OF_FILES}.toml").write_text(text.replace('["cifar10"]', '["cifar10[features=pixels, samples=64]"]'))
    (claims / "27-settings.csv").write_text((FOLDER / "27-settings.csv").read_text())
    return claims / f"{OF_FILES}.toml"


def test_the_file_on_cifar_10_plans_where_the_data_are(cifar):
    sweep, trials = load(cifar)
    assert len(trials) == 84
    assert {region.points for region in regions(sweep.stated, trials)} == {42, 21}


def verdicts_of(raw, folder):
    """A sweep run to the end in this process, and what it says of its claims."""
    sweep = parse_sweep(raw, source="tiny.toml")
    run_sweep(RunDirectory(folder), sweep, expand(sweep), InProcess(), watch=live, say=print)
    found = evaluate_claims(load_results(RunDirectory(folder)))
    assert [verdict.id for verdict in found] == [claim.id for claim in sweep.claims]
    assert {verdict.standing for verdict in found} == {"before the run"}
    assert {verdict.verdict for verdict in found} <= set(VERDICTS)
    assert all(verdict.reason for verdict in found)
    return found


def tiny(raw, *, steps=10):
    return raw | {
        "budget": {"steps": steps, "evaluations": 5},
        "design": {"kind": "random", "points": 2, "seeds": raw["design"].get("seeds", 1)},
        "execution": {"pack": 4, "device": "cpu"},
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
@by_name
def test_a_file_runs_and_comes_to_verdicts(file, tmp_path):
    found = verdicts_of(tiny(tomllib.loads(file.read_text())), tmp_path / "run")
    few = ("20 are needed", "have too few evaluations")  # of two points and five evaluations
    assert all(any(words in verdict.reason for words in few) for verdict in found)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_file_on_cifar_10_runs_on_a_small_file_of_its_format(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "claims" / "data"))
    raw = tomllib.loads(cifar.read_text())
    raw["space"]["override"] |= {"lr": 1e-3, "width_g": 8, "width_d": 8}
    verdicts_of(tiny(raw), tmp_path / "run")


@pytest.mark.timeout(120)
def test_the_command_judges_a_run(tmp_path):
    raw = tomllib.loads((FOLDER / "12-existence-is-not-convergence.toml").read_text())
    raw |= {"budget": {"steps": 200, "evaluations": 10}, "methods": ["mm", "mm+simultaneous"], "variant": {}}
    raw |= {"claims": raw["claims"][:1], "execution": {"device": "cpu"}}
    verdicts_of(raw, tmp_path / "run")
    result = CliRunner().invoke(manypaths.app, ["claims", str(tmp_path / "run"), "--json"])
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert found["id"] == "simultaneous-steps-diverge"
    assert found["verdict"] in VERDICTS
    assert found["deciding"]["estimate"]["n"] == 64
    shown = CliRunner().invoke(manypaths.app, ["claims", str(tmp_path / "run")])
    assert shown.exit_code == 0
    assert shown.stdout.split()[:5] == ["claim", "stated", "verdict", "number", "reason"]
    assert found["reason"] in shown.stdout


def test_the_plan_says_how_many_points_a_claim_is_about():
    result = CliRunner().invoke(manypaths.app, ["plan", str(FOLDER / "04-wgan-gp-has-failing-regions.toml")])
    assert result.exit_code == 0
    assert "claims, and the design points that they are about:" in result.stdout
    assert re.search(
        r"fails-at-large-steps\S+ +manifold-d2 +wgan\+gp1 +n_critic == 1 and \S.* +26 +64$", result.stdout, re.M
    )


DOCS = Path(__file__).parents[2] / "docs" / "claims.md"


def cells(page, first):
    """The first cells of the table whose head begins with a word."""
    body = page.partition(f"| {first} |")[2].partition("\n\n")[0]
    return [name for line in body.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]


def test_the_page_lists_every_measure_direction_and_key():
    page = DOCS.read_text(encoding="utf-8")
    assert cells(page, "measure") == list(MEASURES)
    assert cells(page, "direction") == list(DIRECTIONS)
    keys = {field.name for field in dataclasses.fields(Check)}
    assert set(cells(page.partition("The other keys")[2], "key")) == keys
    assert cells(page, "key") == ["id", "statement", "source", "family", "measures"]


def test_the_page_s_example_plans_with_enough_points(tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "example.toml").write_text(block)
    sweep, trials = load(tmp_path / "example.toml")
    assert [claim.id for claim in sweep.claims] == ["wgan-gp-fails-first"]
    assert min(region.points for region in regions(sweep.stated, trials)) >= LEAST


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_shows_what_the_command_prints(tmp_path):
    page = DOCS.read_text(encoding="utf-8")
    sweep, trials = load(FOLDER / "12-existence-is-not-convergence.toml")
    run_sweep(RunDirectory(tmp_path / "run"), sweep, trials, InProcess(), watch=live, say=print)
    result = CliRunner().invoke(manypaths.app, ["claims", str(tmp_path / "run")])
    assert result.stdout in page


def readme_rows():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return {
        row[0]: row for row in (re.split(r" *\| *", line.strip("| ")) for line in re.findall(r"^\| \d.*$", text, re.M))
    }


def test_the_readme_lists_every_file():
    rows = readme_rows()
    assert list(rows) == [str(number) for number in range(1, 35)]
    for file in FILES:
        number, claim, source, link, tasks, cost = rows[str(int(file.name.partition("-")[0]))]
        raw = tomllib.loads(file.read_text())
        assert link == f"[`{file.stem}`]({file.name})"
        assert tasks == ", ".join(f"`{task}`" for task in raw["tasks"])
        assert claim.lower().rstrip(".")[:20] in file.read_text().lower(), number
        assert source
        assert cost


@by_name
def test_the_readme_s_costs_are_those_of_the_plan(file, monkeypatch):
    monkeypatch.setattr("study.choice.missing", lambda: None)  # there is a compiler
    sweep, trials = load(file)
    seconds = outlook(sweep, packs_of(sweep, trials), workers=1, device="cpu")["seconds"]
    cost = readme_rows()[str(int(file.name.partition("-")[0]))][5]
    if seconds is None:
        assert cost.startswith("not in the table")
    else:
        assert 0.5 < float(cost.split()[0]) * 60 / max(seconds, 12) < 2
