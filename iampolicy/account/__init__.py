"""The IAM of an account: one snapshot, from GetAccountAuthorizationDetails or from a file."""
