"""What leaves, what it claims, and how a stranger checks that."""
