"""DP-SGD on an objective: sample, clip, add noise, step."""
