"""Statistics of membership: trade-off curves, intervals, one-run bounds, multiplicity and power."""
