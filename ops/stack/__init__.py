"""The stack as a whole: the prerequisites of all other commands."""
