"""Synthetic data under differential privacy: spend a declared (epsilon, delta) once, and show what it bought."""

__version__ = "0.1.0"
