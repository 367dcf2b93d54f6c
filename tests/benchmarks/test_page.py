"""docs/speed.md is what the recorded results say."""

import re

import pytest

from analysis.figures import style
from benchmarks import page
from benchmarks.evaluations import WITH, WITHOUT
from benchmarks.pictures import CHARTS, drawn

ENGINE = {
    "capacities": [
        {
            "method": "ns+gp1",
            "capacity": 1,
            "ms": {"plain": 1.0, "native": 0.05, "recorded": 1.25},
            "ratio": {"native": 20.0, "recorded": 0.8},
        },
        {"method": "ns+gp1", "capacity": 32, "ms": {"plain": 2.0, "recorded": 0.25}, "ratio": {"recorded": 8.0}},
    ],
    "jax": [
        {"arm": "jax", "method": "ns+gp1", "capacity": 8, "draws": draws, "milliseconds": milliseconds}
        for draws, milliseconds in (("threefry2x32", 0.125), ("threefry2x32", 0.375), ("rbg", 0.5), ("rbg", 0.25))
    ]
    + [{"arm": "native", "method": "ns+gp1", "capacity": 8, "milliseconds": 0.01}],
    "limit": {"flops": 8_000_000, "peak_gigaflops": 200.0, "torch_gigaflops": 100.0},
}
SWEEP = {"seconds": {"ours": [9.0, 11.0], "warm": [9.0, 8.0], "reused": [70.0, 90.0], "new": [250.0]}}
GPU = {
    "packs": [
        {"operations": 1.0, "peak": 2.0},
        {"way": "captured", "capacity": 16, "rate": 1000.0},
        {"way": "captured", "capacity": 64, "rate": None},
        {"way": "recorded", "capacity": 16, "rate": 500.0},
    ],
    "jax": [{"capacity": 16, "rate": 800.0, "draws": "rbg"}, {"capacity": 16, "rate": 700.0, "draws": "threefry2x32"}],
    "plain": [{"networks": "mlp", "rate": 10.0}, {"networks": "dcgan", "rate": 1.0}],
}
DRAWN = {"engine": {"details": ENGINE}, "sweep": {"details": SWEEP}, "gpu": {"details": GPU}}


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text() == page.text(page.results()), "run: python -m benchmarks page"


def test_its_figures_are_there_with_the_numbers_of_the_results(tmp_path):
    named = re.findall(r"\]\(speed/(\w+)\.svg\)", page.PAGE.read_text())
    found = page.results()
    drawable = [name for name, chart in CHARTS.items() if not chart.numbers(found).empty]
    assert sorted(named) == sorted(drawable)
    assert {path.name for path in page.FIGURES.iterdir()} == {
        f"{n}.{form}" for n in drawable for form in ("csv", "svg")
    }
    for name in drawable:
        style.write_csv(CHARTS[name].numbers(found), tmp_path / name)
        assert (page.FIGURES / f"{name}.csv").read_bytes() == (tmp_path / name).read_bytes()
        assert (page.FIGURES / f"{name}.svg").read_text().endswith("</svg>\n")


def test_throughput_is_of_the_faster_draws_and_of_one_plain_loop():
    numbers = CHARTS["throughput"].numbers(DRAWN)
    found = {(row.arm, row.capacity): row.per_second for row in numbers.itertuples()}
    assert found == {
        ("native", 1): pytest.approx(20000),
        ("JAX", 8): pytest.approx(4000),
        ("recorded", 1): pytest.approx(800),
        ("recorded", 32): pytest.approx(4000),
        ("plain", 1): pytest.approx(1000 / 1.5),
    }


def test_arithmetic_is_of_the_best_pack_size():
    numbers = CHARTS["limit"].numbers(DRAWN)
    assert numbers["gigaflops"].tolist() == pytest.approx([160, 32, 32, 16 / 3, 100, 200])
    assert numbers["kind"].tolist() == [*["program"] * 4, *["core"] * 2]


def test_sweeps_are_compared_by_means():
    numbers = CHARTS["sweep"].numbers(DRAWN)
    assert numbers["seconds"].tolist() == [8, 10, 80, 250]
    assert numbers["ratio"].tolist() == pytest.approx([0.8, 1, 8, 25])


def test_of_a_card_what_fits_is_drawn_and_the_faster_draws():
    numbers = CHARTS["gpu"].numbers(DRAWN)
    assert list(numbers.itertuples(index=False, name=None)) == [
        *(("captured", 16, 1000.0), ("recorded", 16, 500.0), ("JAX", 16, 800.0)),
        ("plain", 1, 10.0),
    ]


@pytest.mark.parametrize("name", CHARTS)
def test_figures_are_drawn_the_same_twice_and_not_of_nothing(name):
    chart = CHARTS[name]
    first, second = (drawn(chart, chart.numbers(DRAWN)) for _ in range(2))
    assert first == second
    assert chart.numbers({}).empty


def test_the_page_begins_with_the_ratios_in_words():
    def lines(*pairs):
        return {"lines": [{"what": what, "measured": measured, "unit": unit} for what, measured, unit in pairs]}

    engine = lines(("ns+gp1: our time over JAX's", 0.5, "x"), ("wgan+gp1: our time over JAX's", 0.25, "x"))
    ray = lines(
        ("Ray Tune, a new process for each trial", 700.0, "s"),
        ("Ray Tune, a new process for each trial, over manypaths run", 70.0, "x"),
        ("Ray Tune, reuse_actors=True, over manypaths run", 14.0, "x"),
    )
    shares = lines(
        ("a: an evaluation of one trial", 3.0, "ms"),
        *((f"a: {WITH}", 0.004, "x"), (f"a: {WITHOUT}", 0.006, "x")),
        *((f"b: {WITH}", 0.0926, "x"), (f"b: {WITHOUT}", 0.13, "x")),
    )
    found = {"engine": engine | {"details": ENGINE}, "sweep": ray, "evaluations": shares}
    assert "".join(page._summary(found)).splitlines()[1:] == [
        "- A trial-step takes 20 times less processor time than in a plain PyTorch loop, and 2 to 4 times less than in "
        "JAX.",
        "- A sweep takes 70 times less than in Ray Tune with a process for each trial, 14 times less than there "
        "with processes that are used again.",
        "- By task, evaluations take at most 0.4 to 9.3 % of the time of training with a penalty, and 0.6 to 13 % "
        "without, from 1,000 steps on.",
    ]
    assert list(page._summary({})) == []


def test_tasks_have_a_row_each():
    lines = [
        {"what": f"{task}: {what}", "measured": value, "unit": "x", "required": required}
        for task, values in (("a", (1.0, 2.0)), ("b", (3.0, 4.0)))
        for what, value, required in (("first", values[0], ""), ("share", values[1], "<= 3"))
    ]
    assert "".join(page._by_task(lines)).splitlines()[1:] == [
        "| task | first | share | required |",
        "|---|---|---|---|",
        "| a | 1 x | 2 x | <= 3 x: holds |",
        "| b | 3 x | 4 x | <= 3 x: MISSED |",
    ]


def test_what_was_not_measured_is_said():
    found = page.text({})
    assert "Not measured: `make bench-gpu` is ready and was not run." in found
    assert "![" not in found
