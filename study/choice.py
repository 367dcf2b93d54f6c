"""Which program trains a trial: one compiled for the machine's CPU where that pays, or recorded tensor operations."""

from __future__ import annotations

from collections.abc import Iterable

from study.errors import UserError
from study.native.build import missing
from study.schema import CAPTURED, NATIVE, RECORDED
from study.trial import Trial

PAYS_FROM = 400
"""Updates of both players from which compiling a trial's program pays: the half second of the compiler is won back by
the first dozen of such trials, and the program is kept for later ones."""


def chosen(setting: str, trial: Trial, device: str) -> str:
    """The program for a trial: by the sweep file, the trial's budget and whether this machine can compile.

    On a GPU it is recorded operations, unless the file asks for them to be captured.

    Args:
        setting: `execution.program` of the sweep file: "auto" or the name of a program.
        trial: The trial.
        device: "cpu" or "cuda".

    Raises:
        UserError: If it shall be compiled or captured and cannot be.
    """
    if setting == CAPTURED:
        if device == "cpu":
            raise UserError("execution.program = 'captured': graphs are a GPU's, and the device is cpu")
        return CAPTURED
    if setting == NATIVE:
        reason = f"the device is {device}" if device != "cpu" else missing()
        if reason:
            raise UserError(f"execution.program = 'native': {reason}; 'auto' takes recorded operations where it has to")
        return NATIVE
    if setting == RECORDED or device != "cpu" or not pays(trial):
        return RECORDED
    return RECORDED if missing() else NATIVE


def pays(trial: Trial) -> bool:
    """True for a trial that is long enough for its program to be compiled; a matter of the trial alone."""
    return trial.generator_steps * (1 + trial.hyperparameters.n_critic) >= PAYS_FROM


def slower(setting: str, kinds: Iterable[Trial], device: str) -> str | None:
    """What to tell of a machine where programs would be compiled and cannot be, in one sentence; None of others.

    Raises:
        UserError: If a trial's shall be compiled or captured and cannot be.
    """
    recorded = [trial for trial in kinds if chosen(setting, trial, device) == RECORDED]
    if setting == RECORDED or device != "cpu" or not any(map(pays, recorded)):
        return None
    return (
        f"training will be several times slower than it could be, since programs cannot be compiled here: {missing()}"
    )
