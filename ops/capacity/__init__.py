"""The capacity of the endpoint and of the function in front of it: how much they can take, and what that costs."""
