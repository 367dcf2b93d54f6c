"""What the documents say, checked against what is there."""

import functools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
import typer

import manypaths
from analysis import comparisons, summary
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.spaces import SPACES
from study import user_files
from study.executor import InProcess
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.plan import expand
from study.progress import live
from study.schema import TABLES
from study.spec import Sweep, parse_sweep, read_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep
from study.tasks.base import Snapshot
from study.tasks.table import FILES, TASKS, get_task
from study.techniques import TECHNIQUES

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")))
BASE = {
    "name": "fragment",
    "tasks": ["manifold-d2"],
    "methods": ["ns+gp1"],
    "budget": {"steps": 100},
    "space": {"override": {"lr": 1e-3}},
}
"""What a fragment of a sweep file is put into."""

COMMAND = typer.main.get_command(manypaths.app)


@pytest.fixture(autouse=True)
def _files_of_the_documents():
    """The Python files that the documents show, by the name in their first line."""
    for page in PAGES:
        for block in blocks(page, "python"):
            name = re.match(r"# (\w+\.py)\n", block)
            if name:
                user_files.provide(name[1], block.encode())


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), flags=re.MULTILINE | re.DOTALL)


def commands():
    """Every `manypaths ...` of a console block, and those in running text that name a verb."""
    for page in PAGES:
        for block in blocks(page, "console"):
            yield from re.findall(r"^\$ (manypaths .*)$", block, flags=re.MULTILINE)
        yield from (found for found in re.findall(r"`(manypaths [^`\n]+)`", text(page)))


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_parse(line):
    words = shlex.split(line, comments=True)[1:]
    verb, *arguments = words[: words.index(">")] if ">" in words else words  # the rest is the shell's
    command = COMMAND.commands[verb]
    if arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    with command.make_context(verb, arguments, resilient_parsing=not arguments) as context:
        assert not context.args


def test_the_readme_shows_every_verb():
    shown = {shlex.split(line)[1] for line in commands()}
    assert shown == set(COMMAND.commands)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("tasks", [*TASKS, *FILES]), ("methods", [*LOSSES, *PENALTIES, *TECHNIQUES])],
    ids=["tasks", "methods"],
)
def test_the_readme_lists_what_exists(kind, names):
    limits = text(ROOT / "README.md").partition("## Limits")[2]
    assert [name for name in names if f"`{name}`" not in limits] == []


def test_named_methods_tasks_and_spaces_exist():
    exists = {"tasks": [*TASKS, *FILES], "spaces": SPACES}
    for line in commands():
        verb, *names = shlex.split(line, comments=True)[1:]
        for name in names:
            if verb in exists and not name.isupper() and not user_files.is_reference(name):
                assert name in exists[verb], line


@functools.cache
def makefile_targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page):
    named = re.findall(r"(?:^\$ |`)make ([a-z-]+)", text(page), flags=re.MULTILINE)
    assert set(named) <= makefile_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(page)) if "://" not in link]
    files = re.findall(
        r"`((?:study|search_spaces|analysis|cluster|tests|examples|docs|benchmarks)/[\w/.-]*)`", text(page)
    )
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(
    ("page", "block"),
    [(page.name, block) for page in PAGES for block in blocks(page, "toml")],
)
def test_sweep_files_are_valid(page, block):
    raw = tomllib.loads(block)
    whole = BASE | {"methods": raw["claims"][0]["methods"]} | raw if "claims" in raw else BASE | raw
    if "space" in raw:
        whole["space"] = {**raw["space"], "override": BASE["space"]["override"] | raw["space"].get("override", {})}
    assert isinstance(parse_sweep(whole, source=page), Sweep)


EXAMPLES = sorted(ROOT.glob("examples/**/*.toml"))
# read the user's files: tests/end_to_end/test_examples.py makes such files and runs them
OF_FILES = {
    *("cifar10.toml", "celeba.toml", "stacked_mnist.toml"),
    "27-spectral-normalisation-survives-all-settings.toml",
}


