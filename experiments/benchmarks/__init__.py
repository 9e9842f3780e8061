"""What `python -m experiments.benchmark` measures. Tables are made up, so every figure is public."""
