"""One-off measurements: charge, read, add noise."""
