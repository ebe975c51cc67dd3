"""The audit: its rules judge an account's principals, and what of the account the world can reach."""
