"""How much the endpoint and the function in front of it can take, and what that costs."""
