"""The stack's IAM: roles are kept as files, applied, compared with the account, checked and backed up; findings can be waived."""
