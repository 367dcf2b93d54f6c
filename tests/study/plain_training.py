"""One GAN trained the textbook way: torch.optim, torch.autograd, float64, every formula written from its paper.

Knows the engine's random numbers, starts and data, which have to be the same, and none of its mathematics.
"""

import copy
from functools import partial
from itertools import count
from types import SimpleNamespace

import torch
from torch.autograd import grad
from torch.nn import functional as F

from study.prng import Role, key_words, normal, uniform
from study.tasks.table import get_task

OUTPUT = {"ring8": lambda x: x, "manifold-d2": lambda x: x, "digits": torch.tanh}
MEMBERS = {"mix": 5, "mix3": 3}
TECHNIQUES = {
    "clip",
    "cond",
    "sn",
    "gradclip",
    "minibatch",
    "smooth",
    "noise",
    "history",
    "vbn",
    "fm",
    "fm-l1",
    "fm-first",
    "mix",
    "mix3",
    "consensus",
    "simultaneous",
    "extragradient",
    "optimistic",
    "ema",
    "average",
}


# losses: logits (b,), features (b, 16) or classes (b, K) on real and generated samples; c is C(r) or C(f)


def entropy_to(c, target):
    """-target log D - (1 - target) log(1 - D)."""
    return F.binary_cross_entropy_with_logits(c, torch.full_like(c, target))


def average_margin(winner, loser):
    return -(F.logsigmoid(winner - loser.mean()).mean() + F.logsigmoid(winner.mean() - loser).mean()) / 2


def paired_margin(winner, loser):
    return -F.logsigmoid(winner - loser).mean()


def rbf(squared):
    return sum(torch.exp(-squared / (2 * s * s)) for s in (2, 5, 10, 20, 40, 80))


def rq(squared):
    return sum((1 + squared / (2 * a)).pow(-a) for a in (0.1, 1, 10))


def distance(squared):
    return -(squared + 1e-5).sqrt()


KERNELS = {"mmd-rbf": rbf, "mmd-rq": rq, "mmd-energy": distance}


def between(kernel, x, y):
    return kernel((x[:, None] - y[None]).pow(2).sum(-1))


def mmd2(kernel, x, y):
    def within(z):
        pairs = between(kernel, z, z)[~torch.eye(len(z), dtype=torch.bool)]
        return pairs.sum() / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * between(kernel, x, y).mean()


def log_classes(logits):
    """Log probabilities of the K classes and of "generated", whose logit is 0."""
    return F.log_softmax(torch.cat([logits, torch.zeros_like(logits[:, :1])], 1), 1)


def log_real(logits):
    return log_classes(logits)[:, :-1].logsumexp(1)


LOSSES = {
    "mm": (lambda r, f: entropy_to(r, 1) + entropy_to(f, 0), lambda _, f: -entropy_to(f, 0)),
    "ns": (lambda r, f: entropy_to(r, 1) + entropy_to(f, 0), lambda _, f: entropy_to(f, 1)),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda _, f: -f.mean()),
    "lsgan": (lambda r, f: (F.mse_loss(r, r * 0 + 1) + f.pow(2).mean()) / 2, lambda _, f: (f - 1).pow(2).mean() / 2),
    "lsgan-pearson": (lambda r, f: ((r - 1).pow(2) + (f + 1).pow(2)).mean() / 2, lambda _, f: f.pow(2).mean() / 2),
    "hinge": (lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(), lambda _, f: -f.mean()),
    "rpgan": (paired_margin, lambda r, f: paired_margin(f, r)),
    "ragan": (average_margin, lambda r, f: average_margin(f, r)),
    **{
        name: (lambda r, f, k=kernel: -mmd2(k, r, f), lambda r, f, k=kernel: mmd2(k, r, f))
        for name, kernel in KERNELS.items()
    },
    "energy": (lambda r, f: -mmd2(distance, r, f), lambda r, f: mmd2(distance, r, f)),
    "ssl": (
        lambda r, f: -(log_real(r).mean() + log_classes(f)[:, -1].mean()) / 2,
        lambda _, f: -log_real(f).mean(),
    ),
}
"""Each loss: the discriminator's and the generator's, of outputs on real and generated samples."""


# penalties


def line(r, f, u, _):
    return u[:, :1] * r + (1 - u[:, :1]) * f


def dragan_points(r, _, u, scale):
    return r + u[:, :1] * scale * r.std(correction=0) * u[:, 1:]


def length(squared):
    return (squared + 1e-12).sqrt()


