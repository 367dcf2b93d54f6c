"""What the table [search] may say, and what goes with it: checked rule by rule, in one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.adaptive import PRUNERS, SAMPLERS, missing_package, option_fault, unfit
from study.errors import UserError, unknown

if TYPE_CHECKING:
    from study.spec import SearchTable, Sweep


def check_search(table: SearchTable, *, stored: bool) -> None:
    """Check the table itself.

    Args:
        table: The table.
        stored: True if it is only looked at, so that nothing has to be installed for it.

    Raises:
        UserError: For the first thing that may not be.
    """
    if table.sampler not in SAMPLERS:
        raise unknown("search.sampler", table.sampler, SAMPLERS)
    if fault := option_fault(table.sampler, table.options):
        raise UserError(f"search.options.{fault}")
    if table.pruner not in PRUNERS:
        raise unknown("search.pruner", table.pruner, PRUNERS)
    if fault := unfit(table.pruner, PRUNERS[table.pruner], table.pruner_options):
        raise UserError(f"search.pruner_options.{fault}")
    if not stored and table.pruner != "none" and table.batch == "auto":
        raise UserError(
            f"search.pruner = {table.pruner!r} with search.batch = 'auto', which is a pack, so one trial at a time: "
            "say how many trials of a study are trained side by side, several, e.g. search.batch = 8 for 8 workers"
        )
    if not stored and (package := missing_package(table.sampler)):
        raise UserError(
            f"search.sampler = {table.sampler!r} needs the package {package}, which is not installed: "
            f"pip install {package}, or take another sampler"
        )


def check_searching(sweep: Sweep, table: SearchTable) -> None:
    """Check what stands beside the table.

    Raises:
        UserError: For the first thing that does not go with it.
    """
    for key, what in (("claims", "[[claims]]"), ("confirmatory", "confirmatory pairs")):
        if getattr(sweep, key):
            raise UserError(
                f"[search] with {what}: a search looks at results while it chooses configurations, so no fraction of "
                f"them says how much of a prior survives; remove {what}, or [search] to draw from the prior"
            )
    if own := sweep.design.model_fields_set - {"seeds"}:
        raise UserError(f"[search] with design.{min(own)}: a search asks for its own points; keep design.seeds only")
    if table.pruner == "none":
        return
    if sweep.execution.pack != 1:
        raise UserError(
            f"search.pruner = {table.pruner!r}: only a trial alone in its pack can be stopped: execution.pack = 1"
        )
    grace = table.pruner_options.get("grace_period", 1)
    if grace > sweep.budget.evaluations:
        raise UserError(
            f"search.pruner_options.grace_period = {grace}: more than the {sweep.budget.evaluations} evaluations of "
            "budget.evaluations"
        )
