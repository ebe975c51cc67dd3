"""Releases: build them from a trained model, test them locally, compare them, and keep a record of them."""
