"""An account's IAM: one snapshot, from GetAccountAuthorizationDetails or from a file."""
