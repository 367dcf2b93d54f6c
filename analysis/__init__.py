"""What the results mean: tables, statistics, figures, report."""
