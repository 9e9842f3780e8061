"""Synthetic data under differential privacy: a declared (epsilon, delta), spent once, and what it bought."""

__version__ = "0.1.0"
