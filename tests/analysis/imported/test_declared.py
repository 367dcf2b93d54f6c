import math

import pytest

from analysis.imported.declared import declare, read_mapping
from search_spaces.domains import LogUniform
from study.errors import UserError


def test_options_go_before_the_file_and_tables_add_up():
    found = declare(
        {"metric": "loss", "threshold": 1, "map": {"lr": "rate"}, "means": {"bad": "lost"}},
        {"threshold": 2.0, "map": {"b": "beta"}, "method": None, "params": (), "maximise": None},
    )
    assert (found.metric, found.facts.threshold, found.method) == ("loss", 2.0, None)
    assert found.map == {"lr": "rate", "b": "beta"}
    assert found.means == {"bad": "lost"}


def test_a_task_has_its_own_facts():
    found = declare({"threshold": 1, "anchors": [1, 2], "tasks": {"cifar10": {"threshold": 3}}}, {})
    assert found.facts_of("cifar10").threshold == 3
    assert found.facts_of("cifar10").anchors == (1.0, 2.0)
    assert found.facts_of("mnist").threshold == 1


def test_domains_have_the_forms_of_the_sweep_file():
    found = declare({"domains": {"lr": {"log_uniform": [1e-5, 1e-1]}}}, {})
    assert found.domains == {"lr": LogUniform(1e-5, 1e-1)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"treshold": 1}, "unknown key of the mapping file 'treshold': choose from threshold"),
        ({"threshold": "1"}, "threshold = '1': must be a number"),
        ({"threshold": True}, "threshold = True: must be a number"),
        ({"threshold": math.nan}, "threshold = nan: must be a finite number"),
        ({"ideal": math.inf}, "ideal = inf: must be a finite number"),
        ({"anchors": [0.1, math.nan]}, "anchors = nan: must be a finite number"),
        ({"tasks": {"a": {"threshold": math.nan}}}, "tasks.a.threshold = nan: must be a finite number"),
        ({"anchors": [1]}, r"anchors = \[1\]: must be two numbers"),
        ({"metric": 3}, "metric = 3: must be a text"),
        ({"maximise": "yes"}, "maximise = 'yes': must be true or false"),
        ({"budget": 0}, "budget = 0: must be a whole number, at least 1"),
        ({"params": "lr"}, "params = 'lr': must be a list of texts"),
        ({"map": ["lr"]}, r"map = \['lr'\]: must be a table of texts"),
        ({"means": {"bad": "broken"}}, "unknown ending in means.bad: 'broken': choose from completed"),
        ({"domains": 3}, "domains = 3: must be a table of domains"),
        ({"domains": {"lr": {"loguniform": [1, 2]}}}, "domains.lr: must be a number"),
        ({"domains": {"lr": {"log_uniform": [2, 1]}}}, "domains.lr: log_uniform needs low < high"),
        ({"errors": "ignored"}, "errors = 'ignored': must be one of lost, diverged"),
        ({"tasks": 3}, "tasks must be tables"),
        ({"tasks": {"a": {"metric": "x"}}}, "unknown key of the mapping file 'tasks.a.metric': choose from"),
    ],
)
def test_what_may_not_be_said(content, words):
    with pytest.raises(UserError, match=words):
        declare(content, {})


def test_mapping_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the mapping file .*none.toml: No such file"):
        read_mapping(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("metric = ")
    with pytest.raises(UserError, match=r"bad.toml is not TOML"):
        read_mapping(tmp_path / "bad.toml")
