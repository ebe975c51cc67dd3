"""Lambda: the real package in warm processes, under real limits."""
