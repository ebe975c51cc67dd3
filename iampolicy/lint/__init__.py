"""The lint: faults in a policy's text, found without asking AWS."""
