"""Generators of known quality for the tasks on stacked and tinted digits: functions of a random generator."""

import torch

from study.tasks import digits_data
from study.tasks.digit_sets import tint


def pick(images, n, generator):
    """n of some images, drawn with replacement."""
    return images[torch.randint(len(images), (n,), generator=generator)]


def of_digits(wanted, generator):
    """Random training images (..., 64) of given digits (...)."""
    images, labels = digits_data.load().train
    flat = wanted.flatten()
    found = torch.empty(len(flat), 64)
    for digit in range(10):
        here = flat == digit
        found[here] = pick(images[labels == digit], int(here.sum()), generator)
    return found.reshape(*wanted.shape, 64)


def of_modes(modes, generator):
    """Stacked digits (n, 192) of modes (n,), 0 to 999."""
    return of_digits(torch.stack([modes // 100, modes // 10 % 10, modes % 10], 1), generator).flatten(1)


def planted(count, n, generator):
    """Stacked digits of `count` modes, chosen at random."""
    return of_modes(pick(torch.randperm(1000, generator=generator)[:count], n, generator), generator)


def fitted(images, n, generator):
    """A Gaussian of the same mean and covariance, cut off at the ends."""
    images = images.double()
    values, vectors = torch.linalg.eigh(images.T.cov())
    noise = torch.randn(n, images.shape[1], generator=generator, dtype=torch.float64)
    return (images.mean(0) + noise @ (vectors * values.clamp(min=0).sqrt()).T).clamp(-1, 1).float()


def noisy(images, generator):
    """Images and noise of standard deviation 0.3, cut off at the ends."""
    return (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def class_means():
    """The ten means (10, 64) of the training digits."""
    images, labels = digits_data.load().train
    return torch.stack([images[labels == k].mean(0) for k in range(10)])


def untrained(task, n, generator):
    """Images of the task's own generator at its start."""
    net = task.generator
    parameters = net.initialise(torch.rand(net.size, generator=generator))
    return net.apply(parameters, torch.randn(n, task.latent, generator=generator))


def tinted(images, generator, *, hues=lambda u: u):
    """Images in random hues, of which a function may be taken."""
    return tint(images, hues(torch.rand(len(images), generator=generator)))
