"""Methods: a loss, at most one penalty, and techniques, joined by + as in `ns+gp1` or `rpgan+r1+r2+ema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from search_spaces.hyperparameters import HYPERPARAMETERS
from study import user_files
from study.errors import UserError, unknown
from study.losses import LOSSES, Loss
from study.penalties import PENALTIES, Penalty
from study.techniques import FEATURE_MATCHING, MIXTURES, TECHNIQUES


@dataclass(frozen=True)
class Method:
    """A parsed method name (without a variant).

    Attributes:
        name: As the sweep file writes it, e.g. "wgan+gp1".
        loss: Key of LOSSES, or a Loss in a user's file.
        penalty: Key of PENALTIES, a Penalty in a user's file, or None.
        techniques: Keys of TECHNIQUES, in that table's order.
    """

    name: str
    loss: str
    penalty: str | None
    techniques: tuple[str, ...] = field(default=())

    @property
    def loss_entry(self) -> Loss:
        """The loss."""
        return LOSSES[self.loss] if self.loss in LOSSES else _users(self.loss, Loss)

    @property
    def penalty_entry(self) -> Penalty | None:
        """The penalty, if there is one."""
        if not self.penalty:
            return None
        return PENALTIES[self.penalty] if self.penalty in PENALTIES else _users(self.penalty, Penalty)

    @property
    def defaults(self) -> Mapping[str, float]:
        """The hyperparameters that the method adds, with their published values."""
        found = dict(self.loss_entry.hyperparameters)
        for technique in self.techniques:
            found |= TECHNIQUES[technique].hyperparameters
        penalty = self.penalty_entry
        if penalty:
            found["penalty_weight"] = penalty.weight
            if penalty.noise_scale is not None:
                found["noise_scale"] = penalty.noise_scale
        return found

    @property
    def mixture(self) -> str | None:
        """The technique that mixes several networks of each player, if there is one."""
        return next((name for name in MIXTURES if self.has(name)), None)

    @property
    def components(self) -> int:
        """Generators, and discriminators, that play."""
        return MIXTURES[self.mixture] if self.mixture else 1

    def has(self, *techniques: str) -> bool:
        """True if the method contains any of these techniques."""
        return any(technique in self.techniques for technique in techniques)


Kind = TypeVar("Kind")
METHODS_OWN = [name for name, entry in HYPERPARAMETERS.items() if entry.role == "method"]


def _users(reference: str, kind: type[Kind]) -> Kind:
    found = user_files.find(reference)
    if not isinstance(found, kind):
        raise UserError(f"{reference!r} must be a {kind.__name__} here, not {type(found).__name__}")
    for name in found.hyperparameters if isinstance(found, Loss) else ():
        if name not in METHODS_OWN:
            raise unknown(f"hyperparameter of {reference!r}:", name, METHODS_OWN)
    return found


def _is_penalty(part: str) -> bool:
    if part in PENALTIES:
        return True
    return user_files.is_reference(part) and isinstance(_users(part, Penalty), Penalty)


def parse_method(name: str) -> Method:
    """Read a method name.

    A loss or a penalty may be one of a user's file: my_losses.py:cauchy+gp1, ns+my_penalties.py:gp2.

    Raises:
        UserError: For an unknown or repeated part, or a combination that makes no sense, with the reason.
    """
    loss, *parts = name.split("+")
    if loss not in LOSSES and not user_files.is_reference(loss):
        raise unknown(f"loss in method {name!r}:", loss, [*LOSSES, "FILE.py:NAME"])
    for part in parts:
        if part not in TECHNIQUES and not _is_penalty(part):
            raise unknown(f"part in method {name!r}:", part, [*PENALTIES, *TECHNIQUES, "FILE.py:NAME"])
    if len(set(parts)) < len(parts):
        raise UserError(f"method {name!r} names a part twice: each may appear once")
    penalties = [part for part in parts if part not in TECHNIQUES]
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
    if method.loss_entry.direct:
        return f"{method.loss} has no discriminator at work, which {method.penalty} could act on"
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


def _nobody_to_act_on(method: Method) -> str | None:
    fitting = ("gradclip", "noise", "vbn", "ema", "average")
    idle = [technique for technique in method.techniques if technique not in fitting]
    if not (method.loss_entry.direct and idle):
        return None
    return f"{method.loss} has no discriminator at work, so {idle[0]} does not go: choose from {', '.join(fitting)}"


def _one_logit(method: Method) -> str | None:
    if not method.has("cond") or (method.loss_entry.outputs == 1 and not method.loss_entry.direct):
        return None
    return f"cond picks a class's logit from the discriminator, and {method.loss} does not look at one logit"


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
    _nobody_to_act_on,
    _one_logit,
    _matching_alone,
    _one_of(*FEATURE_MATCHING, because="each replaces the generator's loss"),
    _one_of(*MIXTURES, because="each says how many networks are mixed"),
    _one_of("ema", "average", because="each decides which generator is measured"),
    _one_of("simultaneous", "extragradient", because="an extragradient moves both players at once anyway"),
    _one_of("extragradient", "optimistic", because="each has its own way to look ahead"),
    _one_of("cond", "vbn", because="the reference batch has no classes"),
    _one_of("clip", "sn", because="spectral normalisation takes the scale, which clip bounds, out of the weights"),
)
"""What makes no sense: each maps a method to the reason against it, or None."""
