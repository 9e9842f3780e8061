"""What is promised and bought, priced before anything private is read."""
