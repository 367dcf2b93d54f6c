"""Training on one GPU, all in one run on the same card: plain loops, shared cards, JAX, and packs.

`python -m benchmarks.gpu [PART ...]` prints each measurement as a line of JSON as soon as there is one; without a PART
it measures all and keeps what it found, and `--of FILE` does that with the lines of earlier runs. It needs torch, numpy
and pyarrow. JAX is measured by the Python that MANYPATHS_JAX_PYTHON names. Task: the networks and data of `ring8`,
batch 64, `ns+gp1`, n_critic 1, and DCGAN and ResNet for images of 32 pixels; draws included, evaluations left out on
all sides. Everything is wall time: what counts is how long the card is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_packs import game_of, images, operations, pack_of, peak, seconds, tf32, timed, together
from benchmarks.gpu_plain import Plain
from benchmarks.gpu_process import rate
from benchmarks.record import Found, Line, write

JAX = "MANYPATHS_JAX_PYTHON"
JAX_DRAWS = ("threefry2x32", "rbg")
"""JAX's generators of random numbers: its default, and its faster one. The better of the two counts."""
REQUIRED = {"plain": ">= 200", "shared": ">= 20", "jax": ">= 1", "dcgan": ">= 8"}
WAYS = ("captured", "channels-last", "unfold")
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        capacities: Of packs of perceptrons.
        image_capacities: Of packs of convolutional networks.
        steps: In a timed stretch; a quarter of it for images.
        repeats: Stretches.
        processes: That share the card.
        image_processes: That share it with a convolutional network each.
        lasting: Seconds that processes train.
        flying: Packs in flight at once, and the capacity of each.
        side: Of images.
        product: Rows of the large product.
    """

    capacities: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    image_capacities: tuple[int, ...] = (1, 2, 4, 8, 16)
    steps: int = 64
    repeats: int = 7
    processes: tuple[int, ...] = (8, 16)
    image_processes: tuple[int, ...] = (2, 4, 8)
    lasting: float = 8.0
    flying: tuple[int, ...] = (1, 2, 4)
    flying_capacity: int = 256
    side: int = 32
    batch: int = 64
    product: int = 8192


QUICK = Sizes(
    capacities=(2,),
    image_capacities=(2,),
    steps=4,
    repeats=1,
    processes=(1,),
    image_processes=(),
    lasting=0.1,
    flying=(2,),
    flying_capacity=2,
    side=8,
    batch=4,
    product=64,
)


def plain(sizes: Sizes, device: str) -> Iterator[Row]:
    """One GAN in a plain loop."""
    for networks in ("mlp", "dcgan"):
        gan = Plain(networks, device, side=sizes.side, batch=64 if networks == "mlp" else sizes.batch)
        taken = seconds(partial(gan.train, sizes.steps), device, repeats=sizes.repeats)
        yield {"networks": networks, "rate": sizes.steps / taken}


def shared(sizes: Sizes, device: str) -> Iterator[Row]:
    """Several processes with a plain loop each."""
    for count in sizes.processes:
        yield {"processes": count, "rate": rate("plain:mlp", count, device, lasting=sizes.lasting)}


def jax(sizes: Sizes, device: str) -> Iterator[Row]:
    """JAX, by vmap, jit and scan, with products in float32 as ours; nothing where it is not given."""
    python = os.environ.get(JAX)
    for draws in JAX_DRAWS if python else ():
        command = [python, str(Path(__file__).with_name("jax_arm.py")), "ns", *map(str, sizes.capacities)]
        settings = {
            "JAX_PLATFORMS": device,
            "JAX_DEFAULT_PRNG_IMPL": draws,
            "JAX_DEFAULT_MATMUL_PRECISION": "highest",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        done = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            row = json.loads(line)
            yield row | {"draws": draws, "rate": 1000 / row["wall_milliseconds"]}


def packs(sizes: Sizes, device: str) -> Iterator[Row]:
    """Packs, recorded and captured, with their memory and their share of what the card can compute."""
    game, most = game_of(), peak(device, size=sizes.product)
    each = operations(game, device)
    card = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if device == "cuda" else None
    yield {"card": card, "torch": torch.__version__, "operations": each, "peak": most}
    for capacity in sizes.capacities:
        for way in ("recorded", "captured"):
            row = timed(game, capacity, device, way=way, steps=sizes.steps, repeats=sizes.repeats)
            yield row | {"share": row["rate"] and row["rate"] * each / most}
    yield {"tf32": tf32(game, sizes.capacities[-1], device, steps=sizes.steps, repeats=sizes.repeats)}


def flight(sizes: Sizes, device: str) -> Iterator[Row]:
    """Several packs at once, in streams of one process and in processes."""
    game, capacity = game_of(), sizes.flying_capacity
    for count in sizes.flying:
        flying = [pack_of(game, capacity, device, way="captured") for _ in range(count)]
        steps = together(flying, device, steps=sizes.steps, repeats=sizes.repeats)
        yield {"streams": count, "capacity": capacity, "rate": capacity * steps}
        what = f"pack:mlp:{capacity}"
        yield {"processes": count, "capacity": capacity, "rate": rate(what, count, device, lasting=sizes.lasting)}


def convolutions(sizes: Sizes, device: str) -> Iterator[Row]:
    """DCGAN and ResNet, in packs by several ways to convolve, and in processes of capacity 1."""
    for networks in ("dcgan", "resnet"):
        game = game_of(images(networks, side=sizes.side, batch=sizes.batch))
        for capacity in sizes.image_capacities:
            for way in WAYS:
                few = {"steps": max(1, sizes.steps // 4), "repeats": sizes.repeats}
                yield {"networks": networks} | timed(game, capacity, device, way=way, **few)
        for count in sizes.image_processes:
            found = rate(f"pack:{networks}:1", count, device, lasting=sizes.lasting)
            yield {"networks": networks, "processes": count, "rate": found}


PARTS: dict[str, Callable[[Sizes, str], Iterator[Row]]] = {
    "plain": plain,
    "shared": shared,
    "jax": jax,
    "packs": packs,
    "flight": flight,
    "convolutions": convolutions,
}


def run(*, quick: bool = False) -> Found:
    """Measure every part.

    Raises:
        SystemExit: If there is no CUDA device to measure.
    """
    return shown({part: rows_of(part, quick=quick) for part in PARTS})


def rows_of(part: str, *, quick: bool) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        sys.exit("no CUDA device: nothing measured")
    torch.set_num_threads(1)
    rows = []
    for row in PARTS[part](QUICK if quick else Sizes(), device):
        print(json.dumps({"part": part} | row), flush=True)
        rows.append(row)
    return rows


def best(rows: list[Row], **which: object) -> Row | None:
    """The fastest of the rows that are so."""
    fitting = [row for row in rows if row.get("rate") and all(row.get(name) == value for name, value in which.items())]
    return max(fitting, key=lambda row: row["rate"], default=None)


def summary(parts: dict[str, list[Row]]) -> Found:
    ours = best(parts["packs"])
    convolved = {networks: best(parts["convolutions"], networks=networks) for networks in ("dcgan", "resnet")}
    others = {
        "plain": ("one plain loop", best(parts["plain"], networks="mlp")),
        "shared": ("processes that share the card, a plain loop in each", best(parts["shared"])),
        "jax": ("JAX by vmap, jit and scan, at its best capacity", best(parts["jax"])),
    }
    lines = [
        Line(f"capacity {row['capacity']}, {row['way']}: trial-steps per second", row["rate"], "/s")
        for row in parts["packs"]
        if row.get("rate")
    ]
    lines += [
        Line(f"packs at their best, over {words}", ours["rate"] / row["rate"], "x", REQUIRED[name])
        for name, (words, row) in others.items()
        if ours and row
    ]
    single = best(parts["plain"], networks="dcgan")
    if single and convolved["dcgan"]:
        ratio = convolved["dcgan"]["rate"] / single["rate"]
        lines.append(Line("DCGAN-32 at its best, over one plain loop", ratio, "x", REQUIRED["dcgan"]))
    return Found(tuple(lines), tuple(_remarks(parts, ours, convolved)), parts)


def _remarks(parts: dict[str, list[Row]], ours: Row | None, convolved: dict[str, Row | None]) -> Iterator[str]:
    (device,) = (row for row in parts["packs"] if "card" in row)
    if device["card"]:
        yield f"on {device['card']}, torch {device['torch']}"
    else:
        yield "without a card: every part ran, and nothing was measured"
    if not parts["jax"]:
        yield f"JAX was not measured: {JAX} names no Python"
    if ours and ours["bytes"]:
        yield (
            f"at capacity {ours['capacity']}, {ours['way']}, a trial takes {ours['bytes'] / 2**20:.2f} MiB, and "
            f"products run at {ours['share']:.1%} of what one large product in float32 reaches"
        )
    (compared,) = (row["tf32"] for row in parts["packs"] if "tf32" in row)
    yield (
        f"tf32 is no option; it would gain {compared['gain']:.2f} x, and after {compared['steps']} steps generators "
        f"would be off by {compared['off_median']:.1e} (median over trials; most {compared['off_most']:.1e})"
    )
    for networks, row in convolved.items():
        if row:
            how = f"{row['processes']} processes" if "processes" in row else f"capacity {row['capacity']}, {row['way']}"
            yield f"{networks}: fastest with {how}, {row['rate']:,.0f} trial-steps per second"


def read(lines: Iterable[str]) -> dict[str, list[Row]]:
    """What earlier runs printed, by part."""
    parts: dict[str, list[Row]] = {part: [] for part in PARTS}
    for line in lines:
        if line.startswith("{"):
            row = json.loads(line)
            parts[row.pop("part")].append(row)
    return parts


def shown(parts: dict[str, list[Row]]) -> Found:
    found = summary(parts)
    found.show()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all, or some of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--of", type=Path, metavar="FILE", help="keep what earlier runs printed; measure nothing")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    load = os.getloadavg()[0]
    for part in arguments.parts:
        rows_of(part, quick=arguments.quick)
    if arguments.parts:
        return
    found = shown(read(arguments.of.open())) if arguments.of else run(quick=arguments.quick)
    if not arguments.quick:
        write("gpu", found, command="python -m benchmarks.gpu", load=load)


if __name__ == "__main__":
    main()
