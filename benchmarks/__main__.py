"""python -m benchmarks [NAME ...] [--quick]: run benchmarks, print what they find, and keep it in results/."""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import analysis, calibration, chaos, engine, memory, methods, results, scale, storage, sweep
from benchmarks.record import losses, recorded, write

BENCHMARKS = {
    "engine": engine.run,
    "methods": methods.run,
    "results": results.run,
    "memory": memory.run,
    "sweep": sweep.run,
    "calibration": calibration.run,
    "analysis": analysis.run,
    "scale": scale.run,
    "storage": storage.run,
    "chaos": chaos.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--trials", type=int, metavar="N", help="sweep: trials of the slowest arm (default: all)")
    arguments = parser.parse_args()
    every = [name for name in BENCHMARKS if name != "chaos"]  # which takes half an hour and measures robustness first
    names = every if arguments.names in ([], ["all"]) else arguments.names
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: choose from all, {', '.join(BENCHMARKS)}")
    worse: list[str] = []
    for name in names:
        print(f"# {name}", flush=True)
        load = os.getloadavg()[0]  # of whatever else is running: ratios of CPU time stand it, wall times do not
        options = {"trials": arguments.trials} if name == "sweep" else {}
        found = BENCHMARKS[name](quick=arguments.quick, **options)
        if not arguments.quick:
            command = " ".join(
                [
                    "python -m benchmarks",
                    name,
                    *([f"--trials {arguments.trials}"] if name == "sweep" and arguments.trials else []),
                ]
            )
            worse += losses(recorded(name), found.lines)
            write(name, found, command=command, load=load)
        print(flush=True)
    if worse:
        sys.exit("\n".join(["worse than recorded by more than a tenth:", *worse]))


if __name__ == "__main__":
    sys.exit(main())
