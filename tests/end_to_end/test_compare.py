"""Two methods of a small run, compared from the command line."""

import json
import sys

import pytest

import manypaths
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep

SWEEP = {
    "name": "small",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1", "wgan+gp1"],
    "confirmatory": [["ns", "ns+gp1"]],
    "budget": {"steps": 60, "evaluations": 10},
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "n_critic": {"cross": [1, 2]}}},
    "design": {"points": 32},
    "execution": {"pack": 32, "device": "cpu"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 32 points, at n_critic 1 and 2."""
    sweep = parse_sweep(SWEEP, source="small.toml")
    directory = RunDirectory(str(tmp_path_factory.mktemp("small")))
    run_sweep(directory, sweep, expand(sweep), InProcess(), watch=live, say=lambda _: None)
    return directory


@pytest.fixture
def cli(monkeypatch, capsys):
    """A function running a command line; gives its exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["manypaths", *map(str, arguments)])
        capsys.readouterr()
        try:
            manypaths.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call


def test_a_pair_is_printed_as_a_table_and_a_paragraph(run, cli):
    code, printed, errors = cli("compare", run, "ns+gp1", "ns")
    assert (code, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == "manifold-d2"
    assert lines[1].split() == ["quantity", "ns+gp1", "ns", "difference", "by"]
    assert any(line.startswith("log-AUC, 60 D steps") for line in lines)
    assert "On manifold-d2, budget 60 generator_steps, prior own (sobol 1x32 points), n_critic 1 and 2" in printed
    assert "At equal discriminator steps, after 60 discriminator steps each: log-AUC " in printed
    assert "Holm p " in printed
    assert "Verdict: " in printed


def test_a_pair_is_printed_for_machines_with_its_figures(run, cli, tmp_path):
    code, printed, _ = cli("compare", run, "ns", "wgan+gp1", "--json", "--figures", tmp_path / "pair")
    found = json.loads(printed)
    assert code == 0
    (pair,) = found["pairs"]
    assert (pair["task"], pair["first"], pair["second"]) == ("manifold-d2", "ns", "wgan+gp1")
    assert (pair["family"], pair["p_adjusted"], pair["points"], pair["pairs"]) == ("exploratory", None, 32, 64)
    assert pair["equal_discriminator_steps"]["steps"] == 60
    assert {path.name for path in (tmp_path / "pair").iterdir()} == {
        path.rpartition("/")[2] for path in found["figures"]
    }
    assert {"profiles.png", "profile_differences.csv", "discordance.svg"} <= {p.name for p in tmp_path.glob("pair/*")}


def test_a_region_has_its_own_comparison(run, cli):
    code, printed, _ = cli("compare", run, "ns", "ns+gp1", "--where", "n_critic == 1", "--json")
    (pair,) = json.loads(printed)["pairs"]
    assert code == 0
    assert (pair["points"], pair["pairs"], pair["region"], pair["family"]) == (32, 32, "n_critic == 1", "exploratory")
    assert pair["equal_discriminator_steps"]["comparison"] is None
    assert "Only where n_critic == 1, chosen afterwards: exploratory." in pair["paragraph"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ns", "hinge"), "unknown method 'hinge': choose from "),
        (("ns", "ns+gp1", "--task", "digits"), "unknown task 'digits': choose from manifold-d2"),
        (("ns", "ns+gp1", "--where", "n_critic == 1 and lr < 2e-3"), "of 32 points on manifold-d2: at least 20 are"),
        (("ns", "ns+gp1", "--where", "__import__('os')"), "--where: condition"),
    ],
)
def test_a_mistake_is_one_sentence(run, cli, arguments, sentence):
    code, printed, errors = cli("compare", run, *arguments)
    assert (code, printed) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert sentence in errors


def test_a_plan_says_what_a_difference_takes(cli, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        'name = "small"\ntasks = ["manifold-d2"]\nmethods = ["ns", "ns+gp1"]\nbudget.steps = 60\n'
        "budget.evaluations = 10\nspace.override.lr = {log_uniform = [1e-3, 1e-1]}\n"
        'design.points = 16\ndesign.replicates = 2\nexecution.device = "cpu"\n'
    )
    code, printed, _ = cli("plan", path, "--detect", "0.2", "--discordance", "0.5")
    assert code == 0
    assert "96 points; in whole replicates 96 (6 replicates of 16), 192 trials; this plan has fewer" in printed
    found = json.loads(cli("plan", path, "--json")[1])
    assert set(found["sharpness"]) >= {"success", "profile", "success_difference", "log_auc_difference"}
    assert "needed" not in found
    assert json.loads(cli("plan", path, "--detect", "0.2", "--json")[1])["needed"]["pairs"] == 77
    assert "paired differences found with 80 % power" in cli("plan", path)[1]
    code, _, errors = cli("plan", path, "--detect", "0.9")
    assert code == 2
    assert "--detect 0.9" in errors
