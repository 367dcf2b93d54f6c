"""The plain way: one GAN, an ordinary PyTorch loop with fused Adam. What the engine is measured against.

The same mathematics as `ns+gp1` and `wgan+gp1` in `study`, written as well as a plain loop can be: one discriminator
pass for real and generated samples (another one for the mixed, which is faster than all three at once), gradients only
for the network that is updated, no copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from study.networks.base import Network
from study.tasks.base import Snapshot
from study.tasks.manifold import frame, manifold_dimension
from study.tasks.ring import SD, centres
from study.tasks.table import get_task


def ring(batch: int) -> Tensor:
    return centres().float()[torch.randint(8, (batch,))] + SD * torch.randn(batch, 2)


def line(batch: int) -> Tensor:
    k = manifold_dimension(2)
    return torch.randn(batch, k) @ frame(2)[:, :k].T


DATA: dict[str, Callable[[int], Tensor]] = {"ring8": ring, "manifold-d2": line}

LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "ns": (lambda real, fake: softplus(-real).mean() + softplus(fake).mean(), lambda fake: softplus(-fake).mean()),
    "wgan": (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}
"""The discriminator's loss and the generator's, of logits on real and on generated samples."""


def module(network: Network) -> nn.Sequential:
    """A task's network as modules, started as the task starts it."""
    start = network.initialise(torch.rand(network.size))
    layers: list[nn.Module] = []
    for i in range(len(start) // 2):
        weight, bias = start[f"weight{i}"], start[f"bias{i}"]
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias)
        layers += [layer, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


class PlainGan:
    """One GAN, trained with a loss and the penalty `gp1`."""

    def __init__(self, task: str, *, lr: float, beta1: float, loss: str = "ns", weight: float = 10.0) -> None:
        """Make networks and optimisers for a task of `study`."""
        self.task, self.sample, self.weight = get_task(task), DATA[task], weight
        self.loss_d, self.loss_g = LOSSES[loss]
        self.generator, self.discriminator = module(self.task.generator), module(self.task.discriminator)
        self.adam_g, self.adam_d = (
            torch.optim.Adam(net.parameters(), lr=lr, betas=(beta1, 0.999), fused=True)
            for net in (self.generator, self.discriminator)
        )

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.update_discriminator()
            self.update_generator()

    def update_discriminator(self) -> None:
        batch = self.task.batch
        real = self.sample(batch)
        with torch.no_grad():
            fake = self.generator(torch.randn(batch, self.task.latent))
        on_real, on_fake = self.discriminator(torch.cat([real, fake])).squeeze(-1).split(batch)
        mix = torch.rand(batch, 1)
        points = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(points).sum(), points, create_graph=True)
        penalty = (torch.sqrt(slope.square().sum(1) + 1e-12) - 1).square().mean()
        _step(self.adam_d, self.loss_d(on_real, on_fake) + self.weight * penalty, self.discriminator)

    def update_generator(self) -> None:
        fake = self.generator(torch.randn(self.task.batch, self.task.latent))
        _step(self.adam_g, self.loss_g(self.discriminator(fake)), self.generator)

    def primary(self) -> float:
        """The task's primary metric now."""
        layers = [layer for layer in self.generator if isinstance(layer, nn.Linear)]
        parameters = {f"weight{i}": layer.weight.detach().T[None] for i, layer in enumerate(layers)}
        parameters |= {f"bias{i}": layer.bias.detach()[None] for i, layer in enumerate(layers)}
        with torch.no_grad():
            samples = self.generator(torch.randn(self.task.evaluation_samples, self.task.latent))
        return float(self.task.evaluate(Snapshot(parameters, samples[None]))[self.task.primary])


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    parameters = list(network.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimiser.step()


def train_trial(task: str, *, lr: float, beta1: float, steps: int, evaluations: int) -> dict[str, float]:
    """One whole trial: train, measure on a schedule, return the median of the measurements."""
    torch.set_num_threads(1)
    gan = PlainGan(task, lr=lr, beta1=beta1)
    values = []
    for _ in range(evaluations):
        gan.train(steps // evaluations)
        values.append(gan.primary())
    median = sorted(values)[len(values) // 2]
    return {"primary": median if math.isfinite(median) else math.inf}
