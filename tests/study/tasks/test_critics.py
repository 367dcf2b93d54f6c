import math

import pytest
import torch

from study.tasks.base import Snapshot
from study.tasks.critics import ONE_LOGIT, PROBABILITY, index, lengths, show, show_both, standing


def test_losses_are_sorted_by_what_their_critic_gives():
    # mmd-* give features, ssl a logit for each class, energy looks at no critic, zerosum belongs to games
    assert ONE_LOGIT == ("mm", "ns", "wgan", "lsgan", "lsgan-pearson", "hinge", "rpgan", "ragan")
    assert PROBABILITY == ("mm", "ns")


def test_standing_generator_gives_its_points_and_gets_no_gradient():
    network = standing(lambda z: z.repeat(1, 2), (1.0, -0.5))
    shift = network.initialise(torch.rand(2))["shift"]
    z = torch.randn(6, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.apply({"shift": shift}, z), torch.cat([z + 1, z - 0.5], 1))
    gradient = torch.func.grad(lambda s: network.apply({"shift": s}, z).square().sum())(shift)
    assert gradient.tolist() == [0, 0]


@pytest.mark.parametrize(("u", "place"), [(1e-9, 0), (0.2499, 0), (0.25, 1), (0.5, 2), (0.9999, 3), (1.0, 3)])
def test_index_cuts_the_unit_interval_evenly(u, place):
    assert int(index(torch.tensor(u), 4)) == place


@pytest.mark.parametrize(("m", "sizes"), [(64, [64]), (65, [33, 32]), (445, [64] * 4 + [63] * 3), (5, [5])])
def test_points_are_shown_in_batches_of_nearly_the_same_size(m, sizes):
    seen = []

    def look(x):
        seen.append(x.shape)
        return x.sum(-1, keepdim=True)

    points = torch.arange(2.0 * m).view(m, 2)
    found = show(Snapshot({}, points, critic=look), look, points, trials=3, batch=64)
    assert [shape[1] for shape in seen] == sizes
    assert found.dtype == torch.float64
    assert found[..., 0].tolist() == [points.sum(1).tolist()] * 3


def test_each_trial_is_shown_its_own_points():
    points = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(show(Snapshot({}, points), lambda x: x, points, trials=3, batch=64), points.double())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_outputs_and_slopes_are_asked_for_together_where_that_is_possible(whole, together):
    asked = []

    def ask(what, x):
        asked.append((what, len(x[0])))
        return x if what == "slope" else x.sum(-1, keepdim=True)

    at = Snapshot(
        {},
        torch.empty(3, 0, 2),
        critic=lambda x: ask("critic", x),
        slope=lambda x: ask("slope", x),
        critic_and_slope=(lambda x: (ask("critic", x), ask("slope", x))) if together else None,
        whole=whole,
    )
    points = torch.arange(180.0).view(90, 2)
    outputs, slopes = show_both(at, points, trials=3, batch=64)
    assert outputs.dtype == torch.float64
    assert outputs[..., 0].tolist() == [points.sum(1).tolist()] * 3
    assert torch.equal(slopes.double(), points.double().expand(3, -1, -1))
    parts = [90] if whole else [45, 45]
    assert asked == [*(("critic", size) for size in parts), *(("slope", size) for size in parts)]


def test_lengths_are_euclidean_and_exact_in_float64():
    slope = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[1e30, 0.0], [math.nan, 1.0]]])
    found = lengths(slope)
    assert found.dtype == torch.float64
    assert found[0].tolist() == [5, 0]
    assert float(found[1, 0]) == float(slope[1, 0, 0])  # its square is beyond float32
    assert math.isnan(found[1, 1])
    assert lengths(slope[:0]).shape == (0, 2)
