"""Releases: built from a trained model, tested locally, compared, and remembered."""
