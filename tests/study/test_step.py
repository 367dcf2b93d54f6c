"""The packed, recorded training step against a plain loop written with torch.optim and autograd."""

import pytest
import torch
from torch.nn.functional import softplus

from study.methods import parse_method
from study.networks import flatten, split
from study.optimisers import OPTIMISERS
from study.penalties import PENALTIES
from study.prng import Role, key_words, normal, uniform
from study.step import Game, discriminator_update, generator_update
from study.tasks.table import get_task
from study.train import start, train

METHODS = [
    *(f"{loss}+{penalty}" for loss in ("mm", "ns", "wgan") for penalty in ("gp1", "gp0", "r1", "dragan")),
    *("mm", "ns", "wgan+clip", "ns+gp1+clip"),
]
STEPS = 50


def critic_loss(loss, real, fake):
    if loss == "wgan":
        return fake.mean() - real.mean()
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(loss, fake):
    return {"wgan": -fake, "ns": softplus(-fake), "mm": -softplus(fake)}[loss].mean()


def penalty_value(name, h, critic, real, fake, noise):
    if name in ("gp1", "gp0"):
        x = noise * real + (1 - noise) * fake
    elif name == "r1":
        x = real
    else:
        x = real + noise[:, :1] * h.noise_scale * real.std(correction=0) * noise[:, 1:]
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    squared = slope.pow(2).sum(1)
    if name == "gp0":
        return squared.mean()
    if name == "r1":
        return squared.mean() / 2
    return ((squared + 1e-12).sqrt() - 1).pow(2).mean()


def optimiser(name, parameters, lr, h):
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(h.beta1, h.beta2))
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=h.beta2)
    return torch.optim.SGD(parameters, lr=lr, momentum=h.beta1)


def train_alone(trial, steps):
    """One GAN, the textbook way, on the trial's own numbers in float64."""
    task, h = get_task(trial.task), trial.hyperparameters
    loss, *parts = trial.method.split("+")
    penalty = next((part for part in parts if part != "clip"), None)
    keys = key_words([trial.key])

    def flat(network, role):
        draws = uniform(keys, role=role, steps=range(1), updates=1, count=network.size)[0, 0, 0].double()
        return {name: torch.nn.Parameter(value.clone()) for name, value in network.initialise(draws).items()}

    theta, phi = flat(task.generator, Role.GENERATOR_START), flat(task.discriminator, Role.DISCRIMINATOR_START)

    def critic(x):
        return task.discriminator.apply(phi, x)[:, 0]

    def clip():
        if "clip" in parts:
            for parameter in phi.values():
                parameter.data.clamp_(-h.clip, h.clip)

    clip()
    of_g = optimiser(h.optimiser, list(theta.values()), h.lr_g, h)
    of_d = optimiser(h.optimiser, list(phi.values()), h.lr_d, h)
    b = task.batch
    width = {"gp1": 1, "gp0": 1, "dragan": 1 + task.data_width}.get(penalty, 0)
    for t in range(steps):
        where = {"steps": range(t, t + 1), "updates": h.n_critic}
        u = uniform(keys, role=Role.DATA, count=b * task.draws, **where)[0, 0].view(h.n_critic, b, -1)
        z = normal(keys, role=Role.LATENT_D, count=b * task.latent, **where)[0, 0].view(h.n_critic, b, -1).double()
        e = uniform(keys, role=Role.PENALTY, count=max(1, b * width), **where)[0, 0].double()
        for j in range(h.n_critic):
            real, fake = task.sample(u[j]).double(), task.generator.apply(theta, z[j]).detach()
            value = critic_loss(loss, critic(real), critic(fake))
            if penalty:
                noise = e[j].view(b, -1) if width else None
                value = value + h.penalty_weight * penalty_value(penalty, h, critic, real, fake, noise)
            of_d.zero_grad()
            value.backward()
            of_d.step()
            clip()
        z = normal(keys, role=Role.LATENT_G, steps=range(t, t + 1), updates=1, count=b * task.latent)
        value = generator_loss(loss, critic(task.generator.apply(theta, z[0, 0, 0].view(b, -1).double())))
        of_g.zero_grad()
        value.backward()
        of_g.step()
    return flatten(theta).detach(), flatten(phi).detach()


