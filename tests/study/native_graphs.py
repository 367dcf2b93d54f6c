"""Random programs of operations that are translated, for compiled ones to be held against what torch makes of them."""

import random
from dataclasses import dataclass

import torch
from torch.nn.functional import nll_loss as nll

INPUTS = {"a": (5, 7), "b": (7,), "c": (7, 4), "d": (3, 5, 2), "e": (), "f": (1, 7), "g": (33, 5), "h": (16, 16)}
"""Shapes, ones and odd numbers among them."""
LARGEST = 1e3
"""Results beyond are not gone on with: rounding would grow with them."""


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in INPUTS.items()}
    return found | {"n": torch.randint(-4, 5, (6,), generator=generator), "m": torch.tensor(3)}


def any_view(x, pick):
    """The same numbers seen in another way."""
    ways = [lambda: x.reshape(-1), lambda: x.unsqueeze(pick(x.ndim + 1)), lambda: x.unsqueeze(-1 - pick(x.ndim + 1))]
    if x.ndim:
        d = pick(x.ndim)
        size, other = x.shape[d], pick(x.ndim) - x.ndim
        start = pick(size)
        ways += [
            lambda: x.select(d, start - size * pick(2)),
            lambda: x.narrow(d, start, 1 + pick(size - start)),
            lambda: x[(slice(None),) * d + (slice(start - size, None, 1 + pick(3)),)],
            lambda: x[(slice(None),) * d + (slice(-size - 3, size + 5),)],
            lambda: x.transpose(d, other),
            lambda: x.movedim(d, other),
            lambda: x.unbind(d)[start],
            lambda: x.split(1 + pick(size), d)[0],
            lambda: x.squeeze(),
            lambda: x.expand(1 + pick(3), *x.shape),
            lambda: x.reshape(*x.shape[:d], 1, *x.shape[d:]),
            lambda: x.flatten(pick(d + 1), d),
            lambda: x.repeat(*(1 + pick(2) for _ in x.shape)),
            lambda: x.t() if x.ndim <= 2 else x,
            lambda: torch.diagonal(x) if x.ndim == 2 else x,
        ]
    return ways[pick(len(ways))]


def of_one(x, pick):
    number = 0.5 + pick(5) / 4
    ways = [
        lambda: -x,
        lambda: x.abs() + 0.1,
        lambda: x * number,
        lambda: x / number,
        lambda: number - x,
        lambda: number / (x.abs() + 1),
        lambda: x + pick(2),
        lambda: torch.rsub(x, number),
        lambda: x.square(),
        lambda: x.pow(3),
        lambda: (x.abs() + 0.5).pow(number),
        lambda: (x.abs() + 0.5).sqrt(),
        lambda: (x.abs() + 0.5).rsqrt(),
        lambda: (x.abs() + 0.5).log(),
        lambda: (x / 8).exp(),
        lambda: (x / 8).expm1(),
        lambda: x.abs().log1p(),
        lambda: x.tanh(),
        lambda: x.sigmoid(),
        lambda: x.sin() + x.cos(),
        lambda: x.erf(),
        lambda: x.atan(),
        lambda: torch.nn.functional.softplus(x),
        lambda: torch.nn.functional.softplus(x, beta=2, threshold=3),
        lambda: (x - x.detach()).relu(),
        lambda: torch.nn.functional.leaky_relu(x * number, 0.2),
        lambda: torch.zeros_like(x) + x,
        lambda: torch.ones_like(x) * x + torch.full_like(x, number),
        lambda: x.clone() + 0,
    ]
    if x.ndim:
        d = pick(x.ndim) - x.ndim * pick(2)
        both = tuple(sorted({pick(x.ndim), pick(x.ndim)}))
        ways += [
            lambda: x.sum(),
            lambda: x.mean(),
            lambda: x.sum(d),
            lambda: x.sum(both, keepdim=True),
            lambda: x.mean(both),
            lambda: x.mean(d, keepdim=True),
            lambda: x.amax(d),
            lambda: x.amax(both, keepdim=True),
            lambda: (x.abs() + 1).norm(),
            lambda: torch.linalg.vector_norm(x.abs() + 1, dim=d),
            lambda: (x * torch.arange(1, x.shape[d] + 1).reshape(-1, *(1,) * (x.ndim - 1 - d % x.ndim))).std(),
            lambda: torch.softmax(x, d),
            lambda: torch.log_softmax(x, d),
            lambda: torch.logsumexp(x, d, keepdim=True),
            lambda: torch.cat([x, 2 * x], d),
            lambda: torch.cat([x, x, x[:0]], 0),
            lambda: torch.stack([x, x.tanh()], d),
        ]
    return ways[pick(len(ways))]


