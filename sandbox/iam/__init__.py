"""The sandbox's IAM: callers and their rights, what a call needs (permissions.py), and the decision (enforce.py)."""
