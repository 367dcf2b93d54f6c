"""docs/headline.md is what was recorded and what its tables say."""

import pandas as pd
import pytest

from benchmarks import headline, page

SUMMARY = {"success": 0.25, "success_low": 0.125, "success_high": 0.5, "log_auc": 0.75, "log_auc_low": 0.5}
SUMMARY |= {"task": "dirac", "method": "ns", "log_auc_high": 1.0, "failure_rate": 0.015}
COMPARED = {"task": "dirac", "first": "ns+gp1", "second": "ns", "verdict": "ns survives more", "p_adjusted": 0.0001}
COMPARED |= {f"{what}_difference{end}": 0.5 for what in ("log_auc", "success") for end in ("", "_low", "_high")}


@pytest.fixture
def content(tmp_path, monkeypatch):
    """What results/headline.json would hold, beside tables of one row, and of one more that was not planned."""
    monkeypatch.setattr(headline, "KEPT", tmp_path)
    pd.DataFrame([SUMMARY]).to_csv(tmp_path / "summary.csv")
    rows = [COMPARED | {"family": "confirmatory"}, COMPARED | {"family": "exploratory", "second": "wgan"}]
    pd.DataFrame(rows).to_csv(tmp_path / "comparisons.csv")
    counts = {"planned": 1024, "completed": 1000, "diverged": 20, "oom": 3, "missing": 1}
    line = {"what": "the whole command", "measured": 480.0, "unit": "s", "required": ""}
    return {"lines": [line], "details": {"counts": counts, "steps": 2000, "device": "cpu"}}


def test_the_page_says_what_the_tables_say(content):
    text = headline.text(content, "\nOrigin.\n")
    assert "1,024 GANs are trained for 2,000 generator steps" in text
    assert "| the whole command | 480 s |\n\nOrigin.\n" in text
    assert "Of 1,024 planned trials 1,000 were completed, 20 diverged, 3 ran out of memory and\n1 are missing" in text
    assert "| dirac | ns | 0.250 [0.125, 0.500] | 0.750 [0.500, 1.000] | 1.5% |\n" in text
    assert "| dirac | ns+gp1 | ns | ns survives more | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] | < .001 |\n" in text
    assert "| wgan |" not in text


def test_a_run_on_a_gpu_does_not_say_that_it_was_on_a_cpu(content):
    assert headline.ON_CPU in headline.text(content, "")
    content["details"]["device"] = "cuda"
    assert headline.ON_CPU not in headline.text(content, "")


def test_the_page_is_up_to_date():
    found = page.results()["headline"]
    assert headline.PAGE.read_text() == headline.text(found, page.origin(found)), "run: python -m benchmarks page"
    kept = {*headline.TABLES, *(f"{name}.png" for name in headline.FIGURES)}
    assert {path.name for path in headline.KEPT.iterdir()} == kept
