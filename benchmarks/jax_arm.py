"""The same GAN as `benchmarks.plain` in JAX: vmap over trials, jit, and scan over steps. A program of its own.

`python benchmarks/jax_arm.py LOSS CAPACITY...` (LOSS is ns or wgan) prints one JSON object a line: capacity, processor
milliseconds of a trial-step (median and least over stretches), the same in wall time, which is what counts on a GPU,
seconds until the first stretch was done, most of which is compiling, jax's version. It needs jax and nothing else.

Mathematics as in `study`: ring of eight Gaussians, two MLPs of 64 with leaky ReLU 0.2, batch 64, n_critic 1, Adam with
a learning rate and beta1 of each trial, one-centred gradient penalty on interpolates, draws included.
"""

import json
import math
import os
import statistics
import sys
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp

BATCH, WIDTH, LATENT, MODES, BETA2, EPSILON, WEIGHT = 64, 64, 2, 8, 0.999, 1e-8, 10.0
STRETCHES = 7

LOSSES = {
    "ns": (lambda r, f: (jax.nn.softplus(-r) + jax.nn.softplus(f)).mean(), lambda f: jax.nn.softplus(-f).mean()),
    "wgan": (lambda r, f: (f - r).mean(), lambda f: -f.mean()),
}


def network(parameters, x):
    *hidden, (weight, bias) = parameters
    for w, b in hidden:
        x = jax.nn.leaky_relu(x @ w + b, 0.2)
    return x @ weight + bias


def critic(phi, x):
    return network(phi, x)[..., 0]


def real_batch(key):
    which, noise = jax.random.split(key)
    angles = jax.random.randint(which, (BATCH,), 0, MODES) * (2 * math.pi / MODES)
    centres = jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1) * math.sqrt(2)
    return centres + 0.01414 * jax.random.normal(noise, (BATCH, 2))


def loss_d(phi, theta, key, loss):
    keys = jax.random.split(key, 3)
    real, fake = real_batch(keys[0]), network(theta, jax.random.normal(keys[1], (BATCH, LATENT)))
    mix = jax.random.uniform(keys[2], (BATCH, 1))
    slope = jax.grad(lambda x: critic(phi, x).sum())(mix * real + (1 - mix) * fake)
    penalty = ((jnp.sqrt((slope**2).sum(1) + 1e-12) - 1) ** 2).mean()
    return LOSSES[loss][0](*jnp.split(critic(phi, jnp.concatenate([real, fake])), 2)) + WEIGHT * penalty


def loss_g(theta, phi, key, loss):
    return LOSSES[loss][1](critic(phi, network(theta, jax.random.normal(key, (BATCH, LATENT)))))


def adam(state, gradient, count, lr, beta1):
    def one(p, m, v, g):
        m, v = beta1 * m + (1 - beta1) * g, BETA2 * v + (1 - BETA2) * g * g
        return p - lr * (m / (1 - beta1**count)) / (jnp.sqrt(v / (1 - BETA2**count)) + EPSILON), m, v

    found = [one(*leaves) for leaves in zip(*map(jax.tree.leaves, (*state, gradient)), strict=True)]
    shape = jax.tree.structure(state[0])
    return tuple(jax.tree.unflatten(shape, list(part)) for part in zip(*found, strict=True))


def step(carry, key, lr, beta1, loss):
    g, d, count = carry
    first, second = jax.random.split(key)
    d = adam(d, jax.grad(loss_d)(d[0], g[0], first, loss), count, lr, beta1)
    g = adam(g, jax.grad(loss_g)(g[0], d[0], second, loss), count, lr, beta1)
    return (g, d, count + 1), None


def start(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        (jax.random.normal(k, (a, b)) * math.sqrt(2 / a), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    zeros = jax.tree.map(jnp.zeros_like, layers)
    return layers, zeros, zeros


def measured(loss, capacity):
    steps = max(10, 2048 // capacity)
    lr, beta1 = jnp.geomspace(1e-4, 1e-3, capacity), jnp.full(capacity, 0.5)

    def trial(carry, key, lr, beta1):
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda c, k: step(c, k, lr, beta1, loss), carry, keys)[0]

    def keys_of(seed):
        return jax.random.split(jax.random.key(seed), capacity)

    program = jax.jit(jax.vmap(trial))
    carry = (
        jax.vmap(lambda k: start(k, (LATENT, WIDTH, WIDTH, 2)))(keys_of(0)),
        jax.vmap(lambda k: start(k, (2, WIDTH, WIDTH, 1)))(keys_of(1)),
        jnp.ones(capacity),
    )
    begun = time.perf_counter()
    carry = jax.block_until_ready(program(carry, keys_of(2), lr, beta1))
    compiling = time.perf_counter() - begun
    taken, wall = [], []
    for stretch in range(STRETCHES):
        keys = jax.block_until_ready(keys_of(3 + stretch))
        begun, before = time.perf_counter(), time.process_time()
        carry = jax.block_until_ready(program(carry, keys, lr, beta1))
        taken.append((time.process_time() - before) * 1000 / (capacity * steps))
        wall.append((time.perf_counter() - begun) * 1000 / (capacity * steps))
    return {
        "milliseconds": statistics.median(taken),
        "least": min(taken),
        "wall_milliseconds": statistics.median(wall),
        "compiling_seconds": compiling,
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):  # one core, whatever threads it has
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for text in sys.argv[2:]:
        print(json.dumps({"capacity": int(text)} | measured(sys.argv[1], int(text))), flush=True)
