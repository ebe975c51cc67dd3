"""Policies: strict parsing, comparison by meaning, and evaluation. This package knows nothing of accounts."""
