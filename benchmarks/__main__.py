"""python -m benchmarks [NAME ...] [--quick]: run benchmarks, print what they find, and keep it in results/."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from unittest.mock import patch

from benchmarks.record import losses, recorded, write
from study.tasks.table import TASKS

STEPS, SWEEPS = ("engine", "methods", "evaluations"), ("startup", "sweep", "memory")
TABLES = ("results", "analysis", "storage")
TOGETHER = (*STEPS, *SWEEPS, "calibration", *TABLES, "scale")
"""What `all` runs, each a module with a function `run`."""
ALONE = {
    "costs": "the tables of study/capacity.py, for who changes the engine",
    "headline": "minutes to an hour, by the machine",
    "chaos": "half an hour, and measures robustness first",
    "gpu": "needs a GPU",
}
"""What is only run by its name, and why."""
PAGE = "page"


def main() -> None:
    every = (*TOGETHER, *ALONE)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(every)}; or {PAGE}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--trials", type=int, metavar="N", help="sweep: trials of the slowest arm; 256 are all")
    arguments = parser.parse_args()
    names = TOGETHER if arguments.names in ([], ["all"]) else arguments.names
    unknown = [name for name in names if name not in (*every, PAGE)]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: choose from all, {', '.join(every)}, {PAGE}")
    worse = [line for name in names if name != PAGE for line in measure(name, arguments)]
    if not arguments.quick:
        from benchmarks import page  # and matplotlib

        page.write()
    if worse:
        sys.exit("\n".join(["worse than recorded by more than a tenth:", *worse]))


def measure(name: str, arguments: argparse.Namespace) -> list[str]:
    """Run a benchmark and keep what it finds; what it lost against what was kept, one sentence each."""
    print(f"# {name}", flush=True)
    load = os.getloadavg()[0]  # of whatever else is running: ratios of CPU time stand it, wall times do not
    options = {"trials": arguments.trials} if name == "sweep" else {}
    with patch.dict(TASKS):  # some add tasks that do nothing but train, which are not for the others
        found = importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick, **options)
    print(flush=True)
    if arguments.quick:
        return []
    command = f"python -m benchmarks {name}{f' --trials {arguments.trials}' if options.get('trials') else ''}"
    worse = losses(recorded(name), found.lines)
    write(name, found, command=command, load=load)
    return worse


if __name__ == "__main__":
    sys.exit(main())
