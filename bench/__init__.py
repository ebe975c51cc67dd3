"""Benchmarks: ours against theirs, alternating in one run. The result is a ratio, not a time."""
