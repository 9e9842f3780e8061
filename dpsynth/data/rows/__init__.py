"""Rows as units: packed into numbers by declared and bought facts, and back."""
