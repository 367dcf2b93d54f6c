"""What may vary: domains, named priors with their sources, and designs (random, Sobol, grid)."""
