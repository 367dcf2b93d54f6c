"""python -m benchmarks.tune_arm new|reused TRIALS STEPS FOLDER: the sweep as ordinary Ray Tune function trainables."""

from __future__ import annotations

import sys

import ray
from ray import tune

from benchmarks.plain import train_trial
from benchmarks.sweep import CPUS, EVALUATIONS


def train_one(config: dict[str, float]) -> None:
    steps = int(config.pop("steps"))
    tune.report(train_trial("manifold-d2", **config, steps=steps, evaluations=EVALUATIONS))


def main(arm: str, trials: str, steps: str, folder: str) -> None:
    ray.init(num_cpus=CPUS, include_dashboard=False)
    tuner = tune.Tuner(
        train_one,
        param_space={"lr": tune.loguniform(1e-4, 1e-2), "beta1": tune.uniform(0.0, 0.9), "steps": int(steps)},
        tune_config=tune.TuneConfig(num_samples=int(trials), reuse_actors=arm == "reused"),
        run_config=tune.RunConfig(name="plain", storage_path=folder),
    )
    results = tuner.fit()
    if results.num_errors or len(results) != int(trials):
        sys.exit(f"{results.num_errors} of {len(results)} trials failed")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
