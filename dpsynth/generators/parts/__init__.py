"""Building blocks of networks, and what methods without one have in common."""
