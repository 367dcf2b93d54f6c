"""The user's image files: read once, kept decoded and split, mapped into memory by every process that asks."""
