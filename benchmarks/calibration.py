"""Which methods reach the data's manifold and which collapse along it, next to earlier figures for the same task.

Tasks `manifold-d2` and `manifold[d=64, basis=random]` with the settings of the earlier figures: Adam (0.5, 0.9), batch
64, 2000 generator steps, penalty weight 10 (R1 1, clip 0.1), four seeds; medians of the last evaluation. The earlier
program was another one, with other random numbers, and four seeds are few: what has to agree is the order of magnitude.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch

from benchmarks.record import Found, Line
from study.plan import expand, pack
from study.spec import parse_sweep
from study.train import train

RATES = (1e-4, 1e-3, 1e-2)
EARLIER = {
    ("manifold-d2", 1): {
        "mm": ((3.37, 3.39), (2.55, 2.65), (1.25, 2.02)),
        "ns": ((3.24, 3.28), (0.0026, 1.30), (1.7e-6, 0.13)),
        "ns+gp1": ((4.04, 4.10), (2.9e-4, 0.0012), (0.27, 0.28)),
        "ns+dragan": ((3.73, 3.78), (2.8e-4, 9.7e-4), (0.082, 0.096)),
        "ns+gp0": ((3.26, 3.27), (0.0012, 0.0016), (0.0016, 0.0045)),
        "ns+r1": ((3.25, 3.30), (8.8e-4, 0.0022), (1.6e-4, 0.0067)),
        "ns+r1+r2": ((3.25, 3.29), (7.6e-4, 0.0017), (8.8e-4, 0.0040)),
        "wgan+gp1": ((3.81, 3.83), (0.0028, 0.0053), (0.078, 0.26)),
        "wgan+clip": ((3.25, 3.29), (0.109, 0.42), (0.0059, 0.016)),
    },
    ("manifold-d2", 5): {
        "mm": ((3.80, 3.80), (3.84, 3.84), (3.75, 3.78)),
        "ns": ((3.23, 3.27), (0.0010, 1.64), (2e-5, 3.73)),
        "ns+gp1": ((3.40, 3.40), (1.1e-4, 3.5e-4), (0.016, 0.031)),
        "wgan+gp1": ((3.34, 3.35), (6.8e-4, 0.0014), (0.0036, 0.0074)),
    },
    ("manifold[d=64, basis=random]", 1): {
        "mm": ((1.72, None), (0.009, 0.010), (0.79, 1.51)),
        "ns": ((0.40, None), (0.0052, 0.0061), (0.073, 0.92)),
        "ns+gp1": ((1.86, None), (0.13, 0.16), (0.73, 1.05)),
        "ns+gp0": ((0.26, None), (0.0023, 0.0038), (0.047, 0.047)),
        "ns+r1+r2": ((0.25, None), (0.0043, 0.0067), (0.24, 0.24)),
        "wgan+gp1": ((1.32, None), (0.073, 0.079), (0.55, 1.07)),
    },
}
"""Task and n_critic to method to (squared distance to the manifold, squared W2) at each rate."""

SMALL, LARGE = 0.2, 1.0
"""Up to the first a squared W2 is a success (the task's threshold); above the second a dimension is missing or more."""


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    details: dict[str, Any] = {}
    agree = compared = 0
    decades: list[float] = []
    for (task, n_critic), methods in EARLIER.items():
        for method, rows in methods.items():
            for lr, row, now in zip(RATES, rows, _medians(task, method, n_critic, quick=quick), strict=True):
                details[f"{task} n_critic {n_critic} {method} lr {lr:g}"] = {"earlier": row, "now": now}
                print(f"{task:13} n_critic {n_critic} {method:10} lr {lr:<6g} earlier {row}, now {now}", flush=True)
                if row[1] is not None:
                    compared += 1
                    agree += _kind(row[1]) == _kind(now[1])
                    decades.append(abs(math.log10(row[1] / now[1])))
    lines = (
        Line("cells of equal outcome (success, in between, collapsed or far)", agree / compared, "of 1", ">= 0.75"),
        Line("median distance of squared W2 to the earlier figure", statistics.median(decades), "decades", "<= 0.5"),
    )
    remarks = (
        f"{compared} cells; success is squared W2 <= {SMALL}, far or collapsed > {LARGE}",
        "medians of four seeds at the last of 20 evaluations; the earlier ones from another program",
        *_lessons(details),
    )
    found = Found(lines, remarks, details)
    found.show()
    return found


def _medians(task: str, method: str, n_critic: int, *, quick: bool) -> list[tuple[float, float]]:
    """Squared distance and squared W2 at each rate, medians over seeds."""
    weight = 1.0 if method.startswith("ns+r1") else 10.0
    sweep = parse_sweep(
        {
            "name": "calibration",
            "tasks": [task],
            "methods": [method],
            "budget": {"steps": 20 if quick else 2000, "evaluations": 20},
            "space": {
                "override": {
                    "lr": {"choice": list(RATES)},
                    "beta1": 0.5,
                    "beta2": 0.9,
                    "n_critic": n_critic,
                    "penalty_weight": weight,
                    "clip": 0.1,
                }
            },
            "design": {"kind": "grid", "seeds": 4},
        },
        source="calibration",
    )
    (only,) = pack(expand(sweep), capacity=len(RATES) * 4, device="cpu")
    last = train(only.trials, capacity=only.capacity).evaluations[-1].values
    rows = []
    for lr in RATES:
        slots = [i for i, trial in enumerate(only.trials) if trial.hyperparameters.lr_g == lr]
        rows.append(tuple(float(statistics.median(last[name][i] for i in slots)) for name in ("distance_sq", "w2sq")))
    return rows


def _kind(w2sq: float) -> str:
    return "success" if w2sq <= SMALL else "between" if w2sq <= LARGE else "far"


def _lessons(details: dict[str, Any]) -> tuple[str, ...]:
    ns = details["manifold-d2 n_critic 1 ns lr 0.001"]["now"]
    mm = [details[f"manifold-d2 n_critic 5 mm lr {lr:g}"]["now"][1] for lr in RATES]
    stays = ", ".join(f"{value:.2f}" for value in mm)
    return (
        f"ns at lr 1e-3 and n_critic 1 reaches the line (squared distance {ns[0]:.2g}) and collapses along it "
        f"(squared W2 {ns[1]:.2g})",
        f"mm at n_critic 5 stays where it started at every rate: squared W2 {stays}",
    )
