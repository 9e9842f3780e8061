"""Sequences as units: an entity's rows in order, packed into one vector, and back."""
