"""Many runs: what each leaves behind, what they cost together, and which is shown."""
