"""The one schema: every column of every table, its type, unit and meaning, with a version.

Readers and writers take column names and types from here. Metric columns are the only ones that depend on the sweep:
one float64 column for each metric of its tasks, named by the metric's protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SCHEMA_VERSION = 1
"""Raised when a column changes its name, type or meaning; files of older versions stay readable."""

ENGINE_EPOCH = 4
"""Raised when a change of the training engine changes bits; part of every trial id."""

NATIVE, RECORDED, CAPTURED = "native", "recorded", "captured"
"""Programs that train a pack: one compiled for the machine's CPU, tensor operations that were recorded, and these as
graphs of a GPU."""


class Status(StrEnum):
    """How a trial ended; only these are ever written. `pending` and `lost` are the plan minus the rows."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    OOM = "oom"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Column:
    """One column: its name, its Arrow type by name, and what it means (with the unit where there is one)."""

    name: str
    type: str
    meaning: str


IDENTITY = (
    Column("trial_id", "string", "content hash of the trial: same trial, same id, on any machine"),
    Column("sweep", "string", "the sweep's name"),
    Column("task", "string", "name of the task"),
    Column("method", "string", "name of the method as the sweep file writes it, e.g. wgan+gp1 or wgan+gp1@ttur"),
    Column("loss", "string", "the loss, e.g. ns"),
    Column("penalty", "string", "the penalty, e.g. gp1; null without one"),
    Column("technique", "string", "further parts of the method, e.g. clip, joined by +; null without one"),
    Column("config", "string", "content hash of the hyperparameters shared by all methods: the pairing key"),
    Column("point", "int32", "index of the design point; a point crossed with structures gives several configurations"),
    Column("replicate", "int32", "independent scrambling of the design that the point belongs to"),
    Column("seed", "int32", "seed index, from 0"),
    Column("pack", "string", "the pack that the trial is trained in"),
    Column(
        "capacity",
        "int32",
        "slots of that pack; bits are promised for equal trial id, capacity, device kind and program",
    ),
    Column("lr_g", "float64", "learning rate of the generator"),
    Column("lr_d", "float64", "learning rate of the discriminator"),
    Column("beta1", "float64", "first-moment decay of the optimiser (momentum under sgd)"),
    Column("beta2", "float64", "second-moment decay of the optimiser; null under sgd"),
    Column("optimiser", "string", "name of the optimiser"),
    Column("n_critic", "int32", "discriminator updates before each generator update"),
    Column("penalty_weight", "float64", "weight of the penalty in its published convention; null without a penalty"),
    Column("clip", "float64", "bound that discriminator weights are clipped to; null without clipping"),
    Column(
        "noise_scale", "float64", "perturbation in the unit of the penalty's formula; null unless dragan or its kin"
    ),
    Column("smoothing", "float64", "one-sided label smoothing: the target of real samples is 1 minus this"),
    Column("instance_noise", "float64", "standard deviation of noise on the discriminator's inputs at the start"),
    Column("history_weight", "float64", "weight of the squared distance to the players' historical averages"),
    Column("ema_decay", "float64", "decay of the generator's moving average, which is what is measured then"),
    Column("grad_clip", "float64", "bound on the norm of each variable's gradient"),
    Column("consensus_weight", "float64", "weight of the consensus term"),
    Column("mix_entropy", "float64", "weight of the entropy term of mixture weights"),
    Column("labelled", "float64", "real samples whose label a semi-supervised loss knows"),
    Column("network", "string", "family of both networks; null for the task's own"),
    Column("depth_g", "int32", "number of layers of the generator; null, as the next seven, for the network's own"),
    Column("depth_d", "int32", "number of layers of the discriminator"),
    Column("width_g", "int32", "width of the generator's layers, or of the first of convolutions"),
    Column("width_d", "int32", "width of the discriminator's layers"),
    Column("activation_g", "string", "activation of the generator"),
    Column("activation_d", "string", "activation of the discriminator"),
    Column("norm_g", "string", "normalisation of the generator"),
    Column("norm_d", "string", "normalisation of the discriminator"),
    Column(
        "sampler",
        "string",
        "how the configuration was chosen: sobol, random, grid, table; by a search tpe, cmaes, gp, random, "
        "with a pruner tpe+asha and the like",
    ),
    Column("engine_epoch", "int32", "number of the training engine's bits"),
    Column("schema_version", "int32", "version of this schema"),
)
"""What a trial is. Shared by `plan` and `trials`."""

