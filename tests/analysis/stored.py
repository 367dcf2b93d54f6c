"""Run directories with a known end, written without training anything."""

from study.plan import expand
from study.schema import IDENTITY
from study.spec import parse_sweep
from study.store import RunDirectory, build_table
from study.sweep_run import prepare

RAW = {
    "name": "tiny",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1"],
    "confirmatory": [["ns", "ns+gp1"]],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
    "design": {"points": 4},
    "execution": {"pack": 4, "device": "cpu"},
}
"""Four trials of each of two methods, in a pack each."""


def plan(folder, **changes):
    """A planned run; gives its directory and its plan's rows by method."""
    directory = RunDirectory(folder)
    sweep = parse_sweep(RAW | changes, source="tiny.toml")
    prepare(directory, sweep, expand(sweep))
    rows = {}
    for row in directory.read_table("plan").to_pylist():
        rows.setdefault(row["method"], []).append(row)
    return directory, rows


def end(directory, rows, endings, *, metrics=("w2sq",), evaluations=2):
    """Give trials of a pack their endings: a number completed with it, None has no row, a word is a status."""
    found, history = [], []
    for row, ending in zip(rows, endings, strict=True):
        if ending is None:
            continue
        status = ending if isinstance(ending, str) else "completed"
        value = None if isinstance(ending, str) else ending
        success = None if status == "stopped" else value is not None and value <= row["threshold"]
        identity = {column.name: row[column.name] for column in IDENTITY}
        measured = dict.fromkeys(("primary", *metrics), value)
        found.append(identity | {"status": status, "success": success, "generator_steps": 6} | measured)
        keys = {name: row[name] for name in ("trial_id", "task", "method")}
        history += [
            keys | {"evaluation": i, "generator_steps": 3 * (i + 1), "discriminator_steps": 3 * (i + 1), "primary": 1.0}
            for i in range(evaluations)
        ]
    pack = rows[0]["pack"]
    directory.write_part("history", pack, build_table("history", history, metrics))
    directory.write_part("trials", pack, build_table("trials", found, metrics))


def finished(folder, endings, **changes):
    """A run with given endings, {method: one per planned trial}."""
    directory, rows = plan(folder, **changes)
    for method, given in endings.items():
        end(directory, rows[method], given)
    return directory


ENDINGS = {"ns": [0.1, 3.0, "diverged", None], "ns+gp1": [0.1, 0.2, "oom", "stopped"]}
"""One of each; the threshold is 0.2."""
