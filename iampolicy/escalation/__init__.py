"""Ways to more rights, decided for each principal of a snapshot."""
