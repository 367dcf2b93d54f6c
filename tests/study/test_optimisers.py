"""Each optimiser, step by step, against torch.optim in float64."""

import pytest
import torch

from study.optimisers import OPTIMISERS

REFERENCE = {
    "adam": lambda p: torch.optim.Adam([p], lr=0.03, betas=(0.7, 0.95)),
    "rmsprop": lambda p: torch.optim.RMSprop([p], lr=0.03, alpha=0.95),
    "sgd": lambda p: torch.optim.SGD([p], lr=0.03, momentum=0.7),
}


def test_every_optimiser_has_a_reference():
    assert REFERENCE.keys() == OPTIMISERS.keys()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimiser_equals_torch_step_by_step(name):
    g = torch.Generator().manual_seed(3)
    p = torch.nn.Parameter(torch.randn(7, generator=g, dtype=torch.float64))
    state = (p.detach().clone(), torch.zeros(7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64))
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (0.03, 0.7, 0.95)]
    reference = REFERENCE[name](p)
    for count in range(1, 40):
        gradient = torch.randn(7, generator=g, dtype=torch.float64) * 10.0 ** (count % 5 - 3)
        p.grad = gradient.clone()
        reference.step()
        state = OPTIMISERS[name](state, gradient, torch.tensor(float(count), dtype=torch.float64), *numbers)
        # a few roundings of numbers of order one per step
        assert torch.allclose(state[0], p.detach(), rtol=1e-12, atol=1e-12)


def test_adam_moves_by_the_learning_rate_at_first():
    zero = torch.zeros(2, dtype=torch.float64)
    lr, beta1, beta2, one = (torch.tensor(x, dtype=torch.float64) for x in (0.01, 0.5, 0.999, 1.0))
    after, _, _ = OPTIMISERS["adam"]((zero, zero, zero), torch.tensor([3.0, -200.0]).double(), one, lr, beta1, beta2)
    assert after.tolist() == pytest.approx([-0.01, 0.01], rel=1e-6)
