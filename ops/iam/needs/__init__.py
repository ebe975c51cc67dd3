"""What a role needs: the calls that expect.toml wants, those that a run made, and the smallest policy for them."""
