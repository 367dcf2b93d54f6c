"""The tasks that ship with the package."""
