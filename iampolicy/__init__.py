"""The IAM library: evaluation, lint, escalation paths, audit and explanation of policies, decided locally. See README.md."""
