"""Synthetic against real: every figure here is internal, because it reads real rows without paying."""