def near_one(squared):
    return (length(squared) - 1).pow(2).mean()


def at_most_one(squared):
    return (length(squared) - 1).clamp(min=0).pow(2).mean()


def halved(squared):
    return squared.mean() / 2


PENALTIES = {
    "gp1": (line, near_one, "logit"),
    "gp1-real": (lambda r, *_: r, near_one, "logit"),
    "gp0": (line, torch.mean, "logit"),
    "gp0-prob": (line, torch.mean, "probability"),
    "gp0-real": (lambda r, *_: r, torch.mean, "logit"),
    "lp": (line, at_most_one, "logit"),
    "r1": (lambda r, *_: r, halved, "logit"),
    "r2": (lambda _, f, *__: f, halved, "logit"),
    "r1+r2": (lambda r, f, *_: torch.cat([r, f]), lambda s: sum(map(halved, s.chunk(2))), "logit"),
    "dragan": (dragan_points, near_one, "logit"),
    "dragan-gauss": (lambda r, _, u, scale: r + scale * torch.special.ndtri(u), near_one, "logit"),
    "dragan-prob": (dragan_points, near_one, "probability"),
    "dragan-sym": (lambda r, _, u, scale: r + scale * r.std(correction=0) * (u - 0.5), near_one, "logit"),
    "witness": (line, near_one, "logit"),
}
"""Each penalty: its points, the value of squared slopes there, and what the slope is of."""


def penalty_width(name, d):
    """Uniforms per sample."""
    widths = {line: 1, dragan_points: 1 + d}
    return widths.get(PENALTIES[name][0], d if name in ("dragan-gauss", "dragan-sym") else 0) if name else 0


# networks


def forward(w, x, output=lambda x: x, reference=None):
    """A perceptron of leaky ReLUs: its output, and the activations of its hidden layers."""
    hidden = []
    if "embedding" in w:
        z, label = x
        x = torch.cat([z, F.normalize(w["embedding"][label], dim=1)], 1)
    for i in count():
        last = f"weight{i + 1}" not in w
        if last and "tensor" in w:
            x = torch.cat([x, closeness(x, w["tensor"])], 1)
        if last:
            return output(F.linear(x, w[f"weight{i}"].T, w[f"bias{i}"])), hidden
        if reference is None:
            x = F.linear(x, w[f"weight{i}"].T, w[f"bias{i}"])
        else:
            x, reference = (F.linear(y, w[f"weight{i}"].T) for y in (x, reference))
            x, reference = virtual_batch(x, reference, w[f"gain{i}"], w[f"bias{i}"])
            reference = F.leaky_relu(reference, 0.2)
        x = F.leaky_relu(x, 0.2)
        hidden.append(x)


def virtual_batch(x, reference, gain, bias):
    share = 1 / (len(reference) + 1)
    mean = share * x + (1 - share) * reference.mean(0)
    square = share * x.pow(2) + (1 - share) * reference.pow(2).mean(0)
    normalised = (x - mean) / (square - mean.pow(2) + 1e-5).sqrt() * gain + bias
    return normalised, F.batch_norm(reference, None, None, gain, bias, training=True, eps=1e-5)


def closeness(f, tensor):
    m = (f @ tensor).view(len(f), 16, 5)
    similar = torch.exp(-(m[:, None] - m[None]).abs().sum(-1))
    others = ~torch.eye(len(m), dtype=torch.bool)
    return similar[others].view(len(m), -1, 16).sum(1)


def matrices(w):
    return {name: value.T for name, value in w.items() if value.ndim == 2}


@torch.no_grad()
def iterate(w, u):
    return {n: F.normalize(m @ F.normalize(m.T @ u[n], dim=0), dim=0) for n, m in matrices(w).items()}


def spectral(w, u):
    with torch.no_grad():
        v = {name: F.normalize(matrix.T @ u[name], dim=0) for name, matrix in matrices(w).items()}
    return w | {name: w[name] / torch.einsum("i,ij,j", u[name], m, v[name]) for name, m in matrices(w).items()}


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


# training


def optimiser(h, parameters, lr):
    if h.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(h.beta1, h.beta2))
    if h.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=h.beta2)
    return torch.optim.SGD(parameters, lr=lr, momentum=h.beta1)


