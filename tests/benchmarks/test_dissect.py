"""What is counted by hand, against counts of others."""

import torch

from benchmarks import dissect
from benchmarks.engine import SILENT
from benchmarks.plain import PlainGan
from study.tasks.ring import ring8


def test_the_parameters_are_those_of_the_networks():
    task = ring8()
    assert task.generator.size + task.discriminator.size == dissect.PARAMETERS
    assert task.batch == dissect.B


def test_the_plain_loop_multiplies_what_is_needed_and_little_more():
    gan = PlainGan("ring8", lr=1e-4, beta1=0.5)
    with dissect.Tally() as tally:
        gan.train(1)
    assert 1 <= tally.multiply_adds / dissect.multiply_adds() < 1.2


def test_bytes_of_one_product_and_the_optimiser():
    optimiser = 4 * 7 * dissect.PARAMETERS
    assert dissect.bytes_touched([((2, 3, 5),)]) == 4 * (6 + 15 + 10) + optimiser
    assert dissect.multiply_adds([((2, 3, 5), (1, 1, 7))]) == 30 + 7


def test_operations_are_noted_by_kind():
    x, y = torch.ones(2, 3), torch.ones(3, 4)
    with dissect.Tally() as tally:
        (x @ y).t() + 1
    assert dict(tally.calls) == {"products": 1, "views": 1, "others": 1}
    assert (tally.multiply_adds, tally.written) == (24, 32)


def test_a_recorded_step_has_at_least_the_products_that_are_needed():
    parts = dissect.recorded_parts(dissect.game_of(SILENT, "ns+gp1"), 2, repeats=1)
    assert sum(map(len, dissect.NEEDED.values())) <= parts["calls"]["products"]
    assert parts["multiply_adds"] >= dissect.multiply_adds()
    assert all(value > 0 for value in parts["milliseconds"].values())
