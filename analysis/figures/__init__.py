"""Figures: each is a function returning numbers and a function drawing them."""
