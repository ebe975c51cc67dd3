"""Access to AWS: sessions, clients, the account guard, the audit log and the wording of errors."""
