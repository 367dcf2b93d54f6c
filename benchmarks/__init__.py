"""Programs that print ratios measured within one run, and keep them with their command, commit and machine."""
