"""What a trial is: how trials are planned, packed, trained, measured and kept."""
