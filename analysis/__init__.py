"""What the results mean: tables to statistics to figures to a report. Never imports cluster, never trains."""

from analysis.entry import load as load
