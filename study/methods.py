"""Methods: a loss, at most one penalty, and techniques, joined by + as in `ns+gp1` or `rpgan+r1+r2+ema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from study.errors import UserError, unknown
from study.losses import LOSSES, Loss
from study.penalties import PENALTIES, Penalty
from study.techniques import FEATURE_MATCHING, TECHNIQUES


@dataclass(frozen=True)
class Method:
    """A parsed method name (without a variant).

    Attributes:
        name: As the sweep file writes it, e.g. "wgan+gp1".
        loss: Key of LOSSES.
        penalty: Key of PENALTIES, or None.
        techniques: Keys of TECHNIQUES, in that table's order.
    """

    name: str
    loss: str
    penalty: str | None
    techniques: tuple[str, ...] = field(default=())

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
        found: dict[str, float] = {}
        for technique in self.techniques:
            found |= TECHNIQUES[technique].hyperparameters
        penalty = self.penalty_entry
        if penalty:
            found["penalty_weight"] = penalty.weight
            if penalty.noise_scale is not None:
                found["noise_scale"] = penalty.noise_scale
        return found

    def has(self, *techniques: str) -> bool:
        """True if the method contains any of these techniques."""
        return any(technique in self.techniques for technique in techniques)


def parse_method(name: str) -> Method:
    """Read a method name.

    Raises:
        UserError: For an unknown or repeated part, or a combination that makes no sense, with the reason.
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
    if set(penalties) == {"r1", "r2"}:
        penalties = ["r1+r2"]
    if len(penalties) > 1:
        raise UserError(
            f"method {name!r} has {len(penalties)} penalties, {' and '.join(penalties)}: at most one goes, or r1+r2"
        )
    techniques = tuple(technique for technique in TECHNIQUES if technique in parts)
    canonical = "+".join([loss, *penalties, *techniques])
    if name != canonical:
        raise UserError(f"method {name!r}: its parts have one order, write {canonical!r}")
    method = Method(name=name, loss=loss, penalty=penalties[0] if penalties else None, techniques=techniques)
    for rule in RULES:
        fault = rule(method)
        if fault:
            raise UserError(f"method {name!r}: {fault}")
    return method


def _bounded_slope(method: Method) -> str | None:
    bounds = [name for name, technique in TECHNIQUES.items() if technique.bounds_slope]
    if not method.loss_entry.needs_lipschitz or method.penalty or method.has(*bounds):
        return None
    choices = ", ".join(f"{method.loss}+{part}" for part in (*bounds, *PENALTIES) if _fits(method.loss, part))
    return f"needs a device that bounds the discriminator's slope: choose from {choices}"


def _fits(loss: str, penalty: str) -> bool:
    return penalty not in PENALTIES or not _penalty_fits_loss(Method(loss, loss, penalty))


def _penalty_fits_loss(method: Method) -> str | None:
    penalty = method.penalty_entry
    if penalty is None:
        return None
    if penalty.losses is not None and method.loss not in penalty.losses:
        return f"{method.penalty} is for {', '.join(penalty.losses)}: {method.loss} has no witness function"
    if penalty.on == "probability" and not method.loss_entry.probability:
        return f"{method.penalty} acts on the discriminator's probability, and {method.loss} has none"
    return None


def _smoothing(method: Method) -> str | None:
    if not method.has("smooth") or method.loss_entry.smoothed:
        return None
    able = ", ".join(name for name, loss in LOSSES.items() if loss.smoothed)
    return f"label smoothing moves the target of a cross-entropy, and {method.loss} is none: use it with {able}"


def _samples_apart(method: Method) -> str | None:
    if not (method.has("minibatch") and method.penalty):
        return None
    return (
        f"minibatch discrimination lets samples see each other, as batch normalisation would, and {method.penalty} "
        "takes the gradient of each sample by itself"
    )


def _matching_alone(method: Method) -> str | None:
    if method.loss != "mm" or not method.has(*FEATURE_MATCHING):
        return None
    return "feature matching replaces the generator's loss, in which alone mm differs from ns: write ns instead"


def _one_of(*names: str, because: str) -> Callable[[Method], str | None]:
    def rule(method: Method) -> str | None:
        found = [name for name in names if method.has(name)]
        return f"{' and '.join(found)} do not go together: {because}" if len(found) > 1 else None

    return rule


RULES: tuple[Callable[[Method], str | None], ...] = (
    _bounded_slope,
    _penalty_fits_loss,
    _smoothing,
    _samples_apart,
    _matching_alone,
    _one_of(*FEATURE_MATCHING, because="each replaces the generator's loss"),
    _one_of("ema", "average", because="each decides which generator is measured"),
    _one_of("simultaneous", "extragradient", because="an extragradient moves both players at once anyway"),
    _one_of("extragradient", "optimistic", because="each has its own way to look ahead"),
    _one_of("clip", "sn", because="spectral normalisation takes the scale, which clip bounds, out of the weights"),
)
"""What makes no sense: each maps a method to the reason against it, or None."""
