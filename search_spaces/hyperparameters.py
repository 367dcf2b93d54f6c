"""The registry of hyperparameters: what each means, which values make sense, and which Sobol dimension it owns.

Dimensions are append-only, so that a new hyperparameter never moves the points of an old one. Those of the first six
names are mutually unaliased from 16 points on: knowing the quarter that one coordinate lies in never fixes the half
that another lies in. In a plain numbering it would for 15 of the 63 others at 16 points. What networks look like, where
it is drawn, is unaliased with those six from 32 points on, and among itself from 64.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from search_spaces.domains import Value

DIMENSIONS = 64
"""Width of the one design that all sweeps draw from."""

OPTIMISER_NAMES = ("adam", "rmsprop", "sgd")
ACTIVATION_NAMES = ("relu", "leaky_relu", "softplus", "tanh")
NORM_NAMES = ("none", "batch", "layer", "instance")


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """A hyperparameter.

    Attributes:
        dimension: The column of the design it owns; None for what is only ever crossed with the points.
        role: "shared" by all methods of a sweep, "structure" (changes the program), or "method" (only some have it).
        low: Smallest value that makes sense.
        high: Largest value that makes sense.
        open_low: True if `low` itself is excluded.
        open_high: True if `high` itself is excluded.
        integer: True for whole numbers.
        names: The legal values of a textual hyperparameter.
        text: True for a textual hyperparameter whose legal values are not known here.
        default: Value where a space says nothing; None means the method's published value, or the task's own network.
        meaning: One line.
    """

    dimension: int | None
    role: Literal["shared", "structure", "method"]
    low: float = 0.0
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False
    integer: bool = False
    names: tuple[str, ...] = ()
    text: bool = False
    default: Value | None = None
    meaning: str

    def fault(self, value: object) -> str | None:
        """The rule that a value breaks, in words, or None if it is legal."""
        if self.names:
            return None if value in self.names else f"must be one of {', '.join(self.names)}"
        if self.text:
            return None if isinstance(value, str) else "must be a text in quotes"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number, written without quotes"
        if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN and whole numbers beyond any float too
            return "must be finite"
        if self.integer and value != int(value):
            return "must be a whole number"
        below = value <= self.low if self.open_low else value < self.low
        above = value >= self.high if self.open_high else value > self.high
        return f"must be {self.rule}" if below or above else None

    @property
    def rule(self) -> str:
        """The range, in words."""
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return (
            low if self.high == float("inf") else f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"
        )


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "lr": Hyperparameter(dimension=26, role="shared", open_low=True, meaning="learning rate of the generator"),
    "beta1": Hyperparameter(
        dimension=55,
        role="shared",
        high=1,
        open_high=True,
        default=0.5,
        meaning="first-moment decay of adam; momentum of sgd",
    ),
    "penalty_weight": Hyperparameter(
        dimension=4, role="method", meaning="weight of a gradient penalty, in its published convention"
    ),
    "beta2": Hyperparameter(
        dimension=9,
        role="shared",
        high=1,
        open_high=True,
        default=0.999,
        meaning="second-moment decay of adam and rmsprop",
    ),
    "lr_d_ratio": Hyperparameter(
        dimension=6,
        role="shared",
        open_low=True,
        default=1.0,
        meaning="discriminator's learning rate over the generator's (two time scales)",
    ),
    "clip": Hyperparameter(
        dimension=46, role="method", open_low=True, meaning="bound that discriminator weights are clipped to"
    ),
    "noise_scale": Hyperparameter(
        dimension=0, role="method", meaning="perturbation of dragan and its kin, in the unit of the penalty's formula"
    ),
    "smoothing": Hyperparameter(
        dimension=1,
        role="method",
        high=1,
        open_high=True,
        meaning="one-sided label smoothing: the target of real samples is 1 minus this",
    ),
    "instance_noise": Hyperparameter(
        dimension=2,
        role="method",
        meaning="standard deviation of the noise on the discriminator's inputs at the start; falls linearly to 0",
    ),
    "history_weight": Hyperparameter(
        dimension=3, role="method", meaning="weight of each player's squared distance to its historical average"
    ),
    "ema_decay": Hyperparameter(
        dimension=5, role="method", high=1, open_high=True, meaning="decay of the generator's moving average, per step"
    ),
    "grad_clip": Hyperparameter(
        dimension=7, role="method", open_low=True, meaning="bound on the norm of each variable's gradient"
    ),
    "consensus_weight": Hyperparameter(
        dimension=8, role="method", meaning="weight of half the squared norm of both players' gradients"
    ),
    "mix_entropy": Hyperparameter(
        dimension=10, role="method", meaning="weight of the entropy term that keeps mixture weights apart from 0"
    ),
    "labelled": Hyperparameter(
        dimension=11,
        role="method",
        integer=True,
        meaning="real samples whose label is known, of a data set with labels",
    ),
    "n_critic": Hyperparameter(
        dimension=None,
        role="structure",
        low=1,
        integer=True,
        default=1,
        meaning="discriminator updates before each generator update",
    ),
    "optimiser": Hyperparameter(
        dimension=None, role="structure", names=OPTIMISER_NAMES, default="adam", meaning="update rule of both players"
    ),
    "network": Hyperparameter(
        dimension=None, role="structure", text=True, meaning="family of both networks; without it, the task's own"
    ),
    **{
        f"{part}_{player}": Hyperparameter(
            dimension=dimensions[i],
            role="structure",
            low=1,
            integer=not names,
            names=names,
            meaning=f"{meaning} of the {word}; without it, the network's own",
        )
        for part, dimensions, names, meaning in (
            ("depth", (24, 30), (), "number of layers"),
            ("width", (35, 48), (), "width of the layers, or base number of filters,"),
            ("activation", (52, 56), ACTIVATION_NAMES, "activation"),
            ("norm", (58, 60), NORM_NAMES, "normalisation"),
        )
        for i, (player, word) in enumerate((("g", "generator"), ("d", "discriminator")))
    },
}
STRUCTURE = tuple(name for name, entry in HYPERPARAMETERS.items() if entry.role == "structure")
SHARED = tuple(name for name, entry in HYPERPARAMETERS.items() if entry.role == "shared")
ARCHITECTURE = tuple(name for name in STRUCTURE if HYPERPARAMETERS[name].default is None)
"""What changes the networks; absent from a trial that has the task's own."""
