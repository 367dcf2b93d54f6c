"""The counter-based generator: published vectors, a slow loop, and independence of everything but the counter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.prng import Role, key_words, normal, philox, root_key, uniform

MASK = 0xFFFFFFFF
# Known answers of philox4x32-10 in the Random123 distribution: counter, key, output
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def slow_philox(counter, key):
    """Salmon et al. 2011, figure 2, in Python integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def words(numbers):
    return tuple(torch.tensor(n) for n in numbers)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert tuple(int(w) for w in philox(words(counter), words(key))) == expected


word = st.integers(0, MASK)


@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_philox_equals_integer_arithmetic(counter, key):
    assert tuple(int(w) for w in philox(words(counter), words(key))) == slow_philox(counter, key)


KEYS = key_words([root_key(str(i)) for i in range(5)])


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.sampled_from([uniform, normal]))
def test_a_draw_does_not_depend_on_the_block_or_on_other_trials(cut, count, kind):
    whole = kind(KEYS, role=Role.DATA, steps=range(10), updates=3, count=count)
    parts = [kind(KEYS, role=Role.DATA, steps=s, updates=3, count=count) for s in (range(cut), range(cut, 10))]
    assert torch.equal(whole, torch.cat(parts, dim=1))
    assert torch.equal(whole[3:4], kind(KEYS[3:4], role=Role.DATA, steps=range(10), updates=3, count=count))


def test_draws_differ_between_trials_steps_updates_and_roles():
    draws = [uniform(KEYS, role=role, steps=range(4), updates=2, count=8).reshape(-1, 8) for role in Role]
    rows = torch.cat(draws)
    assert len(torch.unique(rows, dim=0)) == len(Role) * 5 * 4 * 2


def test_uniforms_are_inside_the_open_interval_at_the_extreme_words():
    extreme = torch.tensor([0, MASK])
    values = ((extreme >> 9).to(torch.float32) + 0.5) * 2.0**-23
    assert 0 < values[0] < values[1] < 1
    assert torch.isfinite(torch.log(values)).all()


def test_uniform_and_normal_have_their_moments():
    n = 400_000
    u = uniform(KEYS[:1], role=Role.DATA, steps=range(1), updates=1, count=n).double()
    z = normal(KEYS[:1], role=Role.DATA, steps=range(1), updates=1, count=n).double()
    # six standard errors: false alarm below 1e-8 each
    assert abs(u.mean() - 0.5) < 6 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 6 * (1 / 180 / n) ** 0.5
    assert abs(z.mean()) < 6 / n**0.5
    assert abs(z.var() - 1) < 6 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 6 * (96 / n) ** 0.5
    halves = z.flatten().view(2, -1)
    assert abs((halves[0] * halves[1]).mean()) < 6 / (n / 2) ** 0.5
