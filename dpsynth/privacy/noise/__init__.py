"""Where randomness that protects people comes from, and what is made of it."""
