"""Benchmarks: ours against theirs, in turn, in one run; a ratio, not a time, is the result."""
