"""How an outcome is measured."""