def of_two(x, y, pick):
    ways = [
        lambda: x + y,
        lambda: x - y,
        lambda: torch.add(x, y, alpha=1.5),
        lambda: torch.sub(x, y, alpha=2),
        lambda: x * y,
        lambda: x / (y.square() + 1),
        lambda: torch.lerp(x, y, torch.tensor(pick(5) / 4, dtype=x.dtype)),
        lambda: torch.lerp(x, y, pick(5) / 4),
        lambda: torch.addcmul(x, x, y, value=0.5),
        lambda: torch.addcdiv(x, x, y.square() + 1, value=-1),
        lambda: torch.cat([x, y], pick(x.ndim)),
        lambda: torch.stack([x, y], pick(x.ndim + 1)),
        lambda: x @ y,
        lambda: x @ y.T,
        lambda: x.T @ y,
        lambda: x[:, :3] @ y[:3],
        lambda: torch.addmm(x[:1], x, y),
        lambda: x @ y + x.sum(-1, keepdim=True),
        lambda: torch.dot(x.reshape(-1), y.reshape(-1)),
        lambda: torch.mv(x, y),
    ]
    return ways[pick(len(ways))]


def of_given(x, whole, pick):
    """What jumps where an argument changes a little, so of inputs alone."""
    ways = [
        lambda: torch.where(x > 0, x, 2 * x),
        lambda: torch.where((x > -1) & ~(x >= 0.5), 0.5, x),
        lambda: torch.where((x < 0).logical_or(x == 1), x, torch.tensor(2.0, dtype=x.dtype)),
        lambda: torch.maximum(x, -x),
        lambda: torch.minimum(x, x * 0.5),
        lambda: x.clamp(-0.5, 1),
        lambda: x.clamp(max=0.25) - x.clamp(min=-1),
        lambda: x.sgn() * (x.abs() % 0.3),
        lambda: torch.remainder(x, -0.7) + x % 1,
        lambda: (x > 0).double() - (x != 2).sum(),
        lambda: (x * 3).long() % 4 * 0.5,
        lambda: ((x * 3).long() * 2 - 1) / 3,
        lambda: (whole % 3 + (whole > 0)) * 0.5,
        lambda: torch.linspace(0, 1, 9, dtype=x.dtype)[whole % 9],
        lambda: torch.arange(12, dtype=x.dtype).reshape(4, 3)[whole.clamp(-3, 3)],
        lambda: (whole & 3) + ((whole ^ 5) >> 1) + torch.eye(6)[0],
        lambda: torch.maximum(whole, (whole > 1).long()) * x.reshape(-1)[0],
        lambda: nll(x.reshape(-1, 7), x.reshape(-1, 7).long()[:, 0].abs() % 7, reduction="none"),
    ]
    return ways[pick(len(ways))]


@dataclass(frozen=True)
class Graph:
    """A random program: its steps by number of the values they take, the inputs first."""

    seed: int
    length: int = 14

    def __call__(self, tensors):
        """Results by name; the same operations for any numbers of these shapes."""
        pick = random.Random(self.seed).randrange
        values = [tensors[name] for name in INPUTS]
        for _ in range(self.length):
            at = pick(2**30)
            found = self._one(tensors, values, random.Random(at).randrange)
            if found is not None:
                values.append(found)
        made = [value for value in values[len(INPUTS) :] if value.numel()]
        return {f"y{i}": value for i, value in enumerate(made[-4:])}

    def _one(self, tensors, values, pick):
        x, y = (values[-1 - min(pick(len(values)), pick(len(values)))] for _ in range(2))
        given = tensors[list(INPUTS)[pick(len(INPUTS))]]
        makers = [any_view(x, pick), any_view(x, pick), of_one(x, pick), of_one(x, pick), of_two(x, y, pick)]
        makers += [of_two(x, y, pick), of_two(x, y, pick), of_given(given, tensors["n"], pick)]
        try:
            found = makers[pick(len(makers))]()
        except (RuntimeError, IndexError, ValueError):
            return None  # shapes that do not go together
        return found if 0 < found.numel() <= 4000 else None