class Player:
    """Networks, their weights in a mixture, and everything that one player remembers."""

    def __init__(self, networks, h, lr):
        self.networks = [{name: value.clone().requires_grad_() for name, value in w.items()} for w in networks]
        mixed = len(networks) > 1
        self.logits = torch.zeros(len(networks), dtype=torch.float64, requires_grad=True) if mixed else None
        self.variables = [v for w in self.networks for v in w.values()] + ([self.logits] if mixed else [])
        self.optimiser = optimiser(h, self.variables, lr)
        self.memory = SimpleNamespace(step=None, past=[])
        self.said = {}

    @property
    def flat(self):
        return flat(self.variables)

    @property
    def shares(self):
        return self.logits.softmax(0) if self.logits is not None else torch.ones(1, dtype=torch.float64)

    @property
    def mean(self):
        return torch.stack(self.memory.past).mean(0)

    def set(self, values):
        with torch.no_grad():
            for variable, value in zip(self.variables, values, strict=True):
                variable.copy_(value)

    def save(self):
        return [v.detach().clone() for v in self.variables], copy.deepcopy(self.optimiser.state_dict())

    def restore(self, saved):
        self.set(saved[0])
        self.optimiser.load_state_dict(saved[1])


class Plain:
    """The training of one trial."""

    def __init__(self, trial):
        self.trial, self.h, self.task = trial, trial.hyperparameters, get_task(trial.task)
        self.loss, *parts = trial.method.split("+")
        penalties = [part for part in parts if part in PENALTIES]
        self.penalty = "+".join(penalties) or None
        self.techniques = set(parts) - set(penalties)
        assert self.techniques <= TECHNIQUES
        self.keys = key_words([trial.key])
        self.width = self.task.data_width
        self.d, self.g = self.starts()
        self.clip()
        self.average = [self.g.flat]
        for player in (self.d, self.g):
            player.memory.past = [player.flat]
        self.once = {"steps": range(1), "updates": 1}
        self.reference, self.u = self.reference_batch(), self.vectors()
        self.draws = self.all_draws()

    def has(self, *names):
        return not self.techniques.isdisjoint(names)

    @property
    def members(self):
        return next((count for name, count in MEMBERS.items() if self.has(name)), 1)

    # random numbers

    def starts(self):
        by_class = self.loss == "ssl" or self.has("cond")
        outputs = 16 if self.loss in KERNELS else self.task.classes if by_class else 1
        generator = self.task.generator.rebuild(norm="virtual") if self.has("vbn") else self.task.generator
        networks = (
            self.task.discriminator.rebuild(outputs=outputs, minibatch=self.has("minibatch")),
            generator.rebuild(labels=self.task.classes) if self.has("cond") else generator,
        )
        members = self.members
        players = []
        roles = (Role.DISCRIMINATOR_START, Role.GENERATOR_START)
        for network, role, lr in zip(networks, roles, (self.h.lr_d, self.h.lr_g), strict=True):
            draws = uniform(self.keys, role=role, steps=range(members), updates=1, count=network.size)
            players.append(Player([network.initialise(piece) for piece in draws[0, :, 0].double()], self.h, lr))
        return players

    def reference_batch(self):
        if not self.has("vbn"):
            return None
        z = normal(self.keys, role=Role.REFERENCE, count=self.task.batch * self.task.latent, **self.once)
        return z.view(self.task.batch, self.task.latent).double()

    def vectors(self):
        if not self.has("sn"):
            return [None] * len(self.d.networks)
        widths = [matrix.shape[0] for w in self.d.networks for matrix in matrices(w).values()]
        numbers = uniform(self.keys, role=Role.POWER, count=sum(widths), **self.once)[0, 0, 0].double()
        pieces = iter(torch.special.ndtri(numbers).split(widths))
        return [{name: F.normalize(next(pieces), dim=0) for name in matrices(w)} for w in self.d.networks]

    def all_draws(self):
        b, steps = self.task.batch, range(self.trial.generator_steps)
        points, noise = penalty_width(self.penalty, self.width), 2 * self.width if self.has("noise") else 0
        points_g = points if self.has("noise", "consensus") else 0

        def numbers(kind, role, updates, each):
            if not each:
                return torch.empty(len(steps), updates, b, 0)
            drawn = kind(self.keys, role=role, steps=steps, updates=updates, count=b * each)
            return drawn[0].view(len(steps), updates, b, each)

        n = self.h.n_critic
        return {
            "d": (
                numbers(uniform, Role.DATA, n, self.task.draws),
                numbers(normal, Role.LATENT_D, n, self.task.latent),
                torch.cat([numbers(uniform, Role.PENALTY, n, points), numbers(uniform, Role.NOISE_D, n, noise)], -1),
            ),
            "g": (
                numbers(uniform, Role.DATA_G, 1, self.task.draws),
                numbers(normal, Role.LATENT_G, 1, self.task.latent),
                torch.cat(
                    [numbers(uniform, Role.PENALTY_G, 1, points_g), numbers(uniform, Role.NOISE_G, 1, noise)], -1
                ),
            ),
        }

    def batch(self, player, t, j):
        data, latent, noise = (drawn[t, j] for drawn in self.draws[player])
        wanted = self.task.label and (self.loss == "ssl" or self.has("cond"))
        label = self.task.label(data) if wanted else None
        if self.loss == "ssl" and self.task.rank:
            label[self.task.rank(data) >= self.h.labelled] = -100  # what torch's cross entropy leaves out
        fade = 1 - t / self.trial.generator_steps
        return SimpleNamespace(
            real=self.task.sample(data).double(), z=latent.double(), u=noise.double(), label=label, fade=fade
        )

    # the game

    def samples(self, batch, generator):
        z = (batch.z, batch.label) if self.has("cond") else batch.z
        fake, _ = forward(generator, z, OUTPUT[self.task.name], self.reference)
        if not self.has("noise"):
            return batch.real, fake
        sd = self.h.instance_noise * batch.fade
        of_real, of_fake = (torch.special.ndtri(u) for u in batch.u[:, -2 * self.width :].split(self.width, 1))
        return batch.real + sd * of_real, fake + sd * of_fake

    def critic(self, j, label):
        w, u = self.d.networks[j], self.u[j]
        w = spectral(w, u) if u else w

        def outputs(x):
            if self.loss == "energy":
                return x
            c, _ = forward(w, x)
            if self.has("cond"):
                return c[torch.arange(len(c)), label.repeat(len(c) // len(label))]
            return c if self.loss in KERNELS or self.loss == "ssl" else c[:, 0]

        return outputs, lambda x: forward(w, x)[1]

    def against_d(self, batch, generator, j):
        real, fake = self.samples(batch, generator)
        critic, _ = self.critic(j, batch.label)
        on_real, on_fake = critic(real), critic(fake)
        value = LOSSES[self.loss][0](on_real, on_fake)
        if self.has("smooth") and self.loss == "ssl":
            on_either = (outputs.exp().sum(1).log() for outputs in (on_real, on_fake))
            value = sum(map(entropy_to, on_either, (1 - self.h.smoothing, 0))) / 2
        elif self.has("smooth"):
            value = entropy_to(on_real, 1 - self.h.smoothing) + entropy_to(on_fake, 0)
        if self.loss == "ssl" and batch.label is not None and (batch.label >= 0).any():
            value = value + F.cross_entropy(on_real, batch.label)
        if self.penalty:
            value = value + self.h.penalty_weight * self.penalty_value(batch, critic, real, fake, on_real, on_fake)
        return value

    def penalty_value(self, batch, critic, real, fake, on_real, on_fake):
        build, value, of = PENALTIES[self.penalty]
        points = build(
            real.detach(), fake.detach(), batch.u[:, : penalty_width(self.penalty, self.width)], self.h.noise_scale
        )
        x = points.clone().requires_grad_()
        c = critic(x)
        if self.loss in KERNELS:
            k = KERNELS[self.loss]
            c = between(k, c, on_real).mean(1) - between(k, c, on_fake).mean(1)
        elif self.loss == "ssl":
            c = c.exp().sum(1).log()
        if of == "probability":
            c = 1 / (1 + torch.exp(-c))
        (slope,) = grad(c.sum(), x, create_graph=True)
        return value(slope.pow(2).sum(1))

    def against_g(self, batch, generator, j):
        real, fake = self.samples(batch, generator)
        critic, hidden = self.critic(j, batch.label)
        if self.has("fm"):
            return (hidden(real)[-1].mean(0) - hidden(fake)[-1].mean(0)).pow(2).sum()
        if self.has("fm-l1"):
            return (hidden(real)[-1].mean(0) - hidden(fake)[-1].mean(0)).abs().mean()
        if self.has("fm-first"):
            return (hidden(real)[0].mean(0) - hidden(fake)[0].mean(0)).pow(2).sum()
        return LOSSES[self.loss][1](critic(real), critic(fake))

    def loss_of(self, player, against, batch):
        total = 0
        for i, generator in enumerate(self.g.networks):
            for j in range(len(self.d.networks)):
                total = total + self.g.shares[i] * self.d.shares[j] * against(batch, generator, j)
        if self.members > 1:
            total = total - self.h.mix_entropy * player.shares.log().sum() / self.members
        if self.has("history"):
            own = torch.cat([variable.reshape(-1) for variable in player.variables])
            total = total + self.h.history_weight * (own - player.mean).pow(2).sum()
        return total

    def gradient(self, player, batch):
        loss_d = partial(self.loss_of, self.d, self.against_d, batch)
        loss_g = partial(self.loss_of, self.g, self.against_g, batch)
        value = loss_d() if player is self.d else loss_g()
        gradient = grad(value, player.variables, materialize_grads=True)
        if self.has("consensus"):
            # create_graph also makes the field itself differentiable
            field = [
                *grad(loss_g(), self.g.variables, create_graph=True, materialize_grads=True),
                *grad(loss_d(), self.d.variables, create_graph=True, materialize_grads=True),
            ]
            energy = sum(v.pow(2).sum() for v in field) / 2
            pull = grad(energy, player.variables, materialize_grads=True)
            gradient = [g + self.h.consensus_weight * p for g, p in zip(gradient, pull, strict=True)]
        if self.has("gradclip"):
            gradient = [g * min(1.0, self.h.grad_clip / (float(g.norm()) or 1.0)) for g in gradient]
        player.said = {"loss": value.item(), "grad_norm": flat(gradient).norm().item()}
        return gradient

    # moving

    def clip(self):
        if self.has("clip"):
            for network in self.d.networks:
                for variable in network.values():
                    variable.data.clamp_(-self.h.clip, self.h.clip)

    def step(self, player, gradient):
        before = [v.detach().clone() for v in player.variables]
        for variable, g in zip(player.variables, gradient, strict=True):
            variable.grad = g
        player.optimiser.step()
        if self.has("optimistic"):
            step = [v.detach() - w for v, w in zip(player.variables, before, strict=True)]
            last = player.memory.step or [0 * s for s in step]
            doubled = 1 if player.memory.step is None else 2
            player.set([w + doubled * s - o for w, s, o in zip(before, step, last, strict=True)])
            player.memory.step = step
        if player is self.d:
            self.clip()

    def move(self, player, gradient):
        self.step(player, gradient)
        player.memory.past.append(player.flat)
        if player is self.g:
            decay = self.h.ema_decay if self.has("ema") else 0
            self.average.append(decay * self.average[-1] + (1 - decay) * player.flat)

    def iterate(self):
        if self.has("sn"):
            self.u = [iterate(w, u) for w, u in zip(self.d.networks, self.u, strict=True)]

    def together(self, of_d, of_g):
        self.iterate()
        saved = self.d.save(), self.g.save()
        slopes = self.gradient(self.d, of_d), self.gradient(self.g, of_g)
        if self.has("extragradient"):
            self.step(self.d, slopes[0])
            self.step(self.g, slopes[1])
            slopes = self.gradient(self.d, of_d), self.gradient(self.g, of_g)
            self.d.restore(saved[0])
            self.g.restore(saved[1])
        self.move(self.d, slopes[0])
        self.move(self.g, slopes[1])

    def train(self):
        for t in range(self.trial.generator_steps):
            of_g = self.batch("g", t, 0)
            for j in range(self.h.n_critic):
                of_d = self.batch("d", t, j)
                if self.has("simultaneous", "extragradient") and j == self.h.n_critic - 1:
                    self.together(of_d, of_g)
                else:
                    self.iterate()
                    self.move(self.d, self.gradient(self.d, of_d))
            if not self.has("simultaneous", "extragradient"):
                self.move(self.g, self.gradient(self.g, of_g))
        return self.results()

    def results(self):
        """What the engine calls its tensors, to be compared."""
        found = {"theta": self.g.flat, "phi": self.d.flat}
        for name, player in (("g", self.g), ("d", self.d)):
            found |= {f"{what}_{name}": torch.tensor(x, dtype=torch.float64) for what, x in player.said.items()}
        if self.has("history"):
            found |= {"theta_mean": self.g.mean, "phi_mean": self.d.mean}
        if self.has("ema"):
            found["theta_average"] = self.average[-1]
        if self.has("average"):
            found["theta_average"] = self.g.mean
        if self.has("sn"):
            found["power"] = torch.cat([vector for u in self.u for vector in u.values()])
        if self.has("vbn"):
            found["reference"] = self.reference
        return found
