"""Results of others: a table, an Optuna study or a Ray Tune experiment as a run directory, with nothing trained."""