@pytest.mark.parametrize("file", [file for file in EXAMPLES if file.name not in OF_FILES], ids=lambda path: path.name)
def test_examples_are_valid(file):
    assert read_sweep(file).name == file.stem


def test_the_parts_that_own_md_shows_can_be_trained(tmp_path):
    sweep = parse_sweep(
        {
            "name": "own",
            "tasks": ["my_tasks.py:rings3d[rings=5]"],
            "methods": ["my_parts.py:cauchy+my_parts.py:zero_both+ema"],
            "budget": {"steps": 4, "evaluations": 2},
            "space": {"override": {"lr": 1e-3, "network": "my_networks.py:skip"}},
            "design": {"points": 1},
            "execution": {"device": "cpu", "pack": 1},
        },
        source="own.md",
    )
    _, tally = run_sweep(RunDirectory(str(tmp_path)), sweep, expand(sweep), InProcess(), watch=live, say=lambda _: None)
    assert tally.statuses == {"completed": 1}


def test_the_controls_that_own_md_shows_are_what_its_metric_says():
    task = get_task("my_tasks.py:rings3d")
    uniforms = torch.rand(1024, 2, generator=torch.Generator().manual_seed(1))
    samples = {
        "real data": task.sample(uniforms),
        "one ring missing": task.sample(uniforms * torch.tensor([2 / 3, 1.0])),
        "everything at the origin": torch.zeros(1024, 3),
    }
    assert list(samples) == [control.name for control in task.controls]
    for control in task.controls:
        shown = samples[control.name][None]
        measured = task.evaluate(Snapshot(parameters={}, samples=shown))[task.primary].item()
        assert measured == pytest.approx(control.value, abs=0.01)
        assert control.must == ("pass" if control.value <= task.threshold else "fail")


def test_the_readme_shows_a_whole_sweep_file():
    whole = "\n".join(blocks(ROOT / "README.md", "toml"))
    assert parse_sweep(tomllib.loads(whole), source="README.md").claims


def test_every_key_of_the_sweep_file_is_documented():
    page = text(ROOT / "docs/sweep-file.md")
    fields = {name: field.annotation for name, field in Sweep.model_fields.items()}
    keys = [*fields, *HYPERPARAMETERS]
    keys += [key for model in fields.values() if hasattr(model, "model_fields") for key in model.model_fields]
    assert [
        key for key in keys if f"`{key}`" not in page and f"`[{key}" not in page and f"[space.{key}" not in page
    ] == []


def test_every_column_is_documented():
    rows = set(re.findall(r"^\| `(\w+)` \| ([\w<>]+) \| (.*) \|$", text(ROOT / "docs/results.md"), flags=re.MULTILINE))
    columns = {(column.name, column.type, column.meaning) for table in TABLES.values() for column in table}
    assert rows == columns


def test_statistics_names_only_columns_that_exist():
    page = text(ROOT / "docs/statistics.md")
    known = {*summary.COLUMNS, *comparisons.COLUMNS, "_method"}
    named = [
        name for cell in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE) for name in re.findall("`(\\w+)`", cell)
    ]
    assert named
    assert [name for name in named if name not in known] == []


def test_the_tree_exists():
    tree = text(ROOT / "README.md").partition("## The tree")[2].partition("```text\n")[2].partition("```")[0]
    folder, paths = ROOT, []
    for line in tree.splitlines():
        name = line.split()[0]
        path = folder / name if line.startswith("  ") else ROOT / name
        folder = folder if line.startswith("  ") else path
        paths.append(path)
    assert len(paths) > 15
    assert [str(path.relative_to(ROOT)) for path in paths if not path.exists()] == []


def test_results_of_benchmarks_are_in_their_table():
    table = ROOT / "benchmarks/results/README.md"
    for file in (ROOT / "benchmarks/results").glob("*.json"):
        assert f"\n## {file.stem}\n" in text(table)
