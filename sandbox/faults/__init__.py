"""Faults on demand: API calls that fail, and components that misbehave."""
