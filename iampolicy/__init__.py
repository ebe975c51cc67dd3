"""IAM policies decided without AWS: evaluation, lint, escalation paths, audit and explanation. See README.md."""
