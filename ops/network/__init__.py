"""The private network: facts, plan, teardown, and whether a packet reaches the box."""
