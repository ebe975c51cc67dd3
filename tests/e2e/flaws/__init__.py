"""The flaws of the project that this one replaces, each re-created in a few lines: what tests/e2e/test_flaws.py must catch."""
