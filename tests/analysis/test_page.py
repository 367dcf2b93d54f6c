import base64
import hashlib
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from analysis import page as module
from analysis.comparisons import compare_all
from analysis.findings import find
from analysis.page import Drawing, Live, embedded, fitted, page, script
from analysis.summary import summary


def drawing(name, svg, *, size=(300, 200), section="profiles"):
    noise = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return Drawing(name, section, f"Caption of {name}.", b"<svg>" + b" " * svg, buffer.getvalue(), 150)


def rendered(results, drawings=(), **options):
    comparisons = compare_all(results)
    return page(results, summary(results), find(results, comparisons, brief=True), drawings, **options)


@pytest.fixture(scope="module")
def results(build):
    return build(tasks=("ring8", "digits"), keep=150)


# Safety


EVIL = ["</script><script>alert(1)</script>", "<!--<script>", "a&b", "\u2028", '"quoted"', "]]>"]


@pytest.mark.parametrize("text", EVIL)
def test_json_in_a_script_element_cannot_end_it(text):
    shown = embedded({text: [text]})
    assert not re.search("[<>&]", shown)
    assert json.loads(shown) == {text: [text]}


def test_names_stay_text_in_the_data(build):
    evil = "</script><script>alert(1)</script>"
    text = rendered(build(name=evil, methods=(evil, "b"), tasks=(evil,), confirmatory=()))
    assert evil not in text
    assert text.count("<script") == 2  # the data and the program
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(data)["methods"][0]["name"] == evil


def test_the_policy_names_style_and_program_by_their_hashes(results):
    text = rendered(results)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
    for kind, pattern in (("style", "<style>(.*?)</style>"), ("script", "<script>(.*?)</script>")):
        content = re.search(pattern, text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe" not in policy


def test_only_a_page_that_is_watched_may_ask_for_news(results):
    live = Live("v1", "150 of 192 trials done", 3.0)
    text = rendered(results, live=live)
    assert "connect-src &#39;self&#39;" in text
    assert 'data-seconds="3.0" data-version="v1"' in text
    assert "150 of 192 trials done</p>" in text


def test_no_handler_and_no_style_stands_in_the_markup(results):
    markup = re.sub(r"<(style|script).*?</\1>", "", rendered(results), flags=re.DOTALL)
    assert not re.search(r"\son\w+=", markup)
    assert not re.search(r"\sstyle=", markup)


def test_the_program_needs_no_network_and_no_eval():
    program = script()
    assert "</script" not in program.lower()
    assert "<!--" not in program
    assert not re.search(r"\beval\b|new Function|innerHTML|insertAdjacentHTML|document\.write|XMLHttpRequest", program)
    assert not re.search(r"https?:|//\w+\.\w+/", program)


# Order


def test_verdicts_come_first_then_profiles_then_where_it_breaks(results):
    drawings = [drawing("a", 10, section="breaks"), drawing("b", 10), drawing("c", 10, section="compare")]
    text = rendered(results, drawings)
    marks = [
        'id="verdicts"',
        "Caption of c.",
        'id="profiles"',
        "Caption of b.",
        'id="breaks"',
        "Caption of a.",
        'id="reading"',
    ]
    places = [text.rindex(mark) for mark in marks]
    assert places == sorted(places)


def test_several_tasks_have_a_section_each_and_an_index(results, build):
    text = rendered(results)
    for index, task in enumerate(results.tasks, start=1):
        assert f'<a href="#task-{index}">{task}</a>' in text
        assert f'<section id="task-{index}">' in text
        assert f'id="explorer-{index}"' in text
    assert '<a href="#task-1">' not in rendered(build())


def test_every_link_leads_somewhere(results):
    text = rendered(results, [drawing("a", 10, section="breaks")])
    for target in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{target}"' in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_search_gets_a_warning_and_no_verdict(build):
    found = build()
    searched = module.Results(found.name, found.plan.assign(sampler="optuna"), found.trials, (), None)
    text = html.unescape(rendered(searched))
    assert "optuna chose configurations after seeing results" in text
    assert "Shares are shares of what optuna tried, not of a prior, and have no interval." in text


def test_points_that_the_page_leaves_out_are_told(build, monkeypatch):
    monkeypatch.setattr(module, "explorer", lambda results: module_explorer(results, rows=48))
    assert "16 of 32 points are here, chosen at random" in rendered(build())  # 96 trials, half of them


module_explorer = module.explorer


# Size


def test_pictures_that_fit_stay_vectors():
    shown = fitted([drawing("a", 1000), drawing("b", 2000)], 10_000)
    assert all(item.address.startswith("data:image/svg+xml;base64,") for item in shown)
    # 300 by 200 pixels at 150 dots per inch are 2 by 1.33 inches of 96 pixels
    assert (shown[0].width, shown[0].height) == (192, 128)


def test_a_large_vector_picture_gives_way_to_a_smaller_bitmap():
    assert fitted([drawing("a", module.LARGE)], 10**7)[0].address.startswith("data:image/png")


def test_the_largest_is_reduced_until_all_fit():
    small, large = drawing("a", 1000), drawing("b", 300_000)
    png = 4 * len(large.png) // 3
    shown = fitted([small, large], png + 5000)
    assert [item.address[:15] for item in shown] == ["data:image/svg+", "data:image/png;"]
    reduced = fitted([small, large], png // 4)
    image = Image.open(io.BytesIO(base64.b64decode(reduced[1].address.partition(",")[2])))
    assert image.size == (150, 100)
    assert (reduced[1].width, reduced[1].height) == (192, 128)  # shown as large as before
    assert sum(len(item.address) for item in reduced) <= png // 4


def test_what_does_not_fit_at_all_is_named():
    shown = fitted([drawing("a", 100), drawing("b", 100_000)], 200)
    assert [item.address is None for item in shown] == [False, True]
    assert fitted([drawing("a", 100)], -5)[0].address is None


def test_a_page_stays_within_its_limit(results, monkeypatch):
    bare = len(rendered(results).encode())
    monkeypatch.setattr(module, "LIMIT", bare + 70_000)
    text = rendered(results, [drawing("a", 40_000), drawing("b", 60_000, size=(600, 600))])
    assert len(text.encode()) < bare + 72_000
    assert 'The picture is in <a href="figures/b.svg"' in text
    assert "figures/a.png" not in text


def test_a_picture_has_its_caption_and_its_size(results):
    text = rendered(results, [drawing("a", 10)])
    assert re.search(r'<img src="data:[^"]+" alt="Caption of a\." width="192" height="128"', text)
    assert '<figcaption>Caption of a. <a href="figures/a.svg"' in text