def compare(pack, steps=STEPS):
    state = train(pack.trials, capacity=pack.capacity, dtype=torch.float64)
    for slot, trial in enumerate(pack.trials):
        theta, phi = train_alone(trial, steps)
        # rounding is 1e-16; 50 steps of the dynamics at these learning rates amplify it by far less than 1e6
        assert torch.allclose(state.tensors["theta"][slot], theta, rtol=1e-9, atol=1e-10)
        assert torch.allclose(state.tensors["phi"][slot], phi, rtol=1e-9, atol=1e-10)
        assert not torch.allclose(theta, start_of(trial), atol=1e-4)


def start_of(trial):
    game = Game(get_task(trial.task), parse_method(trial.method), OPTIMISERS["adam"], 1)
    keys = key_words([trial.key])
    return start(game, keys, {"clip": torch.ones(1).double()}, dtype=torch.float64)["theta"][0]


@pytest.mark.parametrize("method", METHODS)
def test_a_padded_pack_equals_plain_training(small_pack, method):
    compare(small_pack(method=method, steps=STEPS, points=2, capacity=3))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_in_a_pack_equals_plain_training(small_pack, optimiser):
    compare(small_pack(steps=STEPS, points=2, capacity=3, optimiser=optimiser, lr={"log_uniform": [1e-4, 1e-3]}))


def test_two_time_scales_and_image_data(small_pack):
    compare(small_pack("digits", "ns+dragan", steps=10, points=2, capacity=2, lr_d_ratio=0.25), steps=10)


def trial_tensors(task, penalty_draws):
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for name, network in (("theta", task.generator), ("phi", task.discriminator)):
        uniforms = torch.rand(network.size, generator=g, dtype=torch.float64)
        tensors[name] = flatten(network.initialise(uniforms))
        tensors |= {f"{name}_{m}": torch.zeros_like(tensors[name]) for m in ("first", "second")}
    for name, width in (("real", task.data_width), ("latent", task.latent), ("noise", penalty_draws)):
        tensors[name] = torch.rand(task.batch, width, generator=g, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    numbers = ("lr_d", "lr_g", "beta1", "beta2", "penalty_weight", "noise_scale", "clip")
    return tensors | dict.fromkeys(numbers, one / 2) | {"count": one, "sound_d": one - 1, "sound_g": one - 1}


@pytest.mark.parametrize("penalty", ["gp1", "gp0", "r1", "dragan"])
def test_the_penalty_moves_the_discriminator_and_never_the_generator(penalty):
    task = get_task("ring8")
    plain, penalised = (Game(task, parse_method(name), OPTIMISERS["sgd"], 1) for name in ("ns", f"ns+{penalty}"))
    trial = trial_tensors(task, PENALTIES[penalty].draws(task.data_width))
    without, with_it = discriminator_update(plain, trial), discriminator_update(penalised, trial)
    assert not torch.allclose(without["phi"], with_it["phi"])
    assert "theta" not in with_it
    assert torch.equal(generator_update(plain, trial)["theta"], generator_update(penalised, trial)["theta"])


def test_split_and_flatten_are_inverse():
    network = get_task("ring8").generator
    flat = torch.arange(network.size, dtype=torch.float32)
    assert torch.equal(flatten(split(flat, network.shapes)), flat)


def test_clipping_covers_every_parameter_before_the_first_step_and_after_each(small_pack):
    pack = small_pack(method="wgan+clip", steps=3, points=4, capacity=4, clip=0.02)
    state = train(pack.trials, capacity=4)
    assert state.tensors["phi"].abs().max() <= 0.02
    game = Game(get_task("manifold-d2"), parse_method("wgan+clip"), OPTIMISERS["adam"], 1)
    keys = key_words([trial.key for trial in pack.trials])
    begin = start(game, keys, {"clip": torch.full((4,), 0.02)}, dtype=torch.float32)
    assert begin["phi"].abs().max() <= 0.02
