"""Lambda: the real function package in warm processes, with enforced limits on memory, time and concurrency."""
