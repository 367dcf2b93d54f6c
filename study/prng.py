"""Random numbers as a pure function of (key, counter): the same for any pack, block size, resume and device.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), written in int64
tensor arithmetic because torch has no unsigned 32-bit multiplication. A trial's key is 64 bits; the four counter words
are (index, generator step, update within the step, role).
"""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


class Role(IntEnum):
    """What a draw is for; part of the counter, so that roles never share numbers. Append only."""

    GENERATOR_START = 0
    DISCRIMINATOR_START = 1
    DATA = 2
    LATENT_D = 3
    LATENT_G = 4
    PENALTY = 5
    EVALUATION = 6
    DATA_G = 7
    NOISE_G = 8
    REFERENCE = 9
    POWER = 10
    MIXTURE = 11
    NOISE_D = 12
    PENALTY_G = 13
    EVALUATION_LABEL = 14


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10.

    Args:
        counter: Four broadcastable int64 tensors holding 32-bit words.
        key: Two broadcastable int64 tensors holding 32-bit words.

    Returns:
        Four int64 tensors holding 32-bit random words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high = c0 * _MULTIPLIERS[0]
        low = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((low >> 32) & _MASK) ^ c1 ^ k0,
            low & _MASK,
            ((high >> 32) & _MASK) ^ c3 ^ k1,
            high & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def root_key(text: str) -> str:
    """Hash a text to a 64-bit key, as 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def key_words(keys: list[str], *, device: torch.device | str = "cpu") -> Tensor:
    """Turn c hexadecimal keys into an int64 tensor of shape (c, 2) of 32-bit words."""
    words = [(int(key[:8], 16), int(key[8:], 16)) for key in keys]
    return torch.tensor(words, dtype=torch.int64, device=device)


def uniform(keys: Tensor, *, role: Role, steps: range | Tensor, updates: int | Tensor, count: int) -> Tensor:
    """Uniform numbers in the open interval (0, 1).

    Args:
        keys: Shape (c, 2), from `key_words`.
        role: What the numbers are for.
        steps: The generator steps to draw for, or their numbers, an int64 tensor (s,).
        updates: Draws within each step (one for each discriminator update, say), or their numbers, as steps.
        count: Numbers for each trial, step and update.

    Returns:
        Float32 of shape (c, s, u, count) for s steps and u updates. The value at (trial, step, update, i) depends on
        the trial's key, the role, the step, the update, i and count alone. Multiples of 2**-24: never 0 or 1.
    """
    device = keys.device
    blocks = math.ceil(count / 4)
    index = torch.arange(blocks, device=device)
    if isinstance(steps, range):
        steps = torch.arange(steps.start, steps.stop, device=device)
    if isinstance(updates, int):
        updates = torch.arange(updates, device=device)
    step, update = steps[:, None, None], updates[:, None]
    shape = (len(keys), len(steps), len(updates), blocks)
    kind = torch.tensor(int(role), device=device)
    counter = (index.expand(shape), step.expand(shape), update.expand(shape), kind.expand(shape))
    key = (keys[:, 0, None, None, None], keys[:, 1, None, None, None])
    words = torch.cat(philox(counter, key), dim=-1)[..., :count]
    return ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23


def normal(keys: Tensor, *, role: Role, steps: range | Tensor, updates: int | Tensor, count: int) -> Tensor:
    """Standard normal numbers by Box and Muller, arranged as in `uniform`."""
    half = math.ceil(count / 2)
    u = uniform(keys, role=role, steps=steps, updates=updates, count=2 * half)
    radius = torch.sqrt(-2 * torch.log(u[..., :half].contiguous()))
    angle = 2 * math.pi * u[..., half:].contiguous()
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)[..., :count]
