"""The explanation of a decision: whether a request is allowed, and why it was denied."""
