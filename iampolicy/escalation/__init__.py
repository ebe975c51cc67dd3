"""Privilege escalation paths, decided for each principal of a snapshot."""
