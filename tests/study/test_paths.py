"""Paths in a sweep file: which are refused, and which mean the same."""

import re
import tomllib

import pytest

from study.errors import UserError
from study.paths import normal_paths
from study.spec import parse_sweep, read_sweep

FILE = """
name = "tiny"
tasks = ["manifold-d2"]
methods = ["ns"]
budget.steps = 6
space.override.lr = {log_uniform = [1e-3, 1e-1]}
"""
STAYS = ": a relative path stays below the folder of the sweep file; give an absolute one"
CLIMBS = [
    ('tasks = ["../outside.py:x"]', "tasks = '../outside.py:x'" + STAYS),
    ('tasks = ["a/../../outside.py:x[radius=2]"]', "tasks = 'a/../../outside.py:x[radius=2]'" + STAYS),
    ('methods = ["ns+../outside.py:gp"]', "methods = 'ns+../outside.py:gp'" + STAYS),
    ('methods = ["./../outside.py:loss+gp1"]', "methods = './../outside.py:loss+gp1'" + STAYS),
    ('space.override.network = "../n.py:small"', "space.override.network = '../n.py:small'" + STAYS),
    ('space.override.network = {cross = ["mlp", "../n.py:small"]}', "space.override.network.cross = '../n.py:small'"),
    ('variant.v.network = "../n.py:small"', "variant.v.network = '../n.py:small'" + STAYS),
    ('design.kind = "table"\ndesign.table = "../t.csv"', "design.table = '../t.csv'" + STAYS),
    ('execution.data = ".."', "execution.data = '..'" + STAYS),
    ('tasks = ["images:../faces[size=32]"]', "a relative path stays below the folder with the data; give an absolute"),
]


def content(line):
    key = line.partition(" ")[0]
    return "\n".join([line, *(old for old in FILE.splitlines() if not old.startswith(f"{key} "))])


@pytest.mark.parametrize(("line", "sentence"), CLIMBS)
def test_a_path_that_climbs_is_refused_before_anything_is_read(tmp_path, line, sentence):
    """The files are there: nothing but the rule keeps them from being read."""
    (tmp_path / "inner").mkdir()
    for name in ("outside.py", "n.py", "t.csv"):
        (tmp_path / name).write_text("raise SystemExit('read')")
    file = tmp_path / "inner" / "sweep.toml"
    file.write_text(content(line))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        read_sweep(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_sweep(tomllib.loads(content(line)), source="f.toml")


def test_a_run_that_is_only_looked_at_is_read_whatever_its_paths():
    raw = tomllib.loads(content('tasks = ["../outside.py:x"]'))
    assert parse_sweep(raw, source="sweep.toml", stored=True).tasks == ("../outside.py:x",)


def test_detours_are_left_out_wherever_a_file_may_be_named():
    raw = {
        "notice": "see ./own.py:x and ../other.py:y",
        "tasks": ["./own.py:x[a=1]", "ring8", "/a/../b.py:x"],
        "methods": ["./p.py:loss+a//p.py:gp@v"],
        "confirmatory": [["./p.py:loss+a//p.py:gp@v", "ns"]],
        "claims": [{"statement": "as in ../x.py:y", "methods": ["b/../p.py:loss"], "tasks": "./own.py:x"}],
        "space": {"override": {"network": {"cross": ["./n.py:net"]}, "lr": {"uniform": [0, 1]}}},
        "variant": {"v": {"network": "./n.py:net"}},
        "design": {"table": "./t/../u.csv"},
        "budget": 3,
    }
    assert normal_paths(raw) == raw | {
        "tasks": ["own.py:x[a=1]", "ring8", "/a/../b.py:x"],
        "methods": ["p.py:loss+a/p.py:gp@v"],
        "confirmatory": [["p.py:loss+a/p.py:gp@v", "ns"]],
        "claims": [{"statement": "as in ../x.py:y", "methods": ["p.py:loss"], "tasks": "own.py:x"}],
        "space": {"override": {"network": {"cross": ["n.py:net"]}, "lr": {"uniform": [0, 1]}}},
        "variant": {"v": {"network": "n.py:net"}},
        "design": {"table": "u.csv"},
    }


@pytest.mark.parametrize("raw", [{"tasks": 3}, {"claims": [3, "a"]}, {"design": {"table": 3}}, {"execution": "x"}, {}])
def test_what_is_no_path_is_left_to_others(raw):
    assert normal_paths(raw) == raw


def test_one_file_named_in_two_ways_is_one():
    raw = tomllib.loads(content('methods = ["own.py:loss", "./own.py:loss"]'))
    with pytest.raises(UserError, match=r"methods names 'own\.py:loss' twice"):
        parse_sweep(raw, source="f.toml")
