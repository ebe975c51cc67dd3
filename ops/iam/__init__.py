"""The stack's IAM: roles kept as files, applied to the account, compared, expected, backed up and waived."""