PLAN = (
    *IDENTITY,
    Column("slot", "int32", "position inside the pack"),
    Column("key", "string", "hexadecimal root key of the trial's random draws, shared by all methods"),
    Column("budget_unit", "string", "unit of the declared budget"),
    Column("budget_steps", "int64", "the declared budget, in that unit"),
    Column("evaluations", "int32", "evaluations, the last at the end of the budget"),
    Column("schedule", "string", "even, evenly spaced; or late, five in the last fifth and the others evenly before"),
    Column("metric", "string", "name of the task's primary metric, lower is better"),
    Column("threshold", "float64", "success is primary <= threshold"),
    Column("anchor_low", "float64", "log-AUC anchor that scores 1, in units of the primary metric"),
    Column("anchor_high", "float64", "log-AUC anchor that scores 0, in units of the primary metric"),
)

OUTCOME = (
    Column("status", "string", "how the trial ended: completed, diverged, oom or stopped"),
    Column("reason", "string", "the cause when it did not complete"),
    Column("diverged_step", "int64", "first generator step with a non-finite loss, parameter or metric"),
    Column("generator_steps", "int64", "generator updates done (for a diverged trial: before it diverged)"),
    Column("discriminator_steps", "int64", "discriminator updates done"),
    Column("updates", "int64", "both together"),
    Column("primary", "float64", "median of the primary metric over the last 20 % of the evaluations, at least 5"),
    Column("primary_last", "float64", "primary metric at the last evaluation"),
    Column("primary_best", "float64", "primary metric at the evaluation that is best on the selection split"),
    Column("success", "bool", "primary <= threshold; false for diverged and oom; null for stopped"),
    Column("train_seconds", "float64", "wall seconds of the pack divided by its trials"),
    Column("device", "string", "kind of device, cpu or cuda"),
    Column(
        "program",
        "string",
        "what trained it: native, compiled for the machine's CPU; recorded tensor operations; captured, these as a "
        "GPU's graphs; null for oom",
    ),
)
"""How a trial ended. Each metric's tail median follows in a column of the metric's name."""

HISTORY = (
    Column("trial_id", "string", "the trial"),
    Column("task", "string", "name of the task"),
    Column("method", "string", "name of the method"),
    Column("evaluation", "int32", "index of the evaluation, from 0"),
    Column("generator_steps", "int64", "generator updates done at the evaluation"),
    Column("discriminator_steps", "int64", "discriminator updates done at the evaluation"),
    Column("samples_seen", "int64", "real samples seen by the discriminator"),
    Column("primary", "float64", "primary metric"),
    Column(
        "primary_selection",
        "float64",
        "primary metric on the selection split, of fewer points in some tasks: to be compared with itself",
    ),
    Column(
        "loss_d",
        "float64",
        "discriminator loss of the last update: penalty, history and entropy terms included, consensus not",
    ),
    Column("loss_g", "float64", "generator loss of the last update"),
    Column("grad_norm_d", "float64", "norm of the discriminator's parameter gradient at its last update"),
    Column("grad_norm_g", "float64", "norm of the generator's parameter gradient at its last update"),
)
"""One row per trial and evaluation. Each metric's value follows in a column of the metric's name."""

SAMPLES = (
    Column("trial_id", "string", "the trial; null for real samples, drawn once of each task"),
    Column("task", "string", "name of the task"),
    Column("method", "string", "name of the method; null for real samples"),
    Column("generator_steps", "int64", "generator updates done when they were made; null for real samples"),
    Column("count", "int32", "number of samples"),
    Column("shape", "list<int32>", "shape of one sample: [d], or [channels, height, width] of an image"),
    Column("encoding", "string", "float32, little-endian; or uint8, of images: byte b stands for b / 127.5 - 1"),
    Column("values", "binary", "all numbers, sample after sample, the last dimension of the shape fastest"),
)
"""One row per trial: the first generated samples of its last evaluation before it ended or diverged."""

TABLES = {"plan": PLAN, "trials": IDENTITY + OUTCOME, "history": HISTORY, "samples": SAMPLES}
"""Table name to its fixed columns; `trials` and `history` are followed by metric columns."""
