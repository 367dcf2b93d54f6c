"""Methods: a loss, at most one penalty, and techniques, joined by + as in `ns+gp1` or `wgan+clip`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from study.errors import UserError, unknown
from study.losses import LOSSES, Loss
from study.penalties import NOISE_SCALE, PENALTIES, Penalty


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A further part of a method.

    Attributes:
        hyperparameter: The hyperparameter it adds.
        default: That hyperparameter's published value.
        bounds_slope: True where it makes a Wasserstein loss meaningful.
        formula: In a line.
        source: Paper and section.
    """

    hyperparameter: str
    default: float
    bounds_slope: bool
    formula: str
    source: str


TECHNIQUES: dict[str, Technique] = {
    "clip": Technique(
        hyperparameter="clip",
        default=0.01,
        bounds_slope=True,
        formula="every discriminator parameter clamped to [-clip, clip] after each of its updates and before the first",
        source="Arjovsky, Chintala and Bottou 2017, algorithm 1",
    ),
}


@dataclass(frozen=True)
class Method:
    """A parsed method name (without a variant).

    Attributes:
        name: As the sweep file writes it, e.g. "wgan+gp1".
        loss: Key of LOSSES.
        penalty: Key of PENALTIES, or None.
        techniques: Keys of TECHNIQUES.
    """

    name: str
    loss: str
    penalty: str | None
    techniques: tuple[str, ...]

    @property
    def loss_entry(self) -> Loss:
        """The loss."""
        return LOSSES[self.loss]

    @property
    def penalty_entry(self) -> Penalty | None:
        """The penalty, if there is one."""
        return PENALTIES[self.penalty] if self.penalty else None

    @property
    def defaults(self) -> Mapping[str, float]:
        """The hyperparameters that the method adds, with their published values."""
        found = {TECHNIQUES[t].hyperparameter: TECHNIQUES[t].default for t in self.techniques}
        penalty = self.penalty_entry
        if penalty:
            found["penalty_weight"] = penalty.weight
            if penalty.noisy:
                found["noise_scale"] = NOISE_SCALE
        return found


def parse_method(name: str) -> Method:
    """Read a method name.

    Raises:
        UserError: For an unknown or repeated part, or a combination that makes no sense.
    """
    loss, *parts = name.split("+")
    if loss not in LOSSES:
        raise unknown(f"loss in method {name!r}:", loss, LOSSES)
    for part in parts:
        if part not in PENALTIES and part not in TECHNIQUES:
            raise unknown(f"part in method {name!r}:", part, [*PENALTIES, *TECHNIQUES])
    if len(set(parts)) < len(parts):
        raise UserError(f"method {name!r} names a part twice: each may appear once")
    penalties = [part for part in parts if part in PENALTIES]
    techniques = tuple(part for part in parts if part in TECHNIQUES)
    if len(penalties) > 1:
        raise UserError(f"method {name!r} has {len(penalties)} penalties, {' and '.join(penalties)}: at most one goes")
    canonical = "+".join([loss, *penalties, *(t for t in TECHNIQUES if t in techniques)])
    if name != canonical:
        raise UserError(f"method {name!r}: its parts have one order, write {canonical!r}")
    bounded = bool(penalties) or any(TECHNIQUES[t].bounds_slope for t in techniques)
    if LOSSES[loss].needs_lipschitz and not bounded:
        choices = ", ".join(f"{loss}+{part}" for part in ("clip", *PENALTIES))
        raise UserError(f"method {name!r} needs a device that bounds the discriminator's slope: choose from {choices}")
    return Method(name=name, loss=loss, penalty=penalties[0] if penalties else None, techniques=techniques)
