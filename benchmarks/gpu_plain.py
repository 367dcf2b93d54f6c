"""The plain way on a GPU: one GAN, an ordinary PyTorch loop with fused Adam. What packs are measured against there.

`ns+gp1` as in `study`, written as well as a plain loop can be: everything on the device, one discriminator pass for
real and generated samples, gradients only for the network that is updated, nothing that waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from study.networks.dcgan import default_width

BATCH, MODES = 64, 8


def perceptron(*widths: int) -> nn.Sequential:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])


def perceptrons() -> tuple[nn.Module, nn.Module]:
    """The networks of `ring8`."""
    return perceptron(2, 64, 64, 2), perceptron(2, 64, 64, 1)


def dcgans(side: int, latent: int) -> tuple[nn.Module, nn.Module]:
    """The networks of `study.networks.dcgan` for images of three colours."""
    count = int(math.log2(side // 4))
    widths = [default_width((3, side, side)) * 2**i for i in range(count)]
    layers: list[nn.Module] = [nn.Linear(latent, widths[-1] * 16, bias=False), nn.Unflatten(1, (widths[-1], 4, 4))]
    for a, b in pairwise(widths[::-1]):
        layers += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.ConvTranspose2d(widths[0], 3, 4, 2, 1), nn.Tanh()]
    judging: list[nn.Module] = []
    for a, b in pairwise([3, *widths]):
        judging += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers), nn.Sequential(*judging, nn.Flatten(), nn.Linear(widths[-1] * 16, 1))


def ring(device: str) -> Callable[[int], Tensor]:
    angles = torch.arange(MODES, device=device) * (2 * math.pi / MODES)
    centres = torch.stack([angles.cos(), angles.sin()], -1) * math.sqrt(2)

    def sample(batch: int) -> Tensor:
        modes = torch.randint(MODES, (batch,), device=device)
        return centres[modes] + 0.01414 * torch.randn(batch, 2, device=device)

    return sample


def images(device: str, side: int) -> Callable[[int], Tensor]:
    """Any images: what they show changes no time."""
    table = torch.rand(4096, 3, side, side, device=device) * 2 - 1
    return lambda batch: table[torch.randint(len(table), (batch,), device=device)]


class Plain:
    """One GAN on a device, its networks "mlp" or "dcgan"."""

    def __init__(self, networks: str, device: str, *, side: int = 32, batch: int = BATCH) -> None:
        torch.set_num_threads(1)
        self.device, self.batch, self.latent = device, batch, 2 if networks == "mlp" else 128
        self.sample = ring(device) if networks == "mlp" else images(device, side)
        pair = perceptrons() if networks == "mlp" else dcgans(side, self.latent)
        self.generator, self.discriminator = (network.to(device) for network in pair)
        self.adam_g, self.adam_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
            for network in (self.generator, self.discriminator)
        )

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.update_discriminator()
            self.update_generator()

    def latents(self) -> Tensor:
        return torch.randn(self.batch, self.latent, device=self.device)

    def update_discriminator(self) -> None:
        real = self.sample(self.batch)
        with torch.no_grad():
            fake = self.generator(self.latents())
        on_real, on_fake = self.discriminator(torch.cat([real, fake])).squeeze(-1).split(self.batch)
        mix = torch.rand(self.batch, *(1 for _ in real.shape[1:]), device=self.device)
        points = torch.lerp(fake, real, mix).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(points).sum(), points, create_graph=True)
        penalty = (torch.sqrt(slope.flatten(1).square().sum(1) + 1e-12) - 1).square().mean()
        loss = softplus(-on_real).mean() + softplus(on_fake).mean() + 10 * penalty
        _move(self.adam_d, loss, self.discriminator)

    def update_generator(self) -> None:
        fake = self.generator(self.latents())
        _move(self.adam_g, softplus(-self.discriminator(fake)).mean(), self.generator)


def _move(optimiser: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    parameters = list(network.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimiser.step()
