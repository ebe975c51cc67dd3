"""Benchmarks of Kennel against other tools, measured alternately in one run. The result is a ratio, not a time."""
