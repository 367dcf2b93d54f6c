import pytest

from search_spaces.spaces import SPACES
from study.catalogue import method_page, methods_list, space_page, spaces_list, task_page, tasks_list
from study.errors import UserError
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.tasks.table import FILES, TASKS, get_task
from study.techniques import TECHNIQUES
from study.user_files import provide


def test_every_part_of_a_method_is_listed_with_its_formula_and_source():
    entries = {entry["name"]: entry for entry in methods_list()}
    assert set(entries) == {*LOSSES, *(f"+{name}" for name in (*PENALTIES, *TECHNIQUES)), "lr_d_ratio"}
    assert all(entry["formula"] and entry["source"] for entry in entries.values())


@pytest.mark.parametrize("name", [*LOSSES, *PENALTIES, *TECHNIQUES])
def test_every_part_has_a_page_with_its_pitfalls(name):
    (page,) = method_page(name)
    assert page["name"].removeprefix("+") == name
    assert page["formula"]
    assert page["pitfalls"]
    assert page["source"]
    if name in PENALTIES:
        assert page["evaluated at"]
        assert page["weight convention"]


def test_a_method_is_its_parts_with_the_numbers_they_add():
    assert [entry["name"] for entry in method_page("wgan+gp1+ema")] == ["wgan", "+gp1", "+ema"]
    assert method_page("ns+gp1")[1]["adds"][0].startswith("penalty_weight = 10: ")
    assert [entry["name"] for entry in method_page("rpgan+r1+r2")] == ["rpgan", "+r1+r2"]
    assert method_page("wgan+clip")[-1]["adds"][0].startswith("clip = 0.01: ")
    assert method_page("+dragan") == method_page("dragan")


def test_whatever_is_listed_has_a_page():
    assert all(method_page(entry["name"])[0]["name"] == entry["name"] for entry in methods_list())


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_success_is_and_prints_its_controls(name):
    page = task_page(name)[0]
    assert page["success"] == f"{get_task(name).primary} <= {get_task(name).threshold:g}"
    assert page["reasoning"]
    assert len(page["control"]) == len(get_task(name).controls)
    assert any("must fail" in line for line in page["control"])
    assert any("must pass" in line for line in page["control"])


def test_every_task_and_prior_is_listed():
    assert [entry["name"] for entry in tasks_list()] == [*TASKS, *FILES, "images:PATH", "FILE.py:NAME"]
    assert [entry["name"] for entry in spaces_list()] == list(SPACES)
    assert all(entry["source"] and entry["summary"] for entry in (*tasks_list(), *spaces_list()))


@pytest.mark.parametrize("name", SPACES)
def test_a_prior_prints_every_range_with_its_source(name):
    head, *ranges = space_page(name)
    assert head["name"] == name
    assert {entry["name"] for entry in ranges} == set(SPACES[name].domains)
    assert all(entry["range"] and entry["source"] for entry in ranges)


def test_a_range_is_printed_in_words():
    ranges = {entry["name"]: entry["range"] for entry in space_page("lucic_wide")[1:]}
    assert ranges["lr"] == "log_uniform [1e-05, 0.01]"
    assert ranges["beta2"] == "0.999"
    assert "log_uniform [0.1, 100.0] if penalty is gp1" in ranges["penalty_weight"]


@pytest.mark.parametrize(
    ("page", "name", "sentence"),
    [
        (space_page, "lucic", "unknown space 'lucic': choose from lucic_wide, "),
        (task_page, "ring", "unknown task 'ring': choose from ring8, "),
        (method_page, "wgan+ema", "method 'wgan\\+ema': needs a device that bounds"),
    ],
)
def test_an_unknown_name_lists_what_exists(page, name, sentence):
    with pytest.raises(UserError, match=sentence):
        page(name)


def test_a_users_parts_have_their_pages():
    provide(
        "mine.py",
        b"from study.losses import LOSSES\nfrom study.penalties import PENALTIES\n"
        b"loss, penalty = LOSSES['hinge'], PENALTIES['gp0']\n",
    )
    (entry,) = method_page("mine.py:loss")
    assert (entry["name"], entry["formula"]) == ("mine.py:loss", LOSSES["hinge"].formula)
    names = [entry["name"] for entry in method_page("mine.py:loss+mine.py:penalty+ema")]
    assert names == ["mine.py:loss", "+mine.py:penalty", "+ema"]
